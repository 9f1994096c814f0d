"""Fitting radius and confidence of each point by its own evidence, in scans as users have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.optimize import minimize

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.rows import is_off
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.point_evidence import point_features
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.recognition import recognise
from H3DELandmarksLib.formats.manifest import CountingCalibration, PointCalibration
from H3DELandmarksLib.training.calibration import SHARE, fit_counting
from H3DELandmarksLib.training.recognition import Sighting
from H3DELandmarksResearch.evaluation.reliability import reliability

# With 7 and 17 subjects radii of points held too much in scans of others, see docs/results.md; with 25 they did not.
FEWEST_SUBJECTS, FEWEST_ERRORS = 20, 100
# Rounds in which conditions whose errors are held less often than others come to count more, by so much a round; those
# with fewer errors than so many count less in it.
ROUNDS, STEP, RELIABLE = 12, 2.0, 60
RADIUS_FEATURES = 6  # the seventh, how well the landmark is usually found, is the radius that they change
PENALTY = 1.0
# A confidence rises with the second and third feature and falls with the others; the constant may have either sign.
RISES = (None, True, True, False, False, False, False)
FEWEST_FOR_CONFIDENCE, FOLDS = 5, 10
CONFIDENCE_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
# Width of the smooth corner of the quantile's loss, in logarithms of factors.
CORNER = 0.05


@dataclass(frozen=True)
class PointErrors:
    """What was found of landmarks of which it is known whether and where they are; one row per point.

    Attributes:
        features: (N, 7), see `point_features`.
        usual: (N,) mm, the radius of the point's landmark.
        error: (N,) mm; NaN where a landmark was found that is not there.
        condition: (N,) name of the scan's.
        subject: (N,) whose scan it is.
        miscounted: (N,) whether the structures of the scan are counted one off.
    """

    features: np.ndarray
    usual: np.ndarray
    error: np.ndarray
    condition: np.ndarray
    subject: np.ndarray
    miscounted: np.ndarray

    def only(self, chosen: np.ndarray) -> PointErrors:
        """The points that (N,) bool chooses."""
        return PointErrors(*(getattr(self, entry.name)[chosen] for entry in fields(self)))

    def right(self, tolerance_mm: float) -> np.ndarray:
        """(N,) whether each lies within the tolerance."""
        within: np.ndarray = np.nan_to_num(self.error, nan=np.inf) <= tolerance_mm
        return within

    def folds(self) -> Iterator[np.ndarray]:
        """(N,) bool: the points of some subjects, in turn; together all."""
        subjects = list(dict.fromkeys(self.subject.tolist()))
        for fold in range(min(FOLDS, len(subjects))):
            yield np.isin(self.subject, subjects[fold::FOLDS])


Placed = Callable[[Sighting], RawPredictions]


def as_found(one: Sighting) -> RawPredictions:
    """The findings as they are, where the model does not place points together."""
    return one.found


def _recognised(seen: Iterable[Sighting], calibration: Calibration) -> Iterator[tuple[Sighting, LandmarkSet]]:
    """Scans of the anatomy that are not refused, each with its truth."""
    for one in seen:
        if one.truth is not None:
            recognition = recognise(one.found, calibration)
            if recognition is None or recognition.recognised:
                yield one, one.truth


def point_errors(
    seen: Sequence[Sighting], shape: ShapeModel, calibration: Calibration, placed: Placed = as_found
) -> PointErrors:
    """Found points of scans of the anatomy that are recognised, beside the truth.

    Args:
        seen: scans of the anatomy, others are passed over.
        shape: the model's mean shape.
        calibration: of presence and recognition, with each landmark's radius.
        placed: what the model makes of findings, see `Detector.placed`; of calibration cases perhaps without them.
    """
    parts = []
    for one, known in _recognised(seen, calibration):
        found, truth = placed(one), known.positions
        rows = (calibration.presence(found.presence_logit) >= 0.5) & ~known.unknown
        distance = np.linalg.norm(found.positions - truth, axis=1)
        off = found.count is not None and is_off(found.positions, truth, found.count.step)
        features = point_features(found, shape, calibration, one.grid)
        told = (np.full(len(rows), value) for value in (one.condition, one.subject, off))
        parts.append([values[rows] for values in (features, calibration.radius90, distance, *told)])
    if not parts:
        return PointErrors(np.zeros((0, len(RISES))), *np.zeros((5, 0)))
    return PointErrors(*map(np.concatenate, zip(*parts)))


def fit_counting_by_conditions(
    seen: Sequence[Sighting], calibration: Calibration, placed: Placed
) -> CountingCalibration | None:
    """How likely structures are counted one off, by scans as users have them: a cut row is miscounted more easily.

    Args:
        seen, placed: as for `point_errors`; what is placed says how sure its count is.
        calibration: of recognition; scans that it refuses do not count.

    Returns:
        None where nothing is counted, or in too few scans.
    """
    rows = []
    for one, known in _recognised(seen, calibration):
        found = placed(one)
        if found.count is not None:
            off = is_off(found.positions, known.positions, found.count.step)
            rows.append((found.count.margin, off, one.subject, one.condition))
    if not rows:
        return None
    margin, off, subject, condition = map(np.array, zip(*rows))
    return fit_counting(margin, off, subject, _importance(condition, {}))


def fit_points(
    seen: Sequence[Sighting], shape: ShapeModel, calibration: Calibration, placed: Placed = as_found
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


def fit_confidence(points: PointErrors, tolerance_mm: float) -> np.ndarray | None:
    """Weights of a point's features for the probability that it lies within the tolerance.

    A logistic regression that is monotone in each feature. Errors of a subject go together, so that there are fewer
    cases than points: the penalty is the one by which points of left-out subjects are the likeliest. Points of rows
    that are counted one off do not count: that they are is stated by `CountingCalibration`.

    Args:
        points: see `point_errors`.
        tolerance_mm: the largest error that counts as right.

    Returns:
        (7,) for `Calibration.confidence_weights`; None where fewer than `FEWEST_FOR_CONFIDENCE` subjects are known, or
        all points are right, or all wrong.
    """
    points = points.only(points.miscounted == 0)
    if len(np.unique(points.subject)) < FEWEST_FOR_CONFIDENCE or len(np.unique(points.right(tolerance_mm))) < 2:
        return None

    sign, importance = np.where(points.right(tolerance_mm), 1.0, -1.0), _importance(points.condition, {})
    surprise = dict.fromkeys(CONFIDENCE_PENALTIES, 0.0)
    for out in points.folds():
        for penalty in surprise:
            weights = _monotone_regression(points.features[~out], sign[~out], importance[~out], penalty)
            surprise[penalty] += float(importance[out] @ np.logaddexp(0, -sign[out] * (points.features[out] @ weights)))
    best = min(surprise, key=lambda penalty: surprise[penalty])
    return _monotone_regression(points.features, sign, importance, best).round(6)


def left_out(points: PointErrors, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """What points of each subject get by what the scans of other subjects teach.

    Args:
        points: see `point_errors`.
        calibration: of presence and of landmarks' radii.

    Returns:
        (N,) confidence, and (N,) radius in mm.
    """
    confidence, radius = np.full((2, len(points.error)), np.nan)
    for out in points.folds():
        rest, part = points.only(~out), points.only(out)
        weights = fit_confidence(rest, calibration.tolerance_mm)
        factors = PointCalibration(tuple(_balanced_quantile(rest).tolist()))
        known = replace(calibration, points=factors)
        if weights is not None:
            known = replace(known, confidence_weights=weights)
        confidence[out], radius[out] = stated(part, known)
    return confidence, radius


def left_out_by_condition(points: PointErrors, calibration: Calibration) -> dict[str, dict[str, float]]:
    """What confidence and radius are worth under each condition, each subject's by what the others teach.

    Args:
        points, calibration: as for `left_out`.

    Returns:
        By condition, the number of points, the calibration error of their confidences, and the share of errors within
        the radius; nothing of fewer than `FEWEST_SUBJECTS` subjects.
    """
    if len(np.unique(points.subject)) < FEWEST_SUBJECTS:
        return {}
    confidence, radius = left_out(points, calibration)
    right, table = points.right(calibration.tolerance_mm).astype(float), {}
    for condition in dict.fromkeys(points.condition.tolist()):
        some = points.condition == condition
        known = some & np.isfinite(points.error)
        table[condition] = {
            "points": int(some.sum()),
            "ece": round(reliability(confidence[some], right[some]).error, 4),
            "coverage": round(float((points.error <= radius)[known].mean()), 4),
        }
    return table


def stated(points: PointErrors, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """(N,) confidence and (N,) radius in mm that a calibration gives points; counts of structures are left aside."""
    presence = calibration.presence(points.features[:, 2] * 10)
    confidence = np.minimum(calibration.confidence(points.features), presence)
    return confidence, calibration.radius_of(points.features, points.usual)


def _monotone_regression(features: np.ndarray, sign: np.ndarray, importance: np.ndarray, penalty: float) -> np.ndarray:
    """(F,) weights of features (N, F), each of the sign that `RISES` says, for the log-odds of a sign of 1."""
    scaled, restored = _scaled(features)

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin, slopes = sign * (scaled @ weights), np.append(0.0, weights[1:])
        slope = -importance * sign / (1 + np.exp(np.clip(margin, -50, 50)))
        loss = importance @ np.logaddexp(0, -margin) + penalty * slopes @ slopes
        return loss / len(sign), (scaled.T @ slope + 2 * penalty * slopes) / len(sign)

    bounds = [(None, None) if rises is None else (0, None) if rises else (None, 0) for rises in RISES]
    return restored(minimize(cost, np.zeros(len(RISES)), jac=True, method="L-BFGS-B", bounds=bounds).x)


def _scaled(features: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Features (N, F) of mean 0 and spread 1, but for the first, constant one; and what weights of them are of others.

    Features that do not vary are 0.
    """
    spread = features.std(axis=0)
    varies = spread > 1e-6
    center, spread = np.where(varies, features.mean(axis=0), 0.0), np.where(varies, spread, 1.0)
    scaled = (features - center) / spread
    scaled[:, 1:][:, ~varies[1:]] = 0.0

    def restored(weights: np.ndarray) -> np.ndarray:
        weights = weights / spread
        weights[0] -= (weights * center)[1:].sum()
        return weights

    return scaled, restored


def _importance(condition: np.ndarray, emphasis: dict[str, float]) -> np.ndarray:
    """(N,) weights of points: a condition with many counts more than one with few, but not by as much."""
    names, counts = np.unique(condition, return_counts=True)
    each = {name: emphasis.get(name, 1.0) / np.sqrt(count) for name, count in zip(names, counts)}
    weights = np.array([each[name] for name in condition])
    return weights / weights.mean()


def _balanced_quantile(points: PointErrors) -> np.ndarray:
    """(F,) weights of the logarithm of error over usual radius at its quantile, alike in all conditions."""
    known = np.isfinite(points.error)
    features, condition = points.features[known, :RADIUS_FEATURES], points.condition[known]
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
    (scaled, restored), share = _scaled(features), importance / importance.sum()

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        rest = target - scaled @ weights
        loss = SHARE * rest + CORNER * np.logaddexp(0, -rest / CORNER)
        slope = SHARE - 1 / (1 + np.exp(np.clip(rest / CORNER, -50, 50)))
        penalty = PENALTY / len(target) * weights * (np.arange(len(weights)) > 0)
        return float(share @ loss + penalty @ weights), 2 * penalty - scaled.T @ (share * slope)

    return restored(minimize(cost, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x)
