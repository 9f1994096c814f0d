"""What the commands print for programs with ``--json``, the log of many scans, and what a program may rely on.

`DetectionResult` is printed by ``detect``, `ProposalResult` by ``propose``, a `formats.comparison.Comparison` by
``models compare`` and a `ScanResult` by ``demo``, whose landmarks have ``error_mm``, too: the distance from the true
place, null where the landmark is absent in either. Every document also has ``ok``, false where something could not be
done, and then ``error`` or ``errors``, one sentence each; where something is to be looked at, ``warnings`` of `Warned`.
Positions are LPS mm; what nobody states is null. Where lengths are pixels of a picture that does not state how large
these are (``unit`` or ``length_unit`` is "px"), the entries are called ``..._px`` in place of ``..._mm``, such as
``radius90_px``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.core.measurements import Norm
from H3DELandmarksLib.formats.case_record import CauseName, ModelName, Sha256, Time
from H3DELandmarksLib.formats.reading import Count, Finite, NotNegative, Positive, Share, Text

Point = tuple[Finite, Finite, Finite]
Unit = Literal["mm", "px", "degrees", "ratio"]


@dataclass(frozen=True)
class PlaceResult:
    """A place at which a network sees a landmark.

    Attributes:
        position_lps_mm: where.
        share: probability that it is the right one, before calibration.
        spread_mm: root mean square distance of the landmark from the place, if it is the right one.
    """

    position_lps_mm: Point
    share: Share
    spread_mm: NotNegative


@dataclass(frozen=True)
class LandmarkResult:
    """A landmark of a scan.

    Attributes:
        name: as in the model's scheme.
        state: what is said of it, see `core.landmarks.Statement`.
        cause: why nothing is known of it, see `core.landmarks.Cause`; None where it was found or is absent.
        position_lps_mm: where; None unless it was found.
        presence: probability that it is in the scan; None where nothing is known of it.
        confidence: probability that the position is within the model's tolerance of the right place, see
            `DetectionResult`; None without a position.
        radius90_mm: around the position, holds the right place in 90 % of scans; None without a position, and where
            that was not measured: in voxels that are too coarse, and where landmarks lie beyond the scan.
        networks_lps_mm: where the networks see it, if its position is on the surface of bone near by; None otherwise.
            The radius is that of this point.
        places: at which the networks see it, the likeliest first, four at most; none where they do not tell.
    """

    name: Text
    state: Literal["found", "absent", "not examined", "not recognised"]
    cause: CauseName | None
    position_lps_mm: Point | None
    presence: Share | None
    confidence: Share | None
    radius90_mm: NotNegative | None
    places: tuple[PlaceResult, ...] = field(default=(), kw_only=True)
    networks_lps_mm: Point | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class MeasurementResult:
    """What was measured on the landmarks of a scan.

    Attributes:
        name, title: as the scheme has them.
        unit: of value and interval.
        value: None where it cannot be computed.
        low90, high90: the interval that holds the right value in 90 % of scans, see `evaluation.measures`; None where
            the radius of a point is not known.
        reason: why there is no value, or no interval, or which vertebrae of a spine are left out; else None.
        norm: what is usual, where the scheme says.
        z: how many standard deviations the value lies above the mean of the norm.
        within_norm: whether it lies as near to it as the norm asks.
        category: what the scheme calls such a value.
    """

    name: Text
    unit: Unit
    value: Finite | None
    low90: Finite | None = None
    high90: Finite | None = None
    reason: str | None = None
    norm: Norm | None = None
    z: Finite | None = None
    within_norm: bool | None = None
    category: str | None = None
    title: str = ""


@dataclass(frozen=True)
class RecognitionResult:
    """Whether a scan looks like those that the model knows.

    Attributes:
        recognised: whether it does.
        p_value: share of calibration scans that are as strange or stranger.
        false_alarm_rate: share of scans of the model's own anatomy that are refused wrongly: those up to this p-value.
    """

    recognised: bool
    p_value: Share
    false_alarm_rate: Share

    @classmethod
    def of(cls, p_value: float, false_alarm_rate: float) -> RecognitionResult:
        """By a conformal p-value, among scans of the model's own anatomy uniform from 0 to 1."""
        return cls(p_value > false_alarm_rate, p_value, false_alarm_rate)


@dataclass(frozen=True)
class MiscountedResult:
    """How likely structures that look alike, as vertebrae, are counted one off as a whole.

    Attributes:
        probability: that more than half of them are.
        doubtful: whether people are told.
        hit_rate, false_alarm_rate: of the wrongly and the rightly counted scans, how many they are told of; None where
            nobody knows.
        step: landmark k has the place of landmark k + step where the next likely count is right.
    """

    probability: Share
    doubtful: bool
    hit_rate: Share | None
    false_alarm_rate: Share | None
    step: int


@dataclass(frozen=True)
class ListedModel(ModelName):
    """A model that a list names for a scan, with what its confidences mean, see `DetectionResult`."""

    confidence_within_mm: Positive
    length_unit: LengthUnit = "mm"
    __lengths__ = "length_unit"


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """What became of one scan.

    Attributes:
        scan: path as it was given.
        model: that looked, where a list names another than that of the document.
        ok: whether its results are written.
        error: why not, and what to do.
        summary: what people should know of the result first.
        markups, table, provenance, picture, measurement_table: files that were written.
        seconds: that it took.
        unit: of positions and radii: "px" where nobody knows how large the pixels of a picture are.
        recognition: whether the scan looks like what the model knows; None where the model cannot tell.
        miscounted: how likely structures are counted one off; None where the model counts none, or cannot tell.
        recognised_by: other models that recognise the scan, the best first; they are asked where this one does not
            recognise it, or cannot tell and finds nothing.
        landmarks: all of the model, in its order; those that were not asked for were not examined. None of scans that
            were finished before, and of more than 500 scans, whose landmarks are in the table of all.
        measurements: on the landmarks, where their scheme defines any; None where `landmarks` is.
    """

    scan: Text
    model: ListedModel | None = None
    ok: bool
    error: str | None = None
    summary: str | None = None
    markups: str | None = None
    table: str | None = None
    provenance: str | None = None
    picture: str | None = None
    measurement_table: str | None = None
    seconds: NotNegative | None = None
    unit: LengthUnit = "mm"
    recognition: RecognitionResult | None = None
    miscounted: MiscountedResult | None = None
    recognised_by: tuple[ModelName, ...] = ()
    landmarks: tuple[LandmarkResult, ...] | None = None
    measurements: tuple[MeasurementResult, ...] | None = None
    __lengths__ = "unit"


@dataclass(frozen=True)
class Warned:
    """What a user should know of a result.

    Attributes:
        scan: name of its results; None where it is about something else.
        message: one sentence.
    """

    scan: str | None
    message: str


@dataclass(frozen=True)
class PassedOver:
    """What lies in a folder that was given, and is no scan; `reason` says why."""

    path: Text
    reason: Text


@dataclass(frozen=True, kw_only=True)
class DetectionResult:
    """The document of ``detect --json``.

    Attributes:
        ok: whether every scan succeeded.
        software: version of H3DELandmarks.
        model: that looked for landmarks.
        confidence_within_mm: the confidence of a point that this model finds is the probability that it lies within
            this distance of the right place; ``confidence_within_px`` where the model's lengths are pixels.
        length_unit: "px" where the model's lengths are shares of a picture's height, of which no mm is known.
        scans: in the order in which they were given; those of a folder in the order of their paths, and
            folders that cannot be read or hold none last.
        passed_over: what else lies in folders that were given.
        cohort: of several scans, where the table and the log of all are; None where there are none.
        warnings: in the order in which they were told.
    """

    format: Literal["h3delandmarks-detection"] = "h3delandmarks-detection"
    format_version: Literal[2] = 2
    ok: bool
    software: Text
    model: ModelName
    confidence_within_mm: Positive
    length_unit: LengthUnit = "mm"
    scans: tuple[ScanResult, ...]
    passed_over: tuple[PassedOver, ...] = ()
    cohort: CohortSummary | None = None
    warnings: tuple[Warned, ...] = ()
    __lengths__ = "length_unit"


@dataclass(frozen=True, kw_only=True)
class ProposalResult:
    """The document of ``propose --json``.

    Attributes:
        ok: whether every scan succeeded.
        software: version of H3DELandmarks.
        examples: names of the cases that the points are proposed from.
        scans: in the order in which they were given.
        warnings: in the order in which they were told.
    """

    format: Literal["h3delandmarks-proposal"] = "h3delandmarks-proposal"
    format_version: Literal[1] = 1
    ok: bool
    software: Text
    examples: tuple[Text, ...]
    scans: tuple[ScanResult, ...]
    warnings: tuple[Warned, ...] = ()
    __lengths__ = ""  # each scan says its own


@dataclass(frozen=True)
class CohortModel:
    """The model that looked; `sha256` is that of `models.package.package_digest`."""

    id: Text
    version: Text
    sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class CohortOutputs:
    """The files of a result, relative to the folder of the log.

    Attributes:
        markups, table, provenance, picture, measurement_table: paths.
        provenance_sha256: what tells whether a later run has replaced them; None in logs of earlier versions.
    """

    markups: Text
    table: Text
    provenance: Text
    provenance_sha256: Sha256 | None = None
    picture: str | None = None
    measurement_table: str | None = None


@dataclass(frozen=True, kw_only=True)
class CohortScan:
    """A line: what became of a scan.

    Attributes:
        scan: absolute path.
        name: of its results, relative to the folder of the log and without extension.
        series: UID, number or description that was read, where something chose one.
        subject: whom it shows, where something says so.
        model: None where it could not be used.
        region: file of the box that was searched, where a list named one for this scan.
        settings: SHA-256 of what the user asked for beside scan and model.
        content: SHA-256 of the bytes of its files; None where they cannot be read.
        status: whether results were written.
        reason: why not, and what to do.
        summary: what people should know of the result first.
        recognised: whether the scan looks like what the model knows; None where the model cannot tell.
        doubt: the largest probability that what is said of a landmark is wrong, 1 for a scan that is not recognised;
            None where nobody can say.
        seconds: from reading to writing.
        time: of the end, UTC.
        outputs: None unless results were written.
    """

    format_version: Literal[1] = 1
    scan: Text
    name: Text
    series: str | None = None
    subject: str | None = None
    model: CohortModel | None = None
    region: str | None = None
    settings: Sha256
    content: Sha256 | None = None
    status: Literal["found", "failed"]
    reason: str | None = None
    summary: str | None = None
    recognised: bool | None = None
    doubt: Share | None = None
    seconds: NotNegative
    time: Time
    outputs: CohortOutputs | None = None

    @property
    def key(self) -> tuple[str | None, ...]:
        """What tells it from others."""
        model = f"{self.model.id}@{self.model.version}" if self.model else None
        return self.scan, self.series, model, self.region

    @property
    def image_key(self) -> tuple[str | None, ...]:
        """What tells the image that was looked at from others, also from one that had its path before."""
        return self.scan, self.series, self.content

    @property
    def result_key(self) -> tuple[object, ...]:
        """What tells what was found from what another version of the model, or other settings, have found."""
        return self.key, self.content, self.model, self.settings


@dataclass(frozen=True, kw_only=True)
class CohortSummary:
    """What became of many scans.

    Attributes:
        log, table, parquet: the files that tell of all scans in the output folder.
        found: scans whose results were written, resumed ones included.
        failed: scans and folders that failed, now or before.
        resumed: scans that were left as an earlier run had finished or failed them.
        jobs: scans that were looked at at the same time.
        seconds: of the whole work, without loading models.
        computing: share of that time in which all jobs were computing; None where nothing was computed.
    """

    log: Text
    table: Text
    parquet: str | None = None
    found: Count
    failed: Count
    resumed: Count
    jobs: Count
    seconds: NotNegative
    computing: Share | None = None
