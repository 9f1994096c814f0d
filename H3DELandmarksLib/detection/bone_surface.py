"""Landmarks on the surface of bone, where a scan shows it more finely than the networks look.

A landmark that is defined as the point farthest in some direction of its anatomy is looked for again near where the
networks have it: on a lattice along that direction each column ends where the value falls half-way from bone to soft
tissue, and the definition is evaluated on these ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import label

from H3DELandmarksLib.core.geometry import Volume, crop_grid, resample
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.manifest import BoneSurface, SurfacePoint

# The block that is looked at: half its width, how far it reaches behind the point and beyond it.
STEP_MM, WIDE_MM, BEHIND_MM, BEYOND_MM = 0.5, 11.0, 12.0, 11.0
# Bone belongs to the landmark if it goes on behind the point, so close to the line through it and so far behind.
ROOT_WIDTH_MM, ROOT_MM = 5.0, (4.0, 12.0)
# Across the direction, points weigh in the less the farther they stay behind, by a factor of e every so many mm.
SOFT_MM = 2.0
SETTLED_MM, ROUNDS = 0.02, 8
# A landmark of the midline stays there; bone counts for it within so many mm.
MIDLINE_MM = 8.0
# Bone that reaches a side of the block so far beyond the point goes on into other bone.
FREE_MM = 5.5
# How far a point without a radius may be moved.
FARTHEST_MM = 6.0
# Bone must exceed soft tissue by so many standard deviations of the latter.
LEAST_CONTRAST = 6.0
MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Extremum:
    """Where on the bone a landmark is.

    Attributes:
        point: (3,) LPS mm where the networks have it.
        axes: (3, 3) orthonormal columns in LPS: two across and the direction in which it lies farthest.
        reach: mm from `point` within which it is accepted.
        is_midline: whether it stays where it is along the first of `axes`.
    """

    point: np.ndarray
    axes: np.ndarray
    reach: float
    is_midline: bool = False


def on_bone(volume: Volume, wanted: Extremum) -> np.ndarray | None:
    """The landmark on the bone's surface.

    Args:
        volume: scan of any unit in which bone is bright.
        wanted: what to look for.

    Returns:
        (3,) LPS mm; None where there is no bone, where it goes on into other bone or the scan's end, or where its
        farthest point is out of reach.
    """
    point = wanted.point
    for _ in range(ROUNDS):
        if volume.grid.depth(point) < ROOT_MM[0]:
            return None
        ends = _column_ends(volume, point, wanted.axes)
        if ends is not None and wanted.is_midline:
            ends = ends[np.abs(ends[:, 0]) <= MIDLINE_MM] * (0, 1, 1)
        if ends is None or not len(ends):
            return None
        weights = np.exp((ends[:, 2] - ends[:, 2].max()) / SOFT_MM)
        move = weights @ ends / weights.sum()
        move[2] = ends[:, 2].max()
        point = point + wanted.axes @ move
        if np.linalg.norm(point - wanted.point) > wanted.reach:
            return None
        if np.linalg.norm(move) < SETTLED_MM:
            break
    return point


def placed_on_bone(
    landmarks: LandmarkSet, expected: np.ndarray, volume: Volume, surface: BoneSurface, scheme: LandmarkScheme
) -> LandmarkSet:
    """The same set; landmarks that the surface tells better than the networks lie on it, if the scan is fine enough.

    Where a landmark of the frame was not found, the others of the frame are not placed: broad angles depend on it most.

    Args:
        landmarks: what the networks have found, LPS mm.
        expected: (K, 3) LPS mm where the mean shape has all landmarks, to stand in for those of the frame.
        volume: the scan.
        surface: which landmarks; those alone that were measured to be steadier are placed.
        scheme: of the landmarks.
    """
    if volume.spacing.max() > surface.max_spacing_mm:
        return landmarks
    whole = landmarks.present[[landmarks.names.index(name) for name in surface.plane]].all()
    positions, networks = landmarks.positions.copy(), landmarks.positions.copy()
    for point in surface.points:
        row = landmarks.names.index(point.landmark)
        if point.is_steadier and landmarks.present[row] and (whole or point.landmark not in surface.plane):
            wanted = extremum(landmarks, expected, surface, point, scheme)
            found = on_bone(volume, wanted)
            positions[row] = positions[row] if found is None else found
    networks[(positions == networks).all(axis=1)] = np.nan
    return replace(landmarks, positions=positions, networks=networks)


def extremum(
    landmarks: LandmarkSet, expected: np.ndarray, surface: BoneSurface, point: SurfacePoint, scheme: LandmarkScheme
) -> Extremum:
    """What to look for near the networks' point; parameters as for `placed_on_bone`.

    A landmark is placed within its 90 % radius, and `FARTHEST_MM` where it has none.
    """
    known = np.where(landmarks.present[:, None], landmarks.positions, expected)
    front, left, right = (known[landmarks.names.index(name)] for name in surface.plane)
    row = landmarks.names.index(point.landmark)
    radius = float(landmarks.radius[row])
    sides = {name for pair in scheme.pairs for name in pair} | set(scheme.lateral)
    return Extremum(
        known[row],
        sagittal_axes(front, left, right, point.degrees),
        radius if np.isfinite(radius) else FARTHEST_MM,
        point.landmark not in sides,
    )


def _column_ends(volume: Volume, point: np.ndarray, axes: np.ndarray) -> np.ndarray | None:
    """(N, 3) mm along `axes` from a point: where the columns of the bone behind it end; None where it does not."""
    width, length = 2 * round(WIDE_MM / STEP_MM) + 1, round((BEHIND_MM + BEYOND_MM) / STEP_MM) + 1
    center = point + axes[:, 2] * (BEYOND_MM - BEHIND_MM) / 2
    values = resample(volume, crop_grid(center, axes, STEP_MM, (width, width, length)), float(volume.array.min())).array
    across, along = (np.arange(width) - width // 2) * STEP_MM, np.arange(length) * STEP_MM - BEHIND_MM
    level = half_way(values)
    if level is None:
        return None
    off_axis = np.hypot(across[:, None, None], across[None, :, None])
    root = (off_axis <= ROOT_WIDTH_MM) & (-ROOT_MM[1] <= along) & (along <= -ROOT_MM[0])
    pieces, count = label(values >= level)
    sizes = np.bincount(pieces[root], minlength=count + 1)[1:]
    if not sizes.any():
        return None
    bone = pieces == 1 + int(sizes.argmax())
    ahead = bone[:, :, along > FREE_MM]
    if ahead[[0, -1]].any() or ahead[:, [0, -1]].any() or ahead[:, :, -1].any():
        return None
    i, j = np.nonzero(bone.any(axis=2))
    k = length - 1 - bone[i, j, ::-1].argmax(axis=1)
    i, j, k = (index[k < length - 1] for index in (i, j, k))
    last, after = values[i, j, k], values[i, j, k + 1]
    ends = along[k] + STEP_MM * (last - level) / np.maximum(last - after, 1e-6)
    return np.stack([across[i], across[j], ends], axis=1)


def half_way(values: np.ndarray) -> float | None:
    """The value half-way from soft tissue to bone, in any unit.

    Args:
        values: of a block of which less than half is bone and less than half is air.

    Returns:
        None where nothing in it is as bright as bone.
    """
    soft = float(np.median(values))
    brighter = values[values > soft]
    if brighter.size == 0:
        return None
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetNumberOfHistogramBins(256)
    capped = np.minimum(brighter, np.percentile(brighter, 99))  # metal
    otsu.Execute(sitk.GetImageFromArray(capped[None].astype(np.float32)))
    bone = float(np.percentile(capped[capped >= otsu.GetThreshold()], 80))
    away = np.abs(values - soft)
    noise = MAD_TO_SD * float(np.median(away[away <= (bone - soft) / 2]))
    return (soft + bone) / 2 if bone - soft > LEAST_CONTRAST * noise else None


def sagittal_axes(front: np.ndarray, left: np.ndarray, right: np.ndarray, degrees: float) -> np.ndarray:
    """Axes for a direction in the midsagittal plane of three points.

    Args:
        front, left, right: (3,) LPS mm, of a plane from front to back.
        degrees: of the direction above "back" in that plane.

    Returns:
        (3, 3) orthonormal columns: left, across, and the direction.
    """
    to_left = (left - right) / np.linalg.norm(left - right)
    back = (left + right) / 2 - front
    back = back - back @ to_left * to_left
    back /= np.linalg.norm(back)
    angle = np.radians(degrees)
    direction = np.cos(angle) * back + np.sin(angle) * np.cross(to_left, back)
    return np.stack([to_left, np.cross(direction, to_left), direction], axis=1)
