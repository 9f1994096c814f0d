"""What a page of an evaluation is made from, and the intervals that it states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import number
from H3DELandmarksLib.evaluation import Evaluation, paired

TOO_FEW = f"no interval of fewer than {paired.FEWEST} subjects"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What a page of an evaluation is made from.

    Attributes:
        name: of the model or folder.
        evaluation: its figures.
        predictions, references: LPS mm by case.
        tolerance_mm: distance that its confidences mean; None where nobody says so.
    """

    name: str
    evaluation: Evaluation
    predictions: Mapping[str, LandmarkSet]
    references: Mapping[str, LandmarkSet]
    tolerance_mm: float | None = None


def rate_interval(
    success: np.ndarray, counted: np.ndarray, subjects: Sequence[str], draws: int = 4000
) -> tuple[float, float]:
    """95 % interval of a share, by bootstrap over subjects, whose landmarks belong together.

    Args:
        success: (N, K) of cases, what is counted as success.
        counted: (N, K) bool, what counts.
        subjects: (N) whose case it is.
        draws: of the bootstrap.

    Returns:
        Lower and upper end; NaN with fewer than five subjects, whose resamples do not reach far enough.
    """
    order = list(dict.fromkeys(subjects))
    if len(order) < paired.FEWEST:
        return np.nan, np.nan
    place = {one: n for n, one in enumerate(order)}
    whose = [place[subject] for subject in subjects]
    hits = np.bincount(whose, np.where(counted, success, 0.0).sum(axis=1))
    whole = np.bincount(whose, counted.sum(axis=1))
    picks = np.random.default_rng(paired.SEED).integers(len(order), size=(draws, len(order)))
    shares = hits[picks].sum(axis=1) / np.maximum(whole[picks].sum(axis=1), 1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(values: np.ndarray, subjects: Sequence[str]) -> tuple[float, float]:
    """95 % interval of the mean over cases, (N,) mm, by bootstrap over subjects; NaN with fewer than five of these."""
    known = np.isfinite(values)
    whose = [subject for subject, is_known in zip(subjects, known) if is_known]
    cases = Counter(whose)
    if len(cases) < paired.FEWEST:
        return np.nan, np.nan
    means = paired.subject_means(values[known], whose)
    low, high = paired.bootstrap_interval(means, counts=np.array(list(cases.values())))
    return max(low, 0.0), high


def share_range(low: float, high: float, signed: bool = False) -> str:
    """The ends of `rate_interval` in percent."""
    if not np.isfinite([low, high]).all():
        return TOO_FEW
    sign = "+" if signed else ""
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}" + (" %" if not signed else "")


def range_text(low: float, high: float, unit: str = "") -> str:
    return f"{number(low)} to {number(high)}{unit}" if np.isfinite([low, high]).all() else TOO_FEW
