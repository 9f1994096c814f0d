"""The mean anatomy of some scans, as a backdrop for landmarks where no single scan may be shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from H3DELandmarksLib.core.geometry import Grid, Volume
from H3DELandmarksLib.core.shape_model import ShapeModel, rigid_fit
from H3DELandmarksLib.training.cases import Case

MAX_CASES = 8
SAMPLES, COARSE = 150, 12
MARGIN, LONGEST_SHARE = 0.12, 1.06
AIR_HU, TISSUE_HU, BONE_HU = -500, 0, 800
MIN_LANDMARKS = 4


def mean_anatomy(cases: Sequence[Case], shape: ShapeModel, canonical_pose: bool, samples: int = SAMPLES) -> Volume:
    """The mean of scans, each bent so that its landmarks lie at those of the mean shape.

    Thin-plate splines through the landmarks (Bookstein, 1989) bend space; gray values are brought to one scale first.

    Args:
        cases: scans with landmarks in the order of the shape; at most eight are used.
        shape: mean shape.
        canonical_pose: whether the shape's frame is the anatomy's own; else it has the patient's axes.
        samples: voxels along the longest side.

    Returns:
        Volume around the shape whose affine leads to the shape's frame in mm; values from 0 to 1.

    Raises:
        ValueError: no case has four landmarks.
    """
    most = sorted(cases, key=lambda case: -case.landmarks.present.sum())[:MAX_CASES]
    usable = [case for case in most if case.landmarks.present.sum() >= MIN_LANDMARKS]
    if not usable:
        raise ValueError("No case has the four landmarks that place it.")
    grid = _grid_around(shape.mean, samples)
    return Volume(np.mean([_bent(case, shape, canonical_pose, grid) for case in usable], axis=0), grid.affine)


def shaded_surface(volume: Volume, level: float, toward: np.ndarray) -> np.ndarray:
    """What an eye sees of the surface at which values reach a level, lit from the eye.

    Args:
        volume: values indexed [i, j, k], with axes along those of its frame.
        level: value of the surface.
        toward: (3,) one of the six axis directions, from the volume toward the eye.

    Returns:
        Brightness from 0 to 1, NaN where there is no surface, indexed by the two remaining axes in their order.
    """
    axis = int(np.argmax(np.abs(toward)))
    values = np.moveaxis(np.asarray(volume.array, dtype=np.float32), axis, 0)
    values = values[::-1] if toward[axis] > 0 else values
    inside = values >= level
    hit = inside.any(axis=0)
    first = inside.argmax(axis=0)
    before = np.maximum(first - 1, 0)
    rows, columns = np.indices(first.shape)
    low, high = values[before, rows, columns], values[first, rows, columns]
    share = np.clip((level - low) / np.where(high > low, high - low, 1.0), 0, 1)
    depth = (before + share * (first > 0)) * volume.spacing[axis]
    others = [a for a in range(3) if a != axis]
    depth[~hit] = np.nan
    slopes = np.gradient(depth, *volume.spacing[others])
    light = 1 / np.sqrt(1 + sum(slope**2 for slope in slopes))
    nearness = 1 - 0.5 * (depth - np.nanmin(depth)) / max(np.ptp(depth[hit]), 1e-6)
    return np.where(hit, np.nan_to_num(light, nan=0.3) * nearness, np.nan)


def _grid_around(points: np.ndarray, samples: int) -> Grid:
    """A grid of even spacing around points, with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    longest = (high - low).max()
    margin = np.clip((LONGEST_SHARE * longest - (high - low)) / 2, 0, MARGIN * longest)
    low, high = low - margin, high + margin
    spacing = (high - low).max() / samples
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = low
    counts = np.ceil((high - low) / spacing).astype(int) + 1
    return Grid(affine, (int(counts[0]), int(counts[1]), int(counts[2])))


def _bent(case: Case, shape: ShapeModel, canonical_pose: bool, grid: Grid) -> np.ndarray:
    """The scan's values from 0 to 1 on a grid of the shape's frame; 0 outside the scan."""
    from scipy.interpolate import RBFInterpolator
    from scipy.ndimage import map_coordinates, zoom

    known = case.landmarks.present
    source, target = shape.mean[known], case.landmarks.positions[known]
    pose = rigid_fit(source, target) if canonical_pose else None
    start = pose.to_lps(source) if pose else source + (target - source).mean(axis=0)
    bend = RBFInterpolator(source, target - start, kernel="thin_plate_spline", smoothing=1e-3)
    coarse = [np.linspace(0, n - 1, COARSE) for n in grid.shape]
    nodes = grid.lps_from_ijk(np.stack(np.meshgrid(*coarse, indexing="ij"), axis=-1))
    moved = bend(nodes.reshape(-1, 3)).reshape(*nodes.shape)
    fine = np.stack(
        [zoom(moved[..., a], np.array(grid.shape) / COARSE, order=1, grid_mode=False) for a in range(3)], -1
    )
    points = grid.lps_from_ijk(np.stack(np.indices(grid.shape), axis=-1))
    placed = pose.to_lps(points) if pose else points + (target - source).mean(axis=0)
    low, high = _black_and_white(case.volume.array[::3, ::3, ::3])
    index = np.moveaxis(case.volume.grid.ijk_from_lps(placed + fine), -1, 0)
    values = map_coordinates(case.volume.array, index, np.float32, order=1, cval=float(low))
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1)


def _black_and_white(values: np.ndarray) -> tuple[float, float]:
    """Soft tissue and bone in Hounsfield units; percentiles of what is in other units."""
    if values.min() <= AIR_HU:
        return TISSUE_HU, BONE_HU
    low, high = np.percentile(values, [2, 99.8])
    return float(low), float(high)
