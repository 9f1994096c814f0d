"""One stage of a model at work: crop grids in, landmark findings out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Grid, Volume, average_blocks, resample
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection.decoding import (
    DECODERS,
    DEEP_DECODERS,
    MIRROR_AXIS,
    MIRROR_SHIFT,
    STRIDES,
    Peaks,
    predict_with_mirror,
)
from H3DELandmarksLib.detection.engine import EngineSettings, make_engine
from H3DELandmarksLib.networks import ARCHITECTURES, HyattNet

if TYPE_CHECKING:
    from torch import Tensor

Crops = TypeVar("Crops", np.ndarray, "Tensor")


def reads_images(architecture: str) -> bool:
    """Whether a network reads images (rows and columns) and not volumes.

    Raises:
        InputError: there is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"There is no network '{architecture}': choose one of {', '.join(ARCHITECTURES)}.")
    return issubclass(ARCHITECTURES[architecture][0], HyattNet)


class Layout(NamedTuple):
    """What a stage's network takes and gives.

    Attributes:
        flat: whether crops are one slice of a radiograph.
        channels: of the network's input; the scan is repeated in all.
        strides: for each map the (3,) voxels of the crop per voxel of the map.
    """

    flat: bool
    channels: int
    strides: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, stage: Mapping) -> Layout:
        """The layout that a stage's ``shape`` and ``network`` define.

        Raises:
            InputError: the network is unknown, or one for images with a crop of several slices, or the reverse.
        """
        architecture, settings = stage["network"]["architecture"], stage["network"]["settings"]
        flat = is_flat(stage)
        if flat != reads_images(architecture):
            shape = " x ".join(map(str, stage["shape"]))
            reads, needed = ("volumes", "more than one slice") if flat else ("radiographs", "one slice")
            raise InputError(f"The network '{architecture}' reads {reads}: its crops need {needed}, not {shape}.")
        channels = settings.get("in_channels", ARCHITECTURES[architecture][1].in_channels)
        strides = STRIDES if flat else (int(settings.get("output_stride", 1)),)
        return cls(flat, int(channels), tuple(np.array([s, s, 1 if flat else s]) for s in strides))

    def to_network(self, crops: np.ndarray) -> np.ndarray:
        """(B, 1, X, Y, Z) float32 to what the network takes: (B, C, X, Y, Z), or of images (B, C, rows, columns)."""
        return np.ascontiguousarray(self.repeated(crops))

    def repeated(self, crops: Crops) -> Crops:
        """The same for an array or a tensor on any device, in any order in memory."""
        images = crops[..., 0].swapaxes(2, 3) if self.flat else crops
        return images if self.channels == 1 else images[:, [0] * self.channels]

    def from_network(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, K, rows, columns) to (B, K, X, Y, 1); those of volumes stay as they are."""
        return [level.transpose(2, 3)[..., None] if self.flat else level for level in maps]


def is_flat(stage: Mapping) -> bool:
    """Whether a stage's crops are one slice of a radiograph: this alone decides."""
    return stage["shape"][2] == 1


SAMPLES = 2_000_000
Values = TypeVar("Values", np.ndarray, "Tensor")


@dataclass(frozen=True)
class IntensityMapping:
    """Linear map of ``low..high`` (stored units) to 0..1, clipped.

    Attributes:
        low: value that becomes 0.
        high: value that becomes 1.
    """

    low: float
    high: float

    @classmethod
    def for_volume(cls, settings: Mapping, volume: Volume) -> IntensityMapping:
        """Read a package's ``intensity`` settings.

        Method ``window`` takes low and high as stored values; ``percentile`` takes them as percentiles of the
        volume's voxels.
        """
        if settings["method"] == "window":
            return cls(float(settings["low"]), float(settings["high"]))
        step = max(1, int(np.ceil((volume.array.size / SAMPLES) ** (1 / 3))))
        sample = volume.array[::step, ::step, ::step]
        low, high = np.percentile(sample, [settings["low"], settings["high"]])
        return cls(float(low), float(max(high, low + 1e-6)))

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Map any array of stored values to float32 within 0..1."""
        return self.scaled(array.astype(np.float32))

    def scaled(self, values: Values) -> Values:
        """Map a float32 array, or tensor on any device, of stored values to 0..1."""
        return ((values - self.low) / (self.high - self.low)).clip(0.0, 1.0)


@dataclass(frozen=True)
class Scan:
    """A volume with canonical axis order, or a radiograph on its sheet, and how its values are read.

    Attributes:
        volume: the image; "LPS" is the frame of its affine, thus that of the sheet for a radiograph.
        intensity: mapping of stored values to 0..1.
        outside: stored value that stands for samples beyond the field of view.
    """

    volume: Volume
    intensity: IntensityMapping
    outside: float

    def crop(self, grid: Grid) -> np.ndarray:
        """(X, Y, Z) float32 in 0..1, sampled on `grid`."""
        return self.intensity(resample(self.volume, grid, self.outside).array)

    def averaged(self, spacing: float) -> Scan:
        """The scan for many crops of `spacing` mm that together cover it: what they average is averaged once."""
        return replace(self, volume=average_blocks(self.volume, spacing))


@dataclass(frozen=True)
class Findings:
    """Best guesses for all K landmarks of a scheme, whether they exist or not.

    Attributes:
        positions: (K, 3) LPS mm, NaN where no stage has looked yet.
        presence_logit: (K,) uncalibrated log-odds of presence; -inf where no stage has looked yet.
        concentration: (K,) share of probability around the peak.
        pose: placement of the model frame.
    """

    positions: np.ndarray
    presence_logit: np.ndarray
    concentration: np.ndarray
    pose: Pose

    @classmethod
    def nothing(cls, count: int, pose: Pose) -> Findings:
        """No landmark found yet."""
        return cls(np.full((count, 3), np.nan), np.full(count, -np.inf), np.zeros(count), pose)

    def moved(self, motion: Pose) -> Findings:
        """The same findings after a rigid motion of everything."""
        pose = Pose(motion.rotation @ self.pose.rotation, motion.to_lps(self.pose.translation))
        return replace(self, positions=motion.to_lps(self.positions), pose=pose)

    @property
    def weights(self) -> np.ndarray:
        """(K,) trust in each position, from 0 to 1, before calibration."""
        finite = np.isfinite(self.positions).all(axis=1)
        return np.where(finite, self.concentration / (1 + np.exp(-np.clip(self.presence_logit, -50, 50))), 0.0)


def choose_decoder(stage: Mapping) -> Callable[[Sequence[Tensor], Sequence], Peaks]:
    """What reads landmarks out of all maps of a crop and their strides, by the stage's entry ``decoding``.

    Of several maps, a method that is made for one reads the last, which is the finest.

    Raises:
        InputError: the method, or one of its settings, does not exist.
    """
    settings = dict(stage.get("decoding", {}))
    method = settings.pop("method", "softmax")
    methods = DECODERS | DEEP_DECODERS
    if method not in methods:
        raise InputError(f"There is no decoding method '{method}': choose one of {', '.join(methods)}.")
    known = list(inspect.signature(methods[method]).parameters)[2:]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(
            f"The decoding method '{method}' has no setting {', '.join(unknown)}: its settings are {', '.join(known)}."
        )
    decode = partial(methods[method], **settings)
    return decode if method in DEEP_DECODERS else lambda maps, strides: decode(maps[-1], strides[-1])


class StageNetwork:
    """The network of a stage with its weights, and the landmarks that its channels stand for."""

    def __init__(
        self, stage: Mapping, weights: Mapping[str, np.ndarray], scheme: LandmarkScheme, settings: EngineSettings
    ) -> None:
        """Build the network of a package's stage.

        Args:
            stage: entry of the manifest's ``stages``.
            weights: arrays by parameter name, any floating type.
            scheme: landmarks of the package.
            settings: how the network runs.
        """
        self.stage = stage
        self.layout = Layout.of(stage)
        self.decode = choose_decoder(stage)
        self.engine = make_engine(stage["network"], weights, settings, self._points)
        index = {name: k for k, name in enumerate(scheme.names)}
        self.groups = [np.array([index[name] for name in group["landmarks"]]) for group in stage["groups"]]
        self.mirrored = [bool(group.get("mirrored", False)) for group in stage["groups"]]
        self.spacing = float(stage["spacing_mm"])
        self.voxels = tuple(stage["shape"])
        self.views = int(stage.get("views", 1))
        self.mirror_shift = MIRROR_SHIFT if stage.get("decoding", {}).get("method") in DEEP_DECODERS else 0
        self.count = len(scheme)
        self.mirror_order = scheme.mirror_order()

    def find(self, image: np.ndarray, grid: Grid, channels: Sequence[int], pose: Pose) -> Findings:
        """Look for landmarks in one crop.

        Args:
            image: (X, Y, Z) float32 in 0..1, the scan sampled on `grid`.
            grid: where the crop lies.
            channels: scheme index that each of the network's channels stands for in this crop; -1 for none.
            pose: handed on to the result.
        """
        channels = np.asarray(channels)
        peaks = self._points(self._maps(self.layout.to_network(image[None, None]), channels))
        used, rows = channels >= 0, channels[channels >= 0]
        result = Findings.nothing(self.count, pose)
        result.positions[rows] = grid.lps_from_ijk(peaks.index[used])
        result.presence_logit[rows] = peaks.presence_logit[used]
        result.concentration[rows] = peaks.concentration[used]
        return result

    def _points(self, maps: Sequence[Tensor]) -> Peaks:
        """Landmarks in the first crop of a batch, by all maps of the network."""
        return self.decode([level[0] for level in self.layout.from_network(maps)], self.layout.strides)

    @property
    def mirrored_looks(self) -> tuple[bool, ...]:
        """The crops to look at in each place: as it is, and with ``views`` 2 also in the mirror.

        Maps of radiographs are averaged over both within one look.
        """
        return (False, True) if self.views == 2 and not self.layout.flat else (False,)

    def _maps(self, batch: np.ndarray, channels: np.ndarray) -> Sequence[Tensor]:
        """All maps of the network; those of radiographs averaged over both views where a stage has two."""
        if not self.layout.flat or self.views == 1:
            return self.engine.maps(batch)
        places = {int(landmark): channel for channel, landmark in enumerate(channels)}
        order = [places.get(int(self.mirror_order[k]), -1) if k >= 0 else -1 for k in channels]
        run = lambda images: [level.cpu() for level in self.engine.maps(images.numpy())]  # noqa: E731
        return predict_with_mirror(run, torch.from_numpy(batch), order, MIRROR_AXIS, self.mirror_shift)


def merge_best(findings: Sequence[Findings]) -> Findings:
    """For each landmark the finding with the most evidence of presence."""
    best = np.argmax([f.presence_logit for f in findings], axis=0)
    rows = np.arange(len(best))

    def pick(name: str) -> np.ndarray:
        return np.stack([getattr(f, name) for f in findings])[best, rows]

    return Findings(pick("positions"), pick("presence_logit"), pick("concentration"), findings[0].pose)


def merge_mean(findings: Sequence[Findings]) -> Findings:
    """Mean of several looks at the same landmarks, positions weighted by trust."""
    weights = np.stack([np.maximum(f.weights, 1e-9) * np.isfinite(f.positions).all(axis=1) for f in findings])
    total = weights.sum(axis=0)
    positions = np.nan_to_num(np.stack([f.positions for f in findings]))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (positions * weights[..., None]).sum(axis=0) / total[:, None]
    seen = weights > 0

    def average(name: str, nothing: float) -> np.ndarray:
        values = np.where(seen, np.stack([getattr(f, name) for f in findings]), 0.0).sum(axis=0)
        return np.where(seen.any(axis=0), values / np.maximum(seen.sum(axis=0), 1), nothing)

    return Findings(
        np.where(total[:, None] > 0, mean, np.nan),
        average("presence_logit", -np.inf),
        average("concentration", 0.0),
        findings[0].pose,
    )
