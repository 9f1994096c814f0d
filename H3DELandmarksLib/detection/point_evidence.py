"""What speaks for and against a point: how a network saw it, how it fits to the others, where its scan ends."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.calibration import Calibration, confidence_features
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.recognition import Variation

# So many other points tell where a point should lie; of those without, this stands for its distance from there.
FEWEST_OTHERS, UNTOLD = 3, 2.0
# An end of the scan counts within about so many usual radii.
NEAR_RADII = 3.0
# A landmark's radius counts within so many tolerances.
USUAL_RANGE = (1e-2, 1e2)


def point_features(
    found: RawPredictions, shape: ShapeModel, calibration: Calibration, grid: Grid | None = None
) -> np.ndarray:
    """(K, 7) inputs of a point's confidence, of which the first six are those of its radius.

    A constant, how sharp the peak is, how strong, how far from the mean shape (`confidence_features`), the distance
    from where the other points have it by what is known of the anatomy's variation, how close the scan ends, and how
    well the landmark is usually found: the logarithm of its radius over the tolerance.

    Args:
        found: what networks say of the scan.
        shape: the model's mean shape.
        calibration: the model's, with the variation that its recognition has learnt.
        grid: of the scan, in the lengths of `found`; None where its ends do not matter.
    """
    residual = np.linalg.norm(found.pose.to_lps(shape.mean) - found.positions, axis=1) / shape.tolerance
    seen = confidence_features(found.concentration, found.presence_logit, residual)
    usual = np.log(np.clip(calibration.radius90 / calibration.tolerance_mm, *USUAL_RANGE))
    features: np.ndarray = np.column_stack(
        [seen, _from_others(found, calibration), _closeness(found, calibration, grid), usual]
    )
    return features


def _from_others(found: RawPredictions, calibration: Calibration) -> np.ndarray:
    """(K,) logarithm of 1 + the distance, in units of the variation's noise, from where all other points have each."""
    distance = np.full(len(found.positions), UNTOLD)
    known = np.isfinite(found.positions).all(axis=1)
    weight = np.where(known & ((presence := calibration.presence(found.presence_logit)) >= 0.5), presence, 0.0)
    untold: np.ndarray = np.log1p(distance)
    if calibration.recognition is None or np.count_nonzero(weight) <= FEWEST_OTHERS:
        return untold
    variation = Variation.from_manifest(calibration.recognition.shape)
    points = found.pose.to_model(found.positions)
    for k in np.flatnonzero(known):
        others = np.where(np.arange(len(weight)) == k, 0.0, weight)
        expected = variation.mean[k] - variation.fit(points, others)[0][k]
        distance[k] = np.linalg.norm(points[k] - expected) / variation.noise
    told: np.ndarray = np.log1p(distance)
    return told


def _closeness(found: RawPredictions, calibration: Calibration, grid: Grid | None) -> np.ndarray:
    """(K,) from 0 to 1: how close to each point the scan ends; its thickness does not count where it is one slice."""
    if grid is None:
        return np.zeros(len(found.positions))
    nearest = grid.depth(found.positions)
    reach = NEAR_RADII * max(float(np.median(calibration.radius90)), 1e-6)
    closeness: np.ndarray = np.exp(-np.maximum(np.nan_to_num(nearest), 0.0) / reach)
    return closeness
