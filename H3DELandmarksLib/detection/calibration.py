"""From raw evidence to probabilities and radii that hold on cases which training never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from H3DELandmarksLib.formats.manifest import (
    CalibrationData,
    ConfidenceCalibration,
    FamiliarityCalibration,
    PresenceCalibration,
)

# What is left of the probability of presence in a scan without any trust.
UNFAMILIAR = 0.45


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))


def confidence_features(concentration: np.ndarray, presence_logit: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """(..., 4) inputs of the confidence's logistic regression.

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


def scan_features(presence: np.ndarray, concentration: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """(5,) inputs of the logistic regression that says whether a scan shows the model's anatomy at all.

    They are a constant; how far the found points lie from where the mean shape expects them; how sharp they are; how
    decided presence is, and how many points are found.

    Args:
        presence: (K,) calibrated probability of presence, by which points count.
        concentration: (K,) share of probability around the peak.
        residual: (K,) distance from the place that the mean shape expects, over that landmark's usual distance.
    """
    weight = np.where(np.isfinite(residual), presence, 0.0)
    weight = weight / max(weight.sum(), 1e-9)
    distance = np.log1p(np.clip(np.nan_to_num(residual, nan=0.0), 0, 100))
    sharpness = np.clip(concentration, 1e-4, 1 - 1e-4)
    sharpness = np.log(sharpness / (1 - sharpness))
    decided = np.abs(2 * presence - 1).mean()
    return np.array([1.0, weight @ distance, weight @ sharpness, decided, presence.mean()])


@dataclass(frozen=True)
class Calibration:
    """What calibration cases taught about a model's evidence.

    Attributes:
        presence_scale, presence_bias: Platt scaling of the presence logit.
        confidence_weights: (4,) logistic regression on `confidence_features`, predicting that the error is at most
            `tolerance_mm`.
        tolerance_mm: what counts as "right" for the confidence.
        radius90: (K,) mm that hold 90 % of the errors on calibration cases.
        familiarity_weights: (5,) logistic regression on `scan_features`, predicting that most found points are right;
            None where a package knows none.
    """

    presence_scale: float
    presence_bias: float
    confidence_weights: np.ndarray
    tolerance_mm: float
    radius90: np.ndarray
    familiarity_weights: np.ndarray | None = None

    @classmethod
    def from_manifest(cls, data: CalibrationData) -> Calibration:
        """What a manifest says."""
        return cls(
            data.presence.scale,
            data.presence.bias,
            np.array(data.confidence.weights),
            data.confidence.tolerance_mm,
            np.array(data.radius90_mm),
            None if data.familiarity is None else np.array(data.familiarity.weights),
        )

    @classmethod
    def neutral(cls, count: int, tolerance_mm: float) -> Calibration:
        """Raw probabilities and radii of 0 for `count` landmarks: for measuring positions alone."""
        return cls(1.0, 0.0, np.zeros(4), tolerance_mm, np.zeros(count))

    def to_manifest(self, cases: dict[str, Any] | None = None) -> CalibrationData:
        """The form that `from_manifest` reads; `cases` says what it was fitted to, and how."""
        known = None if self.familiarity_weights is None else tuple(self.familiarity_weights.tolist())
        return CalibrationData(
            PresenceCalibration(float(self.presence_scale), float(self.presence_bias)),
            ConfidenceCalibration(tuple(self.confidence_weights.tolist()), float(self.tolerance_mm)),
            tuple(self.radius90.tolist()),
            None if known is None else FamiliarityCalibration(known),
            cases,
        )

    def presence(self, logit: np.ndarray) -> np.ndarray:
        """(K,) calibrated probability that each landmark is in the scan; 0 where there was only air."""
        probability = _sigmoid(self.presence_scale * np.nan_to_num(logit, neginf=0.0) + self.presence_bias)
        return np.where(np.isneginf(logit), 0.0, probability)

    def confidence(self, concentration: np.ndarray, presence_logit: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """(K,) probability that the point lies within `tolerance_mm` of the right place."""
        return _sigmoid(confidence_features(concentration, presence_logit, residual) @ self.confidence_weights)

    def trust(self, presence: np.ndarray, concentration: np.ndarray, residual: np.ndarray) -> float:
        """From 0 to 1: how far the points found together look like the model's anatomy.

        It is 1 where the scan more likely than not shows the anatomy, and where no point is found.
        """
        if self.familiarity_weights is None or not (presence >= 0.5).any():
            return 1.0
        familiar = _sigmoid(scan_features(presence, concentration, residual) @ self.familiarity_weights)
        return float(min(1.0, 2 * familiar))

    @staticmethod
    def doubted(presence: np.ndarray, confidence: np.ndarray, trust: float) -> tuple[np.ndarray, np.ndarray]:
        """Presence and confidence as a scan of that trust allows; trust 1 changes nothing.

        Without trust, no confidence is left. Presence falls below one half, so that no point is shown, but not to
        nothing: a scan of the anatomy in which the search went wrong is as strange as one of something else.
        """
        return presence * (UNFAMILIAR + (1 - UNFAMILIAR) * trust), confidence * trust
