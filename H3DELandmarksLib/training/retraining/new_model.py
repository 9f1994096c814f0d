"""What training of a new model with a project's own scheme will do, derived from the cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from H3DELandmarksLib.cohort import CaseProject
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.models import ModelPackage, available_models
from H3DELandmarksLib.shape_model import ShapeModel, learn_shape_model, rigid_fit
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.layer_rates import EARLY
from H3DELandmarksLib.training.retraining.corrected import CorrectedCase, check_enough, newest_cases
from H3DELandmarksLib.training.retraining.fine_tuning import described
from H3DELandmarksLib.training.retraining.lineage import reference
from H3DELandmarksLib.training.retraining.new_stages import Anatomy, new_stages
from H3DELandmarksLib.training.retraining.subsets import HELD_OUT, TRAIN, USUAL_SHARE, choose_subsets

FIRST_VERSION = "0.1.0"
MODEL_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# Degrees between the poses of two subjects from which scans count as lying in any pose.
ANY_POSE = 35.0


def plan_new_model(
    project: CaseProject, model_id: str, encoder_from: ModelPackage | None = None, steps: int | None = None,
    held_out: float = USUAL_SHARE,
) -> dict[str, Any]:
    """Decide everything about a run, see `RunRecord`; nothing is written.

    Args:
        project: with five usable cases at least.
        model_id: of the new model.
        encoder_from: model whose layers that read the image are taken over; scratch by default.
        steps: of each stage; by default as many as the cases ask for.
        held_out: share of the subjects that only the comparison sees.

    Raises:
        InputError: the id is taken or malformed, there are too few cases, or a landmark is placed in none.
    """
    _check_id(model_id)
    scheme = project.scheme
    usable, left_out = newest_cases(project, own_frame=False)
    check_enough(usable, project)
    subsets = choose_subsets(usable, held_out)
    taught = [case for case in usable if subsets[case.id] == TRAIN]
    _check_landmarks(scheme, taught)
    own_frame = lie_in_any_pose(taught)
    if own_frame:
        usable, more = newest_cases(project, own_frame=True)
        left_out |= more
        check_enough(usable, project)
        taught = [case for case in usable if subsets[case.id] == TRAIN]
        _check_landmarks(scheme, taught)
    anatomy = survey([case for case in usable if subsets[case.id] != HELD_OUT], taught, scheme, own_frame)
    donor = None if encoder_from is None else donor_stage(encoder_from)
    stages = new_stages(anatomy, scheme, len(taught), steps, donor)
    subsets = {case.id: subsets[case.id] for case in usable}
    return {
        "kind": "new-model", **described(project, scheme, usable, subsets, left_out), "base": None,
        "encoder_from": None if encoder_from is None else reference(encoder_from),
        "model": {"id": model_id, "version": FIRST_VERSION, **anatomy.reading},
        "own_frame": own_frame, "plan": {"stages": stages, "base_names": {}},
    }  # fmt: skip


def survey(
    seen: Sequence[CorrectedCase], taught: Sequence[CorrectedCase], scheme: LandmarkScheme, own_frame: bool
) -> Anatomy:
    """What the scans and points that are not held out tell about sizes.

    Raises:
        InputError: some scans are radiographs and others are not, or all are.
    """
    cases = [case.load() for case in seen]
    flat = [case.volume.array.shape[2] == 1 for case in cases]
    if any(flat):
        raise InputError("A new model can be started from volumes only: for radiographs retrain a model that reads "
                         "them, with --base-model.")
    shape = shape_of_new(taught, scheme, own_frame)
    spreads = [_extent(case, shape, own_frame) for case in cases if case.landmarks.present.any()]
    return Anatomy(
        extent=np.max(spreads, axis=0),
        voxel=float(np.median([np.prod(case.volume.spacing) ** (1 / 3) for case in cases])),
        coarsest=float(max(case.volume.spacing.max() for case in cases)),
        field_of_view=np.median([case.volume.grid.extent for case in cases], axis=0),
        own_frame=own_frame,
    )


def shape_of_new(taught: Sequence[CorrectedCase], scheme: LandmarkScheme, own_frame: bool) -> ShapeModel:
    """Mean shape of the training cases; a lone landmark or one of few cases gets a tolerance above zero."""
    shape = learn_shape_model(np.stack([case.landmarks.positions for case in taught]), scheme, own_frame)
    size = np.linalg.norm(np.ptp(shape.mean, axis=0))
    return ShapeModel(shape.mean, np.maximum(shape.tolerance, max(0.01 * size, 0.1)))


def lie_in_any_pose(cases: Sequence[CorrectedCase]) -> bool:
    """Whether the subjects are turned so differently that networks must see them in a frame of their own."""
    full = max(cases, key=lambda case: int(case.landmarks.present.sum())).landmarks
    angles = []
    for case in cases:
        common = full.present & case.landmarks.present
        if common.sum() >= 3:
            turn = rigid_fit(full.positions[common], case.landmarks.positions[common]).rotation
            angles.append(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    return bool(angles) and float(max(angles)) > ANY_POSE


def _extent(case: Case, shape: ShapeModel, own_frame: bool) -> np.ndarray:
    """(3,) mm between the outermost points of a case along the axes in which networks see it."""
    present = case.landmarks.present
    points = case.landmarks.positions[present]
    if own_frame:
        points = rigid_fit(shape.mean[present], points).to_model(points)
    return np.ptp(points, axis=0)


def _check_id(model_id: str) -> None:
    if not MODEL_ID.fullmatch(model_id):
        raise InputError(f"'{model_id}' cannot name a model: use small letters, digits and hyphens.")
    if any(entry.package and entry.id == model_id for entry in available_models()):
        raise InputError(f"There is a model '{model_id}' already: choose another name, or retrain it (--base-model).")


def _check_landmarks(scheme: LandmarkScheme, taught: Sequence[CorrectedCase]) -> None:
    placed = np.sum([case.landmarks.present for case in taught], axis=0)
    missing = [name for name, count in zip(scheme.names, placed) if count == 0]
    if missing:
        raise InputError(f"In the cases for training nobody has placed {', '.join(missing)}: place them in more cases, "
                         "or drop them from the scheme.")


def donor_stage(package: ModelPackage) -> dict:
    """The stage whose network gives its early layers: the first that reads volumes."""
    for stage in package.manifest["stages"]:
        if stage["shape"][2] > 1 and any(name.startswith(EARLY) for name in _names(package, stage)):
            return stage
    raise InputError(f"The model '{package.id}' reads radiographs: choose one for volumes to take the encoder from.")


def _names(package: ModelPackage, stage: dict) -> list[str]:
    return list(package.load_weights(stage["weights"]["file"]))
