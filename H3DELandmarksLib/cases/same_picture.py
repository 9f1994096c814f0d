"""The same picture under two names, also where it was rescaled, re-windowed, inverted, cropped or mirrored.

A fingerprint is a small picture whose grey values are ranks, so that no window, gamma or scanner matters. A few pairs
that look alike as a whole, or whose one resembles a part of the other, are candidates. These are laid over each other
at several sizes, and their fine detail (local contrast, in which pictures of two subjects differ) is correlated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.stats import rankdata

from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.image_plane import is_radiograph, lay_flat

LONGEST = {2: 128, 3: 48}  # of a fingerprint
COARSE = {2: 64, 3: 24}
WORD = {2: 12, 3: 8}  # edge of what is compared between all pairs
PARTS = ((0.0, 1.0), (0.0, 0.93), (0.07, 1.0), (0.07, 0.93), (0.0, 0.85), (0.15, 1.0))  # of an edge, a crop may keep
WHOLE = PARTS[:1]
FLIPS: tuple[tuple[int, ...], ...] = ((), (0,), (0, 1))
NEIGHBOURS = 4
COMPARED = 2
SCALES = (0.94, 0.97, 1.0, 1.03, 1.06)
REFINED = (0.986, 1.0, 1.014)
FLAT = 0.004  # detail of the ranks, below which there is nothing to compare
MIN_OVERLAP = 0.5
# Pictures of two subjects reach 0.80 (aligned cephalograms), copies with a lost window or a crop 0.90 and more.
SAME = 0.87
EMPTY, SAME_IF_EMPTY = 0.6, 0.99  # share of one value, as in drawings: little can be told by the rest
BEYOND_OTHERS = 6.0  # spreads of the other candidates, for sets in which all subjects look alike


@dataclass(frozen=True)
class Repeat:
    """Two cases with one picture.

    Attributes:
        first, second: numbers of the cases; `first` is the smaller.
        likeness: correlation of their fine detail, 0..1.
        mirrored: whether one is the mirror image of the other.
        in_place: whether a structure lies at one place in both, so that points of both can be compared.
    """

    first: int
    second: int
    likeness: float
    mirrored: bool
    in_place: bool


def fingerprint(volume: Volume) -> np.ndarray:
    """A scan or radiograph made small; takes milliseconds to a second.

    Returns:
        (I, J) or (I, J, K) float32 in -0.5..0.5, ranks of the brightness; axes run to L, P, S, or as on a sheet.
    """
    flat = is_radiograph(volume)
    volume = lay_flat(volume)[0] if flat else canonical(volume)
    array, spacing = (volume.array[:, :, 0], volume.spacing[:2]) if flat else (volume.array, volume.spacing)
    edges = spacing * array.shape
    size = [max(1, round(LONGEST[array.ndim] * edge / edges.max())) for edge in edges]
    return ranks_of(resized(array, size))


def repeated_pictures(pictures: Sequence[np.ndarray]) -> list[Repeat]:
    """All pairs of pictures that show the same, by their first number.

    Args:
        pictures: fingerprints of radiographs and scans, in any mixture.
    """
    found: list[Repeat] = []
    for dimension in (2, 3):
        numbers = [n for n, picture in enumerate(pictures) if picture.ndim == dimension]
        ranks = [pictures[n] for n in numbers]
        candidates = _candidates(ranks)
        scores = np.array([_likeness(ranks, candidate) for candidate in candidates])
        limit = _limit(scores)
        best: dict[tuple[int, int], Repeat] = {}
        for candidate, score in zip(candidates, scores):
            first, second = sorted((numbers[candidate.whole], numbers[candidate.other]))
            known = best.get((first, second))
            least = max(limit, _least(ranks[candidate.whole]), _least(ranks[candidate.other]))
            if score >= least and (known is None or score > known.likeness):
                place = _is_in_place(pictures[first], pictures[second])
                best[first, second] = Repeat(first, second, float(score), len(candidate.flip) == 1, place)
        found += best.values()
    return sorted(found, key=lambda repeat: (repeat.first, repeat.second))


@dataclass(frozen=True)
class _Candidate:
    """A picture that, flipped, resembles a part of another one; `part` has two ends in 0..1 for each axis."""

    whole: int
    other: int
    flip: tuple[int, ...]
    part: tuple[tuple[float, float], ...]


def _likeness(pictures: Sequence[np.ndarray], candidate: _Candidate) -> float:
    """How well the detail of two pictures agrees where they overlap best, 0..1; 1 for a copy or a negative."""
    still, moved = pictures[candidate.other], np.flip(pictures[candidate.whole], candidate.flip)
    coarse, detail = _coarse(moved), _detail(_coarse(still))
    usual = 1 / max(high - low for low, high in candidate.part)
    (_, shift), scale = max((_best_overlap(detail, _detail(_scaled(coarse, usual * s))), usual * s) for s in SCALES)
    factor = max(still.shape) / COARSE[still.ndim]
    detail, near = _detail(still), [round(s * factor) for s in shift]
    return max(_overlap_near(detail, _detail(_scaled(moved, scale * finer)), near) for finer in REFINED)


def _is_in_place(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether pictures agree as they are: shifts of half a pixel of a fingerprint, and changes of size, are told."""
    return one.shape == other.shape and _correlation(_detail(one), _detail(other), [0] * one.ndim) >= SAME


def _least(ranks: np.ndarray) -> float:
    """What a pair with this picture must reach by itself."""
    most = np.unique(ranks, return_counts=True)[1].max() / ranks.size
    return SAME_IF_EMPTY if most > EMPTY else SAME


def _limit(scores: np.ndarray) -> float:
    """What a pair must reach: more where different subjects of the set look much alike."""
    others = np.arctanh(np.minimum(scores[scores < SAME], 0.999))
    if len(others) < 2 * NEIGHBOURS:
        return SAME
    middle = float(np.median(others))
    spread = 1.4826 * float(np.median(np.abs(others - middle)))
    return max(SAME, min(float(np.tanh(middle + BEYOND_OTHERS * spread)), 0.985))


def _candidates(pictures: Sequence[np.ndarray]) -> list[_Candidate]:
    """What to compare in detail: each picture with the few that it, or a crop of them, resembles most."""
    if len(pictures) < 2:
        return []
    dimension = pictures[0].ndim
    parts = list(product(PARTS, repeat=dimension))
    words = np.stack([coarse_looks(picture, PARTS) for picture in pictures])  # (N, P, W)
    coarse = [_coarse(picture) for picture in pictures]
    chosen: list[list[tuple[float, _Candidate]]] = [[] for _ in pictures]
    for flip in FLIPS:
        for n, picture in enumerate(pictures):
            alike = np.abs(words @ coarse_looks(np.flip(picture, flip), WHOLE)[0])
            alike[n] = -1.0
            detail = _detail(np.flip(coarse[n], flip))
            for m in np.argsort(-alike.max(axis=1))[: min(NEIGHBOURS, len(pictures) - 1)]:
                part = parts[int(alike[m].argmax())]
                there = _detail(resized(_cut(coarse[m], part), detail[0].shape))
                chosen[n].append((_overlap_near(detail, there, [0] * dimension), _Candidate(n, int(m), flip, part)))
    return [c for found in chosen for _, c in sorted(found, key=lambda pair: -pair[0])[:COMPARED]]


def _cut(picture: np.ndarray, part: Sequence[tuple[float, float]]) -> np.ndarray:
    return picture[tuple(slice(round(a * n), max(round(b * n), 1)) for (a, b), n in zip(part, picture.shape))]


def coarse_looks(picture: np.ndarray, ends: Sequence[tuple[float, float]]) -> np.ndarray:
    """The coarsest look of each part of a picture.

    Args:
        picture: (I, J) or (I, J, K).
        ends: of parts along an axis, as shares of its length; a part has one of them along each axis.

    Returns:
        (P, W), each look of mean 0 and length 1; the part's ends along the last axis change first.
    """
    found = picture[None]
    for axis, count in enumerate(picture.shape):
        cuts = _cuts(count, WORD[picture.ndim], tuple(ends))
        found = np.moveaxis(np.tensordot(found, cuts, (axis + 1, 2)), (-2, -1), (1, axis + 2))
        found = found.reshape(-1, *found.shape[2:])
    words = found.reshape(len(found), -1)
    words = words - words.mean(axis=1, keepdims=True)
    return words / np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-6)


@cache
def _cuts(count: int, edge: int, ends: tuple[tuple[float, float], ...]) -> np.ndarray:
    """(E, edge, count) of each part of so many pixels in a row the weights by which `resized` gives so few."""
    pixels = np.eye(count, dtype=np.float32)
    return np.stack([resized(_cut(pixels, (part, (0.0, 1.0))), (edge, count)) for part in ends])


def ranks_of(array: np.ndarray) -> np.ndarray:
    """Ranks of the brightness in -0.5..0.5, of the same shape."""
    return (rankdata(array) / array.size - 0.5).reshape(array.shape).astype(np.float32)


def _coarse(ranks: np.ndarray) -> np.ndarray:
    return resized(ranks, [max(1, round(n * COARSE[ranks.ndim] / max(ranks.shape))) for n in ranks.shape])


def _scaled(ranks: np.ndarray, scale: float) -> np.ndarray:
    return ranks if scale == 1 else resized(ranks, [max(1, round(n / scale)) for n in ranks.shape])


def resized(array: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resampled to other numbers of pixels, averaged where there are fewer."""
    step = [max(1, n // (4 * m)) for n, m in zip(array.shape, size)]
    array = np.asarray(array[tuple(slice(s // 2, None, s) for s in step)], np.float32)
    blur = [0.4 * n / m if n > m else 0.0 for n, m in zip(array.shape, size)]
    array = ndimage.gaussian_filter(array, blur, truncate=2.5)
    scale = [n / m for n, m in zip(array.shape, size)]
    offset = [s / 2 - 0.5 for s in scale]
    return ndimage.affine_transform(array, scale, offset, tuple(size), order=1, mode="nearest")


def _detail(ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fine structure of evened contrast, and 1 where there is any."""
    fine = ndimage.gaussian_filter(ranks, 1.0, truncate=3.0) - ndimage.gaussian_filter(ranks, 3.0, truncate=3.0)
    contrast = np.sqrt(np.maximum(ndimage.uniform_filter(fine**2, 15), 0.0))
    there = (contrast > FLAT).astype(np.float32)
    return fine / (contrast + 4 * FLAT) * there, there


def _best_overlap(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> tuple[float, tuple]:
    """Largest correlation over all shifts by whole pixels, and the shift of the other's origin."""
    size = [next_fast_len(a + b - 1, True) for a, b in zip(one[0].shape, other[0].shape)]
    a, aa, here = (rfftn(part, size) for part in (one[0], one[0] ** 2, one[1]))
    b, bb, there = (rfftn(part, size).conj() for part in (other[0], other[0] ** 2, other[1]))
    both = irfftn(here * there, size)
    energy = np.maximum(irfftn(aa * there, size) * irfftn(here * bb, size), 1e-6)
    enough = both > MIN_OVERLAP * min(one[1].sum(), other[1].sum()) + 1
    value = np.where(enough, np.abs(irfftn(a * b, size)) / np.sqrt(energy), 0.0)
    place = np.unravel_index(int(value.argmax()), value.shape)
    shift = tuple(int(p) if p < n else int(p) - total for p, n, total in zip(place, one[0].shape, size))
    return float(value[place]), shift


def _overlap_near(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], shift: Sequence[int]
) -> float:
    """Largest correlation at shifts near a given one."""
    return max(
        _correlation(one, other, [s + d for s, d in zip(shift, step)])
        for step in product((-1, 0, 1), repeat=one[0].ndim)
    )


def _correlation(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], shift: Sequence[int]
) -> float:
    ours, theirs = [], []
    for s, n, m in zip(shift, one[0].shape, other[0].shape):
        low, high = max(0, s), min(n, m + s)
        if high <= low:
            return 0.0
        ours.append(slice(low, high))
        theirs.append(slice(low - s, high - s))
    a, here = (part[tuple(ours)].ravel() for part in one)
    b, there = (part[tuple(theirs)].ravel() for part in other)
    if float(here @ there) <= MIN_OVERLAP * min(one[1].sum(), other[1].sum()):
        return 0.0
    a, b = a * there, b * here
    return float(abs(a @ b) / max(np.sqrt(float(a @ a) * float(b @ b)), 1e-6))
