"""From raw evidence to probabilities and radii that hold on cases which training never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from H3DELandmarksLib.core.rows import RowCount
from H3DELandmarksLib.formats.manifest import (
    CalibrationData,
    ConfidenceCalibration,
    CountingCalibration,
    PointCalibration,
    PresenceCalibration,
    RecognitionCalibration,
)
from H3DELandmarksLib.formats.results import MiscountedResult

# A point's radius lies within these factors of its landmark's: beyond, too few cases tell.
LEAST_FACTOR, MOST_FACTOR = 0.5, 6.0


def _sigmoid(x: np.ndarray) -> np.ndarray:
    probability: np.ndarray = 1 / (1 + np.exp(-np.clip(x, -50, 50)))
    return probability


def confidence_features(concentration: np.ndarray, presence_logit: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """(..., 4) inputs of the confidence's logistic regression; `detection.point_evidence` has more.

    Args:
        concentration: (...) share of probability around the peak.
        presence_logit: (...) log-odds of presence before calibration.
        residual: (...) distance from the place that the mean shape expects, over that landmark's usual distance.
    """
    concentration = np.clip(concentration, 1e-4, 1 - 1e-4)
    return np.stack(
        [
            np.ones_like(concentration),
            np.log(concentration / (1 - concentration)),
            np.clip(np.nan_to_num(presence_logit, neginf=-20.0), -20, 20) / 10,
            np.log1p(np.nan_to_num(np.asarray(residual, float), nan=100.0)),
        ],
        axis=-1,
    )


def counting_odds(weights: Sequence[float] | np.ndarray, margin: np.ndarray | float) -> np.ndarray:
    """Log-odds that a row whose count has a margin is one off, by the weights of `CountingCalibration`."""
    odds: np.ndarray = weights[0] + weights[1] * np.sqrt(np.maximum(margin, 0.0))
    return odds


@dataclass(frozen=True)
class Calibration:
    """What calibration cases taught about a model's evidence.

    Attributes:
        presence_scale, presence_bias: Platt scaling of the presence logit.
        confidence_weights: (4,) or (7,) logistic regression on the first of `detection.point_evidence.point_features`,
            predicting that the error is at most `tolerance_mm`.
        tolerance_mm: what counts as "right" for the confidence.
        radius90: (K,) mm that hold 90 % of the errors on calibration cases.
        recognition: what tells scans of the anatomy from others; None where a package has none.
        counting: whether structures may be counted one off; None where none are counted.
        reaches: of intervals of measurements, see `CalibrationData`.
        points: what a point's own evidence says of its radius; None where a package has none.
    """

    presence_scale: float
    presence_bias: float
    confidence_weights: np.ndarray
    tolerance_mm: float
    radius90: np.ndarray
    recognition: RecognitionCalibration | None = None
    counting: CountingCalibration | None = None
    reaches: Mapping[str, float] | None = None
    points: PointCalibration | None = None

    @classmethod
    def from_manifest(cls, data: CalibrationData) -> Calibration:
        """What a manifest says."""
        return cls(
            data.presence.scale,
            data.presence.bias,
            np.array(data.confidence.weights),
            data.confidence.tolerance_mm,
            np.array(data.radius90_mm),
            data.recognition,
            data.counting,
            data.reaches,
            data.points,
        )

    @classmethod
    def neutral(cls, count: int, tolerance_mm: float) -> Calibration:
        """Raw probabilities and radii of 0 for `count` landmarks: for measuring positions alone."""
        return cls(1.0, 0.0, np.zeros(4), tolerance_mm, np.zeros(count))

    def to_manifest(self, cases: dict[str, Any] | None = None) -> CalibrationData:
        """The form that `from_manifest` reads; `cases` says what it was fitted to, and how."""
        return CalibrationData(
            PresenceCalibration(float(self.presence_scale), float(self.presence_bias)),
            ConfidenceCalibration(tuple(self.confidence_weights.tolist()), float(self.tolerance_mm)),
            tuple(self.radius90.tolist()),
            recognition=self.recognition,
            counting=self.counting,
            reaches=None if self.reaches is None else dict(self.reaches),
            cases=cases,
            points=self.points,
        )

    def presence(self, logit: np.ndarray) -> np.ndarray:
        """(K,) calibrated probability that each landmark is in the scan; 0 where there was only air."""
        probability = _sigmoid(self.presence_scale * np.nan_to_num(logit, neginf=0.0) + self.presence_bias)
        return np.where(np.isneginf(logit), 0.0, probability)

    def confidence(self, features: np.ndarray, count: RowCount | None = None) -> np.ndarray:
        """(N,) probability that each point lies within `tolerance_mm` of the right place.

        Args:
            features: (N, 7) of `detection.point_evidence.point_features`, or the first four.
            count: how sure it is which structure is which; None where none was counted.
        """
        odds = features[:, : len(self.confidence_weights)] @ self.confidence_weights
        if self.counting is None or count is None:
            return _sigmoid(odds)
        miscounted = counting_odds(self.counting.weights, count.margin)
        if self.counting.confidence is not None:
            return _sigmoid(odds - self.counting.confidence * miscounted)
        confidence: np.ndarray = _sigmoid(odds) * _sigmoid(-miscounted)
        return confidence

    def miscounted(self, count: RowCount | None) -> MiscountedResult | None:
        """How likely structures are counted one off; None where none were counted, or nobody has measured it."""
        fitted = self.counting
        if fitted is None or count is None:
            return None
        probability = float(_sigmoid(counting_odds(fitted.weights, count.margin)))
        return MiscountedResult(
            probability,
            probability >= fitted.doubt_from,
            fitted.hit_rate,
            fitted.false_alarm_rate,
            count.shift * count.step,
        )

    def radius_of(self, features: np.ndarray, usual: np.ndarray) -> np.ndarray:
        """(N,) mm that hold 90 % of the errors of points.

        Args:
            features: (N, 7) of `detection.point_evidence.point_features`, of which the first six count.
            usual: (N,) mm, the radius of each point's landmark; without `points` it stays.
        """
        if self.points is None:
            return usual
        weights = np.array(self.points.factor_weights)
        factor = np.exp(features[:, : len(weights)] @ weights)
        radius: np.ndarray = usual * np.clip(factor, LEAST_FACTOR, MOST_FACTOR)
        return radius
