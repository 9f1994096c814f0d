"""What training of a new model with the scheme of the cases will do, derived from the cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.cases import CaseProject
from H3DELandmarksLib.cases.examples import EXAMPLES
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import turn_degrees
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import ShapeModel, learn_shape_model, rigid_fit
from H3DELandmarksLib.formats.manifest import Group, Intensity, Poses, Stage, StageDesign
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.formats.run import HELD_OUT, TRAIN, CandidateDescription, RunDecision, RunPlan
from H3DELandmarksLib.formats.training import Augmentation, TrainingStage
from H3DELandmarksLib.models import ModelPackage, available_models
from H3DELandmarksLib.retraining.cases import CorrectedCase, check_enough, joined_by_picture, newest_cases
from H3DELandmarksLib.retraining.fine_tuning import described
from H3DELandmarksLib.retraining.plan import STRONG, USUAL_SHARE, USUAL_TRAINING, choose_subsets, schedule, start_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.loop import EARLY

# A network that a computer without a GPU trains in an hour or two.
SMALL_NETWORK = {
    "stem_channels": [16, 32],
    "dims": [32, 64, 96, 128],
    "depths": [1, 1, 2, 1],
    "decoder_dims": [64, 48, 32],
    "fine_dims": [32, 16],
    "output_stride": 2,
}
MIN_SIDE, SEARCH_SIDE = 32, 48
# Voxels of a closer look that a computer without a GPU trains on in about a second.
MAX_VOXELS = 600_000
# The part of a crop that the points fill.
FILLED_IN_SEARCH, FILLED = 0.6, 0.7
# A closer look with voxels that are not much finer shows nothing new.
FINER = 0.7
FIRST_VERSION = "0.1.0"
MODEL_ID = re.compile(rf"(?!{EXAMPLES}\Z)[a-z0-9][a-z0-9-]{{0,63}}")
# Degrees between the poses of two subjects from which scans count as lying in any pose.
ANY_POSE = 35.0


@dataclass(frozen=True)
class Anatomy:
    """What cases tell about sizes, in mm.

    Attributes:
        extent: (3,) between the outermost points, along the axes in which networks see the anatomy.
        voxel: edge of a cube with the volume of a usual voxel.
        coarsest: longest edge of a voxel.
        field_of_view: (3,) of a usual scan.
        canonical_pose: whether scans lie in any pose.
    """

    extent: np.ndarray
    voxel: float
    coarsest: float
    field_of_view: np.ndarray
    canonical_pose: bool

    def candidate(self, model_id: str) -> CandidateDescription:
        """The first version of a model of this anatomy, and how it reads scans."""
        return CandidateDescription(
            id=model_id,
            version=FIRST_VERSION,
            intensity=Intensity("percentile", 1.0, 99.9),
            max_spacing_mm=round(1.5 * self.coarsest, 3),
            tolerance_mm=round(2 * self.voxel, 3),
        )


def new_stages(
    anatomy: Anatomy, scheme: LandmarkScheme, cases: int, steps: int | None, donor: StageDesign | None
) -> tuple[TrainingStage, ...]:
    """A search of the whole scan in coarse voxels and, where it can add anything, a closer look.

    Args:
        anatomy: sizes.
        scheme: landmarks.
        cases: that teach.
        steps: of each stage; by default as many as the number of cases asks for.
        donor: stage of another model whose network's settings are taken over.
    """
    network = donor.network if donor else Network("h3denet", {**SMALL_NETWORK, "landmarks": len(scheme)})
    network = Network(network.architecture, {**network.settings, "landmarks": len(scheme)})
    count = steps or int(min(4000, 1200 + 60 * cases))
    widest = float(anatomy.extent.max())
    spacing = max(
        anatomy.voxel, widest / (FILLED_IN_SEARCH * SEARCH_SIDE), anatomy.field_of_view.max() / (2 * SEARCH_SIDE)
    )
    room = np.full(3, anatomy.field_of_view.max()) if anatomy.canonical_pose else anatomy.field_of_view
    shape = _voxels(np.minimum(room, spacing * SEARCH_SIDE), spacing)
    search = _stage("localizer", _rounded(spacing), shape, network, scheme, anatomy, count)
    fine, fine_shape = _closer_look(anatomy)
    if fine >= FINER * spacing:
        return (search,)
    return (search, _stage("refiner", _rounded(fine), fine_shape, network, scheme, anatomy, count))


def _closer_look(anatomy: Anatomy) -> tuple[float, tuple[int, int, int]]:
    """The finest voxels, and the crop of them, that hold all points and are not too many."""
    spacing = anatomy.voxel
    needed = anatomy.extent / FILLED + 8 * spacing
    while np.prod(_voxels(needed, spacing), dtype=float) > MAX_VOXELS:
        spacing *= 1.05
        needed = anatomy.extent / FILLED + 8 * spacing
    return spacing, _voxels(needed, spacing)


def _voxels(size: np.ndarray, spacing: float) -> tuple[int, int, int]:
    """Multiples of eight that cover a size in mm."""
    x, y, z = (int(max(MIN_SIDE, 8 * np.ceil(length / spacing / 8 - 1e-6))) for length in size)
    return x, y, z


def _rounded(spacing: float) -> float:
    return float(f"{spacing:.3g}")


def _stage(
    name: str,
    spacing: float,
    shape: tuple[int, int, int],
    network: Network,
    scheme: LandmarkScheme,
    anatomy: Anatomy,
    steps: int,
) -> TrainingStage:
    """A stage with its training: the localizer, or a refiner, which looks at both mirror images of paired points."""
    first = name == "localizer"
    poses: Poses = "scan"
    if anatomy.canonical_pose:
        poses = "cube-rotations" if first else "found"
    spare = np.maximum(np.array(shape) * spacing / 2 - anatomy.extent / 2, 2 * spacing)
    shift = (0.9 if first else 0.3) * spare
    x, y, z = (float(round(length, 3)) for length in shift)
    augmentation = Augmentation(
        **STRONG,
        mirror=0.5 if scheme.pairs else 0.0,
        truncate=0.2,
        nothing=0.05,
        rotation_degrees=60.0 if poses == "cube-rotations" else 25.0 if first else 12.0,
        shift_mm=(x, y, z),
    )
    planned = schedule(steps)
    planned["warmup"] = min(100, max(1, steps // 10))
    planned["ema"] = min(0.998, max(0.5, 1 - 10 / steps))
    return TrainingStage(
        name=name,
        network=network,
        spacing_mm=spacing,
        shape=shape,
        poses=poses,
        groups=(Group(scheme.names),),
        views=2 if scheme.pairs and not first else 1,
        training=replace(USUAL_TRAINING, sigma=1.0, **planned),
        augmentation=augmentation,
    )


def plan_new_model(
    project: CaseProject,
    model_id: str,
    encoder_from: ModelPackage | None = None,
    steps: int | None = None,
    held_out: float = USUAL_SHARE,
) -> RunDecision:
    """Decide everything about a run; nothing is written.

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
    usable, left_out = newest_cases(project, canonical_pose=False)
    check_enough(usable, project)
    usable, same = joined_by_picture(usable)
    subsets = choose_subsets(usable, held_out)
    taught = [case for case in usable if subsets[case.id] == TRAIN]
    _check_landmarks(scheme, taught)
    canonical_pose = lie_in_any_pose(taught)
    if canonical_pose:
        usable, more = newest_cases(project, canonical_pose=True)
        left_out |= more
        check_enough(usable, project)
        taught = [case for case in usable if subsets[case.id] == TRAIN]
        _check_landmarks(scheme, taught)
    anatomy = survey([case for case in usable if subsets[case.id] != HELD_OUT], taught, scheme, canonical_pose)
    donor = None if encoder_from is None else donor_stage(encoder_from)
    stages = new_stages(anatomy, scheme, len(taught), steps, donor)
    subsets = {case.id: subsets[case.id] for case in usable}
    return RunDecision(
        kind="new-model",
        **described(project, usable, subsets, left_out, same),
        encoder_from=None if encoder_from is None else start_model(encoder_from),
        model=anatomy.candidate(model_id),
        plan=RunPlan(stages),
    )


def survey(
    seen: Sequence[CorrectedCase], taught: Sequence[CorrectedCase], scheme: LandmarkScheme, canonical_pose: bool
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
    shape = shape_of_new(taught, scheme, canonical_pose)
    spreads = [extent_of(case, shape, canonical_pose) for case in cases if case.landmarks.present.any()]
    return Anatomy(
        extent=np.max(spreads, axis=0),
        voxel=float(np.median([np.prod(case.volume.spacing) ** (1 / 3) for case in cases])),
        coarsest=float(max(case.volume.spacing.max() for case in cases)),
        field_of_view=np.median([case.volume.grid.extent for case in cases], axis=0),
        canonical_pose=canonical_pose,
    )


def shape_of_new(taught: Sequence[CorrectedCase], scheme: LandmarkScheme, canonical_pose: bool) -> ShapeModel:
    """Mean shape of the training cases; a lone landmark or one of few cases gets a tolerance above zero."""
    shape = learn_shape_model(np.stack([case.landmarks.positions for case in taught]), scheme, canonical_pose)
    size = float(np.linalg.norm(np.ptp(shape.mean, axis=0)))
    return ShapeModel(shape.mean, np.maximum(shape.tolerance, max(0.01 * size, 0.1)))


def lie_in_any_pose(cases: Sequence[CorrectedCase | Case]) -> bool:
    """Whether the subjects are turned so differently that networks must see them in a frame of their own."""
    full = max(cases, key=lambda case: int(case.landmarks.present.sum())).landmarks
    angles = []
    for case in cases:
        common = full.present & case.landmarks.present
        if common.sum() >= 3:
            turn = rigid_fit(full.positions[common], case.landmarks.positions[common]).rotation
            angles.append(turn_degrees(turn))
    return bool(angles) and max(angles) > ANY_POSE


def extent_of(case: Case, shape: ShapeModel, canonical_pose: bool) -> np.ndarray:
    """(3,) mm between the outermost points of a case along the axes in which networks see it."""
    present = case.landmarks.present
    points = case.landmarks.positions[present]
    if canonical_pose:
        points = rigid_fit(shape.mean[present], points).to_model(points)
    return np.ptp(points, axis=0)


def _check_id(model_id: str) -> None:
    if not MODEL_ID.fullmatch(model_id):
        raise InputError(f"'{model_id}' cannot name a model: use small letters, digits and hyphens, not '{EXAMPLES}'.")
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


def donor_stage(package: ModelPackage) -> Stage:
    """The stage whose network gives its early layers: the first that reads volumes.

    Raises:
        InputError: there is none.
    """
    for stage in package.manifest.stages:
        names = package.load_weights(stage.weights.file)
        if not stage.is_2d and any(name.startswith(EARLY) for name in names):
            return stage
    raise InputError(f"The model '{package.id}' reads radiographs: choose one for volumes to take the encoder from.")
