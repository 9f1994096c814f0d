"""Points that do not fit the shapes of the other cases: exchanged sides, single outliers, copies of another case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.cases.image_check import Finding, FindingKind
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel, learn_shape_model, rigid_fit
from H3DELandmarksLib.formats.schemes import SchemeStep, is_redefined


def check_sides(old: LandmarkScheme, new: LandmarkScheme, step: SchemeStep) -> None:
    """Refuse a new version in which a landmark that keeps its definition changes its side.

    Args:
        old: version so far.
        new: the next version.
        step: between them.

    Raises:
        InputError: which landmark it is, and what to do.
    """
    before = step.old_names(old, new)
    now = {old_name: name for name, old_name in before.items() if old_name is not None}
    new_sides, paired = _sides(new), {name for pair in new.pairs for name in pair}
    for pair in old.pairs:
        for old_name, other in (pair, pair[::-1]):
            name = now.get(old_name)
            if name is None or is_redefined(name, old_name, step, old, new):
                continue
            if name not in new_sides and other in now:
                raise InputError(
                    f"'{name}' and '{now[other]}' were a pair and are none in the new scheme: list them under 'pairs'."
                )
            if name not in new_sides:
                raise InputError(
                    f"'{name}' lost its other side '{other}': keep that one, drop both, or list '{name}' "
                    "under 'lateral'."
                )
            if name in paired and new_sides[name] != _sides(old)[old_name]:
                raise InputError(
                    f"'{name}' was {_sides(old)[old_name]} of its pair and is {new_sides[name]} of it in "
                    "the new scheme: exchange the two names of the pair."
                )
    for old_name in old.lateral:
        name = now.get(old_name)
        if name is not None and name not in new_sides and not is_redefined(name, old_name, step, old, new):
            raise InputError(
                f"'{name}' lies on one side, but the new scheme has it in the middle: list it under "
                "'lateral', or under 'pairs' with its other side."
            )


def _sides(scheme: LandmarkScheme) -> dict[str, str]:
    """ "the left" or "the right" of paired landmarks, "lateral" of those without a counterpart; others are left out."""
    sides = {name: "lateral" for name in scheme.lateral}
    for left, right in scheme.pairs:
        sides |= {left: "the left", right: "the right"}
    return sides


FEWEST_CASES, FEWEST_POINTS = 5, 4
ROUNDS = 6
CASES_PER_MODE, MOST_MODES = 6, 6
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


class UsualShape:
    """The shapes of several cases."""

    def __init__(self, subjects: np.ndarray, scheme: LandmarkScheme) -> None:
        """Learn from cases.

        Args:
            subjects: (N, K, 3) LPS mm; NaN where a landmark is missing.
            scheme: of the landmarks.

        Raises:
            ValueError: there are too few cases with enough points.
        """
        usable = np.isfinite(subjects).all(axis=2).sum(axis=1) >= FEWEST_POINTS
        if usable.sum() < FEWEST_CASES:
            raise ValueError(f"{FEWEST_CASES} cases with {FEWEST_POINTS} points are needed.")
        self._subjects, self._scheme, self._usable = subjects, scheme, usable
        self._shape = _robust_shape(subjects[usable], scheme)
        self._aligned = np.full(subjects.shape, np.nan)
        for n in np.flatnonzero(usable):
            self._aligned[n] = _fit(self._shape, subjects[n]).to_model(subjects[n])
        predictions = [self.predict(subjects[n], without=n) for n in np.flatnonzero(usable)]
        self.spread = _usual_length(np.stack([p.distance for p in predictions]))

    def predict(self, points: np.ndarray, without: int | None = None) -> Prediction:
        """Predict one case.

        Args:
            points: (K, 3) LPS mm; NaN where missing; FEWEST_POINTS of them at least.
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
    count = min(MOST_MODES, len(aligned) // CASES_PER_MODE)
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


def _usual_length(distances: np.ndarray) -> np.ndarray:
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


# Tuned on 40 mouse skulls with planted errors, see benchmarks/check_planted_errors.py.
OUTLIER_SPREADS = 5.0
SWAP_SPREADS = 3.0
SWAP_GAIN = 4.0
SIDES_GAIN, SIDES_SPREADS = 2.0, 2.0
COPIED_MM = 1e-2


@dataclass(frozen=True)
class CheckedPoints:
    """What checks need to know of a case's points.

    Attributes:
        case: id.
        positions: (K, 3) LPS mm in the order of the scheme; NaN where there is none.
    """

    case: str
    positions: np.ndarray


def check_shapes(cases: Sequence[CheckedPoints], scheme: LandmarkScheme) -> list[Finding]:
    """Compare every case with the others; nothing where there are too few to compare with."""
    try:
        usual = UsualShape(np.stack([case.positions for case in cases]), scheme)
    except ValueError:
        return []
    return [finding for n, case in enumerate(cases) for finding in _check_case(case, n, usual, scheme)]


def check_copies(cases: Sequence[CheckedPoints]) -> list[Finding]:
    """Cases whose points are those of an earlier case, moved as a whole: the same subject twice."""
    findings = []
    distances = [_mutual_distances(case.positions) for case in cases]
    for n, case in enumerate(cases):
        for m in range(n):
            both = np.isfinite(distances[n]) & np.isfinite(distances[m])
            if both.sum() < 6 or np.abs(distances[n] - distances[m])[both].max() > COPIED_MM:
                continue
            if _is_moved_copy(case.positions, cases[m].positions):
                reason = f"All points are those of {cases[m].case}: keep one of the two cases."
                findings.append(Finding(case.case, FindingKind.SAME_POINTS, None, reason))
                break
    return findings


def _check_case(case: CheckedPoints, number: int, usual: UsualShape, scheme: LandmarkScheme) -> list[Finding]:
    points, order = case.positions, scheme.mirror_order()
    if np.isfinite(points).all(axis=1).sum() < FEWEST_POINTS:
        return []
    findings = []
    prediction = usual.predict(points, without=number)
    mirrored = np.where((order >= 0)[:, None], points[order], np.nan)
    paired = np.isfinite(points + mirrored).all(axis=1) & (order != np.arange(len(order)))
    if paired.any() and np.isfinite(mirrored).all(axis=1).sum() >= FEWEST_POINTS:
        exchanged = usual.predict(mirrored, without=number)
        before, after = (float(np.median((p.distance / usual.spread)[paired])) for p in (prediction, exchanged))
        if before > SIDES_GAIN * after and before > SIDES_SPREADS:
            reason = (
                "Left and right are exchanged in all pairs, or the scan is a mirror image: exchange the names, "
                "or load the scan again."
            )
            findings.append(Finding(case.case, FindingKind.SIDES, None, reason, before / after))
            points, prediction = mirrored, exchanged
    swapped, swaps = _swaps(case.case, points, prediction, usual.spread, scheme)
    return [*findings, *swaps, *_outliers(case.case, points, prediction, usual.spread, scheme, swapped)]


def _swaps(
    case: str, points: np.ndarray, prediction: Prediction, spread: np.ndarray, scheme: LandmarkScheme
) -> tuple[set[int], list[Finding]]:
    """Pairs whose points fit much better exchanged; the indices of these points, and one finding a pair."""
    index = {name: k for k, name in enumerate(scheme.names)}
    swapped: set[int] = set()
    findings = []
    for left, right in scheme.pairs:
        pair = [index[left], index[right]]
        straight = prediction.distance[pair] / spread[pair]
        crossed = np.linalg.norm(points[pair[::-1]] - prediction.expected[pair], axis=1) / spread[pair]
        if not np.isfinite([*straight, *crossed]).all():
            continue
        cost, other = float(np.linalg.norm(straight)), float(np.linalg.norm(crossed))
        if cost > SWAP_SPREADS * np.sqrt(2) and cost > SWAP_GAIN * other:
            swapped.update(pair)
            distance = float(prediction.distance[pair].max())
            reason = f"'{left}' and '{right}' lie where the other is expected: exchange the two points."
            findings.append(
                Finding(
                    case, FindingKind.SWAP, left, reason, distance, "mm", points[pair[0]], prediction.expected[pair[0]]
                )
            )
    return swapped, findings


def _outliers(
    case: str, points: np.ndarray, prediction: Prediction, spread: np.ndarray, scheme: LandmarkScheme, told: set[int]
) -> list[Finding]:
    findings = []
    for k, name in enumerate(scheme.names):
        distance = prediction.distance[k]
        if k in told or not np.isfinite(distance) or distance <= OUTLIER_SPREADS * spread[k]:
            continue
        reason = (
            f"'{name}' lies {distance:.1f} mm from where the other cases have it, which is usually "
            f"{spread[k]:.1f} mm: look whether it is right."
        )
        findings.append(
            Finding(case, FindingKind.OUTLIER, name, reason, float(distance), "mm", points[k], prediction.expected[k])
        )
    return findings


def _mutual_distances(points: np.ndarray) -> np.ndarray:
    """(K * K,) mm between all points."""
    return np.linalg.norm(points[:, None] - points[None], axis=2).ravel()


def _is_moved_copy(points: np.ndarray, others: np.ndarray) -> bool:
    both = np.isfinite(points).all(axis=1) & np.isfinite(others).all(axis=1)
    pose = rigid_fit(points[both], others[both])
    return bool(np.linalg.norm(pose.to_lps(points[both]) - others[both], axis=1).max() <= COPIED_MM)
