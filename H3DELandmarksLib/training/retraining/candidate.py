"""The candidate of a run: weights, shape, calibration and accuracy on the held-out cases, as a model package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import date
from typing import Any

import numpy as np
from torch import Tensor

from H3DELandmarksLib import __version__
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.evaluation import Evaluation, evaluate_sets
from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.retraining.candidate_calibration import candidate_calibration, neutral_calibration
from H3DELandmarksLib.training.retraining.candidate_card import candidate_card
from H3DELandmarksLib.training.retraining.lineage import written_lineage
from H3DELandmarksLib.training.retraining.material import Material
from H3DELandmarksLib.training.retraining.record import RunRecord
from H3DELandmarksLib.training.retraining.subsets import HELD_OUT, TRAIN

PACKAGE, DRAFT = "package", ".draft"
SHAPE_FILE = "shape.safetensors"
RETRAINED = "Retrained on "
STAGE = ("name", "network", "spacing_mm", "shape", "poses", "groups", "views", "decoding")
NOT_STATED = "not stated"


def build_candidate(
    record: RunRecord, base: ModelPackage | None, weights: Sequence[Mapping[str, Tensor]], material: Material,
    device: str, ask: Callable[[], None],
) -> ModelPackage:
    """Write ``package`` in the run's folder.

    Args:
        record: of the run.
        base: model that was retrained; None for a new one.
        weights: of each stage.
        material: cases and shape.
        device: where the candidate is tried.
        ask: gives way to a wish to stop.
    """
    content = record.content
    manifest = candidate_manifest(content, base)
    names = [landmark["name"] for landmark in content["scheme"]["landmarks"]]
    files = {f"{s['name']}.safetensors": _half(tensors) for s, tensors in zip(content["plan"]["stages"], weights)}
    files[SHAPE_FILE] = {"mean": material.shape.mean, "tolerance": material.shape.tolerance}
    manifest["calibration"] = neutral_calibration(content, base, names)
    draft = write_package(record.folder / DRAFT, manifest, files, "Under construction.", replace=True)
    detector = Detector(draft, device, backend="torch")
    manifest["calibration"] = candidate_calibration(content, base, detector, material, ask)
    draft = write_package(record.folder / DRAFT, manifest, files, "Under construction.", replace=True)
    evaluation = _evaluated(Detector(draft, device, backend="torch"), material.cases(HELD_OUT), content, ask)
    manifest["accuracy"] = {} if evaluation is None else {"held-out": evaluation.to_dict()}
    card = candidate_card(manifest, content, evaluation)
    return write_package(record.folder / PACKAGE, manifest, files, card, replace=True)


def candidate_manifest(content: Mapping[str, Any], base: ModelPackage | None) -> dict[str, Any]:
    """The manifest without calibration and accuracy."""
    before = {} if base is None else deepcopy(dict(base.manifest))
    before.pop("pictures", None)
    manifest = {**_unsaid(content["model"]["id"]), **before}
    model = {k: v for k, v in content["model"].items() if k != "tolerance_mm"}
    planned = content["plan"]["stages"]
    stages = [{key: stage[key] for key in STAGE if key in stage} for stage in planned]
    for stage in stages:
        stage["weights"] = {"file": f"{stage['name']}.safetensors"}
    settings = {stage["name"]: {key: stage[key] for key in ("training", "augmentation")} for stage in planned}
    trained = before.get("training", {})
    # A later retraining begins with the base's settings, not with ever smaller rates.
    kept = {name: trained.get("stages", {}).get(name, settings[name]) for name in settings}
    return {
        **manifest, **model, "scheme": content["scheme"], "stages": stages, "shape_model": {"file": SHAPE_FILE},
        "limitations": [*(x for x in manifest["limitations"] if not x.startswith(RETRAINED)), *_limits(content)],
        "accuracy": {},
        "training": {
            **trained, "stages": kept, "date": date.today().isoformat(), "software": f"H3DELandmarksLib {__version__}",
            "lineage": _lineage(content, base, settings),
        },
    }  # fmt: skip


def _lineage(content: Mapping[str, Any], base: ModelPackage | None, settings: Mapping) -> dict[str, Any]:
    """Base and cases by hash; no path, and no other word of a user."""
    def model(entry: Mapping | None) -> dict | None:
        return None if entry is None else {key: entry[key] for key in ("id", "version", "digest")}

    named = model(content["base"])
    if base is not None and written_lineage(base.manifest):
        named["lineage"] = written_lineage(base.manifest)
    return {
        "kind": content["kind"], "base": named, "encoder_from": model(content["encoder_from"]),
        "cases": content["cases"], "notes": content["notes"], "settings": settings,
        "software": f"H3DELandmarksLib {__version__}", "date": date.today().isoformat(),
    }  # fmt: skip


def _unsaid(model_id: str) -> dict[str, Any]:
    """What nobody has said about a new model."""
    return {
        "schema_version": 1, "title": model_id, "description": "Trained on cases of a user's own.",
        "modality": NOT_STATED, "anatomy": NOT_STATED,
        "intended_use": "Research; results are to be reviewed by an expert. Not for clinical use.", "limitations": [],
        "license": {"weights": NOT_STATED, "data": NOT_STATED},
    }  # fmt: skip


def _limits(content: Mapping[str, Any]) -> list[str]:
    count = sum(row["subset"] == TRAIN for row in content["cases"])
    return [f"{RETRAINED}{count} corrected cases, with no other quality control than that of the people who corrected "
            "them.", *(f"{RETRAINED}few cases: {note}" for note in content["notes"])]


def _half(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Half precision halves the download; single precision is restored on loading."""
    return {k: v.half().numpy() if v.is_floating_point() else v.numpy() for k, v in tensors.items()}


def _evaluated(
    detector: Detector, cases: Sequence[Case], content: Mapping[str, Any], ask: Callable[[], None]
) -> Evaluation | None:
    predictions = {}
    for case in cases:
        ask()
        predictions[case.name] = detector.detect(case.volume, progress=lambda fraction, message: ask())
    if not cases:
        return None
    tolerance = detector.calibration.tolerance_mm
    thresholds = [round(share * tolerance, 3) for share in (0.5, 1, 1.5, 2)]
    return evaluate_sets(predictions, {case.name: case.landmarks for case in cases}, thresholds)
