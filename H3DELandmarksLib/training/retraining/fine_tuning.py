"""What fine-tuning of a model with a project's cases will do, decided before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.cohort import CaseProject
from H3DELandmarksLib.cohort.scheme_history import SchemeHistory
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.shape_model import ShapeModel
from H3DELandmarksLib.training.retraining.adapted_stages import adapted_stages
from H3DELandmarksLib.training.retraining.blended_shape import MOST_BASE_CASES, blended_shape
from H3DELandmarksLib.training.retraining.corrected import CorrectedCase, check_enough, newest_cases
from H3DELandmarksLib.training.retraining.lineage import known_subsets, next_version, reference
from H3DELandmarksLib.training.retraining.settings import (
    fine_tuning_settings,
    steps_for,
    steps_of_stage,
    strong_augmentation,
)
from H3DELandmarksLib.training.retraining.subsets import HELD_OUT, TRAIN, USUAL_SHARE, VALIDATION, choose_subsets

# Subjects from which a calibration can be learnt; below, that of the base stays.
ENOUGH_TO_CALIBRATE = 8
FROM_BASE = ("intensity", "outside", "max_spacing_mm")


def plan_fine_tuning(
    project: CaseProject, base: ModelPackage, steps: int | None = None, held_out: float = USUAL_SHARE
) -> dict[str, Any]:
    """Decide everything about a run, see `RunRecord`; nothing is written.

    Args:
        project: with five usable cases at least.
        base: model to start from.
        steps: of each stage, the first of several making half of them; by default a few hundred, more for more cases.
        held_out: share of the subjects that only the comparison sees.

    Raises:
        InputError: there are too few cases, or they have no landmark in common with the model.
    """
    scheme, own_frame = project.scheme, sees_own_frame(base)
    cases, left_out = newest_cases(project, own_frame)
    check_enough(cases, project)
    names = names_in_base(project.history(), base.scheme)
    if not names:
        raise InputError(f"The model '{base.id}' has no landmark of the project's scheme '{scheme.id}': choose another "
                         "base, or start a new model.")
    subsets = choose_subsets(cases, held_out, known_subsets(base.manifest))
    taught = [case for case in cases if subsets[case.id] == TRAIN]
    if not taught:
        raise InputError("All cases are held out: correct more, or hold out a smaller share.")
    shape = shape_after(base, names, scheme, taught, own_frame)
    before = base.manifest["training"].get("stages", {})
    stages = adapted_stages(base.manifest["stages"], names, scheme, shape)
    count = steps_for(len(taught), steps)
    for number, stage in enumerate(stages):
        trained, own = before.get(stage["name"], {}), steps_of_stage(number, len(stages), count)
        stage["training"] = fine_tuning_settings(trained.get("training", {}), stage, len(taught), own)
        stage["augmentation"] = strong_augmentation(trained.get("augmentation", {}), stage)
    model = {key: base.manifest[key] for key in FROM_BASE if key in base.manifest}
    return {
        "kind": "fine-tuning", **described(project, scheme, cases, subsets, left_out), "base": reference(base),
        "encoder_from": None, "model": {"id": base.id, "version": next_version(base), **model}, "own_frame": own_frame,
        "plan": {"stages": stages, "base_names": names},
    }  # fmt: skip


def described(
    project: CaseProject, scheme: LandmarkScheme, cases: Sequence[CorrectedCase], subsets: dict[str, str],
    left_out: dict[str, str],
) -> dict[str, Any]:
    """The part of a record that is the same for every kind of run: project, scheme and cases."""
    rows = [{"id": c.id, "revision": c.revision, "sha256": c.sha256, "subset": subsets[c.id]} for c in cases]
    counts = {subset: sum(row["subset"] == subset for row in rows) for subset in (TRAIN, VALIDATION, HELD_OUT)}
    return {
        "project": str(Path(project.folder).resolve()), "scheme": scheme.to_dict(), "cases": rows,
        "left_out": left_out, "notes": _notes(counts),
    }  # fmt: skip


def _notes(counts: dict[str, int]) -> list[str]:
    """What the cases are too few to hold apart, for the record and the model card."""
    notes = []
    if counts[VALIDATION] == 0:
        notes.append("There are too few cases for validation: the curve is measured on "
                     + ("the held-out cases, which no setting and no weight depends on." if counts[HELD_OUT] else
                        "the training cases themselves, and says nothing of other scans."))
    if counts[VALIDATION] < ENOUGH_TO_CALIBRATE:
        notes.append("There are too few cases for a calibration: the base's stays where there is a base, and radii "
                     "were never made smaller.")
    if counts[HELD_OUT] == 0:
        notes.append("No case was held out: how good the candidate is must be measured on other cases.")
    return notes


def sees_own_frame(package: ModelPackage) -> bool:
    """Whether a model's networks see the anatomy in the mean shape's frame, and not along the patient's axes."""
    return any(stage["poses"] != "scan" for stage in package.manifest["stages"])


def stored_shape(package: ModelPackage) -> ShapeModel:
    """The shape model of a package."""
    stored = package.load_weights(package.manifest["shape_model"]["file"])
    return ShapeModel(stored["mean"].astype(float), stored["tolerance"].astype(float))


def shape_after(
    base: ModelPackage, names: dict[str, str], scheme: LandmarkScheme, taught: Sequence[CorrectedCase], own_frame: bool
) -> ShapeModel:
    """The candidate's mean shape."""
    split = base.manifest["training"].get("data", {}).get("split", {})
    weight = float(len(split.get("train", ())) or MOST_BASE_CASES)
    points = [case.landmarks for case in taught] if not _is_flat(base) else [case.load().landmarks for case in taught]
    return blended_shape(stored_shape(base), names, base.scheme, scheme, points, own_frame, weight)


def _is_flat(base: ModelPackage) -> bool:
    """Whether landmarks lie on sheets, whose place only the image tells."""
    return bool(np.all([stage["shape"][2] == 1 for stage in base.manifest["stages"]]))


def names_in_base(history: SchemeHistory, base: LandmarkScheme) -> dict[str, str]:
    """The base's name of each landmark of the newest scheme that it knows, followed through renamings."""
    names = {name: name for name in history.newest.names}
    start = next((n for n, s in enumerate(history.schemes) if (s.id, s.version) == (base.id, base.version)), None)
    if start is not None:
        for number in reversed(range(start, len(history.steps))):
            before = history.steps[number].old_names(history.schemes[number], history.schemes[number + 1])
            names = {new: before[old] for new, old in names.items() if before[old] is not None}
    return {new: old for new, old in names.items() if old in base.names}
