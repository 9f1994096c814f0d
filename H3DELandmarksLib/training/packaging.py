"""From trained stages to a model package: weights, calibration, accuracy on test cases, model card."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
from torch import Tensor

from H3DELandmarksLib import __version__
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.evaluation import Evaluation, evaluate_sets
from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.shape_model import ShapeModel
from H3DELandmarksLib.training.calibration import fit_calibration, gather_evidence, truncated_case
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.configuration import Configuration
from H3DELandmarksLib.training.model_card import model_card

logger = logging.getLogger(__name__)
SHAPE_FILE = "shape.safetensors"
DESCRIPTION = (
    "id", "version", "title", "description", "modality", "anatomy", "intended_use", "limitations", "license",
    "intensity", "outside", "max_spacing_mm",
)
STAGE = ("name", "network", "spacing_mm", "shape", "poses", "groups", "views", "decoding")


def build_package(
    folder: Path,
    configuration: Configuration,
    stages: Sequence[Mapping[str, Tensor]],
    shape: ShapeModel,
    validation: Sequence[Case],
    test: Sequence[Case],
) -> ModelPackage:
    """Write the package of a trained model; an older package in `folder` is replaced.

    Args:
        folder: the package's folder.
        configuration: what was trained.
        stages: weights of each stage.
        shape: mean shape of the training cases.
        validation: cases for the calibration.
        test: cases for the accuracy, used for nothing else.
    """
    manifest = base_manifest(configuration)
    weights = {
        f"{stage['name']}.safetensors": {name: _stored(value) for name, value in tensors.items()}
        for stage, tensors in zip(manifest["stages"], stages)
    }
    weights[SHAPE_FILE] = {"mean": shape.mean, "tolerance": shape.tolerance}
    tolerance = configuration.values["tolerance_mm"]
    neutral = Calibration(1.0, 0.0, np.zeros(4), tolerance, np.zeros(len(configuration.scheme)))
    manifest["calibration"] = neutral.to_manifest()
    package = write_package(folder, manifest, weights, "Under construction.", replace=True)
    calibration = _calibrate(package, validation, tolerance)
    manifest["calibration"] = calibration.to_manifest()
    package = write_package(folder, manifest, weights, "Under construction.", replace=True)
    evaluation = _evaluate(package, test, configuration.values.get("thresholds_mm", [2, 2.5, 3, 4]))
    manifest["accuracy"] = {"test": evaluation.to_dict()}
    return write_package(folder, manifest, weights, model_card(manifest, evaluation), replace=True)


def base_manifest(configuration: Configuration) -> dict:
    """The manifest as far as the configuration determines it."""
    values = configuration.values
    manifest = {key: values[key] for key in DESCRIPTION if key in values}
    stages = [{key: stage[key] for key in STAGE if key in stage} for stage in values["stages"]]
    for stage in stages:
        stage["weights"] = {"file": f"{stage['name']}.safetensors"}
    split = {"split": dict(configuration.split())} if "split" in values["data"] else {}
    training = {
        "data": {key: value for key, value in values["data"].items() if key != "folder"} | split,
        "stages": {stage["name"]: {k: stage[k] for k in ("training", "augmentation")} for stage in values["stages"]},
        "date": date.today().isoformat(),
        "software": f"H3DELandmarksLib {__version__}",
        **{key: values[key] for key in ("start_from",) if key in values},
    }
    return manifest | {
        "schema_version": 1,
        "scheme": configuration.scheme.to_dict(),
        "stages": stages,
        "shape_model": {"file": SHAPE_FILE},
        "training": training,
        "accuracy": {},
    }


def _stored(value: Tensor) -> np.ndarray:
    """Half precision halves the download; single precision is restored on loading."""
    return value.half().numpy() if value.is_floating_point() else value.numpy()


def _calibrate(package: ModelPackage, cases: Sequence[Case], tolerance_mm: float) -> Calibration:
    """Findings in the validation scans, whole and with one end cut off."""
    rng = np.random.default_rng(0)
    cases = [*cases, *(truncated_case(case, rng) for case in cases)]
    detector = Detector(package)
    findings = [detector.findings(case.volume) for case in cases]
    return fit_calibration(gather_evidence(findings, cases, detector.shape), tolerance_mm)


def _evaluate(package: ModelPackage, cases: Sequence[Case], thresholds: Sequence[float]) -> Evaluation:
    detector = Detector(package)
    predictions = {case.name: detector.detect(case.volume) for case in cases}
    return evaluate_sets(predictions, {case.name: case.landmarks for case in cases}, thresholds)
