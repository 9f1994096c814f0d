"""What a retraining decides before it begins: settings of the stages, which cases teach, where the model comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.manifest import Manifest, StageDesign
from H3DELandmarksLib.formats.run import HELD_OUT, TRAIN, VALIDATION, StartModel, Subset
from H3DELandmarksLib.formats.training import (
    DEFAULT_LOSS,
    LOSS_DECODING,
    LOSSES,
    Augmentation,
    Loss,
    StageSettings,
    Training,
)
from H3DELandmarksLib.formats.versions import next_version as bumped_version
from H3DELandmarksLib.formats.versions import version_order
from H3DELandmarksLib.models import ModelPackage, available_models
from H3DELandmarksLib.models.package import package_digest
from H3DELandmarksLib.retraining.cases import CorrectedCase

# For models whose manifest does not say how they were trained.
USUAL_TRAINING = Training(steps=1, learning_rate=1e-3)
USUAL_TURN = {"scan": 15, "cube-rotations": 60, "found": 12, "structures": 8}
# Half widths that augmentation has at least.
STRONG = {"contrast": 0.25, "brightness": 0.06, "gamma": 0.3, "noise": 0.03, "blur": 0.8, "scale": 0.1, "stretch": 0.05}
RATE, EARLY_RATE = 0.5, 0.1
FROZEN_BELOW = 8  # cases that cannot move the layers which read the image without bending them to these scans
CHECKPOINT_SECONDS = 30.0
USUAL_SHARE, MAX_SHARE = 0.2, 0.5  # of the subjects, to hold out
VALIDATION_BLOCK = 5  # subjects of which one validates


def steps_for(cases: int, wanted: int | None = None) -> int:
    """Steps of a stage: a few hundred, more for more cases."""
    if wanted is not None and wanted < 1:
        raise InputError(f"A stage needs at least one step, not {wanted}.")
    return wanted or min(1000, 225 + 15 * cases)


def steps_of_stage(number: int, stages: int, steps: int) -> int:
    """The first of several stages only has to find the place, which the base can do already: half the steps."""
    return max(1, steps // 2) if stages > 1 and number == 0 else steps


def fine_tuning_settings(before: StageSettings | None, stage: StageDesign, cases: int, steps: int) -> StageSettings:
    """How a stage of a model is retrained: few steps, low rates, strong augmentation.

    Args:
        before: how it was trained, as far as its manifest says.
        stage: its design.
        cases: that teach.
        steps: of the stage.
    """
    trained = before.training if before else replace(USUAL_TRAINING, loss=_loss_for(stage))
    early = 0.0 if cases < FROZEN_BELOW else EARLY_RATE
    training = replace(trained, learning_rate=RATE * trained.learning_rate, early_rate=early, **schedule(steps))
    return StageSettings(training, strong_augmentation(before.augmentation if before else None, stage))


def schedule(steps: int) -> dict:
    """Settings that follow from the number of steps."""
    return {
        "steps": steps,
        "warmup": max(1, min(20, steps // 10)),
        "ema": max(0.5, 1 - 10 / steps),
        "validate_every": max(1, steps // 12),
        "checkpoint_seconds": CHECKPOINT_SECONDS,
    }


def strong_augmentation(before: Augmentation | None, stage: StageDesign) -> Augmentation:
    """What a stage's samples had before, and no less than is usual."""
    if before is None:
        shift_mm = 0.1 * (min(size for size in stage.shape if size > 1) * stage.spacing_mm / 2)
        before = Augmentation(rotation_degrees=USUAL_TURN[stage.poses], shift_mm=shift_mm, truncate=0.1)
    return replace(before, **{name: max(width, getattr(before, name)) for name, width in STRONG.items()})


def _loss_for(stage: StageDesign) -> Loss:
    """The loss that writes what the stage's decoding reads."""
    return next((loss for loss in LOSSES if LOSS_DECODING[loss] == stage.decoding.method), DEFAULT_LOSS)


def choose_subsets(
    cases: Sequence[CorrectedCase], share: float = USUAL_SHARE, known: Mapping[str, str] | None = None
) -> dict[str, Subset]:
    """The subset of every case, by id.

    Args:
        cases: all that can teach.
        share: of the subjects to hold out, from 0 to 0.5.
        known: subsets, by SHA-256 of the scan, of cases that the base model, or one before it, was made with: what was
            held out stays so, and what was learnt from is never held out.

    Raises:
        InputError: the share is out of range.
    """
    if not 0 <= share <= MAX_SHARE:
        raise InputError(f"The share of held-out cases must be from 0 to {MAX_SHARE}, not {share}.")
    subjects = subjects_of(cases)
    chosen = dict.fromkeys(subjects, TRAIN)
    for block in _blocks(list(subjects), VALIDATION_BLOCK)[1:]:
        chosen[min(block, key=_hash)] = VALIDATION
    if share > 0:
        size = round(1 / share)
        for number, block in enumerate(_blocks(list(subjects), size)):
            ranked = sorted(block, key=_hash)
            chosen[ranked[0]] = HELD_OUT
            if number > 0 and size == VALIDATION_BLOCK:
                chosen[ranked[1]] = VALIDATION
    for subject, members in subjects.items():
        before = {(known or {}).get(case.sha256) for case in members}
        if HELD_OUT in before:
            chosen[subject] = HELD_OUT
        elif before & {TRAIN, VALIDATION}:
            chosen[subject] = VALIDATION if VALIDATION in before and TRAIN not in before else TRAIN
    return {case.id: chosen[subject] for subject, members in subjects.items() for case in members}


def subjects_of(cases: Sequence[CorrectedCase]) -> dict[str, list[CorrectedCase]]:
    """Cases by subject, those first that were reviewed first; scans of the same content are of one subject.

    Cases belong together that name the same subject or show the same scan, also through others.
    """
    groups: list[tuple[set[str], list[CorrectedCase]]] = []
    for case in cases:
        marks, members = {case.id, case.subject, case.sha256}, [case]
        for known, others in [group for group in groups if group[0] & marks]:
            groups.remove((known, others))
            marks |= known
            members += others
        groups.append((marks, members))
    ordered = [sorted(members, key=_first_reviewed) for _, members in groups]
    return {members[0].id: members for members in sorted(ordered, key=lambda members: _first_reviewed(members[0]))}


def _first_reviewed(case: CorrectedCase) -> tuple[datetime, str]:
    return case.since, case.id


def _blocks(subjects: list[str], size: int) -> list[list[str]]:
    """Complete blocks only: a block changes as long as it is not full."""
    return [subjects[start : start + size] for start in range(0, len(subjects) - size + 1, size)]


def _hash(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()


def start_model(package: ModelPackage) -> StartModel:
    """How a run names a model that it starts from."""
    return StartModel(package.id, package.version, package_digest(package), str(package.path.resolve()))


def known_subsets(manifest: Manifest) -> dict[str, str]:
    """Subset, by SHA-256, of each scan that a model or one before it was made with; the oldest decides."""
    lineage = lineage_of(manifest)
    return lineage.subsets if lineage else {}


def next_version(package: ModelPackage) -> str:
    """The first version after this one, and after all of this model that are there: its middle number counts up."""
    versions = [entry.package.version for entry in available_models() if entry.package and entry.id == package.id]
    newest = max((*versions, package.version), key=version_order)
    return bumped_version(newest, "minor")
