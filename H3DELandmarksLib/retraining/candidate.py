"""The candidate of a run: weights, shape, calibration and accuracy on the held-out cases, as a model package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.image_plane import is_radiograph
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.evaluation import Evaluation, evaluate_sets
from H3DELandmarksLib.evaluation.readers import human_floor
from H3DELandmarksLib.formats.comparison import HumanFloor, floor_entry
from H3DELandmarksLib.formats.lineage import Lineage, UsedCase, lineage_of
from H3DELandmarksLib.formats.manifest import (
    NOT_STATED,
    UNKNOWN_SHA256,
    CalibrationData,
    License,
    Manifest,
    ModelDescription,
    Stage,
    WeightsFile,
)
from H3DELandmarksLib.formats.reading import to_plain
from H3DELandmarksLib.formats.run import HELD_OUT, TRAIN, VALIDATION, RunFolder, RunRecord
from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.models.card import model_card
from H3DELandmarksLib.models.package import SHAPE_FILE
from H3DELandmarksLib.retraining.cases import CorrectedCase
from H3DELandmarksLib.retraining.fine_tuning import ENOUGH_TO_CALIBRATE
from H3DELandmarksLib.training.calibration import Evidence, fit_calibration, gather_evidence, radii, truncated_case
from H3DELandmarksLib.training.cases import Case, TrainingCase, VolumeStore, prepare_case
from H3DELandmarksLib.training.loop import half_precision
from H3DELandmarksLib.training.recognition import learn_recognition

# Errors on cases that the network learnt from are too small; this makes up for it, by guess.
SEEN_BEFORE = 1.5
MAX_TRAINING_CASES = 4
# Validation cases from which recognition is learnt: each is looked at in many ways.
MAX_RECOGNISED = 6
DRAFT = ".draft"
# What the card of a retrained model says begins so.
RETRAINED = "Retrained on "


class RunDataset:
    """Cases with their images, read once.

    Attributes:
        shape: mean shape of the candidate.
    """

    def __init__(
        self, run: RunFolder, cases: Sequence[CorrectedCase], shape: ShapeModel, check_cancelled: Callable[[], None]
    ) -> None:
        """Take a run, its cases in the same order, and what gives way to a wish to stop."""
        self.shape = shape
        self._record = run.record
        self._folder = run.folder
        self._cases = cases
        self._check_cancelled = check_cancelled

    def cases(self, subset: str) -> list[Case]:
        """Cases of a subset."""
        return [case for case, row in zip(self._loaded, self._record.cases) if row.subset == subset]

    def prepared(self, subset: str) -> list[TrainingCase]:
        """Cases of a subset, ready for drawing crops from."""
        model, canonical_pose = self._record.model, self._record.sees_canonical_pose
        return [prepare_case(case, model, self.shape, canonical_pose) for case in self.cases(subset)]

    def for_curve(self) -> list[TrainingCase]:
        """Cases that the curve is measured on: apart from training as far as there are enough."""
        for subset in (VALIDATION, HELD_OUT):
            if self.cases(subset):
                return self.prepared(subset)
        return self.prepared(TRAIN)

    @cached_property
    def _loaded(self) -> list[Case]:
        loaded, store = [], VolumeStore(self._folder)
        for case in self._cases:
            self._check_cancelled()
            read = case.load().counted_as_high(self._record.model.height_mm)
            loaded.append(replace(read, volume=store.kept(read.volume)))
            if is_radiograph(loaded[-1].volume) != self._record.is_2d:
                reads = "radiographs" if self._record.is_2d else "volumes"
                raise InputError(
                    f"The model reads {reads}, and the case '{case.id}' is none: keep such cases in another folder."
                )
        return loaded


def neutral_calibration(record: RunRecord, base: ModelPackage | None) -> CalibrationData:
    """What a draft is tried with: the base's calibration, its radii by name, the usual one for new landmarks."""
    if base is None:
        tolerance = record.model.tolerance_mm
        assert tolerance is not None, "a new model has one"
        return Calibration.neutral(len(record.scheme), tolerance).to_manifest()
    calibration = base.manifest.calibration
    before = dict(zip(base.scheme.names, calibration.radius90_mm))
    usual = float(np.median(calibration.radius90_mm))
    known = record.plan.base_names
    return replace(
        calibration, radius90_mm=tuple(before.get(known.get(name, ""), usual) for name in record.scheme.names)
    )


def candidate_calibration(
    record: RunRecord,
    base: ModelPackage | None,
    detector: Detector,
    dataset: RunDataset,
    check_cancelled: Callable[[], None],
) -> CalibrationData:
    """The candidate's calibration.

    With enough validation cases it is learnt from them as for any model. With fewer, presence, confidence and what
    tells the anatomy from others stay those of the base, and radii are the larger of the base's and those that
    validation cases, or in want of them some training cases with an allowance, ask for. A new model has no base, and
    takes what there is.
    """
    validation = dataset.cases(VALIDATION)
    subset = VALIDATION if validation else TRAIN
    cases = validation or dataset.cases(TRAIN)[:MAX_TRAINING_CASES]
    allowance = 1.0 if validation else SEEN_BEFORE
    if len(validation) >= ENOUGH_TO_CALIBRATE or base is None:
        learnt = _learnt(detector, cases, allowance, check_cancelled)
        recognition = None if base is None else base.manifest.calibration.recognition
        if validation:
            known = Calibration.from_manifest(learnt)
            recognition = learn_recognition(detector, known, validation[:MAX_RECOGNISED], check_cancelled)
        return replace(learnt, recognition=recognition, cases={"subset": subset, "scans": len(cases)})
    before = neutral_calibration(record, base)
    evidence = _evidence(detector, cases, check_cancelled)
    found = detector.calibration.presence(evidence.logit) >= 0.5
    error = np.where(found, evidence.error, np.nan)
    radius = np.array(before.radius90_mm)
    if np.isfinite(error).any():
        radius = np.maximum(radius, allowance * radii(error))
    told = {"kept_from": f"{base.id} {base.version}", "radii_checked_on": subset, "scans": len(cases)}
    return replace(before, radius90_mm=tuple(radius.tolist()), cases=told)


def _learnt(
    detector: Detector, cases: Sequence[Case], allowance: float, check_cancelled: Callable[[], None]
) -> CalibrationData:
    """A calibration from cases, whole and with one end cut off."""
    rng = np.random.default_rng(0)
    evidence = _evidence(detector, [*cases, *(truncated_case(case, rng) for case in cases)], check_cancelled)
    fitted = fit_calibration(evidence, detector.calibration.tolerance_mm)
    return replace(fitted, radius90=allowance * fitted.radius90).to_manifest()


def _evidence(detector: Detector, cases: Sequence[Case], check_cancelled: Callable[[], None]) -> Evidence:
    predictions = []
    for case in cases:
        check_cancelled()
        found = detector.findings(case.volume, progress=lambda fraction, message: check_cancelled())
        predictions.append(detector.placed(found))
    return gather_evidence(predictions, cases, detector.shape)


def build_candidate(
    run: RunFolder,
    base: ModelPackage | None,
    weights: Sequence[Mapping[str, Tensor]],
    dataset: RunDataset,
    device: str,
    check_cancelled: Callable[[], None],
) -> ModelPackage:
    """Write ``package`` in the run's folder.

    Args:
        run: what was decided, and where it is kept.
        base: model that was retrained; None for a new one.
        weights: of each stage.
        dataset: cases and shape.
        device: where the candidate is tried.
        check_cancelled: gives way to a wish to stop.
    """
    record, draft_folder = run.record, run.folder / DRAFT
    manifest = candidate_manifest(record, base)
    files: dict[str, Mapping[str, Any]] = {
        stage.weights.file: half_precision(tensors) for stage, tensors in zip(manifest.stages, weights)
    }
    files[SHAPE_FILE] = {"mean": dataset.shape.mean, "tolerance": dataset.shape.tolerance}
    anatomy = None if base is None or base.scheme.names != record.scheme.names else base.load_anatomy()
    if anatomy is not None:
        files[SHAPE_FILE] = {**files[SHAPE_FILE], **anatomy.to_arrays()}
    draft = write_package(draft_folder, manifest, files, "Under construction.", replace=True)
    detector = Detector(draft, device)
    calibration = candidate_calibration(record, base, detector, dataset, check_cancelled)
    manifest = replace(manifest, calibration=calibration)
    draft = write_package(draft_folder, manifest, files, "Under construction.", replace=True)
    measured = _evaluated(Detector(draft, device), dataset.cases(HELD_OUT), check_cancelled)
    evaluation, floor = measured or (None, None)
    if evaluation is not None:
        manifest = replace(manifest, accuracy={HELD_OUT: {**evaluation.to_dict(), **floor_entry(floor)}})
    card = model_card(manifest, accuracy=None if evaluation is None else evaluation.text(), measured_on=HELD_OUT)
    return write_package(run.package_folder, manifest, files, card, replace=True)


def candidate_manifest(record: RunRecord, base: ModelPackage | None) -> Manifest:
    """The manifest without accuracy, with the calibration that the candidate is tried with."""
    before = None if base is None else base.manifest
    description = (
        {entry.name: getattr(before, entry.name) for entry in fields(ModelDescription)}
        if before
        else {
            "title": record.model.id,
            "description": "Trained on cases of a user's own.",
            "modality": NOT_STATED,
            "anatomy": NOT_STATED,
            "intended_use": "Research; results are to be reviewed by an expert. Not for clinical use.",
            "license": License(NOT_STATED, NOT_STATED),
        }
    )
    description |= {
        name: getattr(record.model, name)
        for name in ("id", "version", "intensity", "outside", "max_spacing_mm", "height_mm")
    }
    limits = [limit for limit in before.limitations if not limit.startswith(RETRAINED)] if before else []
    limits.append(
        f"{RETRAINED}{record.counts[TRAIN]} corrected cases, with no other quality control than that of the people who "
        "corrected them."
    )
    description["limitations"] = (*limits, *(f"{RETRAINED}the cases: {note}" for note in record.notes))
    trained = {} if before is None else before.training
    settings = {stage.name: to_plain(stage.settings) for stage in record.plan.stages}
    # A later retraining begins with the base's settings, not with ever smaller rates.
    kept = {name: trained.get("stages", {}).get(name, settings[name]) for name in settings}
    made = {"date": date.today().isoformat(), "software": f"H3DELandmarksLib {__version__}"}
    return Manifest(
        **description,
        scheme=record.scheme,
        stages=tuple(
            Stage(**stage.design, weights=WeightsFile(f"{stage.name}.safetensors", UNKNOWN_SHA256))
            for stage in record.plan.stages
        ),
        shape_model=WeightsFile(SHAPE_FILE, UNKNOWN_SHA256),
        calibration=neutral_calibration(record, base),
        training={**trained, "stages": kept, **made, "lineage": to_plain(_lineage(record, before, settings, made))},
        accuracy={},
    )


def _lineage(record: RunRecord, base: Manifest | None, settings: dict[str, Any], made: Mapping[str, str]) -> Lineage:
    """Base and cases by hash; no path, and no other word of a user."""
    reference = None if record.base is None else record.base.reference
    if reference is not None and base is not None:
        reference = replace(reference, lineage=lineage_of(base))
    return replace(
        record.lineage,
        base=reference,
        cases=tuple(UsedCase(case.sha256, case.revision, case.subset, case.id) for case in record.cases),
        kind=record.kind,
        notes=record.notes,
        settings=settings,
        software=made["software"],
        date=made["date"],
    )


def _evaluated(
    detector: Detector, cases: Sequence[Case], check_cancelled: Callable[[], None]
) -> tuple[Evaluation, HumanFloor | None] | None:
    predictions = {}
    for case in cases:
        check_cancelled()
        predictions[case.name] = detector.detect(case.volume, progress=lambda fraction, message: check_cancelled())
    if not cases:
        return None
    tolerance = detector.calibration.tolerance_mm
    thresholds = [round(share * tolerance, 3) for share in (0.5, 1, 1.5, 2)]
    evaluation = evaluate_sets(predictions, {case.name: case.landmarks for case in cases}, thresholds)
    return evaluation, human_floor([predictions[case.name] for case in cases], [case.readers for case in cases])
