"""What the rules need to know of a contour: its points at less than a voxel, its ends, and what lies beyond."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from H3DELandmarksLib.core.geometry import Grid, Volume, crop_grid, field_of_view_grid, resample, transform_points

STEP_MM = 1.25
SOFT_MM = 2.0
BLANK_HU = -1000.0
BLANK_SHARE = 0.4
# Where a scan shows less of a drawn bone as bone, its values are not Hounsfield units.
LEAST_BONE = 0.3


@dataclass(frozen=True)
class Contour:
    """One organ drawn in a scan.

    Attributes:
        mask: (I, J, K) bool, the label volume's voxels of the organ; pieces under 5 % of the largest are left out.
        affine: (4, 4) IJK -> LPS mm; axes run as closely as possible to L, P, S.
        points: (N, 3) LPS mm, a lattice of `STEP_MM` within the surface where the interpolated mask is one half.
    """

    mask: np.ndarray
    affine: np.ndarray
    points: np.ndarray

    @property
    def centroid(self) -> np.ndarray:
        """(3,) LPS mm."""
        return transform_points(self.affine, np.argwhere(self.mask)).mean(axis=0)

    @property
    def volume_ml(self) -> float:
        """Volume in milliliters."""
        return float(self.mask.sum() * abs(np.linalg.det(self.affine[:3, :3])) / 1000)

    @property
    def height_mm(self) -> float:
        """Extent along the scan's third axis (bottom to top)."""
        drawn = np.flatnonzero(self.mask.any(axis=(0, 1)))
        return float((drawn[-1] - drawn[0] + 1) * np.linalg.norm(self.affine[:3, 2]))

    @property
    def touches_edge(self) -> bool:
        """Whether the organ reaches a face of the volume, beyond which it may go on."""
        return any(np.take(self.mask, end, axis=axis).any() for axis in range(3) for end in (0, -1))

    def near_edge(self, point: np.ndarray, distance_mm: float) -> bool:
        """Whether the organ reaches a face of the volume within a distance of a point (LPS mm)."""
        border = np.zeros_like(self.mask)
        for axis in range(3):
            for end in (0, -1):
                face = [slice(None)] * 3
                face[axis] = end
                border[tuple(face)] = self.mask[tuple(face)]
        places = transform_points(self.affine, np.argwhere(border))
        return bool((np.linalg.norm(places - point, axis=1) < distance_mm).any())


def contour(labels: Volume, value: int) -> Contour | None:
    """The contour of an organ in a label volume with canonical axis order; None where it is not drawn."""
    mask = labels.array == value
    if not mask.any():
        return None
    mask = largest_pieces(mask)
    return Contour(mask, labels.affine, _inner_points(mask, labels.affine))


def _inner_points(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    grid, share = _drawn_share(mask, affine)
    return grid.lps_from_ijk(np.argwhere(share >= 0.5))


def _drawn_share(mask: np.ndarray, affine: np.ndarray) -> tuple[Grid, np.ndarray]:
    """A lattice of `STEP_MM` around what is drawn, and the interpolated mask on it."""
    index = np.argwhere(mask)
    low, high = index.min(axis=0), index.max(axis=0) + 1
    part = np.pad(mask[tuple(slice(a, b) for a, b in zip(low, high))].astype(np.float32), 1)
    placed = affine.copy()
    placed[:3, 3] = transform_points(affine, low - 1)
    volume = Volume(part, placed)
    grid = field_of_view_grid(volume.grid, STEP_MM, np.eye(3))
    return grid, resample(volume, grid, 0.0).array


def bone_within(organ: Contour, scan: Volume | None, least_share: float, least_hu: float) -> np.ndarray:
    """(N, 3) LPS mm, a lattice of `STEP_MM`: bone in and at a contour, whose edge the scan shows more finely.

    Args:
        organ: contour of a bone.
        scan: CT in Hounsfield units on which it was drawn; without one, the contour's own points are all there is.
        least_share: of the interpolated mask; 0.5 ends at the contour, less goes on beyond it, by a voxel at most.
        least_hu: interpolated value from which on it is bone.
    """
    if scan is None:
        return organ.points
    grid, share = _drawn_share(organ.mask, organ.affine)
    values = resample(Volume(scan.array.astype(np.float32), scan.affine), grid, -1024.0).array
    bone = largest_pieces((share >= least_share) & (values >= least_hu))
    points = grid.lps_from_ijk(np.argwhere(bone))
    return points if len(points) >= LEAST_BONE * len(organ.points) else organ.points


def largest_pieces(mask: np.ndarray) -> np.ndarray:
    """A (I, J, K) mask without pieces of less than 5 % of the largest one."""
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())[1:]
    return np.isin(pieces, 1 + np.flatnonzero(sizes >= 0.05 * sizes.max()))


def extreme(points: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(3,) the point farthest in a direction; across it, the middle of those that lie nearly as far.

    Every point weighs in the less the farther it stays behind, by a factor of e every `SOFT_MM`: the outermost layer
    alone follows the steps of the voxels.

    Args:
        points: (N, 3) mm.
        direction: (3,) unit vector in the same frame.
    """
    along = points @ direction
    weights = np.exp((along - along.max()) / SOFT_MM)
    middle = weights @ points / weights.sum()
    return middle + (along.max() - middle @ direction) * direction


def mean_around(scan: Volume, point: np.ndarray, size_mm: float) -> float:
    """Mean stored value of a scan in a cube around a point (LPS mm); beyond the scan it is that of air."""
    return float(resample(scan, crop_grid(point, np.eye(3), size_mm / 4, (5, 5, 5)), -1024.0).array.mean())


def is_isolated(scan: Volume, point: np.ndarray) -> bool:
    """Whether most of what lies around a point (LPS mm) is blank: outside the scan or set to air around the drawing."""
    around = resample(scan, crop_grid(point, np.eye(3), 3.0, (7, 7, 7)), -1024.0).array
    return bool((around < BLANK_HU).mean() > BLANK_SHARE)
