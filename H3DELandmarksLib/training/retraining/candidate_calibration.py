"""The calibration of a candidate: learnt again where there are cases for it, else the base's with careful radii."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.training.calibration import Evidence, fit_calibration, gather_evidence, truncated_case
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conformal import radii
from H3DELandmarksLib.training.retraining.fine_tuning import ENOUGH_TO_CALIBRATE
from H3DELandmarksLib.training.retraining.material import Material
from H3DELandmarksLib.training.retraining.subsets import TRAIN, VALIDATION

# Errors on cases that the network learnt from are too small; this makes up for it, by guess.
SEEN_BEFORE = 1.5
MOST_TRAINING_CASES = 4


def neutral_calibration(content: Mapping[str, Any], base: ModelPackage | None, names: Sequence[str]) -> dict[str, Any]:
    """What a draft is tried with: the base's calibration, its radii by name, the usual one for new landmarks."""
    if base is None:
        return Calibration(1.0, 0.0, np.zeros(4), content["model"]["tolerance_mm"], np.zeros(len(names))).to_manifest()
    calibration = deepcopy(base.manifest["calibration"])
    before = dict(zip(base.scheme.names, calibration["radius90_mm"]))
    usual = float(np.median(calibration["radius90_mm"]))
    known = content["plan"]["base_names"]
    calibration["radius90_mm"] = [before.get(known.get(name, ""), usual) for name in names]
    return calibration


def candidate_calibration(
    content: Mapping[str, Any], base: ModelPackage | None, detector: Detector, material: Material,
    ask: Callable[[], None],
) -> dict[str, Any]:
    """A manifest's ``calibration``.

    With enough validation cases it is learnt from them as for any model. With fewer, presence and confidence stay those
    of the base, and radii are the larger of the base's and those that validation cases, or in want of them some
    training cases with an allowance, ask for. A new model has no base, and takes what there is.
    """
    validation = material.cases(VALIDATION)
    subset = VALIDATION if validation else TRAIN
    cases = validation or material.cases(TRAIN)[:MOST_TRAINING_CASES]
    allowance = 1.0 if validation else SEEN_BEFORE
    before = {} if base is None else neutral_calibration(content, base, detector.scheme.names)
    if len(validation) >= ENOUGH_TO_CALIBRATE or base is None:
        return {**before, **_learnt(detector, cases, allowance, ask), "cases": {"subset": subset, "scans": len(cases)}}
    evidence = _evidence(detector, cases, ask)
    found = detector.calibration.presence(evidence.logit) >= 0.5
    error = np.where(found, evidence.error, np.nan)
    if np.isfinite(error).any():
        before["radius90_mm"] = np.maximum(before["radius90_mm"], allowance * radii(error)).tolist()
    before["cases"] = {"kept_from": f"{base.id} {base.version}", "radii_checked_on": subset, "scans": len(cases)}
    return before


def _learnt(detector: Detector, cases: Sequence[Case], allowance: float, ask: Callable[[], None]) -> dict[str, Any]:
    """A calibration from cases, whole and with one end cut off."""
    rng = np.random.default_rng(0)
    evidence = _evidence(detector, [*cases, *(truncated_case(case, rng) for case in cases)], ask)
    calibration = fit_calibration(evidence, detector.calibration.tolerance_mm).to_manifest()
    calibration["radius90_mm"] = [allowance * radius for radius in calibration["radius90_mm"]]
    return calibration


def _evidence(detector: Detector, cases: Sequence[Case], ask: Callable[[], None]) -> Evidence:
    findings = []
    for case in cases:
        ask()
        findings.append(detector.findings(case.volume, progress=lambda fraction, message: ask()))
    return gather_evidence(findings, cases, detector.shape)
