"""Two cases whose point lists were exchanged, each of which fits the picture of the other case better than its own, and
radiographs with a point list that fits theirs far less than those of the other cases do.

What a picture shows around a landmark resembles what those of the other cases show there. Points on a picture of
another subject miss their structures, and the surroundings of all of them look less alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import ndimage

from H3DELandmarksLib.cases.same_picture import ranks_of, resized
from H3DELandmarksLib.cases.shape_check import MIN_POINTS
from H3DELandmarksLib.core.geometry import Volume, canonical

LONGEST = {True: 256, False: 64}  # of a small picture: radiograph, volume
EDGE = {True: 9, False: 7}  # samples of a surrounding along each axis
REACH = 0.3  # of a surrounding, in sizes of the case's points
MIN_CASES = 10
COMPARED = 60  # cases whose points fit their pictures least
# Of 150 right cephalograms no pair gains; 40 planted exchanges in 8 rounds are found (audit_known_faults.py).
GAIN = 0.04
# In subsets of 20 of 300 right cephalograms and 480 spines one case of 1000 fits so much less.
MIN_TO_COMPARE, MISFIT_SPREADS, MISFIT = 20, 5.0, 0.1
UPPER_QUARTILE = 0.6745  # of a normal distribution, in spreads


@dataclass(frozen=True)
class SmallPicture:
    """A picture made small, and the points on it.

    Attributes:
        ranks: (I, J, K) ranks of the brightness, axes to L, P, S.
        points: (P, 3) in its voxels; NaN where there is none.
        voxel: (3,) mm.
    """

    ranks: np.ndarray
    points: np.ndarray
    voxel: np.ndarray


def small_picture(volume: Volume, positions: np.ndarray) -> SmallPicture:
    """A case for the comparison.

    Args:
        volume: its scan or radiograph.
        positions: (P, 3) LPS mm; NaN where there is none.
    """
    volume = canonical(volume)
    shape = np.array(volume.array.shape)
    edges = volume.spacing * shape
    longest = LONGEST[bool((shape == 1).any())]
    size = np.where(shape == 1, 1, np.maximum(1, np.round(longest * edges / edges[shape > 1].max(initial=1e-9))))
    size = np.minimum(size, shape).astype(int)
    ranks = ranks_of(resized(volume.array, size.tolist()))
    points = (volume.grid.ijk_from_lps(positions) + 0.5) * size / shape - 0.5
    return SmallPicture(ranks, points, edges / size)


def exchanged_points(cases: Sequence[SmallPicture]) -> list[tuple[int, int, float]]:
    """Numbers of two cases whose points fit better when they are exchanged, the smaller first, and how much better.

    Args:
        cases: of one scheme.

    Returns:
        Pairs, each case in one at most, with the gain of the worse of the two in correlation, 0..2; empty where there
        are too few cases to say what surroundings look like.
    """
    found: list[tuple[int, int, float]] = []
    for flat in (True, False):
        numbers = [
            n
            for n, case in enumerate(cases)
            if (1 in case.ranks.shape) == flat and np.isfinite(case.points).all(axis=1).sum() >= MIN_POINTS
        ]
        if len(numbers) >= MIN_CASES:
            found += [(numbers[a], numbers[b], gain) for a, b, gain in _exchanged([cases[n] for n in numbers])]
    return sorted(found)


def misplaced_points(cases: Sequence[SmallPicture]) -> list[tuple[int, float, float]]:
    """Numbers of radiographs whose points fit them far less than in the other cases, how well, and how well usually.

    Args:
        cases: of one scheme.

    Returns:
        Fits are median correlations of what lies around the points; empty where there are too few radiographs.
    """
    numbers = [
        n for n, c in enumerate(cases) if 1 in c.ranks.shape and np.isfinite(c.points).all(axis=1).sum() >= MIN_POINTS
    ]
    if len(numbers) < MIN_TO_COMPARE:
        return []
    fits = _own_fits([cases[n] for n in numbers])[2]
    worse = -np.arctanh(np.clip(fits, -0.999, 0.999))
    middle, upper = np.percentile(worse, [50, 75])
    usual = float(np.median(fits))
    is_misfit = (worse > middle + MISFIT_SPREADS * (upper - middle) / UPPER_QUARTILE) & (fits < usual - MISFIT)
    return [(numbers[n], float(fits[n]), usual) for n in np.flatnonzero(is_misfit)]


def _own_fits(cases: Sequence[SmallPicture]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, P, S) the surroundings of each case's points, their sum, and (N,) how well each case fits the others."""
    own = np.stack([_surroundings(case, case) for case in cases])
    total = own.sum(axis=0)
    return own, total, np.array([_fit(own[n], total - own[n]) for n in range(len(cases))])


def _exchanged(cases: Sequence[SmallPicture]) -> list[tuple[int, int, float]]:
    own, total, fits = _own_fits(cases)
    gains = []
    for a, b in combinations(sorted(np.argsort(fits)[:COMPARED].tolist()), 2):
        usual = total - own[a] - own[b]
        better = [
            _fit(_surroundings(cases[here], cases[there]), usual) - _fit(own[here], usual)
            for here, there in ((a, b), (b, a))
        ]
        gains.append((min(better), a, b))
    told: dict[int, tuple[int, int, float]] = {}
    for gain, a, b in sorted(gains, reverse=True):
        if gain > GAIN and a not in told and b not in told:
            told[a] = told[b] = (a, b, float(gain))
    return sorted(set(told.values()))


def _surroundings(picture: SmallPicture, listed: SmallPicture) -> np.ndarray:
    """(P, S) what a picture shows around the points of a case, of mean 0 and length 1; 0 without a point."""
    millimetres = (listed.points + 0.5) * listed.voxel
    known = millimetres[np.isfinite(millimetres).all(axis=1)]
    size = float(np.sqrt(np.mean(np.sum((known - known.mean(axis=0)) ** 2, axis=1))))
    shape, flat = picture.ranks.shape, 1 in picture.ranks.shape
    steps = [np.linspace(-REACH, REACH, EDGE[flat]) if n > 1 else np.zeros(1) for n in shape]
    offsets = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3) * size
    places = (np.nan_to_num(millimetres)[:, None] + offsets) / picture.voxel - 0.5
    values = ndimage.map_coordinates(picture.ranks, places.reshape(-1, 3).T, order=1, mode="nearest")
    values = values.reshape(len(millimetres), -1)
    values = values - values.mean(axis=1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    return np.where(np.isfinite(millimetres).all(axis=1)[:, None], values, 0.0)


def _fit(surroundings: np.ndarray, usual: np.ndarray) -> float:
    """Median correlation of the surroundings of points with what the other cases show there."""
    told = surroundings.any(axis=1) & usual.any(axis=1)
    if not told.any():
        return 0.0
    length = np.maximum(np.linalg.norm(usual[told], axis=1), 1e-6)
    return float(np.median(np.sum(surroundings[told] * usual[told], axis=1) / length))
