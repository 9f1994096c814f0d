"""Folds of a training configuration's cases: the same for every comparison, and derived from nothing but a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.formats.reading import Count, read_record, to_json
from H3DELandmarksResearch.cases.subjects import subjects_in
from H3DELandmarksResearch.training.configuration import Configuration

FOLDER = Path(__file__).resolve().parent / "configurations"
SEED = 1


@dataclass(frozen=True)
class FoldFile:
    """``MODEL-folds.json``: names of the cases of each fold, and the seed that they were drawn with."""

    seed: Count
    folds: tuple[tuple[str, ...], ...]


def all_names(configuration: Configuration) -> list[str]:
    """Names of the cases of all subsets, sorted."""
    return sorted({name for names in configuration.split().values() for name in names})


def make_folds(
    names: Sequence[str], count: int, seed: int = SEED, subjects: Mapping[str, str] = MappingProxyType({})
) -> list[list[str]]:
    """Distribute cases at random over `count` folds; those of one subject lie in one fold, and each fold is sorted.

    Args:
        names: of the cases.
        count: of the folds, whose numbers of subjects differ by one at most.
        seed: of the distribution.
        subjects: whose a case is, where more than one may be of a subject.

    Raises:
        InputError: there are fewer subjects than folds.
    """
    of_subject: dict[tuple[bool, str], list[str]] = {}
    for name in sorted(names):
        of_subject.setdefault((name in subjects, subjects.get(name, name)), []).append(name)
    groups = list(of_subject.values())
    if len(groups) < count:
        raise InputError(f"{count} folds need as many subjects, and the cases are of {len(groups)}: take fewer folds.")
    order = np.random.default_rng(seed).permutation(len(groups))
    return [sorted(name for k in order[number::count] for name in groups[k]) for number in range(count)]


def stored_folds(model: str, configuration: Configuration, count: int) -> list[list[str]]:
    """The folds in the repository, or, for another number of them or another data set, new ones."""
    path = FOLDER / f"{model}-folds.json"
    names = all_names(configuration)
    if path.exists():
        folds = [list(fold) for fold in read_record(FoldFile, path, what="file of folds").folds]
        if len(folds) == count and sorted(name for fold in folds for name in fold) == names:
            return folds
    return make_folds(names, count, subjects=subjects_in(configuration.data_folder(), names))


def of_subset(configuration: Configuration, names: Sequence[str]) -> Configuration:
    """The configuration with these cases for training and no others."""
    return _with_split(configuration, {"train": tuple(names), "validation": (), "test": ()})


def _with_split(configuration: Configuration, split: dict[str, tuple[str, ...]]) -> Configuration:
    record = configuration.record
    return replace(configuration, record=replace(record, data=replace(record.data, split=split)))


def write_fold(configuration: Configuration, folds: Sequence[Sequence[str]], number: int, path: Path) -> Path:
    """Write the configuration that tests on one fold and learns from all others; nothing is left to validate.

    Args:
        configuration: as for training on all cases.
        folds: names of the cases of each.
        number: of the fold to test on.
        path: file to write.
    """
    learnt = tuple(name for k, fold in enumerate(folds) if k != number for name in fold)
    split = {"train": learnt, "validation": (), "test": tuple(folds[number])}
    record = _with_split(configuration, split).record
    beside = configuration.path.resolve().parent
    if record.data.poses is not None:
        record = replace(record, data=replace(record.data, poses=str(beside / record.data.poses)))
    if record.scheme is not None:
        record = replace(record, scheme=str(beside / record.scheme))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        partial.write_bytes(to_json(record))
    return path
