"""Rigid motions of point lists that were placed on another, unpublished copy of their scan.

What such a list lacks is only its place in the scan. Specimens whose points do lie in their scan teach how bone looks
around each point; the motion sought is the one under which the scan looks like that around the points. No network and
no stored motion is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, optimize
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.shape_model import Pose, rigid_fit

LEAST_SPECIMENS = 5  # to learn from; fewer do not average out how one specimen looks
TURNS = 600  # rotations tried; none is farther than about 25 degrees from one of them
CANDIDATES = 4  # of them that are looked at closely
COARSE, PATCH, STEP = 1 / 15, 1 / 20, 1 / 60  # coarse voxel, half a patch, its voxels: shares of the shape's extent


@dataclass(frozen=True)
class Example:
    """A scan of bone, which is brighter than what is around it, and its (K, 3) points in LPS mm."""

    volume: Volume
    points: np.ndarray


@dataclass(frozen=True)
class Appearance:
    """How specimens look in the frame of their mean shape (mm).

    Attributes:
        mean: (K, 3) mean shape, centered.
        coarse: (X, Y, Z) mean image around the shape, of mean 0, in voxels of `spacing`.
        origin: (3,) center of its first voxel.
        spacing: mm.
        offsets: (P, 3) from a point to the samples of its patch.
        patches: (K, P) mean patches, each of mean 0 and length 1.
    """

    mean: np.ndarray
    coarse: np.ndarray
    origin: np.ndarray
    spacing: float
    offsets: np.ndarray
    patches: np.ndarray


def learn_appearance(examples: Sequence[Example]) -> Appearance:
    """Learn from specimens whose points lie in their scans, all in one order.

    Raises:
        ValueError: fewer than `LEAST_SPECIMENS`.
    """
    if len(examples) < LEAST_SPECIMENS:
        raise ValueError(f"{LEAST_SPECIMENS} specimens are needed at least.")
    mean = examples[0].points - examples[0].points.mean(axis=0)
    for _ in range(5):
        mean = np.mean([rigid_fit(mean, one.points).to_model(one.points) for one in examples], axis=0)
        mean = mean - mean.mean(axis=0)
    extent = float(np.ptp(mean, axis=0).max())
    spacing = COARSE * extent
    low, high = mean.min(axis=0) - 2 * spacing, mean.max(axis=0) + 2 * spacing
    grid = low + spacing * np.stack(np.indices(np.ceil((high - low) / spacing).astype(int)), axis=-1)
    line = np.arange(-PATCH, PATCH + STEP / 2, STEP) * extent
    offsets = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3)
    coarse, patches = np.zeros(grid.shape[:3]), np.zeros((len(mean), len(offsets)))
    for one in examples:
        volume, pose = one.volume, rigid_fit(mean, one.points)
        coarse += _sample(_blurred(volume, spacing), volume, pose.to_lps(grid))
        around = one.points[:, None] + offsets @ pose.rotation.T
        patches += _unit(_sample(_blurred(volume, STEP * extent), volume, around))
    return Appearance(mean, coarse - coarse.mean(), low, spacing, offsets, _unit(patches))


def find_motion(volume: Volume, points: np.ndarray, appearance: Appearance) -> Pose:
    """The motion that takes points into their scan: every direction is tried, then the best are refined.

    Args:
        volume: the scan.
        points: (K, 3) mm in any right-handed frame, in the order of the specimens learnt from.
        appearance: what was learnt from the others.

    Returns:
        `to_lps` of it moves `points` into the scan; the caller judges whether they fit there.
    """
    own = rigid_fit(appearance.mean, points)  # mean shape to the list's frame
    smooth = _blurred(volume, appearance.spacing)
    grid = appearance.origin + appearance.spacing * np.stack(np.indices(appearance.coarse.shape), axis=-1)
    weights = appearance.coarse.ravel()

    def unlike(move: np.ndarray, start: Pose) -> float:
        values = _sample(smooth, volume, _moved(start, move).to_lps(grid.reshape(-1, 3)))
        return -float(weights @ values) / (float(np.linalg.norm(values - values.mean())) + 1e-9)

    starts = [_refined(unlike, start, appearance.spacing) for start in _coarse_places(smooth, volume, appearance)]
    fine = _blurred(volume, float(np.ptp(appearance.mean, axis=0).max()) * STEP)
    centered = own.to_model(points)

    def patches_unlike(move: np.ndarray, start: Pose) -> float:
        pose = _moved(start, move)
        around = pose.to_lps(centered[:, None] + appearance.offsets)
        return -float((_unit(_sample(fine, volume, around)) * appearance.patches).sum())

    nearest = min(starts, key=lambda pose: patches_unlike(np.zeros(6), pose))
    best = _refined(patches_unlike, nearest, appearance.spacing / 4)
    rotation = best.rotation @ own.rotation.T
    return Pose(rotation, best.translation - rotation @ own.translation)


def _coarse_places(smooth: np.ndarray, volume: Volume, appearance: Appearance) -> list[Pose]:
    """Poses of the mean image in the scan that correlate best, over turns by Fourier transforms over shifts."""
    spacing = appearance.spacing
    corners = volume.grid.lps_from_ijk(
        np.stack(np.meshgrid(*[(0, n - 1) for n in volume.array.shape]), axis=-1).reshape(-1, 3)
    )
    low, size = corners.min(axis=0), np.ceil(np.ptp(corners, axis=0) / spacing).astype(int) + 1
    scan = _sample(smooth, volume, low + spacing * np.stack(np.indices(size), axis=-1))
    half = int(np.ceil(np.linalg.norm(appearance.coarse.shape) / 2))
    cube = spacing * (np.stack(np.indices([2 * half + 1] * 3), axis=-1) - half)
    shape = [fft.next_fast_len(int(n) + 2 * half, real=True) for n in size]
    spectrum = fft.rfftn(scan.astype(np.float32), shape)
    found: list[tuple[float, Pose]] = []
    for turn in Rotation.random(TURNS, random_state=0).as_matrix():
        index = (cube @ turn - appearance.origin) / spacing
        turned = ndimage.map_coordinates(appearance.coarse, np.moveaxis(index, -1, 0), order=1)
        match = fft.irfftn(spectrum * np.conj(fft.rfftn(turned.astype(np.float32), shape)), shape)
        at = np.array(np.unravel_index(np.argmax(match), match.shape))
        shift = np.where(at > size, at - shape, at) + half  # shifts beyond the scan's end are negative ones
        found.append((float(match.max()), Pose(turn, low + spacing * shift)))
    return [pose for _, pose in sorted(found, key=lambda item: -item[0])[:CANDIDATES]]


def _refined(unlike: Callable[[np.ndarray, Pose], float], start: Pose, step: float) -> Pose:
    """The pose near `start` that makes `unlike` least; `step` is how far shifts go at first, mm."""
    directions = np.diag([step] * 3 + [0.1] * 3)
    for _ in range(2):
        found = optimize.minimize(
            unlike, np.zeros(6), (start,), "Powell", options={"direc": directions, "xtol": 1e-3, "ftol": 1e-5}
        )
        start = _moved(start, found.x)
    return start


def _moved(start: Pose, move: np.ndarray) -> Pose:
    """A pose shifted by move[:3] mm and turned about the shape's center by move[3:], a vector of radians."""
    turn = Rotation.from_rotvec(move[3:]).as_matrix()
    return Pose(turn @ start.rotation, start.translation + move[:3])


def _blurred(volume: Volume, width_mm: float) -> np.ndarray:
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    array: np.ndarray = ndimage.gaussian_filter(volume.array.astype(np.float32), 0.5 * width_mm / spacing)
    return array


def _sample(array: np.ndarray, volume: Volume, points: np.ndarray) -> np.ndarray:
    """(...) values of `array` on the volume's grid at (..., 3) LPS points; the darkest value outside."""
    index = np.moveaxis(volume.grid.ijk_from_lps(points), -1, 0)
    values: np.ndarray = ndimage.map_coordinates(array, index, order=1, cval=float(array.min()))
    return values


def _unit(patches: np.ndarray) -> np.ndarray:
    """(..., P) patches of mean 0 and length 1; even ones become 0."""
    centered = patches - patches.mean(axis=-1, keepdims=True)
    unit: np.ndarray = centered / (np.linalg.norm(centered, axis=-1, keepdims=True) + 1e-6)
    return unit
