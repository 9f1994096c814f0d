"""Where a candidate comes from, as far as a run needs it: its base, and what earlier models did with the cases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.lineage import ModelReference
from H3DELandmarksLib.models import ModelPackage, available_models
from H3DELandmarksLib.retraining.cases import CorrectedCase
from H3DELandmarksLib.training.losses import DEFAULT, LOSSES

# For models whose manifest does not say how they were trained.
USUAL_TRAINING = {"batch": 1, "learning_rate": 1e-3, "weight_decay": 0.01, "seed": 1}
USUAL_TURN = {"scan": 15, "cube-rotations": 60, "found": 12}
# Half widths that augmentation has at least.
STRONG = {"contrast": 0.25, "brightness": 0.06, "gamma": 0.3, "noise": 0.03, "blur": 0.8, "scale": 0.1, "stretch": 0.05}
RATE, EARLY_RATE = 0.5, 0.1
FROZEN_BELOW = 8  # cases that cannot move the layers which read the image without bending them to these scans
CHECKPOINT_SECONDS = 30.0


def steps_for(cases: int, wanted: int | None = None) -> int:
    """Steps of a stage: a few hundred, more for more cases."""
    if wanted is not None and wanted < 1:
        raise InputError(f"A stage needs at least one step, not {wanted}.")
    return wanted or min(1000, 225 + 15 * cases)


def steps_of_stage(number: int, stages: int, steps: int) -> int:
    """The first of several stages only has to find the place, which the base can do already: half the steps."""
    return max(1, steps // 2) if stages > 1 and number == 0 else steps


def fine_tuning_settings(base: Mapping, stage: Mapping, cases: int, steps: int) -> dict:
    """Entry ``training`` of a stage.

    Args:
        base: the same entry of the base's manifest, or nothing.
        stage: of the base's manifest.
        cases: that teach.
        steps: of the stage.
    """
    settings = {**USUAL_TRAINING, "loss": _loss_for(stage), **base}
    early = 0.0 if cases < FROZEN_BELOW else EARLY_RATE
    return {**settings, "learning_rate": RATE * settings["learning_rate"], "early_rate": early, **schedule(steps)}


def schedule(steps: int) -> dict:
    """Settings that follow from the number of steps."""
    return {
        "steps": steps,
        "warmup": max(1, min(20, steps // 10)),
        "ema": max(0.5, 1 - 10 / steps),
        "validate_every": max(1, steps // 12),
        "checkpoint_seconds": CHECKPOINT_SECONDS,
    }


def strong_augmentation(base: Mapping, stage: Mapping) -> dict:
    """Entry ``augmentation`` of a stage: what the base had, and no less than is usual."""
    if not base:
        half = min(s for s in stage["shape"] if s > 1) * stage["spacing_mm"] / 2
        base = {"rotation_degrees": USUAL_TURN[stage["poses"]], "shift_mm": 0.1 * half, "truncate": 0.1}
    return {**base, **{name: max(width, base.get(name, 0.0)) for name, width in STRONG.items()}}


def _loss_for(stage: Mapping) -> str:
    """The loss that writes what the stage's decoding reads."""
    method = stage["decoding"]["method"]
    return next((name for name, objective in LOSSES.items() if objective.decoding == method), DEFAULT)


TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held-out"
USUAL_SHARE, LARGEST_SHARE = 0.2, 0.5
VALIDATION_BLOCK = 5


def choose_subsets(
    cases: Sequence[CorrectedCase], share: float = USUAL_SHARE, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The subset of every case, by id.

    Args:
        cases: all that can teach.
        share: of the subjects to hold out, from 0 to 0.5.
        known: subsets, by SHA-256 of the scan, of cases that the base model, or one before it, was made with: what was
            held out stays so, and what was learnt from is never held out.

    Raises:
        InputError: the share is out of range.
    """
    if not 0 <= share <= LARGEST_SHARE:
        raise InputError(f"The share of held-out cases must be from 0 to {LARGEST_SHARE}, not {share}.")
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
    """Cases by subject, those first that were reviewed first; scans of the same content are of one subject."""
    parent = {case.id: case.id for case in cases}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for case in cases:
        for other in (case.subject, case.sha256):
            parent[find(other)] = find(case.id)
    groups: dict[str, list[CorrectedCase]] = {}
    for case in sorted(cases, key=lambda case: (case.since, case.id)):
        groups.setdefault(find(case.id), []).append(case)
    return {members[0].id: members for members in groups.values()}


def _blocks(subjects: list[str], size: int) -> list[list[str]]:
    """Complete blocks only: a block changes as long as it is not full."""
    return [subjects[start : start + size] for start in range(0, len(subjects) - size + 1, size)]


def _hash(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()


def reference(package: ModelPackage) -> dict[str, str]:
    """How a run names a model that it starts from."""
    return {**ModelReference.to(package).to_dict(), "path": str(package.path.resolve())}


def written_lineage(manifest: Mapping) -> Mapping:
    """What a manifest says of base and cases, see `models.lineage`; empty for models that were not retrained."""
    return manifest.get("training", {}).get("lineage") or {}


def known_subsets(manifest: Mapping) -> dict[str, str]:
    """Subset, by SHA-256, of each scan that a model or one before it was made with; the oldest decides."""
    return _subsets(written_lineage(manifest))


def _subsets(lineage: Mapping) -> dict[str, str]:
    if not lineage:
        return {}
    before = _subsets((lineage.get("base") or {}).get("lineage") or {})
    learnt = dict.fromkeys(lineage.get("earlier", ()), TRAIN)
    return {**{case["sha256"]: case["subset"] for case in lineage["cases"]}, **learnt, **before}


def next_version(package: ModelPackage) -> str:
    """The first version after this one, and after all of this model that are there: its middle number counts up."""
    versions = [entry.package.version for entry in available_models() if entry.package and entry.id == package.id]
    numbers = [tuple(map(int, text.partition("-")[0].split("."))) for text in (*versions, package.version)]
    major, minor, _ = max(numbers)
    return f"{major}.{minor + 1}.0"
