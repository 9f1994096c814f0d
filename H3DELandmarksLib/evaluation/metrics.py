"""Figures of landmark detection from arrays of errors in mm and of presence; gaps are NaN and count nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.core.execution import THRESHOLDS_MM
from H3DELandmarksLib.core.shape_model import rigid_fit

LEAST_POINTS = 3  # for a rigid fit
ROUNDS = 5  # of turning all cases onto their mean


def radial_errors(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distances between points.

    Args:
        predicted: (..., 3) mm, NaN where there is none.
        reference: (..., 3) mm in the same frame, NaN where there is none.

    Returns:
        (...) mm, NaN where either point is missing.
    """
    apart = np.asarray(predicted, dtype=float) - np.asarray(reference, dtype=float)
    return np.asarray(np.linalg.norm(apart, axis=-1))


def mean_radial_error(errors: np.ndarray) -> tuple[float, float]:
    """Mean radial error (MRE) and its spread over cases.

    Args:
        errors: (N, K) mm, NaN where a landmark is not present in both prediction and reference.

    Returns:
        The mean over cases of each case's mean error, and the sample standard deviation of those case means, in mm.
        Cases without any error are left out; the deviation needs two cases.
    """
    means = case_means(errors)
    means = means[np.isfinite(means)]
    mean = float(means.mean()) if means.size else np.nan
    return mean, float(means.std(ddof=1)) if means.size > 1 else np.nan


def case_means(errors: np.ndarray) -> np.ndarray:
    """(N,) mean error of each case in mm over its finite (N, K) errors."""
    finite = np.isfinite(errors)
    return _ratio(np.where(finite, errors, 0.0).sum(axis=1), finite.sum(axis=1))


def success_rates(errors: np.ndarray, present: np.ndarray, thresholds: Sequence[float] = THRESHOLDS_MM) -> np.ndarray:
    """Success detection rates (SDR): the part of present landmarks that was found near enough.

    A landmark that is present in the reference but was not found has no error, and counts as not detected.

    Args:
        errors: (N, ...) mm, NaN where there is none.
        present: (N, ...) bool, present in the reference.
        thresholds: T distances in mm; an error equal to one is within it.

    Returns:
        (T,) from 0 to 1 over all entries.
    """
    within = (np.asarray(errors)[..., np.newaxis] <= np.asarray(thresholds)) & present[..., np.newaxis]
    axes = tuple(range(present.ndim))
    return _ratio(within.sum(axis=axes), np.full(len(thresholds), present.sum()))


def pooled_error(errors: np.ndarray) -> tuple[float, float]:
    """Mean and population standard deviation of all finite errors (mm), as papers on radiographs publish MRE +- SD."""
    finite = errors[np.isfinite(errors)]
    return (float(finite.mean()), float(finite.std())) if finite.size else (np.nan, np.nan)


def landmark_success_rates(
    errors: np.ndarray, present: np.ndarray, thresholds: Sequence[float] = THRESHOLDS_MM
) -> np.ndarray:
    """Success detection rates as papers on radiographs publish them: the mean over landmarks of each one's share.

    Args:
        errors: (N, K) mm, NaN where there is none.
        present: (N, K) bool, present in the reference.
        thresholds: T distances in mm; only an error below one is within it.

    Returns:
        (T,) from 0 to 1; landmarks that no reference has count nowhere.
    """
    below = (np.asarray(errors)[..., np.newaxis] < np.asarray(thresholds)) & present[..., np.newaxis]
    shares = below.sum(axis=0)[present.any(axis=0)] / present.sum(axis=0)[present.any(axis=0), np.newaxis]
    return shares.mean(axis=0) if len(shares) else np.full(len(thresholds), np.nan)


@dataclass(frozen=True)
class PresenceScores:
    """How well "is it in the scan?" is answered; "present" is the positive answer.

    Attributes:
        accuracy, precision, recall, f1: from 0 to 1, NaN where undefined.
        counts: true positives, false positives, false negatives, true negatives.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    counts: tuple[int, int, int, int]


def presence_scores(predicted: np.ndarray, present: np.ndarray, known: np.ndarray) -> PresenceScores:
    """Compare predicted with true presence.

    Args:
        predicted: (...) bool, predicted as present.
        present: (...) bool, present in the reference.
        known: (...) bool, False where the reference does not say.
    """
    hit, false_alarm = int((predicted & present & known).sum()), int((predicted & ~present & known).sum())
    miss, rejection = int((~predicted & present & known).sum()), int((~predicted & ~present & known).sum())
    return PresenceScores(
        accuracy=float(_ratio(hit + rejection, hit + rejection + false_alarm + miss)),
        precision=float(_ratio(hit, hit + false_alarm)),
        recall=float(_ratio(hit, hit + miss)),
        f1=float(_ratio(2 * hit, 2 * hit + false_alarm + miss)),
        counts=(hit, false_alarm, miss, rejection),
    )


def radius_coverage(errors: np.ndarray, radius: np.ndarray) -> float:
    """The part of errors within the radius stated for them; a calibrated 90 % radius covers about 0.9.

    Args:
        errors: (...) mm, NaN where there is none.
        radius: (...) mm, NaN where none was stated.
    """
    both = np.isfinite(errors) & np.isfinite(radius)
    return float(_ratio((errors <= radius).sum(), both.sum()))


def offset_free_errors(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distances after a rigid fit and without each landmark's systematic offset.

    Each case's predicted points are laid on its reference by a rigid fit without scaling. The differences that remain
    are turned into one frame, that of the references' mean shape. A landmark's systematic offset in a case is the mean
    of its differences in the *other* cases, so that no case explains its own error; what is left without it is the
    error. The pose and a habit (where on a rim a point is put) are removed, scatter is not: these errors stand beside
    raw ones, not in place of them.

    Args:
        predicted: (N, K, 3) mm, NaN where there is none; each case in a frame of its own.
        reference: (N, K, 3) mm, in the same frames.

    Returns:
        (N, K) mm; NaN where either point is missing, where no other case has both, and in cases with fewer than three
        common points.
    """
    common = np.isfinite(predicted).all(axis=2) & np.isfinite(reference).all(axis=2)
    common &= (common.sum(axis=1) >= LEAST_POINTS)[:, None]
    apart = np.zeros(reference.shape)
    cases = np.flatnonzero(common.any(axis=1))
    for case, turn in zip(cases, _turns_to_mean([reference[n][common[n]] for n in cases], common[cases])):
        found, truth = predicted[case][common[case]], reference[case][common[case]]
        apart[case, common[case]] = (rigid_fit(found, truth).to_lps(found) - truth) @ turn
    others = common.sum(axis=0) - common
    offset = (apart.sum(axis=0) - apart) / np.maximum(others, 1)[..., None]
    errors: np.ndarray = np.where(common & (others > 0), np.linalg.norm(apart - offset, axis=2), np.nan)
    return errors


def _turns_to_mean(cases: list[np.ndarray], common: np.ndarray) -> list[np.ndarray]:
    """(3, 3) matrices that turn row vectors of each case onto the mean shape, found by alternating.

    Args:
        cases: the points of each that count, as many as its row of `common` has.
        common: (N, K) bool, which landmarks these are.
    """
    turns = [np.eye(3) for _ in cases]
    if not cases:
        return turns
    start = int(np.argmax(common.sum(axis=1)))
    known, mean = common[start].copy(), np.zeros((common.shape[1], 3))
    mean[known] = cases[start]
    for _ in range(ROUNDS):
        total = np.zeros_like(mean)
        counted = np.zeros(len(mean), int)
        for number, (points, here) in enumerate(zip(cases, common)):
            both = here & known
            if both.sum() < LEAST_POINTS:
                continue
            pose = rigid_fit(mean[both], points[both[here]])
            turns[number] = pose.rotation
            total[here] += pose.to_model(points)
            counted += here
        known = counted > 0
        mean[known] = total[known] / counted[known, None]
    return turns


def error_summary(errors: np.ndarray) -> dict[str, float]:
    """Mean, median, 90th percentile and maximum of the finite errors (mm) of any shape."""
    finite = errors[np.isfinite(errors)]
    if not finite.size:
        return dict.fromkeys(("mean", "median", "p90", "max"), np.nan)
    return {
        "mean": float(finite.mean()),
        "median": float(np.median(finite)),
        "p90": float(np.percentile(finite, 90)),
        "max": float(finite.max()),
    }


def _ratio(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part, dtype=float) / np.where(np.asarray(whole) > 0, whole, np.nan)
