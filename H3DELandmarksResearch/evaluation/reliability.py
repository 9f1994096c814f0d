"""Whether probabilities mean what they say: reliability bins and the expected calibration error.

The error is that of Naeini, Cooper and Hauskrecht (AAAI 2015): the mean difference over bins between the stated
probability and the observed frequency, weighted by how many statements a bin holds. Bins are of equal width, as there,
or hold equally many statements (Nguyen and O'Connor, EMNLP 2015), which is fairer where nearly all probabilities are
close to 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import plain

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Statements of a probability beside what came true, in bins.

    Attributes:
        stated: (B,) mean probability of each bin.
        observed: (B,) share of the bin's statements that came true.
        count: (B,) statements in each bin; bins without any are left out.
    """

    stated: np.ndarray
    observed: np.ndarray
    count: np.ndarray

    @property
    def total(self) -> int:
        """How many statements there are."""
        return int(self.count.sum())

    @property
    def error(self) -> float:
        """Expected calibration error from 0 to 1, NaN without statements."""
        if not self.total:
            return float("nan")
        return float(np.abs(self.stated - self.observed) @ self.count / self.total)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a manifest keeps them."""
        return {
            "stated": np.round(self.stated, 4).tolist(),
            "observed": np.round(self.observed, 4).tolist(),
            "count": self.count.tolist(),
        }


def reliability(
    probability: np.ndarray, outcome: np.ndarray, bins: int = BINS, equal_mass: bool = False
) -> Reliability:
    """Sort statements into bins.

    Args:
        probability: (...) from 0 to 1; NaN ones are left out.
        outcome: (...) whether it came true; NaN ones are left out.
        bins: how many.
        equal_mass: bins with equally many statements instead of equally wide ones.
    """
    probability, outcome = np.ravel(np.asarray(probability, float)), np.ravel(np.asarray(outcome, float))
    known = np.isfinite(probability) & np.isfinite(outcome)
    order = np.argsort(probability[known], kind="stable")
    probability, outcome = probability[known][order], outcome[known][order]
    if equal_mass:
        number = np.arange(len(probability)) * bins // max(len(probability), 1)
    else:
        number = np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    filled = count > 0
    stated = np.bincount(number, probability, bins)[filled] / count[filled]
    observed = np.bincount(number, outcome, bins)[filled] / count[filled]
    return Reliability(stated, observed, count[filled])


@dataclass(frozen=True)
class Statements:
    """What was stated about landmarks of several cases, and what is true.

    Attributes:
        presence: (N, K) stated probability that the landmark is in the scan.
        present: (N, K) 1 or 0, NaN unknown.
        confidence: (N, K) stated probability that the point is within the tolerance, NaN where none was shown.
        right: (N, K) 1 or 0: the shown point is within the tolerance; NaN where none was shown or nobody knows.
    """

    presence: np.ndarray
    present: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    def summary(self) -> dict[str, Any]:
        """For presence and confidence: bins of equal width and both calibration errors, as plain values."""
        pairs = {"presence": (self.presence, self.present), "confidence": (self.confidence, self.right)}
        result = {}
        for name, (stated, true) in pairs.items():
            wide = reliability(stated, true)
            result[name] = {
                "statements": wide.total,
                "ece": plain(round(wide.error, 4)),
                "ece_equal_mass": plain(round(reliability(stated, true, equal_mass=True).error, 4)),
                "bins": wide.to_dict(),
            }
        return result


def compare_statements(
    predictions: Mapping[str, LandmarkSet], references: Mapping[str, LandmarkSet], tolerance_mm: float
) -> Statements:
    """Statements of predictions beside the truth of their references, matched by case and by the names predicted.

    Args:
        predictions: what was found, by case.
        references: what is there, by case.
        tolerance_mm: the largest error of a point that counts as right.
    """
    rows = [_row(predictions[case], references[case], tolerance_mm) for case in sorted(predictions)]
    return Statements(*(np.stack(part) for part in zip(*rows)))


def _row(found: LandmarkSet, reference: LandmarkSet, tolerance_mm: float) -> Sequence[np.ndarray]:
    truth = reference.ordered_as(found.names)
    distance = np.linalg.norm(found.positions - truth.positions, axis=1)
    comparable = found.present & ~truth.unknown
    with np.errstate(invalid="ignore"):
        right = np.where(comparable, (distance <= tolerance_mm).astype(float), np.nan)
    present = np.where(truth.unknown, np.nan, truth.present.astype(float))
    confidence = np.where(comparable, np.asarray(found.confidence), np.nan)
    return np.asarray(found.presence), present, confidence, right
