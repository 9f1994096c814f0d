"""What retraining of a model with corrected cases will do, decided before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.cases import CaseProject
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel, rigid_fit
from H3DELandmarksLib.formats.manifest import Group, StageDesign
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.formats.run import (
    HELD_OUT,
    TRAIN,
    VALIDATION,
    CandidateDescription,
    RunCase,
    RunDecision,
    RunPlan,
    Subset,
)
from H3DELandmarksLib.formats.schemes import SchemeHistory
from H3DELandmarksLib.formats.training import TrainingStage, recorded_cases, recorded_settings
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.retraining.cases import CorrectedCase, check_enough, joined_by_picture, newest_cases
from H3DELandmarksLib.retraining.plan import (
    USUAL_SHARE,
    USUAL_TRAINING,
    choose_subsets,
    fine_tuning_settings,
    known_subsets,
    next_version,
    start_model,
    steps_for,
    steps_of_stage,
)

# How far from its middle, as a part of its half size, a crop may be asked for one more landmark.
WITHIN = 0.8
# The base's cases count as this many at most, so that a different population shows.
MAX_BASE_CASES = 10.0
# Subjects from which a calibration can be learnt; below, that of the base stays.
ENOUGH_TO_CALIBRATE = 8


def adapted_stages(
    stages: Sequence[StageDesign], base_names: Mapping[str, str], scheme: LandmarkScheme, shape: ShapeModel
) -> list[StageDesign]:
    """Stages whose groups name the landmarks of another scheme.

    The first stage knows every landmark. A new one joins, too, the later stage whose group is nearest, if its crop
    reaches that far. Where a stage looks at both sides with one network, both landmarks of a pair join it together on
    the same channel, a midline landmark joins both groups, and one without its counterpart joins neither. A closer look
    at structures stays only where all landmarks do, as their placing together does.

    Args:
        stages: of the base.
        base_names: name in the base's scheme of each landmark that it knows.
        scheme: landmarks now.
        shape: their mean shape.
    """
    now = {old: new for new, old in base_names.items()}
    is_same = all(base_names.get(name) == name for name in scheme.names) and len(now) == len(scheme)
    closer = [stage for stage in stages if stage.is_closer and is_same and set(stage.landmarks) <= set(now)]
    searching = [stage for stage in stages if not stage.is_closer]
    drafts = [draft for draft in (_Draft.of(stage, now) for stage in searching) if draft.columns]
    if not drafts:
        drafts = [_Draft(stages[0], [], 1)]
    for name in scheme.names:
        drafts[0].join((name,) * drafts[0].groups)
    lateral = set(scheme.lateral) | {name for pair in scheme.pairs for name in pair}
    place = dict(zip(scheme.names, shape.mean))
    partner = {a: b for pair in scheme.pairs for a, b in (pair, pair[::-1])}
    for name in scheme.names:
        if not any(name in column for draft in drafts[1:] for column in draft.columns):
            _join_nearest(drafts[1:], name, partner.get(name), name in lateral, place)
    return [*(draft.stage_now() for draft in drafts), *(_Draft.of(stage, now).stage_now() for stage in closer)]


class _Draft:
    """A stage whose channels are being chosen.

    Attributes:
        stage: as the base has it.
        columns: for each channel the landmark that it stands for in each group.
        groups: how many there are.
    """

    def __init__(self, stage: StageDesign, columns: list[tuple[str, ...]], groups: int) -> None:
        self.stage = stage
        self.columns = columns
        self.groups = groups

    @classmethod
    def of(cls, stage: StageDesign, now: Mapping[str, str]) -> _Draft:
        """The stage without the channels of landmarks that are gone in any group."""
        columns = zip(*(group.landmarks for group in stage.groups))
        kept = [tuple(now[name] for name in names) for names in columns if all(name in now for name in names)]
        return cls(stage, kept, len(stage.groups))

    def join(self, names: Sequence[str]) -> None:
        """Add one channel, unless a group has its landmark already."""
        if all(name not in column for name, column in zip(names, self.landmarks)):
            self.columns.append(tuple(names))

    @property
    def landmarks(self) -> list[tuple[str, ...]]:
        """Landmarks of each group."""
        return [tuple(column[group] for column in self.columns) for group in range(self.groups)]

    def reach(self, group: int, landmark: str, place: Mapping[str, np.ndarray]) -> float:
        """Largest offset of a landmark from the middle of a group's crop, as a part of the half size."""
        middle = np.mean([place[other] for other in self.landmarks[group]], axis=0)
        size = np.array(self.stage.shape) * self.stage.spacing_mm / 2
        return float((np.abs(place[landmark] - middle) / size).max())

    def stage_now(self) -> StageDesign:
        """The stage with the channels chosen."""
        before = self.stage.groups if self.groups == len(self.stage.groups) else [Group(("-",))] * self.groups
        groups = tuple(Group(names, group.mirrored) for names, group in zip(self.landmarks, before))
        settings = {**self.stage.network.settings, "landmarks": len(self.columns)}
        network = Network(self.stage.network.architecture, settings)
        return StageDesign(**{**self.stage.design, "groups": groups, "network": network})


def _join_nearest(
    drafts: Sequence[_Draft], name: str, partner: str | None, lateral: bool, place: Mapping[str, np.ndarray]
) -> None:
    """Add a landmark, and its partner, to the nearest later stage that can see it."""
    offers: list[tuple[float, int, Sequence[str]]] = []
    for number, draft in enumerate(drafts):
        if draft.groups == 1:
            offers.append((draft.reach(0, name, place), number, [name]))
        elif draft.groups == 2 and lateral and partner is not None:
            for names in ([name, partner], [partner, name]):
                reach = max(draft.reach(group, landmark, place) for group, landmark in enumerate(names))
                offers.append((reach, number, names))
        elif not lateral:
            reach = max(draft.reach(group, name, place) for group in range(draft.groups))
            offers.append((reach, number, [name] * draft.groups))
    if offers:
        reach, number, column = min(offers, key=lambda offer: offer[0])
        if reach <= WITHIN:
            drafts[number].join(column)


def blended_shape(
    base: ShapeModel,
    base_names: Mapping[str, str],
    base_scheme: LandmarkScheme,
    scheme: LandmarkScheme,
    cases: Sequence[LandmarkSet],
    canonical_pose: bool,
    base_cases: float = MAX_BASE_CASES,
) -> ShapeModel:
    """Weighted mean of the base's shape and of cases placed onto it.

    Args:
        base: shape of the base model.
        base_names: name in the base's scheme of each landmark that it knows.
        base_scheme: landmarks of the base.
        scheme: landmarks now.
        cases: training cases, LPS mm, in the order of `scheme`.
        canonical_pose: whether cases are turned onto the shape, or only shifted.
        base_cases: cases that the base stands for.

    Returns:
        Shape in the base's frame, centered; the tolerance counts what both spread around the new mean.

    Raises:
        InputError: a landmark that the base lacks is placed in no case.
    """
    mean, tolerance = _carried_over(base, base_names, base_scheme, scheme)
    alike = _says_the_same(base_names, base_scheme, scheme)
    places = [_placed(case.positions, mean, alike, canonical_pose) for case in cases if case.present.any()]
    aligned = np.stack(places) if places else np.full((1, len(scheme), 3), np.nan)
    weight = np.where(alike, min(base_cases, MAX_BASE_CASES), 0.0)
    count = np.isfinite(aligned).all(axis=2).sum(axis=0)
    # Where no case shows a landmark whose definition changed, its old place is the best guess.
    weight = np.where((weight + count == 0) & np.isfinite(mean).all(axis=1), 1.0, weight)
    if (weight + count == 0).any():
        missing = ", ".join(name for name, total in zip(scheme.names, weight + count) if total == 0)
        raise InputError(
            f"The model does not know {missing}, nor is it placed in any case for training: place it in "
            "more cases, or drop it from the scheme."
        )
    known = np.nan_to_num(mean) * weight[:, None]
    blended = (known + np.nansum(aligned, axis=0)) / (weight + count)[:, None]
    squares = np.nansum(((aligned - blended) ** 2).sum(axis=2), axis=0)
    moved = np.nan_to_num(((mean - blended) ** 2).sum(axis=1))
    variance = (weight * (np.nan_to_num(tolerance) ** 2 + moved) + squares) / (weight + count)
    floor = np.nanmedian(tolerance)
    spread = np.sqrt(variance)
    return ShapeModel(blended - blended.mean(axis=0), np.where(weight == 0, np.maximum(spread, floor), spread))


def _carried_over(
    base: ShapeModel, base_names: Mapping[str, str], base_scheme: LandmarkScheme, scheme: LandmarkScheme
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (K, 3) and tolerance (K,) in the order of the new scheme, NaN for landmarks that the base lacks."""
    row = {name: k for k, name in enumerate(base_scheme.names)}
    nothing = np.full(3, np.nan)
    rows = [row.get(base_names.get(name, "")) for name in scheme.names]
    mean = np.stack([nothing if k is None else base.mean[k] for k in rows])
    return mean, np.array([np.nan if k is None else base.tolerance[k] for k in rows])


def _says_the_same(base_names: Mapping[str, str], base_scheme: LandmarkScheme, scheme: LandmarkScheme) -> np.ndarray:
    """(K,) whether the base has the landmark with the same definition."""
    before = {landmark.name: landmark.definition for landmark in base_scheme.landmarks}
    return np.array([before.get(base_names.get(p.name, "")) == p.definition for p in scheme.landmarks])


def _placed(points: np.ndarray, mean: np.ndarray, alike: np.ndarray, canonical_pose: bool) -> np.ndarray:
    """(K, 3) points of a case in the shape's frame, NaN where it cannot be placed there.

    Points whose definition changed say where the case lies only if there are too few others.
    """
    common = np.isfinite(points).all(axis=1) & np.isfinite(mean).all(axis=1)
    needed = 3 if canonical_pose else 1
    common = common & alike if (common & alike).sum() >= needed else common
    if common.sum() < needed:
        return np.full_like(points, np.nan)
    if canonical_pose:
        return rigid_fit(mean[common], points[common]).to_model(points)
    return points - (points[common] - mean[common]).mean(axis=0)


def plan_fine_tuning(
    project: CaseProject, base: ModelPackage, steps: int | None = None, held_out: float = USUAL_SHARE
) -> RunDecision:
    """Decide everything about a run; nothing is written.

    Args:
        project: with five usable cases at least.
        base: model to start from.
        steps: of each stage, the first of several making half of them; by default a few hundred, more for more cases.
        held_out: share of the subjects that only the comparison sees.

    Raises:
        InputError: there are too few cases, or they have no landmark in common with the model.
    """
    scheme = project.scheme
    canonical_pose = base.manifest.sees_canonical_pose
    cases, left_out = newest_cases(project, canonical_pose)
    check_enough(cases, project)
    names = names_in_base(project.history(), base.scheme)
    if not names:
        raise InputError(
            f"The model '{base.id}' has no landmark of the scheme '{scheme.id}' of the cases: choose another base, or "
            "start a new model."
        )
    cases, same = joined_by_picture(cases)
    subsets = choose_subsets(cases, held_out, known_subsets(base.manifest))
    taught = [case for case in cases if subsets[case.id] == TRAIN]
    if not taught:
        raise InputError("All cases are held out: correct more, or hold out a smaller share.")
    shape = shape_after(base, names, scheme, taught, canonical_pose)
    stages = adapted_stages(base.manifest.stages, names, scheme, shape)
    count = steps_for(len(taught), steps)
    trained = []
    for number, stage in enumerate(stages):
        before = recorded_settings(base.manifest, stage.name, USUAL_TRAINING)
        settings = fine_tuning_settings(before, stage, len(taught), steps_of_stage(number, len(stages), count))
        trained.append(TrainingStage(**stage.design, training=settings.training, augmentation=settings.augmentation))
    return RunDecision(
        kind="fine-tuning",
        **described(project, cases, subsets, left_out, same),
        base=start_model(base),
        model=CandidateDescription(
            id=base.id,
            version=next_version(base),
            intensity=base.manifest.intensity,
            outside=base.manifest.outside,
            max_spacing_mm=base.manifest.max_spacing_mm,
            height_mm=base.manifest.height_mm,
        ),
        plan=RunPlan(tuple(trained), names),
    )


def described(
    project: CaseProject,
    cases: Sequence[CorrectedCase],
    subsets: Mapping[str, Subset],
    left_out: dict[str, str],
    notes: tuple[str, ...],
) -> dict[str, Any]:
    """The part of a decision that is the same for every kind of run: cases, their landmarks, what they lack."""
    rows = tuple(RunCase(case.id, case.revision, case.sha256, subsets[case.id]) for case in cases)
    return {
        "project": str(Path(project.folder).resolve()),
        "scheme": project.scheme,
        "cases": rows,
        "left_out": left_out,
        "notes": (*notes, *_notes(Counter(row.subset for row in rows))),
    }


def _notes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """What the cases are too few to hold apart, for the record and the model card."""
    notes = []
    if counts[VALIDATION] == 0:
        measured_on = (
            "the held-out cases, which no setting and no weight depends on."
            if counts[HELD_OUT]
            else "the training cases themselves, and says nothing of other scans."
        )
        notes.append(f"There are too few cases for validation: the curve is measured on {measured_on}")
    if counts[VALIDATION] < ENOUGH_TO_CALIBRATE:
        notes.append(
            "There are too few cases for a calibration: the base's stays where there is a base, and radii were never "
            "made smaller."
        )
    if counts[HELD_OUT] == 0:
        notes.append("No case was held out: how good the candidate is must be measured on other cases.")
    return tuple(notes)


def shape_after(
    base: ModelPackage,
    names: Mapping[str, str],
    scheme: LandmarkScheme,
    taught: Sequence[CorrectedCase],
    canonical_pose: bool,
) -> ShapeModel:
    """The candidate's mean shape."""
    weight = float(len(recorded_cases(base.manifest, TRAIN)) or MAX_BASE_CASES)
    # Landmarks of radiographs lie in the image plane, whose place only the image tells.
    points = [case.load().landmarks if base.is_2d else case.landmarks for case in taught]
    return blended_shape(base.load_shape(), names, base.scheme, scheme, points, canonical_pose, weight)


def names_in_base(history: SchemeHistory, base: LandmarkScheme) -> dict[str, str]:
    """The base's name of each landmark of the newest scheme that it knows, followed through renamings."""
    names = {name: name for name in history.newest.names}
    start = next((n for n, s in enumerate(history.schemes) if (s.id, s.version) == (base.id, base.version)), None)
    if start is not None:
        for number in reversed(range(start, len(history.steps))):
            before = history.steps[number].old_names(history.schemes[number], history.schemes[number + 1])
            names = {new: older for new, old in names.items() if (older := before[old]) is not None}
    return {new: old for new, old in names.items() if old in base.names}
