"""Agreement of two arrays of positions.

Every figure is a function of weights of the cases, so that the bootstrap is one matrix of weights: a row for each
resample of patients, which says how often each case is in it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from H3DELandmarksLib.evaluation.paired import FEWEST
from H3DELandmarksResearch.agreement.record import Agreement, AxisAgreement, Interval, LandmarkAgreement

AXES = ("L", "P", "S")
ALL = "all"
DRAWS, SEED, LEVEL = 2000, 20_26, 0.95
LIMITS = 1.96  # standard deviations of Bland and Altman's limits
SAME_MM = 1e-6  # differences along an axis in which nobody can have chosen anything


def icc_2_1(ratings: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Intraclass correlation ICC(2,1) of Shrout and Fleiss (Psychological Bulletin 86:420, 1979).

    Two-way random effects, absolute agreement, a single rater: (BMS - EMS) / (BMS + (k - 1) EMS + k (JMS - EMS) / n).

    Args:
        ratings: (n, k) of k raters, without gaps.
        weights: (..., n) how often each row counts; once by default.

    Returns:
        (...) NaN where fewer than two rows count, or no rating differs from any other.
    """
    ratings = np.asarray(ratings, dtype=float)
    weights = np.ones(len(ratings)) if weights is None else np.asarray(weights, dtype=float)
    k = ratings.shape[1]
    x = ratings - ratings.mean() if ratings.size else ratings
    n = weights.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        raters = weights @ x / n[..., None]
        middle = raters.mean(axis=-1)
        rows = k * (weights @ x.mean(axis=1) ** 2 - n * middle**2)
        columns = n * ((raters - middle[..., None]) ** 2).sum(axis=-1)
        everything = weights @ (x**2).sum(axis=1) - n * k * middle**2
        between, judges = rows / (n - 1), columns / (k - 1)
        error = np.maximum(everything - rows - columns, 0) / ((n - 1) * (k - 1))
        whole = between + (k - 1) * error + k * (judges - error) / n
        usable = (n > 1) & (everything > 1e-12 * np.maximum(n, 1))
        return np.asarray(np.where(usable, (between - error) / whole, np.nan))


def resamples(patients: Sequence[Hashable], draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """(draws + 1, N) weights of cases: all once in the first row, then as often as their patients were drawn.

    Args:
        patients: (N) whose case it is.
        draws: resamples; none with fewer than five patients, which do not reach far enough.
        seed: the same gives the same.
    """
    order = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    whose = np.array([order[patient] for patient in patients], dtype=int)
    count = len(order)
    if count < FEWEST:
        return np.ones((1, len(whose)))
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    return np.concatenate([np.ones((1, len(whose))), times[:, whose].astype(float)])


def agreement(
    labels: tuple[str, str],
    landmarks: Sequence[str],
    first: np.ndarray,
    second: np.ndarray,
    absent: tuple[np.ndarray, np.ndarray],
    patients: Sequence[Hashable],
    draws: int = DRAWS,
) -> Agreement:
    """Compare two sets of points.

    Args:
        labels: what the sets are called.
        landmarks: K names.
        first, second: (N, K, 3) LPS mm, NaN where there is no position.
        absent: (N, K) bool of each: it states that the landmark is absent.
        patients: (N) whose case it is; intervals come from resampling patients.
        draws: of the bootstrap.
    """
    apart = first - second
    both = np.isfinite(apart).all(axis=2)
    axes = [a for a in range(3) if (np.abs(apart[..., a][both]) > SAME_MM).any()] or [0, 1, 2]
    weights = resamples(patients, draws)
    iccs = _iccs(first, second, both, axes, weights)
    only = [np.isfinite(one).all(axis=2) & said for one, said in zip((first, second), reversed(absent))]

    def row(name: str, index: slice | list[int]) -> LandmarkAgreement:
        part, there = apart[:, index], both[:, index]
        squares = np.where(there, (part**2).sum(axis=2), 0.0)
        sums = _Sums(weights, there)
        mean = sums.mean(np.sqrt(squares))
        along = [_axis(a, sums, np.where(there, part[..., a], 0.0), iccs[a][:, index]) for a in axes]
        return LandmarkAgreement(
            landmark=name,
            points=int(there.sum()),
            only_first=int(only[0][:, index].sum()),
            only_second=int(only[1][:, index].sum()),
            mre_mm=interval(mean),
            sd_mm=interval(np.sqrt(np.maximum(sums.mean(squares) - mean**2, 0))),
            dahlberg_mm=interval(np.sqrt(sums.mean(squares) / 2)),
            axes=tuple(along),
        )

    rows = tuple(row(name, [k]) for k, name in enumerate(landmarks))
    return Agreement(*labels, len(first), len(set(patients)), row(ALL, slice(None)), rows)


def interval(values: np.ndarray) -> Interval:
    """The first value with the interval that holds the middle 95 % of the others."""
    others = values[1:][np.isfinite(values[1:])]
    if not others.size or not np.isfinite(values[0]):
        return Interval(float(values[0]), float("nan"), float("nan"))
    low, high = np.quantile(others, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(values[0]), float(low), float(high))


class _Sums:
    """Means over the points that are there, for each row of weights."""

    def __init__(self, weights: np.ndarray, there: np.ndarray) -> None:
        self._weights = weights
        self.count = weights @ there.sum(axis=1)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """(draws + 1) mean of (N, K) values that are 0 where there is no point."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self._weights @ values.sum(axis=1) / np.where(self.count > 0, self.count, np.nan))


def _axis(axis: int, sums: _Sums, apart: np.ndarray, iccs: np.ndarray) -> AxisAgreement:
    bias, square = sums.mean(apart), sums.mean(apart**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(sums.count > 1, sums.count / (sums.count - 1), np.nan)
    sd = np.sqrt(factor * np.maximum(square - bias**2, 0))
    known = np.isfinite(iccs)
    icc = np.where(known.any(axis=1), np.where(known, iccs, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)
    figures = (bias, sd, bias - LIMITS * sd, bias + LIMITS * sd, np.sqrt(square / 2), icc)
    return AxisAgreement(AXES[axis], *map(interval, figures))


def _iccs(
    first: np.ndarray, second: np.ndarray, both: np.ndarray, axes: Sequence[int], weights: np.ndarray
) -> dict[int, np.ndarray]:
    """(draws + 1, K) of each axis."""

    def of(axis: int, k: int) -> np.ndarray:
        there = both[:, k]
        pair = np.column_stack([first[there, k, axis], second[there, k, axis]])
        return icc_2_1(pair, weights[:, there])

    empty = np.zeros((len(weights), 0))
    return {a: np.column_stack([empty, *(of(a, k) for k in range(both.shape[1]))]) for a in axes}
