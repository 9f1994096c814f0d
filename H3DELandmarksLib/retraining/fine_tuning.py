"""What fine-tuning of a model with a project's cases will do, decided before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.cases import CaseProject
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel, rigid_fit
from H3DELandmarksLib.formats.schemes import SchemeHistory
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.retraining.cases import CorrectedCase, check_enough, newest_cases
from H3DELandmarksLib.retraining.plan import (
    HELD_OUT,
    TRAIN,
    USUAL_SHARE,
    VALIDATION,
    choose_subsets,
    fine_tuning_settings,
    known_subsets,
    next_version,
    reference,
    steps_for,
    steps_of_stage,
    strong_augmentation,
)

# How far from its middle, as a part of its half size, a crop may be asked for one more landmark.
WITHIN = 0.8


def adapted_stages(
    stages: Sequence[Mapping], base_names: Mapping[str, str], scheme: LandmarkScheme, shape: ShapeModel
) -> list[dict]:
    """Stages whose groups name the landmarks of another scheme.

    The first stage knows every landmark. A new one joins, too, the later stage whose group is nearest, if its crop
    reaches that far. Where a stage looks at both sides with one network, both landmarks of a pair join it together on
    the same channel, a midline landmark joins both groups, and one without its counterpart joins neither.

    Args:
        stages: of the base's manifest.
        base_names: name in the base's scheme of each landmark that it knows.
        scheme: landmarks now.
        shape: their mean shape.
    """
    now = {old: new for new, old in base_names.items()}
    result = [stage for stage in (_with_what_stayed(stage, now) for stage in stages) if stage["groups"]]
    if not result:
        result = [_emptied(stages[0])]
    for name in scheme.names:
        _join(result[0], [name] * len(result[0]["groups"]))
    lateral = set(scheme.lateral) | {name for pair in scheme.pairs for name in pair}
    place = dict(zip(scheme.names, shape.mean))
    partner = {a: b for pair in scheme.pairs for a, b in (pair, pair[::-1])}
    for name in scheme.names:
        if any(name in group["landmarks"] for stage in result[1:] for group in stage["groups"]):
            continue
        _join_nearest(result[1:], name, partner.get(name), name in lateral, place)
    for stage in result:
        stage["network"]["settings"]["landmarks"] = len(stage["groups"][0]["landmarks"])
    return result


def _with_what_stayed(stage: Mapping, now: Mapping[str, str]) -> dict:
    """A copy without the channels of landmarks that are gone in any group; without groups where none is left."""
    stage = deepcopy({key: value for key, value in stage.items() if key != "weights"})
    columns = zip(*(group["landmarks"] for group in stage["groups"]))
    kept = [names for names in columns if all(name in now for name in names)]
    groups = [{**group, "landmarks": []} for group in stage["groups"]] if kept else []
    for names in kept:
        for group, name in zip(groups, names):
            group["landmarks"].append(now[name])
    return {**stage, "groups": groups}


def _emptied(stage: Mapping) -> dict:
    stage = deepcopy({key: value for key, value in stage.items() if key != "weights"})
    return {**stage, "groups": [{"landmarks": [], "mirrored": False}]}


def _join(stage: Mapping, names: Sequence[str]) -> None:
    """Add one channel, unless a group has its landmark already."""
    if all(name not in group["landmarks"] for group, name in zip(stage["groups"], names)):
        for group, name in zip(stage["groups"], names):
            group["landmarks"].append(name)


def _join_nearest(
    stages: Sequence[Mapping], name: str, partner: str | None, lateral: bool, place: Mapping[str, np.ndarray]
) -> None:
    """Add a landmark, and its partner, to the nearest later stage that can see it."""

    def far(stage: Mapping, group: Mapping, landmark: str) -> float:
        """Largest offset from the middle of the group's crop, as a part of the half size."""
        middle = np.mean([place[other] for other in group["landmarks"]], axis=0)
        size = np.array(stage["shape"]) * stage["spacing_mm"] / 2
        return float((np.abs(place[landmark] - middle) / size).max())

    offers = []
    for number, stage in enumerate(stages):
        groups = stage["groups"]
        if len(groups) == 1:
            offers.append((far(stage, groups[0], name), number, [name]))
        elif len(groups) == 2 and lateral and partner is not None:
            for names in ([name, partner], [partner, name]):
                reach = max(far(stage, group, landmark) for group, landmark in zip(groups, names))
                offers.append((reach, number, names))
        elif not lateral:
            names = [name] * len(groups)
            offers.append((max(far(stage, group, name) for group in groups), number, names))
    if offers:
        reach, number, names = min(offers, key=lambda offer: offer[0])
        if reach <= WITHIN:
            _join(stages[number], names)


# The base's cases count as this many at most, so that a different population shows.
MOST_BASE_CASES = 10.0


def blended_shape(
    base: ShapeModel,
    base_names: Mapping[str, str],
    base_scheme: LandmarkScheme,
    scheme: LandmarkScheme,
    cases: Sequence[LandmarkSet],
    own_frame: bool,
    base_cases: float = MOST_BASE_CASES,
) -> ShapeModel:
    """Weighted mean of the base's shape and of cases placed onto it.

    Args:
        base: shape of the base model.
        base_names: name in the base's scheme of each landmark that it knows.
        base_scheme: landmarks of the base.
        scheme: landmarks now.
        cases: training cases, LPS mm, in the order of `scheme`.
        own_frame: whether cases are turned onto the shape, or only shifted.
        base_cases: cases that the base stands for.

    Returns:
        Shape in the base's frame, centered; the tolerance counts what both spread around the new mean.

    Raises:
        InputError: a landmark that the base lacks is placed in no case.
    """
    mean, tolerance = _carried_over(base, base_names, base_scheme, scheme)
    alike = _says_the_same(base_names, base_scheme, scheme)
    places = [_placed(case.positions, mean, alike, own_frame) for case in cases if case.present.any()]
    aligned = np.stack(places) if places else np.full((1, len(scheme), 3), np.nan)
    weight = np.where(alike, min(base_cases, MOST_BASE_CASES), 0.0)
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


def _placed(points: np.ndarray, mean: np.ndarray, alike: np.ndarray, own_frame: bool) -> np.ndarray:
    """(K, 3) points of a case in the shape's frame, NaN where it cannot be placed there.

    Points whose definition changed say where the case lies only if there are too few others.
    """
    common = np.isfinite(points).all(axis=1) & np.isfinite(mean).all(axis=1)
    needed = 3 if own_frame else 1
    common = common & alike if (common & alike).sum() >= needed else common
    if common.sum() < needed:
        return np.full_like(points, np.nan)
    if own_frame:
        return rigid_fit(mean[common], points[common]).to_model(points)
    return points - (points[common] - mean[common]).mean(axis=0)


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
        raise InputError(
            f"The model '{base.id}' has no landmark of the project's scheme '{scheme.id}': choose another "
            "base, or start a new model."
        )
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
        "kind": "fine-tuning",
        **described(project, scheme, cases, subsets, left_out),
        "base": reference(base),
        "encoder_from": None,
        "model": {"id": base.id, "version": next_version(base), **model},
        "own_frame": own_frame,
        "plan": {"stages": stages, "base_names": names},
    }


def described(
    project: CaseProject,
    scheme: LandmarkScheme,
    cases: Sequence[CorrectedCase],
    subsets: dict[str, str],
    left_out: dict[str, str],
) -> dict[str, Any]:
    """The part of a record that is the same for every kind of run: project, scheme and cases."""
    rows = [{"id": c.id, "revision": c.revision, "sha256": c.sha256, "subset": subsets[c.id]} for c in cases]
    counts = {subset: sum(row["subset"] == subset for row in rows) for subset in (TRAIN, VALIDATION, HELD_OUT)}
    return {
        "project": str(Path(project.folder).resolve()),
        "scheme": scheme.to_dict(),
        "cases": rows,
        "left_out": left_out,
        "notes": _notes(counts),
    }


def _notes(counts: dict[str, int]) -> list[str]:
    """What the cases are too few to hold apart, for the record and the model card."""
    notes = []
    if counts[VALIDATION] == 0:
        notes.append(
            "There are too few cases for validation: the curve is measured on "
            + (
                "the held-out cases, which no setting and no weight depends on."
                if counts[HELD_OUT]
                else "the training cases themselves, and says nothing of other scans."
            )
        )
    if counts[VALIDATION] < ENOUGH_TO_CALIBRATE:
        notes.append(
            "There are too few cases for a calibration: the base's stays where there is a base, and radii "
            "were never made smaller."
        )
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
