"""Whether a scan looks like those that a model knows, judged by all points found in it together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.core.statements import Recognition
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.formats.manifest import RecognitionCalibration

# What the two features of the shape are where no two points can be compared: about what points at random give.
NO_SHAPE = 3.0
STRONGEST = 3
HIGHEST_LOGIT = 12.0


def recognition_features(found: RawPredictions, shape: ShapeModel, calibration: Calibration) -> np.ndarray:
    """(5,) inputs of the score: a constant; two misfits of the shape; how sharp and how strong the evidence is.

    Every point counts by its probability of presence, every pair of points by the product of theirs. In a part of the
    anatomy all four are much as in the whole.

    Args:
        found: what networks say of the scan.
        shape: the model's mean shape.
        calibration: the model's.
    """
    presence = calibration.presence(found.presence_logit)
    weight = np.where(np.isfinite(found.positions).all(axis=1), presence, 0.0)
    sharpness = np.clip(found.concentration, 1e-4, 1 - 1e-4)
    sharpness = np.log(sharpness / (1 - sharpness))
    strength = np.sort(np.log(np.maximum(presence, 1e-12) / np.maximum(1 - presence, 1e-12)))
    strength = np.clip(strength[-STRONGEST:], -HIGHEST_LOGIT, HIGHEST_LOGIT).mean()
    return np.array([1.0, *_misfits(found, shape, weight), weight @ sharpness / max(weight.sum(), 1e-9), strength])


def _misfits(found: RawPredictions, shape: ShapeModel, weight: np.ndarray) -> tuple[float, float]:
    """How distances between points differ from the mean shape's in proportion, and vectors in tolerances; medians."""
    first, second = np.triu_indices(len(weight), 1)
    pairs = weight[first] * weight[second]
    if pairs.sum() < 1e-6:
        return NO_SHAPE, NO_SHAPE
    points, expected = np.nan_to_num(found.positions), found.pose.to_lps(shape.mean)
    seen, usual = points[first] - points[second], expected[first] - expected[second]
    length = np.linalg.norm(usual, axis=1)
    ratio = np.log(np.maximum(np.linalg.norm(seen, axis=1), 1e-3) / np.maximum(length, 1e-3))
    size = _weighted_median(ratio, pairs * length)
    proportion = _weighted_median(np.abs(ratio - size), pairs * length)
    tolerance = np.hypot(shape.tolerance[first], shape.tolerance[second])
    vector = _weighted_median(np.linalg.norm(seen - usual, axis=1) / tolerance, pairs)
    return proportion, float(np.log1p(vector))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


@dataclass(frozen=True)
class Recognizer:
    """Tells scans of a model's anatomy from others.

    Attributes:
        fitted: weights, and the scores of calibration scans.
        shape, calibration: the model's.
    """

    fitted: RecognitionCalibration
    shape: ShapeModel
    calibration: Calibration

    def judge(self, found: RawPredictions) -> Recognition:
        """How strange a scan is among the calibration scans; one in which nothing is found is stranger than all."""
        features = recognition_features(found, self.shape, self.calibration)
        any_found = (self.calibration.presence(found.presence_logit) >= 0.5).any()
        score = features @ np.array(self.fitted.weights) if any_found else -np.inf
        scores = np.array(self.fitted.scores)
        return Recognition(float((1 + (scores <= score).sum()) / (1 + len(scores))), self.fitted.false_alarm_rate)
