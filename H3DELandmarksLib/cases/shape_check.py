"""Where the landmarks of a case would lie by the shapes of the other cases: a leave-one-out prediction.

Few points are wrong, but which ones is not known: means are medians, spreads are robust, and a fit trusts a point the
less the farther it lies from where it is expected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel, learn_shape_model

MIN_CASES, MIN_POINTS = 5, 4
ROUNDS = 6
CASES_PER_MODE, MAX_MODES = 6, 6
# Of a normal distribution in three dimensions: root mean square length over median length.
RMS_OVER_MEDIAN = 1.126
CASES_BEHIND_TYPICAL = 10  # a landmark's own spread counts as much as that of all landmarks with so many cases


@dataclass(frozen=True)
class Prediction:
    """A case as the other cases would have it.

    Attributes:
        expected: (K, 3) LPS mm; NaN where no other case has the landmark.
        distance: (K,) mm from there to the point; NaN where either is missing.
    """

    expected: np.ndarray
    distance: np.ndarray


class LeaveOneOutShape:
    """The shapes of several cases.

    Attributes:
        predictions: each case by the others; None where it has too few points.
        spread: (K,) mm, the usual distance of a point from where it is predicted.
    """

    def __init__(self, subjects: np.ndarray, scheme: LandmarkScheme) -> None:
        """Learn from cases.

        Args:
            subjects: (N, K, 3) LPS mm; NaN where a landmark is missing.
            scheme: of the landmarks.

        Raises:
            ValueError: there are too few cases with enough points.
        """
        usable = np.isfinite(subjects).all(axis=2).sum(axis=1) >= MIN_POINTS
        if usable.sum() < MIN_CASES:
            raise ValueError(f"{MIN_CASES} cases with {MIN_POINTS} points are needed.")
        self._subjects, self._scheme, self._usable = subjects, scheme, usable
        self._shape = _robust_shape(subjects[usable], scheme)
        self._aligned = np.full(subjects.shape, np.nan)
        for n in np.flatnonzero(usable):
            self._aligned[n] = _fit(self._shape, subjects[n]).to_model(subjects[n])
        self.predictions = [self.predict(points, without=n) if usable[n] else None for n, points in enumerate(subjects)]
        self.spread = usual_length(np.stack([p.distance for p in self.predictions if p is not None]))

    @property
    def mean(self) -> np.ndarray:
        """(K, 3) mm, the mean shape in its own frame."""
        return self._shape.mean

    def predict(self, points: np.ndarray, without: int | None = None) -> Prediction:
        """Predict one case.

        Args:
            points: (K, 3) LPS mm; NaN where missing; MIN_POINTS of them at least.
            without: number of the case itself, which must not predict itself.
        """
        others = self._aligned[[n for n in np.flatnonzero(self._usable) if n != without]]
        mean, modes, variances, noise = _modes(others)
        shape = ShapeModel(np.where(np.isfinite(mean), mean, 0.0), self._shape.tolerance)
        known = np.isfinite(mean).all(axis=1) & np.isfinite(points).all(axis=1)
        expected_model, pose = mean, _fit(shape, np.where(known[:, None], points, np.nan))
        for _ in range(ROUNDS):
            deviation = np.where(known[:, None], pose.to_model(points) - mean, 0.0)
            length = np.linalg.norm(pose.to_model(points) - expected_model, axis=1)
            scale = max(float(np.median(length[known])), noise)
            weights = np.where(known, 1 / (1 + (np.nan_to_num(length) / (2 * scale)) ** 2) ** 2, 0.0)
            expected_model = mean + _bent(deviation, weights, modes, variances, noise)
            bent = ShapeModel(np.where(np.isfinite(expected_model), expected_model, 0.0), shape.tolerance)
            pose = bent.fit(points, weights, rounds=2)[0]
        expected = pose.to_lps(expected_model)
        return Prediction(expected, np.linalg.norm(points - expected, axis=1))


def _robust_shape(subjects: np.ndarray, scheme: LandmarkScheme) -> ShapeModel:
    """Mean shape by medians, so that few wrong points do not move it."""
    complete = subjects[:, np.isfinite(subjects).all(axis=2).any(axis=0)]
    shape = learn_shape_model(subjects, scheme, own_frame=True) if complete.shape[1] == subjects.shape[1] else None
    if shape is None:
        fullest = subjects[np.argmax(np.isfinite(subjects).all(axis=2).sum(axis=1))]
        shape = ShapeModel(fullest - np.nanmean(fullest, axis=0), np.ones(subjects.shape[1]))
    for _ in range(ROUNDS):
        aligned = np.stack([_fit(shape, points).to_model(points) for points in subjects])
        mean = _median(aligned)
        tolerance = RMS_OVER_MEDIAN * _median(np.linalg.norm(aligned - mean, axis=2))
        tolerance = np.where(np.isfinite(tolerance), np.maximum(tolerance, 1e-3), 1.0)
        shape = ShapeModel(mean, tolerance)
    return shape


def _fit(shape: ShapeModel, points: np.ndarray) -> Pose:
    known = np.isfinite(shape.mean).all(axis=1) & np.isfinite(points).all(axis=1)
    safe = ShapeModel(np.where(known[:, None], shape.mean, 0.0), shape.tolerance)
    return safe.fit(points, known.astype(float))[0]


def _modes(aligned: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Main directions of variation of (N, K, 3) shapes, wrong points pulled in to what is usual.

    Returns:
        Mean (K, 3), modes (M, K, 3), their variances (M,) and what is left: mm per coordinate.
    """
    mean = _median(aligned)
    deviation = np.nan_to_num(aligned - mean)
    length = np.linalg.norm(deviation, axis=2)
    usual = 3 * _median(np.where(length > 0, length, np.nan))
    pulled = deviation * np.minimum(1.0, np.nan_to_num(usual, nan=0.0) / np.maximum(length, 1e-9))[:, :, None]
    count = min(MAX_MODES, len(aligned) // CASES_PER_MODE)
    _, singular, rows = np.linalg.svd(pulled.reshape(len(aligned), -1), full_matrices=False)
    modes = rows[:count].reshape(count, *mean.shape)
    left = pulled - np.einsum("nm,mkd->nkd", np.einsum("nkd,mkd->nm", pulled, modes), modes)
    noise = max(float(np.sqrt(np.mean(left**2))), 1e-3)
    return mean, modes, singular[:count] ** 2 / len(aligned), noise


def _bent(
    deviation: np.ndarray, weights: np.ndarray, modes: np.ndarray, variances: np.ndarray, noise: float
) -> np.ndarray:
    """(K, 3) the most likely bend along the modes for a case's deviations, each trusted by its weight."""
    if not len(modes):
        return np.zeros_like(deviation)
    weighted = modes * weights[:, None]
    normal = np.einsum("mkd,lkd->ml", weighted, modes) + np.diag(noise**2 / np.maximum(variances, 1e-9))
    return np.einsum("m,mkd->kd", np.linalg.solve(normal, np.einsum("mkd,kd->m", weighted, deviation)), modes)


def usual_length(distances: np.ndarray) -> np.ndarray:
    """(K,) robust root mean square of (N, K) distances; few values of a landmark are backed by those of the others."""
    spread = np.maximum(RMS_OVER_MEDIAN * _median(distances), 1e-3)
    typical = float(np.nanmedian(spread))
    count = np.isfinite(distances).sum(axis=0)
    own = np.log(np.where(np.isfinite(spread), spread, typical))
    return np.exp((count * own + CASES_BEHIND_TYPICAL * np.log(typical)) / (count + CASES_BEHIND_TYPICAL))


def _median(values: np.ndarray) -> np.ndarray:
    """Median along the first axis; NaN where there is no value, without a warning."""
    empty = np.isnan(values).all(axis=0)
    return np.where(empty, np.nan, np.nanmedian(np.where(empty, 0.0, values), axis=0))
