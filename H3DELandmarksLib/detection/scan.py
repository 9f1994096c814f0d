"""A scan as networks see it: stored values become 0 to 1, crops are sampled on any grid."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from H3DELandmarksLib.core.geometry import Grid, Volume, average_blocks, resample
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.formats.manifest import Intensity

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)
MAX_SAMPLES = 2_000_000  # voxels that percentiles are taken of
LARGEST_PART = 0.5  # of the voxels that a constant frame may leave to the scan in it, to be left out of percentiles
Values = TypeVar("Values", np.ndarray, "Tensor")


@dataclass(frozen=True)
class IntensityMapping:
    """Linear map of ``low..high`` (stored units) to 0..1, clipped.

    Attributes:
        low: value that becomes 0.
        high: value that becomes 1.
        offset: what the scan's values have more than those that the model was made for.
    """

    low: float
    high: float
    offset: float = 0.0

    @classmethod
    def for_volume(cls, intensity: Intensity, volume: Volume, silent: bool = False) -> IntensityMapping:
        """The map that a model asks for: of stored values as they are, or of percentiles of the volume's voxels.

        Where a model asks for Hounsfield units, values that are stored with 1000 or 1024 added are recognised, and of
        others that can be none there is a warning, unless it is to be `silent`.
        """
        step = max(1, int(np.ceil((volume.array.size / MAX_SAMPLES) ** (1 / 3))))
        sample = volume.array[::step, ::step, ::step]
        if intensity.method == "window":
            level = logging.DEBUG if silent else logging.WARNING
            offset = _offset_of(sample, level) if intensity.low <= AT_MOST_AIR else 0.0
            return cls(intensity.low + offset, intensity.high + offset, offset)
        low, high = np.percentile(_unframed(sample), [intensity.low, intensity.high])
        return cls(float(low), float(max(high, low + 1e-6)))

    def outside(self, stated: float | None) -> float:
        """Stored value of samples beyond the scan, where a model states one or not."""
        return self.low if stated is None else stated + self.offset

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Map any array of stored values to float32 within 0..1."""
        return self.scaled(array.astype(np.float32))

    def scaled(self, values: Values) -> Values:
        """Map a float32 array, or tensor on any device, of stored values to 0..1."""
        return ((values - self.low) / (self.high - self.low)).clip(0.0, 1.0)


def _unframed(sample: np.ndarray) -> np.ndarray:
    """Values without a constant frame, such as 0 around a CT, that is more than the scan in it and not its darkest.

    Frames of the darkest value stay: scans that models have learnt from have them.
    """
    edge = sample[0, 0, 0]
    places = [np.flatnonzero((sample != edge).any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    part = sample[tuple(slice(place[0], place[-1] + 1) for place in places if place.size)]
    return part if part.size < LARGEST_PART * sample.size and edge > part.min() else sample


AT_MOST_AIR = -500
"""A window that begins below is one of Hounsfield units: those of air and water are -1000 and 0."""
_LEAST_SHARE, _LEAST_TISSUE = 0.02, 2.0
_NARROWEST, _HIGHEST = 256, 10_000


def _offset_of(sample: np.ndarray, level: int) -> float:
    """What was added to Hounsfield units: 1000 or 1024 where air and soft tissue are found so far up, else 0.

    Args:
        sample: values of a scan.
        level: of what is logged.
    """
    lowest, highest = float(sample.min()), float(sample.max())

    def share(low: float, high: float) -> float:
        return np.count_nonzero((sample >= low) & (sample < high)) / sample.size

    air, between, tissue = share(0, 200), share(350, 750), share(900, 1200)
    if lowest >= 0 and min(air, tissue) >= _LEAST_SHARE and tissue >= _LEAST_TISSUE * between:
        above = sample[(sample > lowest) & (sample < 200)]
        offset = 1000.0 if above.size and np.median(above) < 12 else 1024.0
        logger.log(level, "The scan's values are those of a CT with %g added: %g is subtracted.", offset, offset)
        return offset
    if lowest >= 0 or highest - lowest < _NARROWEST or np.percentile(sample, 99) > _HIGHEST:
        logger.log(
            level,
            "The scan's values (%g to %g) cannot be the Hounsfield units that this model was made for, so that it may "
            "miss landmarks: load the original CT.",
            lowest,
            highest,
        )
    return 0.0


def set_straight(volume: Volume, axes: np.ndarray) -> tuple[Volume, Pose]:
    """A volume turned about its center so that what lay along some axes lies along the patient's.

    Args:
        volume: any.
        axes: (3, 3) rotation whose columns are the axes.

    Returns:
        The turned volume, and the motion that turns it back.
    """
    back = Pose(axes, volume.grid.center - axes @ volume.grid.center)
    affine = volume.affine.copy()
    affine[:3, :3], affine[:3, 3] = axes.T @ affine[:3, :3], back.to_model(affine[:3, 3])
    return Volume(volume.array, affine), back


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

    def crop(self, grid: Grid, average: bool = True) -> np.ndarray:
        """(X, Y, Z) float32 in 0..1, sampled on `grid` as by `resample`."""
        return self.intensity(resample(self.volume, grid, self.outside, average).array)

    def mirrored(self) -> Scan:
        """A radiograph on its sheet with left and right exchanged, in its place."""
        return replace(self, volume=Volume(self.volume.array[::-1], self.volume.affine))

    @property
    def mirror(self) -> Pose:
        """The reflection between a radiograph's sheet and that of `mirrored`, either way."""
        return Pose(np.diag([-1.0, 1.0, 1.0]), np.array([2 * self.volume.grid.center[0], 0.0, 0.0]))

    def averaged(self, spacing: float) -> Scan:
        """The scan for many crops of `spacing` mm that together cover it: what they average is averaged once."""
        return replace(self, volume=average_blocks(self.volume, spacing))
