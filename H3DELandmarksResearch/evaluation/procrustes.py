"""Shapes of a cohort, freed of place, size and turn: generalized Procrustes analysis with gaps, and what varies.

As in geometric morphometrics (Gower, Psychometrika 40:33, 1975; Rohlf and Slice, Syst. Zool. 39:40, 1990): subjects are
centered, scaled to centroid size 1 and turned, never mirrored, until they lie on their mean. A subject that lacks
landmarks is laid on the mean by those that it has, which also give its size. Landmarks do not slide: semi-landmarks on
curves and surfaces are not treated as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.core.errors import InputError

ROUNDS, SETTLED = 200, 1e-12
LEAST_SUBJECTS, LEAST_SHARE = 3, 0.5
FENCE = 1.5  # interquartile ranges above the upper quartile, as box plots draw outliers
FLAT = 1e-6  # of the extent


@dataclass(frozen=True)
class Alignment:
    """A cohort laid upon its mean shape. Shapes have no unit: the mean has centroid size 1.

    Attributes:
        subjects: (N) that take part.
        landmarks: (K) that take part.
        aligned: (N, K, D) with D = 2 for points in one plane, else 3; NaN where a subject lacks a landmark.
        mean: (K, D) in the orientation of the first subject without gaps, or with the fewest.
        size: (N,) centroid size in mm; of subjects with gaps as if they had all landmarks of the mean.
        distance: (N,) Procrustes distance from the mean, gaps made up for by the landmarks that are there.
        shares: (C,) of the variance that each principal component explains, largest first.
        scores: (N, C) of the subjects; a gap counts as the mean's place.
        components: (C, K, D) the shape's change for a score of 1.
        few_points: subjects left out, since they have too few of the landmarks, or all at one place.
        often_missing: landmarks left out, since fewer than half of the subjects have them.
    """

    subjects: tuple[str, ...]
    landmarks: tuple[str, ...]
    aligned: np.ndarray
    mean: np.ndarray
    size: np.ndarray
    distance: np.ndarray
    shares: np.ndarray
    scores: np.ndarray
    components: np.ndarray
    few_points: tuple[str, ...] = ()
    often_missing: tuple[str, ...] = ()

    @property
    def gaps(self) -> np.ndarray:
        """(N,) how many landmarks each subject lacks."""
        missing: np.ndarray = (~np.isfinite(self.aligned).all(axis=2)).sum(axis=1)
        return missing

    @property
    def outliers(self) -> np.ndarray:
        """(N,) bool: farther from the mean than 1.5 interquartile ranges above the upper quartile."""
        low, high = np.percentile(self.distance, [25, 75])
        far: np.ndarray = self.distance > high + FENCE * (high - low)
        return far

    @property
    def spread(self) -> np.ndarray:
        """(K,) root mean square distance of the subjects' points from the mean's."""
        rms: np.ndarray = np.sqrt(np.nanmean(((self.aligned - self.mean) ** 2).sum(axis=2), axis=0))
        return rms


def align(subjects: Sequence[str], landmarks: Sequence[str], points: np.ndarray) -> Alignment:
    """Lay the subjects of a cohort upon their mean.

    Args:
        subjects: (N) names.
        landmarks: (K) names.
        points: (N, K, 3) mm in any frame, NaN where a subject lacks a landmark.

    Raises:
        InputError: fewer than three subjects have enough landmarks in common.
    """
    points = np.where(np.isfinite(points).all(axis=2, keepdims=True), points, np.nan)
    points = np.where(_extents(points)[:, None, None] > 0, points, np.nan)  # one place is no shape
    points = _in_plane(points)
    least = points.shape[2] + 1
    enough = np.isfinite(points[..., 0]).sum(axis=1) >= least
    frequent = np.isfinite(points[enough, :, 0]).mean(axis=0) >= LEAST_SHARE if enough.any() else np.zeros(0, bool)
    enough = np.isfinite(points[:, frequent, 0]).sum(axis=1) >= least if frequent.any() else np.zeros_like(enough)
    if enough.sum() < LEAST_SUBJECTS:
        raise InputError(
            f"Shapes need at least {LEAST_SUBJECTS} subjects with {least} landmarks in common: add subjects."
        )
    chosen = points[enough][:, frequent]
    aligned, mean, size = _on_their_mean(chosen)
    known = np.isfinite(aligned).all(axis=2)
    rest = np.where(known[..., np.newaxis], aligned - mean, 0.0)
    distance = np.sqrt((rest**2).sum(axis=(1, 2)) * known.shape[1] / known.sum(axis=1))
    shares, scores, components = _principal(rest)
    return Alignment(
        subjects=tuple(name for name, kept in zip(subjects, enough) if kept),
        landmarks=tuple(name for name, kept in zip(landmarks, frequent) if kept),
        aligned=aligned,
        mean=mean,
        size=size,
        distance=distance,
        shares=shares,
        scores=scores,
        components=components,
        few_points=tuple(name for name, kept in zip(subjects, enough) if not kept),
        often_missing=tuple(name for name, kept in zip(landmarks, frequent) if not kept),
    )


def lay_on(points: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, float]:
    """Move, turn and scale a shape so that the points which it has lie on the mean's, and are as large.

    Args:
        points: (K, D), NaN where there is none.
        mean: (K, D) without gaps.

    Returns:
        (K, D) the shape, NaN where there was none, and its size in sizes of the mean.
    """
    known = np.isfinite(points).all(axis=1)
    center, target = points[known].mean(axis=0), mean[known].mean(axis=0)
    shape, goal = points[known] - center, mean[known] - target
    size = float(np.linalg.norm(shape) / np.linalg.norm(goal))
    u, _, vt = np.linalg.svd(shape.T @ goal)
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))  # no mirror image
    placed = np.full(points.shape, np.nan)
    placed[known] = shape @ u @ vt / size + target
    return placed, size


def _in_plane(points: np.ndarray) -> np.ndarray:
    """(N, K, 2) to the right and down of points in one plane along two axes, as on radiographs; others as they are."""
    extent = np.nanmax(np.abs(points), initial=1.0)
    for axis in (2, 1, 0):
        if (_extents(points[..., [axis]]) <= FLAT * extent).all():
            return np.delete(points, axis, axis=2) * (1, 1 if axis == 2 else -1)  # S is up
    return points


def _extents(points: np.ndarray) -> np.ndarray:
    """(N,) the largest extent of each subject along an axis; -inf without points."""
    known = np.isfinite(points)
    low = np.where(known, points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(known, points, -np.inf).max(axis=1, initial=-np.inf)
    widest: np.ndarray = (high - low).max(axis=1)
    return widest


def _on_their_mean(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aligned (N, K, D), mean (K, D) and sizes (N,) of subjects, by turns until the mean no longer moves."""
    fullest = points[np.argmax(np.isfinite(points[..., 0]).sum(axis=1))]
    mean = _of_size_one(_filled(fullest, points))
    for _ in range(ROUNDS):
        laid = [lay_on(subject, mean) for subject in points]
        aligned = np.stack([shape for shape, _ in laid])
        before, mean = mean, _of_size_one(np.nanmean(aligned, axis=0))
        mean = lay_on(mean, before)[0]  # the mean of means must not drift
        if np.abs(mean - before).max() < SETTLED:
            break
    laid = [lay_on(subject, mean) for subject in points]
    return np.stack([shape for shape, _ in laid]), mean, np.array([size for _, size in laid])


def _filled(first: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The first mean: a subject, and where it has gaps others that are laid on what it has."""
    filled = first.copy()
    for subject in points:
        gaps = ~np.isfinite(filled).all(axis=1)
        if not gaps.any():
            break
        common = ~gaps & np.isfinite(subject).all(axis=1)
        if common.sum() <= points.shape[2]:
            continue
        known = np.where(common[:, np.newaxis], subject, np.nan)
        placed, size = lay_on(known, np.where(gaps[:, np.newaxis], 0.0, filled))
        turn = _turn_between(known[common], placed[common])
        guess = (subject - subject[common].mean(axis=0)) @ turn / size + placed[common].mean(axis=0)
        filled[gaps] = guess[gaps]
    if not np.isfinite(filled).all():
        raise InputError("The subjects have too few landmarks in common to compare their shapes: leave some out.")
    return filled


def _turn_between(source: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """(D, D) the turn that `lay_on` has made of points."""
    u, _, vt = np.linalg.svd((source - source.mean(axis=0)).T @ (placed - placed.mean(axis=0)))
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))
    turn: np.ndarray = u @ vt
    return turn


def _of_size_one(shape: np.ndarray) -> np.ndarray:
    centered = shape - shape.mean(axis=0)
    scaled: np.ndarray = centered / np.linalg.norm(centered)
    return scaled


def _principal(rest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares (C,), scores (N, C) and components (C, K, D) of (N, K, D) deviations from the mean."""
    flat = rest.reshape(len(rest), -1)
    flat = flat - flat.mean(axis=0)
    u, s, vt = np.linalg.svd(flat, full_matrices=False)
    kept = s > max(s.max(initial=0.0), 1e-300) * 1e-9
    u, s, vt = u[:, kept], s[kept], vt[kept]
    signs = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(axis=1)])  # the same picture whatever the library
    return s**2 / max((s**2).sum(), 1e-300), u * s * signs, (vt * signs[:, np.newaxis]).reshape(-1, *rest.shape[1:])
