"""Fitting a calibration to what a detector finds in validation cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from H3DELandmarksLib.detection.calibration import Calibration, confidence_features
from H3DELandmarksLib.detection.stage import Findings
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.geometry import Volume
from H3DELandmarksLib.landmarks import LandmarkSet
from H3DELandmarksLib.shape_model import ShapeModel
from H3DELandmarksLib.training.cases import Case

SHRINKAGE = 5.0
TRUNCATED = "-truncated"


def truncated_case(case: Case, rng: np.random.Generator) -> Case:
    """The case with one end of its scan cut off, so that 20 to 60 % of the landmarks are outside and thus absent."""
    index = case.volume.grid.ijk_from_lps(case.landmarks.positions)
    axes = np.flatnonzero(np.array(case.volume.array.shape) > 1)
    axis, upper = axes[rng.integers(len(axes))], rng.random() < 0.5
    kept = rng.uniform(0.4, 0.8)
    size = case.volume.array.shape[axis]
    places = index[case.landmarks.present, axis] if case.landmarks.present.any() else np.arange(size)
    border = int(round(np.quantile(places, kept if upper else 1 - kept)))
    border = int(np.clip(border, 16, size - 16))
    part = slice(0, border) if upper else slice(border, size)
    chosen = [slice(None)] * 3
    chosen[axis] = part
    affine = case.volume.affine.copy()
    start = np.zeros(3)
    start[axis] = part.start
    affine[:3, 3] = case.volume.grid.lps_from_ijk(start)
    volume = Volume(case.volume.array[tuple(chosen)], affine)
    presence = np.where(volume.grid.contains(case.landmarks.positions), case.landmarks.presence, 0.0)
    presence = np.where(case.landmarks.unknown, np.nan, presence)
    landmarks = LandmarkSet(case.landmarks.names, case.landmarks.positions, presence)
    return Case(f"{case.name}{TRUNCATED}", volume, landmarks)


@dataclass(frozen=True)
class Evidence:
    """Findings beside the truth, one row per case and one column per landmark.

    Attributes:
        logit, concentration, residual: what the calibration reads.
        error: mm between found and true position, NaN where the landmark is absent or unknown.
        present: truth, 1 or 0, NaN unknown.
        truncated: (N,) whether the scan was cut off on purpose; such scans teach presence, but not the usual error.
    """

    logit: np.ndarray
    concentration: np.ndarray
    residual: np.ndarray
    error: np.ndarray
    present: np.ndarray
    truncated: np.ndarray


def gather_evidence(findings: Sequence[Findings], cases: Sequence[Case], shape: ShapeModel) -> Evidence:
    """Stack findings and truths of several cases."""
    truths = [case.landmarks for case in cases]
    residual = [np.linalg.norm(f.pose.to_lps(shape.mean) - f.positions, axis=1) / shape.tolerance for f in findings]
    error = [np.linalg.norm(f.positions - t.positions, axis=1) for f, t in zip(findings, truths)]
    return Evidence(
        np.stack([f.presence_logit for f in findings]),
        np.stack([f.concentration for f in findings]),
        np.stack(residual),
        np.stack(error),
        np.stack([np.where(t.unknown, np.nan, t.present.astype(float)) for t in truths]),
        np.array([case.name.endswith(TRUNCATED) for case in cases]),
    )


def fit_calibration(evidence: Evidence, tolerance_mm: float) -> Calibration:
    """Platt scaling of presence, logistic regression of "within tolerance", and radii that hold 90 % of errors.

    Args:
        evidence: validation cases.
        tolerance_mm: error up to which a position counts as right.
    """
    known = ~np.isnan(evidence.present)
    scale, bias = _fit_presence(evidence.logit[known], evidence.present[known])
    features = confidence_features(evidence.concentration, evidence.logit, evidence.residual)[known]
    with np.errstate(invalid="ignore"):
        right = (evidence.error <= tolerance_mm)[known]
    weights = _logistic_regression(features, right)
    found = scale * np.nan_to_num(evidence.logit, neginf=-1e3) + bias >= 0
    whole = ~evidence.truncated[:, None]
    return Calibration(scale, bias, weights, tolerance_mm, radii(np.where(found & whole, evidence.error, np.nan)))


def radii(error: np.ndarray, share: float = 0.9) -> np.ndarray:
    """(K,) mm that hold a share of errors: a conformal quantile of errors relative to each landmark's usual error.

    The usual error of a landmark is its mean, drawn towards the mean of all by `SHRINKAGE` extra cases, as few cases
    speak for each landmark (normalized split conformal prediction, Lei et al., JASA 113:1094, 2018).

    Args:
        error: (N, K) mm, NaN where nothing was found or nothing was there.

    Raises:
        InputError: nothing was found anywhere.
    """
    count = np.isfinite(error).sum(axis=0)
    if not count.any():
        raise InputError("The network finds no landmark in the validation cases: train for more steps, then package.")
    usual = (np.nansum(error, axis=0) + SHRINKAGE * np.nanmean(error)) / (count + SHRINKAGE)
    scores = (error / usual)[np.isfinite(error)]
    level = min(1.0, np.ceil((scores.size + 1) * share) / scores.size)
    return usual * np.quantile(scores, level)


def _fit_presence(logit: np.ndarray, present: np.ndarray) -> tuple[float, float]:
    features = np.stack([np.ones_like(logit), np.clip(np.nan_to_num(logit, neginf=-50.0), -50, 50)], axis=1)
    bias, scale = _logistic_regression(features, present == 1)
    return max(float(scale), 1e-3), float(bias)


def _logistic_regression(features: np.ndarray, label: np.ndarray, penalty: float = 1e-2) -> np.ndarray:
    """Weights of a ridge-penalized logistic regression; the penalty keeps separable data finite."""
    sign = np.where(label, 1.0, -1.0)

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (features @ weights)
        loss = np.logaddexp(0, -margin).mean() + penalty * weights @ weights / len(label)
        slope = -sign / (1 + np.exp(np.clip(margin, -50, 50)))
        return loss, features.T @ slope / len(label) + 2 * penalty * weights / len(label)

    return minimize(cost, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x
