"""From trained stages to a model package: weights, calibration, accuracy on test cases, pictures, model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.training.card_pictures import card_pictures
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.configuration import Configuration
from H3DELandmarksLib.training.evaluation import judge
from H3DELandmarksLib.training.model_card import model_card

SHAPE_FILE = "shape.safetensors"
DESCRIPTION = (
    "id",
    "version",
    "title",
    "description",
    "modality",
    "anatomy",
    "intended_use",
    "limitations",
    "license",
    "intensity",
    "outside",
    "max_spacing_mm",
)
STAGE = ("name", "network", "spacing_mm", "shape", "poses", "groups", "views", "decoding")


def build_package(
    folder: Path,
    configuration: Configuration,
    stages: Sequence[Mapping[str, Tensor]],
    shape: ShapeModel,
    calibration: Sequence[Case],
    test: Sequence[Case],
    calibrated_on: str = "validation",
) -> ModelPackage:
    """Write the package of a trained model; an older package in `folder` is replaced.

    Args:
        folder: the package's folder.
        configuration: what was trained.
        stages: weights of each stage.
        shape: mean shape of the training cases.
        calibration: cases for the calibration.
        test: cases for the accuracy, used for nothing else.
        calibrated_on: name of the calibration cases' subset, for the manifest and the card.
    """
    package = write_uncalibrated(folder, configuration, stages, shape)
    manifest = base_manifest(configuration) | {"calibration": package.manifest["calibration"]}
    return judge_package(folder, package, manifest, configuration.values, calibration, test, calibrated_on)


def write_uncalibrated(
    folder: Path, configuration: Configuration, stages: Sequence[Mapping[str, Tensor]], shape: ShapeModel
) -> ModelPackage:
    """Write a package that finds points, but whose probabilities are raw and whose radii are 0.

    Parameters as for `build_package`.
    """
    manifest = base_manifest(configuration)
    weights: dict[str, Mapping[str, np.ndarray]] = {
        f"{stage['name']}.safetensors": {name: _stored(value) for name, value in tensors.items()}
        for stage, tensors in zip(manifest["stages"], stages)
    }
    weights[SHAPE_FILE] = {"mean": shape.mean, "tolerance": shape.tolerance}
    neutral = Calibration(1.0, 0.0, np.zeros(4), configuration.values["tolerance_mm"], np.zeros(len(shape.mean)))
    manifest["calibration"] = neutral.to_manifest()
    return write_package(folder, manifest, weights, "Not calibrated: for measuring positions alone.", replace=True)


def recalibrate_package(
    folder: Path, package: ModelPackage, configuration: Configuration, cases: Mapping[str, Sequence[Case]]
) -> ModelPackage:
    """Write a package anew from its own weights, which stay as they are: calibration, accuracy, pictures and card.

    Args:
        folder: where to write; an older package there is replaced.
        package: what was trained before.
        configuration: the one that it was trained by, perhaps with other calibration cases; its version counts.
        cases: those of the calibration subset and of "test".

    Raises:
        InputError: the configuration describes another network, landmarks in another order or other stages.
    """
    old, manifest = package.manifest, base_manifest(configuration)
    if [stage["network"] for stage in old["stages"]] != [stage["network"] for stage in manifest["stages"]] or (
        package.scheme != configuration.scheme
    ):
        raise InputError(f"'{configuration.path}' is not the configuration by which '{package.path}' was trained.")
    kept = {key: old["training"][key] for key in ("date", "software") if key in old["training"]}
    manifest["training"] |= {**kept, "recalibrated": date.today().isoformat()}
    manifest |= {"stages": old["stages"], "calibration": old["calibration"]}
    subset = configuration.calibration_subset
    return judge_package(folder, package, manifest, configuration.values, cases[subset], cases["test"], subset)


def judge_package(
    folder: Path,
    package: ModelPackage,
    manifest: dict[str, Any],
    settings: Mapping[str, Any],
    calibration: Sequence[Case],
    test: Sequence[Case],
    calibrated_on: str,
) -> ModelPackage:
    """Calibrate a package's weights, measure them on test cases and write both with pictures and card.

    Args:
        folder: where to write; may be the package's own.
        package: whose weights are judged.
        manifest: what the new package says of itself, but for calibration, accuracy and pictures.
        settings: ``tolerance_mm`` and optionally ``thresholds_mm``, ``cross_conformal`` and ``show_scans``, as in a
            training configuration.
        calibration: cases for the calibration.
        test: cases for the accuracy.
        calibrated_on: name of the calibration cases' subset.
    """
    verdict = judge(Detector(package), settings, calibration, test)
    manifest["calibration"] = verdict.calibration.to_manifest()
    manifest["calibration"]["cases"] = {"subset": calibrated_on, "scans": len(calibration), "radii": verdict.radii_from}
    manifest["accuracy"] = verdict.accuracy()
    pictures = card_pictures(manifest, verdict, test, bool(settings.get("show_scans", False)))
    weights = {name: package.read(name) for name in package.weight_files}
    card = model_card(manifest, verdict.evaluation, pictures)
    files = {picture.file: picture.data for picture in pictures}
    return write_package(folder, manifest, weights, card, pictures=files, replace=True)


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
