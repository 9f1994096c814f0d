"""Composites as cases to train from: what configurations with the reader "composite" are made of."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.composites.case import CompositeCase, generate_composite
from H3DELandmarksResearch.composites.patient import read_patient
from H3DELandmarksResearch.phantom.training_cases import is_wide, kept_case

logger = logging.getLogger(__name__)
MOST_TRIES = 12
# Every so many composites, one has the voxels of planning CT.
COARSE_EVERY = 4


def composite_cases(
    source: Path,
    patients: Sequence[str],
    count: int,
    spacings: Sequence[float],
    folder: Path,
    first: int = 0,
    wide_share: float = 0.0,
) -> Iterator[Case]:
    """Generate composites, or read them back; patients are taken in turn, those whose jaw holds no teeth left out.

    Args:
        source: folder with ``NAME_ct.nii.gz`` and ``NAME_organs.nii.gz``.
        patients: names of the patients of one subset.
        count: how many composites to make.
        spacings: voxel sizes in mm, taken in turn.
        folder: where arrays are kept.
        first: number of the first one; other numbers give other teeth, views and scanners.
        wide_share: share whose lower molars vary as widely as in patients.

    Raises:
        InputError: too few patients can hold teeth, or the scan of one is missing.
    """
    made, number = 0, first
    while made < count:
        if number - first >= MOST_TRIES * (count + len(patients)):
            raise InputError(f"'{source}' has too few patients whose jaws can hold made teeth: add others.")
        name = patients[number % len(patients)]
        case = _composite(
            Path(source), name, number, spacings[number % len(spacings)], folder, is_wide(number, wide_share)
        )
        number += 1
        if case is not None:
            made += 1
            yield case


def is_coarse(number: int) -> bool:
    """Whether the composite of a number is stored coarsely."""
    return number % COARSE_EVERY == COARSE_EVERY - 1


def _composite(source: Path, patient: str, seed: int, spacing: float, folder: Path, wide: bool) -> Case | None:
    """One composite; None for a patient who cannot have one, which a file remembers.

    Raises:
        InputError: a scan is missing.
    """
    stem = f"{patient}-{seed}-{spacing}{'-wide' * wide}"
    refused = folder / f"{stem}.txt"
    if refused.exists():
        return None

    def make() -> CompositeCase:
        return generate_composite(read_patient(source, patient), seed, spacing, coarse=is_coarse(seed), wide=wide)

    try:
        return kept_case(folder / f"{stem}.npz", f"composite-{patient}-{seed}", make)
    except InputError as error:
        if not (source / f"{patient}_ct.nii.gz").is_file():
            raise
        logger.info("%s", error)
        folder.mkdir(parents=True, exist_ok=True)
        refused.write_text(str(error), encoding="utf-8")
        return None
