"""Landmarks that do not depend on where a scanner's voxels happen to lie: derived on many lattices, and averaged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.geometry import Grid, Volume, canonical, resample, transform_points
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.head_neck.derive import derive_landmarks
from H3DELandmarksResearch.head_neck.scheme import ORGANS

# Fractions of a voxel by which lattices are shifted along each axis; every combination is a lattice.
SHIFTS = (0.0, 0.5)
# A landmark counts where so many of the lattices give it, and 90 % of them within so many mm of their middle.
LEAST_SHARE, MOST_SPREAD_MM = 0.75, 3.0
SHARE = 90.0
ROUNDS = 20
MARGIN = 8  # voxels around what is drawn, in which rules look at the scan


def shifted(labels: Volume, scan: Volume, shift: Sequence[float]) -> tuple[Volume, Volume]:
    """Contours and scan as they would be on another lattice.

    Args:
        labels, scan: of one size, in canonical order.
        shift: (3,) voxels by which the lattice moves.

    Returns:
        Both resampled by linear interpolation at the same size; a contour where at least half of a voxel was drawn.
    """
    affine = scan.affine.copy()
    affine[:3, 3] = transform_points(scan.affine, np.asarray(shift, float))
    grid = Grid(affine, tuple(scan.array.shape))
    moved = np.zeros(scan.array.shape, np.uint8)
    for value in ORGANS.values():
        mask = labels.array == value
        if mask.any():
            moved[resample(Volume(mask.astype(np.float32), labels.affine), grid, 0.0).array >= 0.5] = value
    values = resample(Volume(scan.array.astype(np.float32), scan.affine), grid, -1024.0).array
    return Volume(moved, affine), Volume(values, affine)


def around_contours(labels: Volume, scan: Volume) -> tuple[Volume, Volume]:
    """The part of both in which something is drawn, with `MARGIN` voxels around."""
    drawn = np.argwhere(np.isin(labels.array, list(ORGANS.values())))
    if not len(drawn):
        return labels, scan
    low, high = np.maximum(drawn.min(axis=0) - MARGIN, 0), drawn.max(axis=0) + 1 + MARGIN
    part, affine = tuple(map(slice, low, high)), labels.affine.copy()
    affine[:3, 3] = labels.grid.lps_from_ijk(low)
    return Volume(labels.array[part], affine), Volume(scan.array[part], affine)


def derive_stable(labels: Volume, scan: Volume, shifts: Sequence[float] = SHIFTS) -> LandmarkSet:
    """`derive_landmarks` on lattices shifted by fractions of a voxel, LPS mm.

    Args:
        labels, scan: as for `derive_landmarks`.
        shifts: along each axis; every combination is a lattice.

    Returns:
        The middle of what the lattices give; `radius` is its spread, the distance within which 90 % of them lie.
        Landmarks that few lattices give, or that spread too far, are unknown.
    """
    labels, scan = around_contours(canonical(labels), canonical(scan))
    looks = [derive_landmarks(*shifted(labels, scan, shift)) for shift in itertools.product(shifts, repeat=3)]
    positions, spread = zip(*(_middle(points) for points in np.stack([look.positions for look in looks], axis=1)))
    known = np.isfinite(spread) & (np.array(spread) <= MOST_SPREAD_MM)
    return replace(
        looks[0],
        positions=np.array(positions),
        presence=np.where(known, 1.0, np.nan),
        radius=np.where(known, spread, np.nan),
    )


def _middle(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Geometric median of (N, 3) points, of which NaN ones are left out, and the distance that holds 90 % of them."""
    known = points[np.isfinite(points).all(axis=1)]
    if len(known) < LEAST_SHARE * len(points):
        return np.full(3, np.nan), float("nan")
    middle = known.mean(axis=0)
    for _ in range(ROUNDS):  # Weiszfeld's iteration, kept from dividing by zero
        weights = 1 / np.maximum(np.linalg.norm(known - middle, axis=1), 0.1)
        middle = weights @ known / weights.sum()
    return middle, float(np.percentile(np.linalg.norm(known - middle, axis=1), SHARE))
