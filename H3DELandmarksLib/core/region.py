"""A box in patient space that a search is restricted to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, transform_points
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet

# Fewer points do not tell where an anatomy lies and how large it is.
FEWEST = 3
_CORNERS = np.array(list(product((-0.5, 0.5), repeat=3)))


@dataclass(frozen=True)
class Region:
    """A box of any orientation.

    Attributes:
        affine: (4, 4) from the cube of edge 1 around the origin to LPS mm: its columns are the edges and the center.
    """

    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.isfinite(affine).all() or edges.min() == 0 or abs(np.linalg.det(affine[:3, :3] / edges)) < 1e-9:
            raise InputError("The region of interest has no volume: give it a size in all three directions.")
        object.__setattr__(self, "affine", affine)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """(...) bool: whether (..., 3) LPS points lie in the box; NaN rows do not."""
        with np.errstate(invalid="ignore"):
            within = np.abs(transform_points(np.linalg.inv(self.affine), points)) <= 0.5
        inside: np.ndarray = within.all(axis=-1)
        return inside

    def crop(self, volume: Volume) -> Volume:
        """The smallest block of voxels that covers the box, each at its place; not a copy.

        Raises:
            InputError: the box lies outside the scan.
        """
        index = volume.grid.ijk_from_lps(transform_points(self.affine, _CORNERS))
        low = np.maximum(np.floor(index.min(axis=0) + 0.5), 0).astype(int)
        high = np.minimum(np.ceil(index.max(axis=0) - 0.5) + 1, volume.array.shape).astype(int)
        if (low >= high).any():
            raise InputError("The region of interest lies outside the scan: move it over the anatomy.")
        affine = volume.affine.copy()
        affine[:3, 3] = volume.grid.lps_from_ijk(low)
        return Volume(volume.array[tuple(map(slice, low, high))], affine)

    def limit(self, landmarks: LandmarkSet, expected: np.ndarray | None = None) -> LandmarkSet:
        """The same set, where only landmarks in the box are known: nobody has looked for the others elsewhere.

        Args:
            landmarks: LPS mm.
            expected: (K, 3) where landmarks should be that were not found; None where nobody knows.
        """
        inside = landmarks.present & self.contains(landmarks.positions)
        if expected is not None:
            inside |= ~landmarks.present & self.contains(expected)
        return landmarks.unknown_where(~inside, Cause.OUTSIDE_REGION)


def region_around(landmarks: LandmarkSet, margin_mm: float, fewest: int = FEWEST) -> Region | None:
    """The box along the patient's axes around all present landmarks; None where fewer than `fewest` are present.

    Args:
        landmarks: positions in LPS mm.
        margin_mm: distance of its faces from the outermost landmarks.
        fewest: how many landmarks tell where an anatomy lies and how large it is.
    """
    points = landmarks.positions[landmarks.present]
    if len(points) < fewest:
        return None
    low, high = points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm
    affine = np.diag([*(high - low), 1.0])
    affine[:3, 3] = (low + high) / 2
    return Region(affine)
