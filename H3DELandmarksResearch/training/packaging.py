"""From trained stages to a model package: weights, calibration, accuracy on test cases, pictures, model card."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import Tensor

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.anatomy import Anatomy
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.revision import Evidence
from H3DELandmarksLib.core.rows import Row
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.core.text import first_of
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.together import counted_row, placed_together
from H3DELandmarksLib.formats.manifest import (
    NOT_STATED,
    UNKNOWN_SHA256,
    FollowingCalibration,
    License,
    Manifest,
    ModelDescription,
    Stage,
    WeightsFile,
)
from H3DELandmarksLib.formats.reading import to_plain
from H3DELandmarksLib.formats.training import recorded_cases
from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.models.package import SHAPE_FILE, anatomy_of
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.loop import half_precision
from H3DELandmarksLib.training.recognition import Sighting
from H3DELandmarksResearch.training.card import trained_card
from H3DELandmarksResearch.training.card_pictures import card_pictures
from H3DELandmarksResearch.training.configuration import Configuration
from H3DELandmarksResearch.training.cross_fitting import CROSS_FITTED, Part
from H3DELandmarksResearch.training.evaluation import evaluate_model
from H3DELandmarksResearch.training.point_calibration import Placed
from H3DELandmarksResearch.training.record import TrainingConfiguration
from H3DELandmarksResearch.training.revision import Reviewed, anatomy_without_caution, learn_following, reviewed_case

FEWEST_TO_MEASURE = 4  # cases that tell whether following corrections is worth it
logger = logging.getLogger(__name__)


def build_package(
    folder: Path,
    configuration: Configuration,
    stages: Sequence[Mapping[str, Tensor]],
    shape: ShapeModel,
    calibration: Sequence[Case],
    test: Sequence[Case],
    calibrated_on: str = "validation",
    subjects: np.ndarray | None = None,
) -> ModelPackage:
    """Write the package of a trained model; an older package in `folder` is replaced once the new one is calibrated.

    Args:
        folder: the package's folder.
        configuration: what was trained.
        stages: weights of each stage.
        shape: mean shape of the training cases.
        calibration: cases for the calibration.
        test: cases for the accuracy, used for nothing else.
        calibrated_on: name of the calibration cases' subset, for the manifest and the card.
        subjects: (N, K, 3) LPS mm of the training cases, for models whose points are placed together.
    """
    with TemporaryDirectory() as scratch:
        package, placed = write_uncalibrated(Path(scratch, "package"), configuration, stages, shape), None
        if configuration.record.joint and subjects is not None:
            package, placed = _with_anatomy(package, subjects, calibration)
        detector = Detector(package)
        parts = [Part(detector, calibration)]
        return evaluate_package(
            folder, detector, package.manifest, configuration.record, parts, test, calibrated_on, placed
        )


def write_uncalibrated(
    folder: Path, configuration: Configuration, stages: Sequence[Mapping[str, Tensor]], shape: ShapeModel
) -> ModelPackage:
    """Write a package that finds points, but whose probabilities are raw and which states no radii.

    Parameters as for `build_package`.
    """
    manifest = new_manifest(configuration)
    weights: dict[str, Mapping[str, np.ndarray]] = {
        stage.weights.file: half_precision(tensors) for stage, tensors in zip(manifest.stages, stages)
    }
    weights[SHAPE_FILE] = {"mean": shape.mean, "tolerance": shape.tolerance}
    card = "Not calibrated: for measuring positions alone. Not for clinical use."
    return write_package(folder, manifest, weights, card, replace=True)


def _with_anatomy(
    package: ModelPackage, subjects: np.ndarray, calibration: Sequence[Case]
) -> tuple[ModelPackage, Placed]:
    """The package with what it needs to place points together: how subjects vary and how its networks err.

    Also what places findings in a calibration case by what the half of them without it says of errors.
    """
    detector, tolerance = Detector(package), package.manifest.calibration.confidence.tolerance_mm
    logger.info("Learning from %d calibration cases how errors go together", len(calibration))
    found = [detector.findings(case.volume) for case in calibration]
    presence = [detector.calibration.presence(one.presence_logit) for one in found]
    row = Row.of(subjects)
    counted = found
    if row is not None:
        counted = [counted_row(one, present >= 0.5, row) for one, present in zip(found, presence)]
    seen = [
        Reviewed(Evidence(detector.landmark_set(one), one.pose, one.candidates), case.landmarks)
        for one, case in zip(counted, calibration)
    ]

    def learnt(cases: Sequence[Reviewed]) -> Anatomy:
        return replace(anatomy_without_caution(subjects, cases, tolerance), row=row)

    halves = [learnt(seen[1::2] or seen), learnt(seen[0::2])]
    others = {case.name: halves[number % 2] for number, case in enumerate(calibration)}

    def placed(one: Sighting) -> RawPredictions:
        return placed_together(one.found, detector.calibration.presence(one.found.presence_logit), others[one.subject])

    weights = {name: package.read(name) for name in package.weight_files}
    shape = {**package.load_weights(SHAPE_FILE), **learnt(seen).to_arrays()}
    files = {**weights, SHAPE_FILE: shape}
    return write_package(package.path, package.manifest, files, package.model_card(), replace=True), placed


def recalibrate_package(
    folder: Path,
    package: ModelPackage,
    configuration: Configuration,
    cases: Mapping[str, Sequence[Case]],
    folds: Sequence[Part] = (),
) -> ModelPackage:
    """Write a package anew from its own weights, which stay as they are: calibration, accuracy, pictures and card.

    Args:
        folder: where to write; an older package there is replaced.
        package: what was trained before.
        configuration: the one that it was trained by, perhaps with other calibration cases; its version counts.
        cases: those of "test", and of the calibration subset where there are no `folds`.
        folds: cases for the calibration with models that never saw them.

    Raises:
        InputError: the configuration describes another network, landmarks in another order or other stages, or asks
            for points that are placed together, which folds cannot teach; or it does not name for training what the
            package has learnt from, which so would judge it.
    """
    old, manifest = package.manifest, new_manifest(configuration)
    networks = [[stage.network for stage in each.stages] for each in (old, manifest)]
    if networks[0] != networks[1] or package.scheme != configuration.scheme:
        raise InputError(f"'{configuration.path}' is not the configuration by which '{package.path}' was trained.")
    taught = recorded_cases(old, "train")
    named = configuration.split()["train"] if taught else ()
    if lost := [name for name in taught if name not in named]:
        raise InputError(
            f"'{package.path}' has learnt from cases that '{configuration.path}' does not name for training "
            f"({first_of(lost)}): give the configuration by which it was trained."
        )
    if folds and configuration.record.joint:
        raise InputError(f"'{package.id}' places its points together: calibrate it on cases set apart, without folds.")
    kept = {key: old.training[key] for key in ("date", "software") if key in old.training}
    training = {**manifest.training, **kept, "recalibrated": date.today().isoformat()}
    manifest = replace(
        manifest, stages=old.stages, shape_model=old.shape_model, calibration=old.calibration, training=training
    )
    detector, subset = Detector(package), CROSS_FITTED if folds else configuration.calibration_subset
    parts = folds or [Part(detector, cases[subset])]
    return evaluate_package(folder, detector, manifest, configuration.record, parts, cases["test"], subset)


def evaluate_package(
    folder: Path,
    detector: Detector,
    manifest: Manifest,
    configuration: TrainingConfiguration,
    calibration: Sequence[Part],
    test: Sequence[Case],
    calibrated_on: str,
    placed: Placed | None = None,
) -> ModelPackage:
    """Calibrate a package's weights, measure them on test cases and write both with pictures and card.

    Args:
        folder: where to write; may be the package's own.
        detector: of the package whose weights are measured; gets the new calibration.
        manifest: what the new package says of itself, but for calibration, accuracy and pictures.
        configuration: says what counts as right, and whether pictures may show scans.
        calibration: cases for the calibration.
        test: cases for the accuracy.
        calibrated_on: name of the calibration cases' subset, or `CROSS_FITTED`.
        placed: as for `evaluate_model`.
    """
    package, count = detector.package, sum(len(part.cases) for part in calibration)
    measured = evaluate_model(detector, configuration, calibration, test, placed)
    fitted_to = {"subset": calibrated_on, "scans": count, "radii": measured.radii_from}
    manifest = replace(
        manifest, calibration=measured.calibration.to_manifest(fitted_to), accuracy=measured.accuracy(), pictures=()
    )
    pictures = card_pictures(manifest, measured, test, configuration.show_scans)
    weights = {name: package.read(name) for name in package.weight_files}
    card = trained_card(manifest, accuracy=measured.evaluation.text(), pictures=pictures)
    files = {picture.file: picture.data for picture in pictures}
    package = write_package(folder, manifest, weights, card, pictures=files, replace=True)
    return _with_measured_following(package, calibration) if count >= FEWEST_TO_MEASURE else package


def _with_measured_following(package: ModelPackage, calibration: Sequence[Part]) -> ModelPackage:
    """The package with what it is worth that undecided points follow corrections of calibration cases."""
    detector = Detector(package)
    logger.info("Correcting what is found in calibration cases")
    seen = [reviewed_case(detector, part.finder, case) for part in calibration for case in part.cases]
    errs = detector.anatomy is not None
    return with_following(package, learn_following(anatomy_of(package), seen, errs, package.scheme.pairs))


def with_following(package: ModelPackage, following: FollowingCalibration) -> ModelPackage:
    """Write a package anew with what following corrections was worth on calibration cases; all else stays."""
    manifest = package.manifest
    manifest = replace(manifest, calibration=replace(manifest.calibration, following=following), pictures=())
    weights, pictures = ({n: package.read(n) for n in names} for names in (package.weight_files, package.picture_files))
    return write_package(package.path, manifest, weights, package.model_card(), pictures=pictures, replace=True)


def new_manifest(configuration: Configuration) -> Manifest:
    """The manifest as far as the configuration determines it; its calibration is neutral."""
    record = configuration.record
    data = to_plain(record.data)
    data.pop("folder", None)
    if record.data.split is not None:
        data["split"] = {subset: list(names) for subset, names in configuration.split().items()}
    training = {
        "data": data,
        "stages": {stage.name: to_plain(stage.settings) for stage in record.stages},
        "date": date.today().isoformat(),
        "software": f"H3DELandmarksLib {__version__}",
        **({} if record.start_from is None else {"start_from": record.start_from}),
    }
    stages = (
        Stage(**stage.design, weights=WeightsFile(f"{stage.name}.safetensors", UNKNOWN_SHA256))
        for stage in record.stages
    )
    described = {entry.name: getattr(record, entry.name) for entry in fields(ModelDescription)}
    return Manifest(
        **{**described, "license": record.license or License(NOT_STATED, NOT_STATED)},
        scheme=configuration.scheme,
        stages=tuple(stages),
        shape_model=WeightsFile(SHAPE_FILE, UNKNOWN_SHA256),
        calibration=Calibration.neutral(len(configuration.scheme), record.tolerance_mm).to_manifest(),
        training=training,
        accuracy={},
    )
