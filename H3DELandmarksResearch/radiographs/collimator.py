"""The collimator: the rectangle of the detector that the beam is let through to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.core.geometry import Grid

FULLY_OPEN = 0.95


@dataclass(frozen=True)
class Collimator:
    """A rectangle in the plane of the detector, in mm of the radiograph.

    Attributes:
        center: (2,) of the rectangle.
        half: (2,) half its width and height; infinite where it is open.
        angle: by which it is turned, radians.
        penumbra: width over which its edge rises from dark to open, mm.
    """

    center: np.ndarray
    half: np.ndarray
    angle: float = 0.0
    penumbra: float = 0.0

    def inwards(self, points: np.ndarray) -> np.ndarray:
        """How far (..., 2 or more) points lie inside the edge, mm; negative outside, NaN for NaN."""
        offset = np.asarray(points)[..., :2] - self.center
        c, s = np.cos(self.angle), np.sin(self.angle)
        turned = np.stack([c * offset[..., 0] + s * offset[..., 1], c * offset[..., 1] - s * offset[..., 0]], axis=-1)
        return (self.half - np.abs(turned)).min(axis=-1)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Whether (..., 3) points of the radiograph lie where the beam is fully let through."""
        with np.errstate(invalid="ignore"):
            return self._share(self.inwards(points)) >= FULLY_OPEN

    def transmission(self, grid: Grid) -> np.ndarray:
        """(X, Y) share of the beam that reaches each pixel of a radiograph: half at the edge."""
        index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
        return self._share(self.inwards(grid.lps_from_ijk(index)[:, :, 0]))

    def _share(self, depth: np.ndarray) -> np.ndarray:
        return np.clip(0.5 + depth / max(self.penumbra, 1e-9), 0, 1)


def open_collimator() -> Collimator:
    """No collimator: the whole detector is exposed."""
    return Collimator(np.zeros(2), np.full(2, np.inf))
