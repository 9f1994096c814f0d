"""Mapping of stored values to the range that networks see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from H3DELandmarksLib.geometry import Volume

if TYPE_CHECKING:
    from torch import Tensor

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
