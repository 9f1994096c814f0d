"""A scan as networks see it: stored values become 0 to 1, crops are sampled on any grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from H3DELandmarksLib.core.geometry import Grid, Volume, average_blocks, resample
from H3DELandmarksLib.formats.manifest import Intensity

if TYPE_CHECKING:
    from torch import Tensor

MAX_SAMPLES = 2_000_000  # voxels that percentiles are taken of
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
    def for_volume(cls, intensity: Intensity, volume: Volume) -> IntensityMapping:
        """The map that a model asks for: of stored values as they are, or of percentiles of the volume's voxels."""
        if intensity.method == "window":
            return cls(intensity.low, intensity.high)
        step = max(1, int(np.ceil((volume.array.size / MAX_SAMPLES) ** (1 / 3))))
        sample = volume.array[::step, ::step, ::step]
        low, high = np.percentile(sample, [intensity.low, intensity.high])
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
