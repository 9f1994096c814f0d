"""Figures of landmark detection from arrays of errors in mm and of presence; gaps are NaN and count nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.core.execution import THRESHOLDS_MM


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
