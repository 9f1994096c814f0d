"""Points that do not fit the shapes of the other cases: exchanged sides, single outliers, copies of another case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.cohort.finding import Finding, FindingKind
from H3DELandmarksLib.cohort.usual_shape import FEWEST_POINTS, Prediction, UsualShape
from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.shape_model import rigid_fit

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
            reason = ("Left and right are exchanged in all pairs, or the scan is a mirror image: exchange the names, "
                      "or load the scan again.")
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
            findings.append(Finding(case, FindingKind.SWAP, left, reason, distance, "mm", points[pair[0]],
                                    prediction.expected[pair[0]]))
    return swapped, findings


def _outliers(
    case: str, points: np.ndarray, prediction: Prediction, spread: np.ndarray, scheme: LandmarkScheme, told: set[int]
) -> list[Finding]:
    findings = []
    for k, name in enumerate(scheme.names):
        distance = prediction.distance[k]
        if k in told or not np.isfinite(distance) or distance <= OUTLIER_SPREADS * spread[k]:
            continue
        reason = (f"'{name}' lies {distance:.1f} mm from where the other cases have it, which is usually "
                  f"{spread[k]:.1f} mm: look whether it is right.")
        findings.append(Finding(case, FindingKind.OUTLIER, name, reason, float(distance), "mm", points[k],
                                prediction.expected[k]))
    return findings


def _mutual_distances(points: np.ndarray) -> np.ndarray:
    """(K * K,) mm between all points."""
    return np.linalg.norm(points[:, None] - points[None], axis=2).ravel()


def _is_moved_copy(points: np.ndarray, others: np.ndarray) -> bool:
    both = np.isfinite(points).all(axis=1) & np.isfinite(others).all(axis=1)
    pose = rigid_fit(points[both], others[both])
    return bool(np.linalg.norm(pose.to_lps(points[both]) - others[both], axis=1).max() <= COPIED_MM)
