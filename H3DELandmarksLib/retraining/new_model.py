"""What training of a new model with a project's own scheme will do, derived from the cases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from H3DELandmarksLib.cases import CaseProject
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import ShapeModel, learn_shape_model, rigid_fit
from H3DELandmarksLib.models import ModelPackage, available_models
from H3DELandmarksLib.retraining.cases import CorrectedCase, check_enough, newest_cases
from H3DELandmarksLib.retraining.fine_tuning import described
from H3DELandmarksLib.retraining.plan import (
    HELD_OUT,
    STRONG,
    TRAIN,
    USUAL_SHARE,
    USUAL_TRAINING,
    choose_subsets,
    reference,
    schedule,
)
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.loop import EARLY

NETWORK = {
    "architecture": "h3denet",
    "settings": {
        "stem_channels": [16, 32],
        "dims": [32, 64, 96, 128],
        "depths": [1, 1, 2, 1],
        "decoder_dims": [64, 48, 32],
        "fine_dims": [32, 16],
        "output_stride": 2,
    },
}
SMALLEST, SEARCH = 32, 48
# Voxels of a closer look that a computer without a GPU trains on in about a second.
MOST_VOXELS = 600_000
# The part of a crop that the points fill.
FILLED_IN_SEARCH, FILLED = 0.6, 0.7
# A closer look with voxels that are not much finer shows nothing new.
FINER = 0.7


@dataclass(frozen=True)
class Anatomy:
    """What cases tell about sizes, in mm.

    Attributes:
        extent: (3,) between the outermost points, along the axes in which networks see the anatomy.
        voxel: edge of a cube with the volume of a usual voxel.
        coarsest: longest edge of a voxel.
        field_of_view: (3,) of a usual scan.
        own_frame: whether scans lie in any pose.
    """

    extent: np.ndarray
    voxel: float
    coarsest: float
    field_of_view: np.ndarray
    own_frame: bool

    @property
    def reading(self) -> dict:
        """Entries of a manifest that say how scans are read."""
        return {
            "intensity": {"method": "percentile", "low": 1, "high": 99.9},
            "max_spacing_mm": round(1.5 * self.coarsest, 3),
            "tolerance_mm": round(2 * self.voxel, 3),
        }


def new_stages(
    anatomy: Anatomy, scheme: LandmarkScheme, cases: int, steps: int | None, donor: Mapping | None
) -> list[dict]:
    """Stages with their settings.

    Args:
        anatomy: sizes.
        scheme: landmarks.
        cases: that teach.
        steps: of each stage; by default as many as the number of cases asks for.
        donor: stage of another model whose network's settings are taken over.
    """
    network = deepcopy(NETWORK if donor is None else dict(donor["network"]))
    network["settings"]["landmarks"] = len(scheme)
    widest = float(anatomy.extent.max())
    spacing = max(anatomy.voxel, widest / (FILLED_IN_SEARCH * SEARCH), anatomy.field_of_view.max() / (2 * SEARCH))
    room = np.full(3, anatomy.field_of_view.max()) if anatomy.own_frame else anatomy.field_of_view
    shape = _voxels(np.minimum(room, spacing * SEARCH), spacing)
    search = {
        "name": "localizer",
        "spacing_mm": _rounded(spacing),
        "shape": shape,
        "poses": "cube-rotations" if anatomy.own_frame else "scan",
    }
    stages = [search]
    fine, fine_shape = _closer_look(anatomy)
    if fine < FINER * spacing:
        stages.append(
            {
                "name": "refiner",
                "spacing_mm": _rounded(fine),
                "shape": fine_shape,
                "poses": "found" if anatomy.own_frame else "scan",
            }
        )
    count = steps or int(min(4000, 1200 + 60 * cases))
    return [_completed(stage, network, scheme, anatomy, count) for stage in stages]


def _closer_look(anatomy: Anatomy) -> tuple[float, list[int]]:
    """The finest voxels, and the crop of them, that hold all points and are not too many."""
    spacing = anatomy.voxel
    needed = anatomy.extent / FILLED + 8 * spacing
    while np.prod(_voxels(needed, spacing), dtype=float) > MOST_VOXELS:
        spacing *= 1.05
        needed = anatomy.extent / FILLED + 8 * spacing
    return spacing, _voxels(needed, spacing)


def _voxels(size: np.ndarray, spacing: float) -> list[int]:
    """Multiples of eight that cover a size in mm."""
    return [int(max(SMALLEST, 8 * np.ceil(length / spacing / 8 - 1e-6))) for length in size]


def _rounded(spacing: float) -> float:
    return float(f"{spacing:.3g}")


def _completed(stage: dict, network: Mapping, scheme: LandmarkScheme, anatomy: Anatomy, steps: int) -> dict:
    first = stage["name"] == "localizer"
    half = np.array(stage["shape"]) * stage["spacing_mm"] / 2
    spare = np.maximum(half - anatomy.extent / 2, 2 * stage["spacing_mm"])
    paired = {"mirror": 0.5, "views": 2} if scheme.pairs else {"mirror": 0.0, "views": 1}
    augmentation = {
        **STRONG,
        "mirror": paired["mirror"],
        "truncate": 0.2,
        "nothing": 0.05,
        "rotation_degrees": 60 if stage["poses"] == "cube-rotations" else 25 if first else 12,
        "shift_mm": [float(round(x, 3)) for x in (0.9 if first else 0.3) * spare],
    }
    return {
        **stage,
        "network": deepcopy(dict(network)),
        "views": 1 if first else paired["views"],
        "groups": [{"landmarks": list(scheme.names), "mirrored": False}],
        "decoding": {"method": "softmax"},
        "training": {
            **USUAL_TRAINING,
            "sigma": 1.0,
            **schedule(steps),
            "warmup": min(100, max(1, steps // 10)),
            "ema": min(0.998, max(0.5, 1 - 10 / steps)),
        },
        "augmentation": augmentation,
    }


FIRST_VERSION = "0.1.0"
MODEL_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# Degrees between the poses of two subjects from which scans count as lying in any pose.
ANY_POSE = 35.0


def plan_new_model(
    project: CaseProject,
    model_id: str,
    encoder_from: ModelPackage | None = None,
    steps: int | None = None,
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
        "kind": "new-model",
        **described(project, scheme, usable, subsets, left_out),
        "base": None,
        "encoder_from": None if encoder_from is None else reference(encoder_from),
        "model": {"id": model_id, "version": FIRST_VERSION, **anatomy.reading},
        "own_frame": own_frame,
        "plan": {"stages": stages, "base_names": {}},
    }


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
        raise InputError(
            "A new model can be started from volumes only: for radiographs retrain a model that reads "
            "them, with --base-model."
        )
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
        raise InputError(
            f"In the cases for training nobody has placed {', '.join(missing)}: place them in more cases, "
            "or drop them from the scheme."
        )


def donor_stage(package: ModelPackage) -> dict:
    """The stage whose network gives its early layers: the first that reads volumes."""
    for stage in package.manifest["stages"]:
        if stage["shape"][2] > 1 and any(name.startswith(EARLY) for name in _names(package, stage)):
            return stage
    raise InputError(f"The model '{package.id}' reads radiographs: choose one for volumes to take the encoder from.")


def _names(package: ModelPackage, stage: dict) -> list[str]:
    return list(package.load_weights(stage["weights"]["file"]))
