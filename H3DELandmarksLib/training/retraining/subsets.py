"""Which corrected cases teach, which ones the curve and the calibration see, and which are held out.

A subject, and with it every scan of the same content, is on one side only. Subjects are taken in the order in which
they were reviewed first, in blocks; of every complete block the subject whose hash comes first is held out, and from
the second block on the next one is for validation. Cases that are added later thus change nothing for those before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.training.retraining.corrected import CorrectedCase

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
