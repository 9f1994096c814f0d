"""Points compared with those of the other cases: another size, exchanged sides and names, and points out of place.

What is unusual is told by the set itself: each check has a limit that one right case in `RIGHT_BEYOND` passes, by a
robust fit to what the cases have in common. Cases are compared at one size; one of quite another is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue
from H3DELandmarksLib.cases.shape_check import MIN_CASES, MIN_POINTS, LeaveOneOutShape, Prediction, usual_length
from H3DELandmarksLib.core.landmarks import LandmarkScheme

FALSE_SHARE, CHECKS = 0.02, 3  # of right cases in which anything is found; by exchanged sides, same places, outliers
RIGHT_BEYOND = round(CHECKS / FALSE_SHARE)
OUTLIER_SPREADS, CERTAIN_SPREADS = 5.0, 20.0
SWAP_SPREADS, SWAP_GAIN = 3.0, 4.0
SIDES_SPREADS, SIDES_GAIN = 2.0, 2.0
FARTHEST_SPREADS = 30.0
NEAR_LANDMARKS, NEIGHBOURS = 12, 8
UNIT_FACTOR = 2.0  # of the usual size, at least: units differ by more


@dataclass(frozen=True)
class CheckedPoints:
    """What checks need to know of a case's points.

    Attributes:
        case: id.
        positions: (K, 3) LPS mm in the order of the scheme; NaN where there is none.
        unit: of lengths: "mm", or "px" where the picture does not state how large its pixels are.
        voxel: mm, the smallest edge of a voxel; 0 where there is no scan.
    """

    case: str
    positions: np.ndarray
    unit: str = "mm"
    voxel: float = 0.0


@dataclass
class _Case:
    """A case at the common size; its findings tell its own lengths.

    Attributes:
        points: (K, 3) at the common size.
        straight: its points by the other cases; None where it has too few.
        told: numbers of the landmarks with a finding.
    """

    name: str
    unit: str
    size: float
    points: np.ndarray
    straight: Prediction | None
    told: set[int] = field(default_factory=set)

    def finding(self, kind: IssueKind, landmark: str, reason: str, k: int, prediction: Prediction) -> QualityIssue:
        """A finding about a landmark, whose number is `k`."""
        far, places = self.size * float(prediction.distance[k]), (self.points[k], prediction.expected[k])
        return QualityIssue(self.name, kind, landmark, reason, far, self.unit, *(self.size * p for p in places))


@dataclass(frozen=True)
class _View:
    """Where all cases' points are expected, by their whole shapes or by their neighbours.

    Attributes:
        predictions: of each case; None where it has too few points.
        spread: (K,) usual distance from there, as of `LeaveOneOutShape`.
        limit: spreads from the expected place that are unusual.
    """

    predictions: list[Prediction | None]
    spread: np.ndarray
    limit: float


def check_shapes(cases: Sequence[CheckedPoints], scheme: LandmarkScheme) -> list[QualityIssue]:
    """Compare every case with the others; nothing where there are too few to compare with.

    Args:
        cases: of one scheme.
        scheme: landmarks, and the pairs of both sides.
    """
    if not cases:
        return []
    positions = np.stack([case.positions for case in cases])
    sizes = relative_sizes(positions)
    findings = _other_sizes(cases, sizes)
    positions = positions / sizes[:, None, None]
    try:
        usual = LeaveOneOutShape(positions, scheme)
    except ValueError:
        return findings
    checked = [
        _Case(c.case, c.unit, float(size), points, straight)
        for c, size, points, straight in zip(cases, sizes, positions, usual.predictions)
    ]
    findings += _exchange_sides(checked, usual, scheme)
    views = _views(checked, usual)
    for number, case in enumerate(checked):
        for check in (_exchanges, _outliers):
            for view in views:
                prediction = view.predictions[number]
                if prediction is not None:
                    findings += check(case, prediction, view, scheme)
    return findings


def relative_sizes(positions: np.ndarray) -> np.ndarray:
    """(N,) sizes of (N, K, 3) shapes against the usual one, by the median of their distances; 1 where nothing says."""
    distances = np.stack([mutual_distances(points) for points in positions])
    known = np.isfinite(distances).any(axis=0)
    usual = np.full(distances.shape[1], np.nan)
    usual[known] = np.nanmedian(distances[:, known], axis=0)
    ratio = distances / np.where(usual > 0, usual, np.nan)
    told = np.isfinite(ratio).any(axis=1)
    sizes = np.ones(len(positions))
    sizes[told] = np.nanmedian(ratio[told], axis=1)
    return np.where(sizes > 0, sizes, 1.0)


def _other_sizes(cases: Sequence[CheckedPoints], sizes: np.ndarray) -> list[QualityIssue]:
    """Cases whose points lie so much nearer together or farther apart than usual that their unit must be another."""
    told = np.array([np.isfinite(case.positions).all(axis=1).sum() > MIN_POINTS for case in cases])
    if told.sum() < MIN_CASES:
        return []
    off = np.abs(np.log(sizes / np.median(sizes[told])))
    limit = max(float(np.log(UNIT_FACTOR)), _beyond(off[told], RIGHT_BEYOND, 75))
    findings = []
    for case, size, is_other in zip(cases, sizes.tolist(), told & (off > limit)):
        reason = (
            f"Its points lie {size:.3g} times as far from each other as in the other cases: look whether they are in "
            "the same unit, and whether the size of its voxels or pixels is right."
        )
        if is_other:
            findings.append(QualityIssue(case.case, IssueKind.OUTLIER, None, reason, 100 * size, "%"))
    return findings


def mutual_distances(points: np.ndarray) -> np.ndarray:
    """(K * K,) mm between all points."""
    return np.linalg.norm(points[:, None] - points[None], axis=2).ravel()


def outlier_limit(misfits: np.ndarray) -> float:
    """Spreads that a point of one right case in `RIGHT_BEYOND` passes.

    Args:
        misfits: (N, K) distances of cases' points in spreads; NaN where there is none.
    """
    known = np.log(np.maximum(misfits[np.isfinite(misfits)], 1e-6))
    return max(OUTLIER_SPREADS, float(np.exp(_beyond(known, RIGHT_BEYOND * misfits.shape[1], 90))))


def _beyond(values: np.ndarray, once_in: float, right: float) -> float:
    """What a new value of the same kind passes once in so many times; few wrong values do not move it.

    Args:
        values: of right cases, most of them.
        once_in: values.
        right: percentile, above the 50th, up to which values are taken for right ones.
    """
    from scipy.stats import norm, t

    middle, upper = np.percentile(values, [50, right])
    spread = (upper - middle) / norm.ppf(right / 100) * np.sqrt(1 + 1 / len(values))
    return float(middle + t.ppf(1 - 1 / once_in, max(len(values) - 1, 1)) * spread)


def _exchange_sides(cases: list[_Case], usual: LeaveOneOutShape, scheme: LandmarkScheme) -> list[QualityIssue]:
    """Findings for cases whose pairs fit better exchanged; these are compared with exchanged names from here on.

    Nothing where right cases do not tell their sides, as few points or points in a plane.
    """
    mirrored = {}
    for number, case in enumerate(cases):
        if case.straight is not None:
            compared = _mirrored(case.points, number, case.straight, usual, scheme)
            if compared is not None:
                mirrored[number] = compared
    gains = np.array([gain for _, _, gain, _ in mirrored.values()])
    if len(gains) < MIN_CASES or -float(np.median(gains)) < np.log(SIDES_GAIN):
        return []
    limit = max(float(np.log(SIDES_GAIN)), _beyond(gains, RIGHT_BEYOND, 75))
    reason = (
        "Left and right are exchanged in all pairs, or the scan is a mirror image: exchange the names, or load the "
        "scan again."
    )
    findings = []
    for number, (points, exchanged, gain, before) in mirrored.items():
        if gain > limit and before > SIDES_SPREADS:
            case = cases[number]
            findings.append(QualityIssue(case.name, IssueKind.SIDES, None, reason, float(np.exp(gain))))
            case.points, case.straight = points, exchanged
    return findings


def _mirrored(
    points: np.ndarray, number: int, straight: Prediction, usual: LeaveOneOutShape, scheme: LandmarkScheme
) -> tuple[np.ndarray, Prediction, float, float] | None:
    """A case with its sides exchanged: points, prediction, logarithm of how many times better its pairs fit, and by
    how many spreads they usually miss without; None without pairs."""
    order = scheme.mirror_order()
    mirrored = np.where((order >= 0)[:, None], points[order], np.nan)
    paired = np.isfinite(points + mirrored).all(axis=1) & (order != np.arange(len(order)))
    if not paired.any() or np.isfinite(mirrored).all(axis=1).sum() < MIN_POINTS:
        return None
    exchanged = usual.predict(mirrored, without=number)
    before, after = (float(np.median((p.distance / usual.spread)[paired])) for p in (straight, exchanged))
    return mirrored, exchanged, float(np.log(max(before, 1e-6) / max(after, 1e-6))), before


def _views(cases: list[_Case], usual: LeaveOneOutShape) -> list[_View]:
    """The neighbours' view first, where there are enough landmarks for one.

    A shape that is unusual as a whole, as a severe scoliosis, is none that is wrong: beside the neighbours' view, the
    whole shape's tells of outliers only where they are certain.
    """
    straight = [case.straight for case in cases]
    misfits = np.stack([p.distance for p in straight if p is not None]) / usual.spread
    near = _near(cases, usual.mean)
    limit = outlier_limit(misfits)
    limit = limit if near is None else max(limit, CERTAIN_SPREADS)
    whole = _View(straight, usual.spread, limit)
    return [whole] if near is None else [near, whole]


def _near(cases: list[_Case], mean: np.ndarray) -> _View | None:
    """Every point against where its neighbours have it, which finds corners and close structures in a bent row.

    Args:
        cases: all of them.
        mean: (K, 3) the usual shape.
    """
    if np.isfinite(mean).all(axis=1).sum() < NEAR_LANDMARKS:
        return None
    apart = np.linalg.norm(mean[:, None] - mean[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    order = np.argsort(np.nan_to_num(apart, nan=np.inf), axis=1)[:, :NEIGHBOURS]
    predictions: list[Prediction | None] = []
    distances = np.full((len(cases), len(mean)), np.nan)
    for number, case in enumerate(cases):
        if case.straight is None:
            predictions.append(None)
            continue
        missed = (case.points - case.straight.expected)[order]  # (K, NEIGHBOURS, 3)
        enough = np.isfinite(missed).all(axis=2).sum(axis=1) > NEIGHBOURS // 2
        expected = np.full(mean.shape, np.nan)
        expected[enough] = case.straight.expected[enough] + np.nanmedian(missed[enough], axis=1)
        distances[number] = np.linalg.norm(case.points - expected, axis=1)
        predictions.append(Prediction(expected, distances[number]))
    if not np.isfinite(distances).any():
        return None
    spread = usual_length(distances)
    return _View(predictions, spread, outlier_limit(distances / spread))


def _exchanges(case: _Case, prediction: Prediction, view: _View, scheme: LandmarkScheme) -> Iterator[QualityIssue]:
    """Points that fit much better with each other's names: a finding for each such group, which is told of once.

    Pairs, corners and repeated structures are told alike: the names are given anew so that all points lie as near as
    possible to where they are expected.
    """
    from scipy.optimize import linear_sum_assignment

    points, expected = case.points, prediction.expected
    known = np.flatnonzero(np.isfinite(points).all(axis=1) & np.isfinite(expected).all(axis=1))
    apart = np.linalg.norm(expected[known][:, None] - points[known][None], axis=2) / view.spread[known][:, None]
    _, new = linear_sum_assignment(np.minimum(apart, FARTHEST_SPREADS) ** 2)
    for cycle in _cycles(new):
        straight = float(np.sqrt(np.mean(apart[cycle, cycle] ** 2)))
        better = float(np.sqrt(np.mean(apart[cycle, new[cycle]] ** 2)))
        group = {int(k) for k in known[cycle]}
        if straight <= SWAP_SPREADS or straight <= SWAP_GAIN * better or case.told & group:
            continue
        case.told |= group
        *names, last = [f"'{scheme.names[k]}'" for k in sorted(group)]
        reason = (
            f"{names[0]} and {last} lie where the other is expected: exchange the two points."
            if len(group) == 2
            else f"{', '.join(names)} and {last} lie where another of them is expected: their order is wrong, name "
            "them anew."
        )
        first = min(group)
        yield case.finding(IssueKind.SWAP, scheme.names[first], reason, first, prediction)


def _cycles(order: np.ndarray) -> list[np.ndarray]:
    """Groups of numbers that a permutation exchanges among themselves, each in ascending order."""
    seen: set[int] = set()
    found = []
    for start in range(len(order)):
        cycle, at = [], start
        while at not in seen:
            seen.add(at)
            cycle.append(at)
            at = int(order[at])
        if len(cycle) > 1:
            found.append(np.array(sorted(cycle)))
    return found


def _outliers(case: _Case, prediction: Prediction, view: _View, scheme: LandmarkScheme) -> Iterator[QualityIssue]:
    with np.errstate(invalid="ignore"):
        far_off = prediction.distance > view.limit * view.spread
    for k in np.flatnonzero(far_off).tolist():
        if k in case.told:
            continue
        case.told.add(k)
        far, usually = (f"{case.size * length:.1f} {case.unit}" for length in (prediction.distance[k], view.spread[k]))
        reason = (
            f"'{scheme.names[k]}' lies {far} from where the other cases have it, which is usually {usually}: look "
            "whether it is right."
        )
        yield case.finding(IssueKind.OUTLIER, scheme.names[k], reason, k, prediction)
