"""Fitting the radius of each point by its own evidence, in scans as users have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.point_evidence import point_features
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.recognition import Recognizer
from H3DELandmarksLib.formats.manifest import PointCalibration
from H3DELandmarksLib.training.calibration import SHARE
from H3DELandmarksLib.training.recognition import Sighting

# With 7 and 17 subjects radii of points held too much in scans of others, see docs/results.md; with 25 they did not.
FEWEST_SUBJECTS, FEWEST_ERRORS = 20, 100
# Rounds in which conditions whose errors are held less often than others come to count more, by so much a round; those
# with fewer errors than so many count less in it.
ROUNDS, STEP, RELIABLE = 12, 2.0, 60
PENALTY = 1.0
# Width of the smooth corner of the quantile's loss, in logarithms of factors.
CORNER = 0.05


@dataclass(frozen=True)
class PointErrors:
    """What was found of landmarks of which it is known whether and where they are; one row per point.

    Attributes:
        features: (N, 6), see `point_features`.
        usual: (N,) mm, the radius of the point's landmark.
        error: (N,) mm; NaN where a landmark was found that is not there.
        condition: (N,) name of the scan's.
    """

    features: np.ndarray
    usual: np.ndarray
    error: np.ndarray
    condition: np.ndarray


Placed = Callable[[RawPredictions], RawPredictions]


def point_errors(
    seen: Sequence[Sighting], shape: ShapeModel, calibration: Calibration, placed: Placed = lambda found: found
) -> PointErrors:
    """Found points of scans of the anatomy that are recognised, beside the truth.

    Args:
        seen: scans of the anatomy, others are passed over.
        shape: the model's mean shape.
        calibration: of presence and recognition, with each landmark's radius.
        placed: what the model makes of findings, see `Detector.placed`.
    """
    recognizer = None if calibration.recognition is None else Recognizer(calibration.recognition, calibration)
    features, usual, error, condition = [], [], [], []
    for one in seen:
        if one.truth is None or (recognizer is not None and not recognizer.judge(one.found).recognised):
            continue
        found = placed(one.found)
        rows = (calibration.presence(found.presence_logit) >= 0.5) & ~one.truth.unknown
        distance = np.linalg.norm(found.positions - one.truth.positions, axis=1)
        features.append(point_features(found, shape, calibration, one.grid)[rows])
        usual.append(calibration.radius90[rows])
        error.append(distance[rows])
        condition += [one.condition] * int(rows.sum())
    return PointErrors(np.vstack(features), np.concatenate(usual), np.concatenate(error), np.array(condition))


def fit_points(
    seen: Sequence[Sighting], shape: ShapeModel, calibration: Calibration, placed: Placed = lambda found: found
) -> PointCalibration | None:
    """How a point's evidence changes its radius.

    The factor of the radius is a regression of the quantile of errors (Koenker and Bassett, Econometrica 46:33, 1978)
    in which conditions are weighted anew until each is held about as often (Sagawa et al., ICLR 2020).

    Args:
        seen: scans of the anatomy under several conditions; others are passed over.
        shape, calibration, placed: as for `point_errors`.

    Returns:
        None where scans of fewer than `FEWEST_SUBJECTS` subjects or fewer than `FEWEST_ERRORS` errors are known.
    """
    own = [one for one in seen if one.truth is not None]
    if len({one.subject for one in own}) < FEWEST_SUBJECTS:
        return None
    points = point_errors(own, shape, calibration, placed)
    if np.isfinite(points.error).sum() < FEWEST_ERRORS or not (points.usual > 0).all():
        return None
    return PointCalibration(tuple(_balanced_quantile(points).round(6).tolist()))


def _importance(condition: np.ndarray, emphasis: dict[str, float]) -> np.ndarray:
    """(N,) weights of points: a condition with many counts more than one with few, but not by as much."""
    names, counts = np.unique(condition, return_counts=True)
    each = {name: emphasis.get(name, 1.0) / np.sqrt(count) for name, count in zip(names, counts)}
    weights = np.array([each[name] for name in condition])
    return weights / weights.mean()


def _balanced_quantile(points: PointErrors) -> np.ndarray:
    """(F,) weights of the logarithm of error over usual radius at its quantile, alike in all conditions."""
    known = np.isfinite(points.error)
    features, condition = points.features[known], points.condition[known]
    target = np.log(np.maximum(points.error[known] / points.usual[known], 1e-4))
    names = np.unique(condition)
    trust = {name: min(1.0, (condition == name).sum() / RELIABLE) for name in names}
    emphasis, best, least = dict.fromkeys(names, 1.0), np.zeros(features.shape[1]), np.inf
    for _ in range(ROUNDS):
        weights = _quantile_regression(features, target, _importance(condition, emphasis))
        missing = {name: SHARE - (target <= features @ weights)[condition == name].mean() for name in names}
        worst = max(abs(missing[name]) * trust[name] for name in names)
        if worst < least:
            best, least = weights, worst
        emphasis = {name: emphasis[name] * float(np.exp(STEP * missing[name] * trust[name])) for name in names}
    return best


def _quantile_regression(features: np.ndarray, target: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """(F,) weights of features, of which the first is constant, for the quantile `SHARE` of targets (N,)."""
    spread = features.std(axis=0)
    varies = spread > 1e-6
    center, spread = np.where(varies, features.mean(axis=0), 0.0), np.where(varies, spread, 1.0)
    scaled, share = (features - center) / spread, importance / importance.sum()
    scaled[:, 1:][:, ~varies[1:]] = 0.0

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        rest = target - scaled @ weights
        loss = SHARE * rest + CORNER * np.logaddexp(0, -rest / CORNER)
        slope = SHARE - 1 / (1 + np.exp(np.clip(rest / CORNER, -50, 50)))
        penalty = PENALTY / len(target) * weights * (np.arange(len(weights)) > 0)
        return float(share @ loss + penalty @ weights), 2 * penalty - scaled.T @ (share * slope)

    weights = minimize(cost, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x / spread
    weights[0] -= (weights * center)[1:].sum()
    return weights
