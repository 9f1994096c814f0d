"""``manifest.json``: all that inference needs to know of a model, and what a user should know before trusting it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.formats.case_record import Sha256
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.formats.reading import FormatError, Limits, NotNegative, Positive, Share, Text, refuse_newer

SCHEMA_VERSION = 1
# Stands for the sum of a file that is not written yet.
UNKNOWN_SHA256 = "0" * 64
NOT_STATED = "not stated"
# Radii that hold less than this share of errors on unseen cases are not shown.
LEAST_COVERAGE = 0.8
ModelId = Annotated[str, Limits(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
Version = Annotated[str, Limits(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$", max_length=32)]
WeightsName = Annotated[str, Limits(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors$", max_length=100)]
PictureName = Annotated[str, Limits(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(png|jpg)$", max_length=100)]
# Beyond these no scan, network or computer reaches.
LEAST_RANGE = 1e-6  # of the values that are shown
MAX_CROP_VOXELS, MAX_MAP_VALUES, MAX_READ_VOXELS = 2**24, 2**26, 2**24
Side = Annotated[int, Limits(ge=1, le=4096)]
Spacing = Annotated[float, Limits(ge=1e-5, le=1e3, allow_inf_nan=False)]
Value = Annotated[float, Limits(ge=-1e9, le=1e9, allow_inf_nan=False)]
Fit = Annotated[float, Limits(gt=0, le=4, allow_inf_nan=False)]
HalfWidth = Annotated[int, Limits(ge=1, le=64)]
Point = tuple[Value, Value, Value]
Poses = Literal["scan", "cube-rotations", "found", "structures"]


@dataclass(frozen=True)
class License:
    """What weights and training data may be used for."""

    weights: str
    data: str


@dataclass(frozen=True)
class Intensity:
    """Stored values are mapped linearly so that `low` becomes 0 and `high` becomes 1.

    Attributes:
        method: whether the two are stored values, or percentiles of the scan's voxels.
    """

    method: Literal["window", "percentile"]
    low: Value
    high: Value

    def __post_init__(self) -> None:
        if not self.high - self.low >= LEAST_RANGE:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")
        if self.method == "percentile" and not 0 <= self.low < self.high <= 100:
            raise ValueError("percentiles lie between 0 and 100")


@dataclass(frozen=True)
class Group:
    """Landmarks that one pass of a stage's network finds.

    Attributes:
        landmarks: names, in the order of the network's maps.
        mirrored: whether the network sees the crop's mirror image.
    """

    landmarks: Annotated[tuple[Text, ...], Limits(min_length=1)]
    mirrored: bool = False

    def __post_init__(self) -> None:
        if len(set(self.landmarks)) != len(self.landmarks):
            raise ValueError("landmarks: each name may stand there once")


# Settings of each method of reading, and the heads of networks whose maps it reads.
HEATMAPS = ("heatmap", "deep-supervision")
DECODING_SETTINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "softmax": (("radius",), HEATMAPS),
    "published-heatmap": (("voxels",), HEATMAPS),
    "published-anchor": (("candidates",), ("anchor",)),
    "peak": (("radius", "extent"), HEATMAPS),
    "published-hyatt": (("extent",), ("deep-supervision",)),
}


@dataclass(frozen=True)
class Decoding:
    """How positions are read out of a stage's maps.

    Attributes:
        method: of reading, see `detection.decoding`.
        radius: half width in voxels of the averaged cube.
        extent: half width in voxels of a peak.
        voxels: how many voxels are averaged.
        candidates: how many anchors vote.
    """

    method: Literal["softmax", "published-heatmap", "published-anchor", "peak", "published-hyatt"]
    radius: HalfWidth | None = None
    extent: HalfWidth | None = None
    voxels: Annotated[int, Limits(ge=1, le=MAX_CROP_VOXELS)] | None = None
    candidates: Annotated[int, Limits(ge=1, le=MAX_CROP_VOXELS)] | None = None

    def __post_init__(self) -> None:
        known = DECODING_SETTINGS.get(self.method, ((), ()))[0]
        for name in ("radius", "extent", "voxels", "candidates"):
            if getattr(self, name) is not None and name not in known:
                raise ValueError(f"{name}: the method '{self.method}' has no such setting, only {', '.join(known)}")


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file of the package."""

    file: WeightsName
    sha256: Sha256


@dataclass(frozen=True)
class PictureFile:
    """A picture that the model card shows."""

    file: PictureName
    sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class StageDesign:
    """One stage of a model: where it looks, in what voxels and poses, and with which network.

    Attributes:
        name: of the stage.
        network: architecture and settings.
        spacing_mm: edge of a voxel of the crops; with `fit`, that in a usual radiograph.
        fit: for radiographs whose size or pixels vary: a crop is so many times as large as what it would take to hold
            the whole radiograph, whose own size says what a pixel of the crop is. 1.25: the radiograph with a margin,
            in one crop about its center. Below 1: a part of it.
        sampling: "linear": pixels are interpolated alone, and finer ones are not averaged before.
        shape: voxels of a crop along I, J, K; one along K for radiographs, I to the right and J down.
        poses: "scan": crops lie along the patient's axes; "cube-rotations": it is searched in all 24 turns of a
            cube; "found": crops lie in the frame of the anatomy that an earlier stage has found; "structures": the last
            stage of a model for radiographs whose points are placed together looks once more at each structure of a
            row, a group, where these lie, in crops that show all structures equally wide and as far from each other.
        groups: landmarks of each pass of the network.
        views: 2: the mirrored crop is looked at, too.
        turned_degrees: radiographs are looked at again, the crop turned by so much to either side; 0 for not at all.
        decoding: how maps become positions.
    """

    name: Text
    network: Network
    spacing_mm: Spacing
    shape: tuple[Side, Side, Side]
    poses: Poses = "scan"
    groups: Annotated[tuple[Group, ...], Limits(min_length=1, max_length=1000)]
    views: Literal[1, 2] = 1
    decoding: Decoding = field(default_factory=lambda: Decoding("softmax"))
    fit: Fit | None = None
    sampling: Literal["linear"] | None = None
    turned_degrees: Annotated[float, Limits(ge=0, le=30, allow_inf_nan=False)] = 0.0

    def __post_init__(self) -> None:
        if self.turned_degrees and not self.is_2d:
            raise ValueError("turned_degrees: it belongs to stages that read radiographs; leave it out")
        if self.is_2d != self.network.config.is_2d:
            reads, needed = ("volumes", "more than one slice") if self.is_2d else ("radiographs", "one slice")
            raise ValueError(
                f"shape: the network '{self.network.architecture}' reads {reads}, so that crops need {needed}, "
                f"not {' x '.join(map(str, self.shape))}"
            )
        if self.is_closer and (not self.is_2d or len(self.groups) < 2):
            raise ValueError("poses: 'structures' belong to radiographs, and need two groups at least")
        if self.fit is not None and not (self.is_2d and self.poses == "scan"):
            raise ValueError("fit: it belongs to stages that read radiographs in the poses 'scan'")
        head, heads = getattr(self.network.config, "head", "heatmap"), DECODING_SETTINGS[self.decoding.method][1]
        if head not in heads:
            raise ValueError(f"decoding.method: '{self.decoding.method}' reads the head '{heads[0]}', not '{head}'")
        self._check_size()
        for number, group in enumerate(self.groups):
            if len(group.landmarks) != self.channels:
                raise ValueError(
                    f"groups[{number}].landmarks: {len(group.landmarks)} landmarks for a network with "
                    f"{self.channels} (network.settings.landmarks)"
                )

    def _check_size(self) -> None:
        """Refuse crops that a network does not take, and what would not fit into a computer's memory."""
        config, voxels = self.network.config, math.prod(self.shape)
        smallest = getattr(config, "smallest_side", 1)
        if min(self.shape[: 2 if self.is_2d else 3]) < smallest:
            raise ValueError(
                f"shape: the network '{self.network.architecture}' needs {smallest} voxels a side at least"
            )
        channels = getattr(config, "finest_channels", self.channels)
        if voxels > MAX_CROP_VOXELS or voxels * channels > MAX_MAP_VALUES:
            raise ValueError(f"shape: {' x '.join(map(str, self.shape))} voxels are more than a computer can take")
        width = 2 * max(self.decoding.radius or 1, self.decoding.extent or 1) + 1
        if self.channels * width**3 > MAX_READ_VOXELS:
            raise ValueError(f"decoding: cubes of {width} voxels are more than a computer can take")

    @property
    def design(self) -> dict[str, Any]:
        """The stage without what describes more of it, by the names of this class."""
        return {entry.name: getattr(self, entry.name) for entry in fields(StageDesign)}

    @property
    def is_2d(self) -> bool:
        """Whether the stage reads radiographs: this alone decides."""
        return self.shape[2] == 1

    @property
    def shows_all(self) -> bool:
        """Whether each crop shows the whole of its radiograph."""
        return self.fit is not None and self.fit >= 1

    def spacing_in(self, extent: Sequence[float]) -> float:
        """Edge in mm of a voxel of the crops in a scan.

        Args:
            extent: mm that the scan covers along the axes of the crops.
        """
        if self.fit is None:
            return self.spacing_mm
        return self.fit * max(length / side for length, side in zip(extent, self.shape[:2]))

    @property
    def sees_canonical_pose(self) -> bool:
        """Whether crops lie in the anatomy's own frame and not along the patient's axes."""
        return self.poses in ("cube-rotations", "found")

    @property
    def is_closer(self) -> bool:
        """Whether the stage looks once more at structures whose points are placed together."""
        return self.poses == "structures"

    @property
    def channels(self) -> int:
        """Landmarks that one pass of the network gives."""
        return int(self.network.config.landmarks)

    @property
    def landmarks(self) -> tuple[str, ...]:
        """Names of the landmarks of all passes, in the order of the network's maps."""
        return tuple(name for group in self.groups for name in group.landmarks)


@dataclass(frozen=True, kw_only=True)
class Stage(StageDesign):
    """A stage of a model package: design and weights. It says what a configuration may leave to the usual."""

    poses: Poses = field()
    decoding: Decoding = field()
    weights: WeightsFile


@dataclass(frozen=True)
class PresenceCalibration:
    """Logistic regression from the network's evidence to the probability that the landmark is in the scan."""

    scale: Value
    bias: Value


@dataclass(frozen=True)
class ConfidenceCalibration:
    """Logistic regression to the probability that the position is within `tolerance_mm` of the right place.

    Attributes:
        weights: (4,) of 1, concentration, presence logit and residual to the shape; or (7,), of the distance from where
            the other points have it, the closeness of the scan's end and the landmark's usual radius, too.
    """

    weights: Annotated[tuple[Value, ...], Limits(min_length=4, max_length=7)]
    tolerance_mm: Annotated[float, Limits(gt=0, le=1e6, allow_inf_nan=False)]

    def __post_init__(self) -> None:
        if len(self.weights) not in (4, 7):
            raise ValueError(f"weights: {len(self.weights)} of them; there are 4 or 7")


@dataclass(frozen=True)
class FamiliarityCalibration:
    """What packages until 0.2 have instead of `RecognitionCalibration`; read, but not used any more."""

    weights: tuple[Value, Value, Value, Value, Value]


@dataclass(frozen=True)
class ShapeVariation:
    """How the shape of the anatomy varies, see `detection.recognition.Variation`.

    Attributes:
        mean_mm: a point for each landmark, in the model frame.
        modes_mm: the same for each mode.
        noise_mm: what no mode tells.
    """

    mean_mm: tuple[Point, ...]
    modes_mm: Annotated[tuple[tuple[Point, ...], ...], Limits(max_length=8)]
    noise_mm: Positive

    def __post_init__(self) -> None:
        if any(len(mode) != len(self.mean_mm) for mode in self.modes_mm):
            raise ValueError("modes_mm: each mode needs as many points as mean_mm")


@dataclass(frozen=True)
class RecognitionCalibration:
    """What tells scans of the model's anatomy from others, see `detection.recognition`.

    Attributes:
        shape: how the anatomy varies.
        weights: (6,) of a scan's features; their sum is its score.
        scores: of calibration scans, whole and as users have them, ascending; each by weights that were fitted without
            its case. A scan's conformal p-value is the share of these scores, with its own, that are no higher.
        false_alarm_rate: up to this p-value a scan is refused.
    """

    shape: ShapeVariation
    weights: tuple[Value, Value, Value, Value, Value, Value]
    scores: Annotated[tuple[Value, ...], Limits(min_length=1, max_length=10_000)]
    false_alarm_rate: Share


@dataclass(frozen=True)
class FollowingCalibration:
    """What it was worth on calibration cases that undecided points follow corrections.

    Attributes:
        cases: how many; a simulated reader has corrected each until all points were within the tolerance.
        without, helped: corrections that took, while nothing followed and while it did.
        saved: share of corrections saved, ends of its 90 % interval.
        caution: by how many times its remaining spread a point must be better off elsewhere to be moved; None where no
            limit was seen to cost no corrections, so that none is moved.
        scales: factors of radii after 1, 2 and 4 corrections.
    """

    cases: Annotated[int, Limits(ge=1)]
    without: Annotated[int, Limits(ge=0)]
    helped: Annotated[int, Limits(ge=0)]
    saved: tuple[Value, Value]
    caution: NotNegative | None
    scales: tuple[Positive, Positive, Positive]

    @property
    def helps(self) -> bool:
        """Whether it has surely saved corrections."""
        return self.saved[0] > 0


@dataclass(frozen=True)
class PointCalibration:
    """What a point's own evidence says of its radius, see `detection.point_evidence`, in scans as users have them.

    Attributes:
        factor_weights: (6,) of a point's features; their sum is the logarithm of what its landmark's `radius90_mm` is
            multiplied by.
    """

    factor_weights: tuple[Value, Value, Value, Value, Value, Value]


@dataclass(frozen=True)
class CountingCalibration:
    """Whether structures that look alike, as vertebrae, may be counted one off, see `core.rows`.

    Attributes:
        weights: (2,) logistic regression of 1 and the square root of the count's margin, to the probability that more
            than half of the structures are counted wrongly.
        doubt_from: from this probability on people are told.
        hit_rate, false_alarm_rate: share of the wrongly and of the rightly counted calibration scans of which they
            are, each by weights that were fitted without it; None where there was none.
        confidence: by how much the log-odds of all confidences fall for each unit of the log-odds of that probability;
            None where confidences are of rightly counted structures, times the probability that these are.
    """

    weights: tuple[Value, Value]
    doubt_from: Share
    hit_rate: Share | None
    false_alarm_rate: Share | None
    confidence: Value | None


@dataclass(frozen=True)
class CalibrationData:
    """From evidence to probabilities and radii.

    Attributes:
        presence, confidence, recognition: see the classes; without recognition, the model takes every scan for one of
            its anatomy.
        counting: of models whose structures are counted; None for others.
        radius90_mm: (K,) mm within which 90 % of errors fall, one for each landmark of the scheme.
        reaches: by measurement of the scheme, how many times as far as points with independent errors give its interval
            reaches; 1 for others. Errors of structures that are placed together are not independent.
        cases: which cases it was fitted to, and how; to be shown, nothing depends on it.
        following: whether and how undecided points follow corrections; None where that was not measured.
        points: radius of each point by its own evidence; without it every point of a landmark has the same radius.
    """

    presence: PresenceCalibration
    confidence: ConfidenceCalibration
    radius90_mm: tuple[Annotated[float, Limits(ge=0, le=1e6, allow_inf_nan=False)], ...]
    familiarity: FamiliarityCalibration | None = None
    recognition: RecognitionCalibration | None = None
    counting: CountingCalibration | None = None
    reaches: dict[str, Annotated[float, Limits(gt=0, le=1e3)]] | None = None
    cases: dict[str, Any] | None = None
    following: FollowingCalibration | None = None
    points: PointCalibration | None = None


@dataclass(frozen=True)
class SurfacePoint:
    """A landmark that is the point of a bone which lies farthest in a direction.

    Attributes:
        landmark: name.
        degrees: of the direction above "back" in the plane between left and right, see `BoneSurface`.
        spread_mm: root mean square distance from their mean of the networks' points, and of those on the surface, when
            the same scan was seen on other lattices, with noise and in other voxels.
    """

    landmark: Text
    degrees: Annotated[float, Limits(ge=-180, le=180, allow_inf_nan=False)]
    spread_mm: tuple[NotNegative, NotNegative]

    @property
    def is_steadier(self) -> bool:
        """Whether the surface repeats better than the networks: only then it is used."""
        return self.spread_mm[1] < self.spread_mm[0]


@dataclass(frozen=True)
class BoneSurface:
    """Landmarks that fine scans show on the surface of bone more exactly than the networks do.

    Attributes:
        front, left, right: names of the landmarks whose plane runs "back" from the first to between the others.
        max_spacing_mm: scans with a longer edge of their voxels keep the networks' points.
        points: which landmarks.
    """

    front: Text
    left: Text
    right: Text
    max_spacing_mm: Positive
    points: Annotated[tuple[SurfacePoint, ...], Limits(min_length=1, max_length=1000)]

    @property
    def plane(self) -> tuple[str, str, str]:
        """Names of the three landmarks of the frame."""
        return self.front, self.left, self.right

    def check(self, names: Sequence[str]) -> None:
        """Refuse landmarks that the scheme does not have, or that stand twice; raises ValueError."""
        places = [("front", self.front), ("left", self.left), ("right", self.right)]
        places += [(f"points[{n}].landmark", point.landmark) for n, point in enumerate(self.points)]
        for place, name in places:
            if name not in names:
                raise ValueError(f"bone_surface.{place}: '{name}' is not a landmark of the scheme")
        for listed, which in ((self.plane, "front, left and right"), ([p.landmark for p in self.points], "points")):
            if len(set(listed)) != len(listed):
                raise ValueError(f"bone_surface: {which} name a landmark twice")


@dataclass(frozen=True)
class MeasuredAccuracy:
    """What a model was worth on cases that it had not seen.

    Attributes:
        subset: "test" or "held-out".
        cases: how many.
        median_mm: half of the points found lie closer to the right place.
        coverage: share of points found that lie within their radius.
        tolerance_mm: distance up to which a point counts as right.
        unit: of the lengths, see `Manifest.length_unit`.
    """

    subset: str
    cases: int
    median_mm: float
    coverage: float
    tolerance_mm: float
    unit: str = "mm"

    @property
    def radii_hold(self) -> bool:
        """Whether the radii hold about the share of errors that they are meant to."""
        return self.coverage >= LEAST_COVERAGE

    def caution(self) -> str:
        """What whoever uses the model must know of it, in a sentence; empty where it is as good as it says."""
        told = []
        if self.median_mm > self.tolerance_mm:
            told.append(f"half of its points were more than {self.median_mm:.1f} {self.unit} off")
        if not self.radii_hold:
            told.append(f"its radii held {100 * self.coverage:.0f} % of errors and not 90 %, so that none is shown")
        if not told:
            return ""
        return f"This model is not accurate: on {self.cases} {self.subset} cases, {' and '.join(told)}."


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What a user should know of a model: common to manifests and training configurations.

    Attributes:
        height_mm: of models for radiographs whose pixels have no known size: each counts as so many mm high, and all
            lengths of the model are such mm.
    """

    id: ModelId
    version: Version
    title: Text
    description: str = ""
    modality: str = ""
    anatomy: str = ""
    intended_use: str = ""
    limitations: tuple[str, ...] = ()
    license: License | None = None
    intensity: Intensity
    outside: Value | None = None
    max_spacing_mm: Positive | None = None
    height_mm: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest(ModelDescription):
    """A model package's manifest. It says what a user must know and a configuration may leave out.

    Attributes:
        description, modality, anatomy, intended_use, limitations, license: to be shown.
        scheme: the landmarks.
        outside: stored value of air, for samples outside the scan.
        max_spacing_mm: coarser scans get a warning.
        stages: in the order in which they look.
        shape_model: weights file of mean shape and its spread.
        calibration: from evidence to probabilities and radii.
        training: where the weights come from: data, split, settings, date, software, lineage.
        accuracy: measured on test cases; to be shown.
        pictures: that the model card shows.
        bone_surface: landmarks that are placed on the surface of bone in scans with fine voxels; None for none.
    """

    schema_version: Literal[1] = 1
    description: str = field()
    modality: str = field()
    anatomy: str = field()
    intended_use: str = field()
    limitations: tuple[str, ...] = field()
    license: License = field()
    scheme: LandmarkScheme
    stages: Annotated[tuple[Stage, ...], Limits(min_length=1, max_length=32)]
    shape_model: WeightsFile
    calibration: CalibrationData
    training: dict[str, Any]
    accuracy: dict[str, Any]
    pictures: Annotated[tuple[PictureFile, ...], Limits(max_length=32)] = ()
    bone_surface: BoneSurface | None = None

    def __post_init__(self) -> None:
        check_stages(self.stages, self.scheme)
        check_height(self.height_mm, self.is_2d)
        if self.bone_surface is not None:
            if self.is_2d:
                raise ValueError("bone_surface: it belongs to models that read volumes; leave it out")
            self.bone_surface.check(self.scheme.names)
        check_texts(self, self.scheme)
        if len(self.calibration.radius90_mm) != len(self.scheme):
            raise ValueError(
                f"calibration.radius90_mm: {len(self.calibration.radius90_mm)} radii for {len(self.scheme)} landmarks"
            )
        known = self.calibration.recognition
        if known is not None and len(known.shape.mean_mm) != len(self.scheme):
            raise ValueError(
                f"calibration.recognition.shape: {len(known.shape.mean_mm)} points for {len(self.scheme)} landmarks"
            )
        checksums: dict[str, str] = {}
        for entry in self.weight_files:
            if checksums.setdefault(entry.file, entry.sha256) != entry.sha256:
                raise ValueError(f"stages: the weights file '{entry.file}' is named with different SHA-256")

    @property
    def is_2d(self) -> bool:
        """Whether the model reads radiographs and not volumes."""
        return self.stages[0].is_2d

    @property
    def sees_canonical_pose(self) -> bool:
        """Whether any stage sees the anatomy in its own frame, so that cases are turned onto the mean shape."""
        return any(stage.sees_canonical_pose for stage in self.stages)

    @property
    def weight_files(self) -> tuple[WeightsFile, ...]:
        """Every place that names a weights file."""
        return (*(stage.weights for stage in self.stages), self.shape_model)

    @property
    def length_unit(self) -> LengthUnit:
        """What the model's lengths are: "mm", or "px" of pictures `height_mm` high, of which no millimeter is known."""
        return "mm" if self.height_mm is None else "px"

    @property
    def length_note(self) -> str:
        """What a pixel is, where lengths are such; else empty."""
        if self.height_mm is None:
            return ""
        return f"A length of 1 px is 1/{self.height_mm:g} of the picture's height; no millimeter is claimed."

    @property
    def measured(self) -> MeasuredAccuracy | None:
        """What the model was worth on unseen cases; None where nobody has measured it, or found anything there."""
        for subset in ("test", "held-out"):
            figures = self.accuracy.get(subset)
            values = [figures.get(n) for n in ("cases", "median_mm", "coverage")] if isinstance(figures, dict) else []
            if values and all(isinstance(value, (int, float)) for value in values):
                cases, median, coverage = (float(value) for value in values if value is not None)
                tolerance = self.calibration.confidence.tolerance_mm
                return MeasuredAccuracy(subset, int(cases), median, coverage, tolerance, self.length_unit)
        return None

    def stage(self, name: str) -> Stage:
        """The stage of a name; KeyError where there is none."""
        return {stage.name: stage for stage in self.stages}[name]


def check_height(height_mm: float | None, is_2d: bool) -> None:
    """Refuse heights of pictures for models that read volumes; raises ValueError."""
    if height_mm is not None and not is_2d:
        raise ValueError("height_mm: it belongs to models that read radiographs; leave it out")


def check_texts(described: ModelDescription, scheme: LandmarkScheme) -> None:
    """Refuse what stands in a line but cannot be shown in one; raises ValueError."""
    texts = [(entry, getattr(described, entry)) for entry in ("title", "modality", "anatomy")]
    for entry, text in (*texts, *(("scheme.landmarks", name) for name in scheme.names)):
        if not text.isprintable():
            raise ValueError(f"{entry}: {text[:60]!r} holds characters that cannot be shown in a line")


def check_stages(stages: Sequence[StageDesign], scheme: LandmarkScheme) -> None:
    """What stages demand of each other and of the scheme.

    Raises:
        ValueError: the sentence names the entry.
    """
    if len({stage.name for stage in stages}) != len(stages):
        raise ValueError("stages: every stage needs a name of its own")
    if len({stage.is_2d for stage in stages}) > 1:
        raise ValueError("stages: some have crops of one slice, for radiographs, and others have more")
    for s, stage in enumerate(stages):
        if s > 0 and stage.shows_all:
            raise ValueError(f"stages[{s}].fit: only the first stage may see the whole radiograph; choose less than 1")
        if stage.is_closer and not 0 < s == len(stages) - 1:
            raise ValueError(f"stages[{s}].poses: 'structures' belong to the last of several stages")
        for g, group in enumerate(stage.groups):
            for name in group.landmarks:
                if name not in scheme.names:
                    place = f"stages[{s}].groups[{g}].landmarks"
                    raise ValueError(f"{place}: '{name}' is not a landmark of the scheme '{scheme.id}'")
            if stage.is_closer and not _has_sides(group, scheme):
                place = f"stages[{s}].groups[{g}].landmarks"
                raise ValueError(f"{place}: a structure needs landmarks of both sides, each with its partner")


def _has_sides(group: Group, scheme: LandmarkScheme) -> bool:
    """Whether a group has landmarks of two sides, and the partners of all that it has."""
    names, order = list(scheme.names), scheme.mirror_order()
    partners = {name: names[order[names.index(name)]] for name in group.landmarks}
    return set(partners.values()) <= set(partners) and any(name != other for name, other in partners.items())


def upgraded(content: Any) -> Any:
    """A manifest of any version as today's.

    Raises:
        FormatError: its version is missing, or newer than this software.
    """
    if isinstance(content, dict) and "schema_version" not in content:
        raise FormatError("it is missing", "schema_version")
    refuse_newer(content, SCHEMA_VERSION, "schema_version")
    return content
