"""Fitting a calibration to what a detector finds in cases that training never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.rows import is_off
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.calibration import Calibration, confidence_features, counting_odds
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.formats.manifest import CountingCalibration
from H3DELandmarksLib.training.cases import Case

SHARE = 0.9
FEWEST_COUNTED = 10  # scans that teach how likely structures are counted one off
USUAL_DOUBT = 0.2  # from which probability on people are told of it where no scan was counted wrongly
# Extra cases with the error of all landmarks: few cases speak for each landmark.
SHRINKAGE = 10.0
LEVELS = np.linspace(0.8, 1.0, 81)
# What a scan that was cut off on purpose counts for the probability of presence: such scans are rarer in practice.
TRUNCATED_WEIGHT = 0.5
TRUNCATED = "-truncated"


def radii(error: np.ndarray, share: float = SHARE) -> np.ndarray:
    """(K,) mm that hold a share of the errors of new cases.

    A radius is a quantile of errors over the landmark's usual error (normalized split conformal prediction, Lei et
    al., JASA 113:1094, 2018). The errors of one scan go together, so that cases count and not points: the quantile's
    level is the one at which radii from all other cases hold the share of a left-out case's errors (the jackknife view
    of conformal prediction, Barber et al., Annals of Statistics 49:486, 2021).

    Args:
        error: (N, K) mm of calibration cases, NaN where nothing was found or nothing was there.
        share: from 0 to 1.

    Raises:
        InputError: nothing was found anywhere.
    """
    if not np.isfinite(error).any():
        raise InputError("The network finds no landmark in the calibration cases: train for more steps, then package.")
    return _radii_at(error, np.array([_level(error, share)]))[0]


def _level(error: np.ndarray, share: float) -> float:
    """The smallest level at which left-out cases are covered; with a single case the share itself."""
    cases = [case for case in range(len(error)) if np.isfinite(error[case]).any()]
    if len(cases) < 2:
        return share
    held, total = np.zeros(len(LEVELS)), 0
    for case in cases:
        others = _radii_at(np.delete(error, case, axis=0), LEVELS)
        known = np.isfinite(error[case])
        held += (error[case] <= others)[:, known].sum(axis=1)
        total += known.sum()
    enough = np.flatnonzero(held >= share * total)
    return float(LEVELS[enough[0]]) if enough.size else 1.0


def _radii_at(error: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(L, K) quantiles of relative errors, times each landmark's usual error."""
    count = np.isfinite(error).sum(axis=0)
    usual = (np.nansum(error, axis=0) + SHRINKAGE * np.nanmean(error)) / (count + SHRINKAGE)
    scores = (error / usual)[np.isfinite(error)]
    return np.quantile(scores, levels)[:, None] * usual


def truncated_case(case: Case, rng: np.random.Generator) -> Case:
    """The case with one end of its scan cut off, so that 20 to 60 % of the landmarks are outside and thus absent."""
    index = case.volume.grid.ijk_from_lps(case.landmarks.positions)
    axes = np.flatnonzero(np.array(case.volume.array.shape) > 1)
    axis, upper = axes[rng.integers(len(axes))], rng.random() < 0.5
    kept = rng.uniform(0.4, 0.8)
    size = case.volume.array.shape[axis]
    places = index[case.landmarks.present, axis] if case.landmarks.present.any() else np.arange(size)
    border = int(round(np.quantile(places, kept if upper else 1 - kept)))
    least = min(16, size // 2)
    border = int(np.clip(border, least, size - least))
    corner, sizes = np.zeros(3, dtype=int), np.array(case.volume.array.shape)
    corner[axis] = 0 if upper else border
    sizes[axis] = border if upper else size - border
    return replace(case.part(corner, sizes), name=f"{case.name}{TRUNCATED}")


@dataclass(frozen=True)
class Evidence:
    """RawPredictions beside the truth, one row per case and one column per landmark.

    Attributes:
        logit, concentration, residual: what the calibration reads.
        error: mm between found and true position, NaN where the landmark is absent or unknown.
        present: truth, 1 or 0, NaN unknown.
        truncated: (N,) whether the scan was cut off on purpose; such scans teach presence, but not the usual error.
        margin: (N,) how sure the count of structures is, see `core.rows.RowCount`; NaN where none was made.
        off: (N,) whether it is one off.
    """

    logit: np.ndarray
    concentration: np.ndarray
    residual: np.ndarray
    error: np.ndarray
    present: np.ndarray
    truncated: np.ndarray
    margin: np.ndarray
    off: np.ndarray


def gather_evidence(predictions: Sequence[RawPredictions], cases: Sequence[Case], shape: ShapeModel) -> Evidence:
    """Stack predictions and truths of several cases."""
    truths = [case.landmarks for case in cases]
    residual = [np.linalg.norm(f.pose.to_lps(shape.mean) - f.positions, axis=1) / shape.tolerance for f in predictions]
    error = [np.linalg.norm(f.positions - t.positions, axis=1) for f, t in zip(predictions, truths)]
    return Evidence(
        np.stack([f.presence_logit for f in predictions]),
        np.stack([f.concentration for f in predictions]),
        np.stack(residual),
        np.stack(error),
        np.stack([np.where(t.unknown, np.nan, t.present.astype(float)) for t in truths]),
        np.array([case.name.endswith(TRUNCATED) for case in cases]),
        np.array([np.nan if f.count is None else f.count.margin for f in predictions]),
        np.array(
            [
                f.count is not None and is_off(f.positions, t.positions, f.count.step)
                for f, t in zip(predictions, truths)
            ]
        ),
    )


def fit_calibration(evidence: Evidence, tolerance_mm: float) -> Calibration:
    """Platt scaling of presence, logistic regression of "within tolerance", and radii that hold 90 % of errors.

    Args:
        evidence: calibration cases.
        tolerance_mm: error up to which a position counts as right.
    """
    known = ~np.isnan(evidence.present)
    importance = np.broadcast_to(np.where(evidence.truncated, TRUNCATED_WEIGHT, 1.0)[:, None], known.shape)
    scale, bias = _fit_presence(evidence.logit[known], evidence.present[known], importance[known])
    counted = np.isfinite(evidence.margin) & ~evidence.truncated
    scans = int(counted.sum())
    counting = fit_counting(evidence.margin[counted], evidence.off[counted], np.arange(scans), np.ones(scans))
    if counting is not None and not evidence.off.all():
        known &= ~evidence.off[:, None]
    features = confidence_features(evidence.concentration, evidence.logit, evidence.residual)[known]
    with np.errstate(invalid="ignore"):
        weights = logistic_regression(features, (evidence.error <= tolerance_mm)[known])
    radius = radii(usual_errors(evidence, scale, bias))
    return Calibration(scale, bias, weights, tolerance_mm, radius, counting=counting)


def fit_counting(
    margin: np.ndarray, off: np.ndarray, subject: np.ndarray, importance: np.ndarray
) -> CountingCalibration | None:
    """Logistic regression of "counted one off", and the probability from which on hits exceed false alarms most.

    Args:
        margin: (N,) how sure the count of each scan is, see `core.rows.RowCount`.
        off: (N,) bool, whether it is one off.
        subject: (N,) whose scan it is: hits and false alarms are those by what scans of others teach.
        importance: (N,) what each scan counts, 1 on average.

    Returns:
        None where fewer than `FEWEST_COUNTED` scans are known.
    """
    if len(off) < FEWEST_COUNTED:
        return None

    def fit(chosen: np.ndarray) -> tuple[np.ndarray, float]:
        """Weights, and the probability from which on people are told."""
        roots = np.sqrt(np.maximum(margin[chosen], 0.0))
        # As if one more scan of middling doubt had been counted wrongly, and one rightly: there may be none.
        features = np.stack([np.ones(len(roots) + 2), [*roots, *[np.median(roots)] * 2]], axis=1)
        weight = np.append(importance[chosen], [1.0, 1.0])
        weights = logistic_regression(features, np.append(off[chosen], [True, False]), importance=weight)
        if not off[chosen].any():
            return weights, USUAL_DOUBT
        odds = np.asarray(counting_odds(weights, margin[chosen]))
        wrong, right = importance[chosen] * off[chosen], importance[chosen] * ~off[chosen]
        wrong, right = wrong / wrong.sum(), right / max(right.sum(), 1e-9)
        limits = odds[off[chosen]]
        worth = [(wrong - right) @ (odds >= limit) for limit in limits]
        return weights, float(1 / (1 + np.exp(1e-9 - limits[int(np.argmax(worth))])))

    told = np.zeros(len(off), bool)
    for one in np.unique(subject):
        weights, doubt_from = fit(subject != one)
        told[subject == one] = 1 / (1 + np.exp(-counting_odds(weights, margin[subject == one]))) >= doubt_from
    hits, alarms = (float(np.average(told[g], weights=importance[g])) if g.any() else None for g in (off, ~off))
    weights, doubt_from = fit(np.ones(len(off), bool))
    return CountingCalibration((float(weights[0]), float(weights[1])), doubt_from, hits, alarms, confidence=None)


def usual_errors(evidence: Evidence, presence_scale: float, presence_bias: float) -> np.ndarray:
    """(N, K) mm of landmarks that are found where they are, NaN elsewhere and in scans that were cut off on purpose."""
    found = presence_scale * np.nan_to_num(evidence.logit, neginf=-1e3) + presence_bias >= 0
    return np.where(found & ~evidence.truncated[:, None], evidence.error, np.nan)


def _fit_presence(logit: np.ndarray, present: np.ndarray, importance: np.ndarray) -> tuple[float, float]:
    features = np.stack([np.ones_like(logit), np.clip(np.nan_to_num(logit, neginf=-50.0), -50, 50)], axis=1)
    bias, scale = logistic_regression(features, present == 1, importance=importance)
    return max(float(scale), 1e-3), float(bias)


def logistic_regression(
    features: np.ndarray, label: np.ndarray, penalty: float = 1e-2, importance: np.ndarray | float = 1.0
) -> np.ndarray:
    """Weights of a ridge-penalized logistic regression; the penalty keeps separable data finite."""
    sign = np.where(label, 1.0, -1.0)

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (features @ weights)
        loss = (importance * np.logaddexp(0, -margin)).mean() + penalty * weights @ weights / len(label)
        slope = -importance * sign / (1 + np.exp(np.clip(margin, -50, 50)))
        return loss, features.T @ slope / len(label) + 2 * penalty * weights / len(label)

    return minimize(cost, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x
