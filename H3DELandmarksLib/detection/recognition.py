"""Whether a scan looks like those that a model knows, judged by all points found in it together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.formats.manifest import ShapeVariation
from H3DELandmarksLib.formats.results import RecognitionResult

STRONGEST = 3
HIGHEST_LOGIT = 12.0
# What stands for the spread of proportions where no two points can be compared.
NO_PROPORTIONS = 1.0


@dataclass(frozen=True)
class Variation:
    """How the anatomy differs between subjects: mean shape, modes in which it varies, and what is left.

    Attributes:
        mean: (K, 3) mm in the model frame.
        modes: (R, K, 3) mm, each of which varies by a standard deviation of 1.
        noise: mm that each coordinate differs by besides.
    """

    mean: np.ndarray
    modes: np.ndarray
    noise: float

    @classmethod
    def from_manifest(cls, data: ShapeVariation) -> Variation:
        """What a manifest says."""
        mean = np.array(data.mean_mm)
        return cls(mean, np.array(data.modes_mm).reshape(-1, *mean.shape), data.noise_mm)

    def to_manifest(self) -> ShapeVariation:
        """The form that `from_manifest` reads, in thousandths of a millimeter."""
        mean, modes = (tuple(_nested(values.round(3).tolist())) for values in (self.mean, self.modes))
        return ShapeVariation(mean, modes, round(float(self.noise), 4))

    def fit(self, points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest offset and strength of modes for some points (ridge regression).

        Args:
            points: (K, 3) mm in the model frame; NaN where the weight is 0.
            weights: (K,) how much each point counts.

        Returns:
            (K, 3) mm by which the points differ from the fitted shape, and (R,) strengths of modes.
        """
        offset = np.tile(np.eye(3), (len(self.mean), 1))
        basis = np.hstack([offset, self.modes.reshape(len(self.modes), self.mean.size).T])
        target = (np.where(weights[:, None] > 0, points, self.mean) - self.mean).ravel()
        each = np.repeat(weights, 3)
        prior = np.diag([*[1e-6] * 3, *[self.noise**2] * len(self.modes)])
        found = np.linalg.solve(basis.T @ (basis * each[:, None]) + prior, basis.T @ (each * target))
        return (target - basis @ found).reshape(-1, 3), found[3:]


def _nested(values: list) -> list:
    """Lists within a list as tuples."""
    return [tuple(_nested(value)) if isinstance(value, list) else value for value in values]


def recognition_features(found: RawPredictions, variation: Variation, calibration: Calibration) -> np.ndarray:
    """(6,) inputs of the score: a constant, three misfits of the shape, how sharp and how strong the evidence is.

    Every point counts by its probability of presence, so that the features of a part of the anatomy are much as those
    of the whole. The misfits are the spread of proportions, the mean squared error of the fitted shape in units of its
    noise, and the same with less weight for points that lie far off; the last two are logarithms.

    Args:
        found: what networks say of the scan.
        variation: of the anatomy.
        calibration: the model's.
    """
    presence = calibration.presence(found.presence_logit)
    weight = np.where(np.isfinite(found.positions).all(axis=1), presence, 0.0)
    total = max(weight.sum(), 1e-9)
    sharpness = np.clip(found.concentration, 1e-4, 1 - 1e-4)
    sharpness = np.log(sharpness / (1 - sharpness))
    strength = np.sort(np.log(np.maximum(presence, 1e-12) / np.maximum(1 - presence, 1e-12)))
    strength = np.clip(strength[-STRONGEST:], -HIGHEST_LOGIT, HIGHEST_LOGIT).mean()
    difference, modes = variation.fit(found.pose.to_model(found.positions), weight)
    squared = (difference**2).sum(axis=1) / variation.noise**2
    misfit = np.log(1e-2 + (weight @ squared + (modes**2).sum()) / max(weight.sum() - 1, 0.5))
    proportions = _spread_of_proportions(found.positions, variation.mean, weight)
    robust = weight @ np.log1p(squared) / total
    return np.array([1.0, proportions, misfit, robust, weight @ sharpness / total, strength])


def _spread_of_proportions(points: np.ndarray, mean: np.ndarray, weight: np.ndarray) -> float:
    """Median difference of pairs' distances, relative to the mean shape's, from what they have in common, the size."""
    first, second = np.triu_indices(len(weight), 1)
    usual = np.linalg.norm(mean[first] - mean[second], axis=1)
    pairs = weight[first] * weight[second] * usual
    if pairs.sum() < 1e-6:
        return NO_PROPORTIONS
    points = np.nan_to_num(points)
    seen = np.linalg.norm(points[first] - points[second], axis=1)
    ratio = np.log(np.maximum(seen, 1e-3) / np.maximum(usual, 1e-3))
    return _weighted_median(np.abs(ratio - _weighted_median(ratio, pairs)), pairs)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def recognise(found: RawPredictions, calibration: Calibration) -> RecognitionResult | None:
    """How strange a scan is among the calibration scans; one in which nothing is found is stranger than all.

    Args:
        found: what networks say of the scan.
        calibration: the model's, with weights and the scores of calibration scans; without them, the answer is None.
    """
    fitted = calibration.recognition
    if fitted is None:
        return None
    any_found = (calibration.presence(found.presence_logit) >= 0.5).any()
    features = recognition_features(found, Variation.from_manifest(fitted.shape), calibration)
    score = features @ np.array(fitted.weights) if any_found else -np.inf
    scores = np.array(fitted.scores)
    p_value = float((1 + (scores <= score).sum()) / (1 + len(scores)))
    return RecognitionResult.of(p_value, fitted.false_alarm_rate)
