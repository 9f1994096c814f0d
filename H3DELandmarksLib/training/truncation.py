"""Scans that end within a crop: everything beyond a random plane is blank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class EndOfScan:
    """A plane in a crop, beyond which nothing was scanned; in a radiograph a line.

    Attributes:
        middle: (3,) voxel index of the crop's middle.
        normal: (3,) unit vector that points out of the scan.
        offset: distance of the plane from the middle along the normal, in voxels.
    """

    middle: np.ndarray
    normal: np.ndarray
    offset: float

    @classmethod
    def draw(
        cls, shape: tuple[int, ...], index: np.ndarray, rng: np.random.Generator, near: float = 0.0
    ) -> EndOfScan:
        """Draw a plane.

        Args:
            shape: (3,) voxels of the crop.
            index: (C, 3) landmarks in voxels, NaN where unknown.
            rng: source of randomness.
            near: with a positive number of voxels, most planes pass within about this distance of a landmark, where it
                is hardest to tell whether the landmark is still in view, and half are parallel to the faces of the
                crop.
        """
        size = np.array(shape)
        middle = (size - 1) / 2
        normal = rng.normal(size=3)
        normal[size == 1] = 0
        normal /= np.linalg.norm(normal)
        offset = rng.uniform(0.05, 0.4) * np.abs(normal) @ size
        if near > 0:
            normal, offset = _plane_near(index - middle, normal, offset, near, rng)
        return cls(middle, normal, float(offset))

    def beyond(self, index: np.ndarray) -> np.ndarray:
        """(C,) whether each of (C, 3) voxel indices lies in the removed part; False for NaN."""
        with np.errstate(invalid="ignore"):
            return (index - self.middle) @ self.normal > self.offset

    def blanked(self, image: Tensor) -> Tensor:
        """(X, Y, Z) with 0, which is what samples outside a scan have, in the removed part."""
        distance = torch.zeros((), device=image.device)
        for axis, n in enumerate(image.shape):
            along = (torch.arange(n, device=image.device) - float(self.middle[axis])) * float(self.normal[axis])
            distance = distance + along.view([-1 if a == axis else 1 for a in range(3)])
        return image.masked_fill(distance > self.offset, 0.0)


def _plane_near(
    places: np.ndarray, normal: np.ndarray, offset: float, near: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Normal and offset of a plane that passes close to one of (C, 3) places, two thirds of the time."""
    if rng.random() < 0.5:
        normal = np.sign(normal) * (np.arange(3) == np.argmax(np.abs(normal)))
    known = places[np.isfinite(places).all(axis=1)]
    if len(known) and rng.random() < 2 / 3:
        return normal, float(known[rng.integers(len(known))] @ normal + rng.normal(0, near))
    return normal, offset * rng.uniform(-1, 1)
