"""The candidate of a run: weights, shape, calibration and accuracy on the held-out cases, as a model package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
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
from H3DELandmarksLib.formats.run import RunRecord
from H3DELandmarksLib.models import ModelPackage, write_package
from H3DELandmarksLib.retraining.cases import CorrectedCase
from H3DELandmarksLib.retraining.fine_tuning import ENOUGH_TO_CALIBRATE
from H3DELandmarksLib.retraining.plan import HELD_OUT, TRAIN, VALIDATION, written_lineage
from H3DELandmarksLib.training.calibration import Evidence, fit_calibration, gather_evidence, radii, truncated_case
from H3DELandmarksLib.training.cases import Case, TrainingCase, prepare_case


class Material:
    """Cases with their images, read once.

    Attributes:
        shape: mean shape of the candidate.
    """

    def __init__(
        self, content: Mapping, cases: Sequence[CorrectedCase], shape: ShapeModel, ask: Callable[[], None]
    ) -> None:
        """Take a record's content, its cases in the same order, and what gives way to a wish to stop."""
        self.shape = shape
        self._content, self._cases, self._ask = content, cases, ask
        self._flat = content["plan"]["stages"][0]["shape"][2] == 1

    def cases(self, subset: str) -> list[Case]:
        """Cases of a subset."""
        rows = self._content["cases"]
        return [case for case, row in zip(self._loaded, rows) if row["subset"] == subset]

    def prepared(self, subset: str) -> list[TrainingCase]:
        """Cases of a subset, ready for drawing crops from."""
        model, own_frame = self._content["model"], self._content["own_frame"]
        return [prepare_case(case, model, self.shape, own_frame) for case in self.cases(subset)]

    def for_curve(self) -> list[TrainingCase]:
        """Cases that the curve is measured on: apart from training as far as there are enough."""
        for subset in (VALIDATION, HELD_OUT):
            if self.cases(subset):
                return self.prepared(subset)
        return self.prepared(TRAIN)

    @cached_property
    def _loaded(self) -> list[Case]:
        loaded = []
        for case in self._cases:
            self._ask()
            loaded.append(case.load())
            if is_radiograph(loaded[-1].volume) != self._flat:
                reads = "radiographs" if self._flat else "volumes"
                raise InputError(
                    f"The model reads {reads}, and the case '{case.id}' is none: keep such cases in a "
                    "project of their own."
                )
        return loaded


def candidate_card(manifest: Mapping[str, Any], content: Mapping[str, Any], evaluation: Evaluation | None) -> str:
    """Markdown text.

    Args:
        manifest: of the candidate.
        content: of the run's record.
        evaluation: on held-out cases; None where there are none.
    """
    sections = [
        f"# {manifest['title']}\n\n{manifest['description']}\n\n**Not for clinical use.**",
        f"## Use\n\n{manifest['intended_use']}\n\nLimits:\n\n" + "\n".join(f"- {x}" for x in manifest["limitations"]),
        _origin(content),
        _accuracy(evaluation),
        _landmarks(manifest),
        f"## Licenses\n\nWeights: {manifest['license']['weights']}\n\nData of the base: {manifest['license']['data']}; "
        "the corrected cases belong to whoever keeps them.",
        f"Trained {manifest['training']['date']} with {manifest['training']['software']}.",
    ]
    return "\n\n".join(sections) + "\n"


def _origin(content: Mapping[str, Any]) -> str:
    base, donor = content["base"], content["encoder_from"]
    start = "Started from random weights."
    if base is not None:
        start = f"Retrained from {base['id']} {base['version']} (SHA-256 {base['digest']})."
    elif donor is not None:
        start = (
            f"The layers that read the image are those of {donor['id']} {donor['version']} (SHA-256 "
            f"{donor['digest']}); all others started from random weights."
        )
    rows = [f"| {row['id']} | {row['revision']} | {row['subset']} | {row['sha256']} |" for row in content["cases"]]
    subsets = [row["subset"] for row in content["cases"]]
    counts = ", ".join(f"{subsets.count(subset)} {subset}" for subset in (TRAIN, VALIDATION, HELD_OUT))
    notes = "".join(f"\n\n{note}" for note in content["notes"])
    table = "\n".join(["| case | review | subset | SHA-256 of the voxels |", "|---|---|---|---|", *rows])
    return f"## Origin\n\n{start}\n\nCorrected cases: {counts}.{notes}\n\n{table}"


def _accuracy(evaluation: Evaluation | None) -> str:
    title = "## Accuracy on the held-out cases"
    if evaluation is None:
        return f"{title}\n\nNo case was held out: measure on other cases how good this model is."
    table = f"```text\n{evaluation.text()}\n```"
    return f"{title}\n\nMillimeters; training and calibration never saw these cases.\n\n{table}"


def _landmarks(manifest: Mapping[str, Any]) -> str:
    lines = ["## Landmarks", "", "| name | definition | radius that holds 90 % of errors, mm |", "|---|---|---|"]
    for landmark, radius in zip(manifest["scheme"]["landmarks"], manifest["calibration"]["radius90_mm"]):
        lines.append(f"| {landmark['name']} | {landmark['definition']} | {radius:.2f} |")
    return "\n".join(lines)


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
    content: Mapping[str, Any],
    base: ModelPackage | None,
    detector: Detector,
    material: Material,
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


PACKAGE, DRAFT = "package", ".draft"
SHAPE_FILE = "shape.safetensors"
RETRAINED = "Retrained on "
STAGE = ("name", "network", "spacing_mm", "shape", "poses", "groups", "views", "decoding")
NOT_STATED = "not stated"


def build_candidate(
    record: RunRecord,
    base: ModelPackage | None,
    weights: Sequence[Mapping[str, Tensor]],
    material: Material,
    device: str,
    ask: Callable[[], None],
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
        **manifest,
        **model,
        "scheme": content["scheme"],
        "stages": stages,
        "shape_model": {"file": SHAPE_FILE},
        "limitations": [*(x for x in manifest["limitations"] if not x.startswith(RETRAINED)), *_limits(content)],
        "accuracy": {},
        "training": {
            **trained,
            "stages": kept,
            "date": date.today().isoformat(),
            "software": f"H3DELandmarksLib {__version__}",
            "lineage": _lineage(content, base, settings),
        },
    }


def _lineage(content: Mapping[str, Any], base: ModelPackage | None, settings: Mapping) -> dict[str, Any]:
    """Base and cases by hash; no path, and no other word of a user."""

    def model(entry: Mapping | None) -> dict | None:
        return None if entry is None else {key: entry[key] for key in ("id", "version", "digest")}

    named = model(content["base"])
    if base is not None and written_lineage(base.manifest):
        named["lineage"] = written_lineage(base.manifest)
    return {
        "kind": content["kind"],
        "base": named,
        "encoder_from": model(content["encoder_from"]),
        "cases": content["cases"],
        "notes": content["notes"],
        "settings": settings,
        "software": f"H3DELandmarksLib {__version__}",
        "date": date.today().isoformat(),
    }


def _unsaid(model_id: str) -> dict[str, Any]:
    """What nobody has said about a new model."""
    return {
        "schema_version": 1,
        "title": model_id,
        "description": "Trained on cases of a user's own.",
        "modality": NOT_STATED,
        "anatomy": NOT_STATED,
        "intended_use": "Research; results are to be reviewed by an expert. Not for clinical use.",
        "limitations": [],
        "license": {"weights": NOT_STATED, "data": NOT_STATED},
    }


def _limits(content: Mapping[str, Any]) -> list[str]:
    count = sum(row["subset"] == TRAIN for row in content["cases"])
    return [
        f"{RETRAINED}{count} corrected cases, with no other quality control than that of the people who corrected "
        "them.",
        *(f"{RETRAINED}few cases: {note}" for note in content["notes"]),
    ]


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
