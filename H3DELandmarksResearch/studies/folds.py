"""Folds of a training configuration's cases: the same for every comparison, and derived from nothing but a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.formats.reading import STRICT, Count, read_record, to_json
from H3DELandmarksResearch.training.configuration import Configuration

FOLDER = Path(__file__).resolve().parent / "configurations"
SEED = 1


@dataclass(frozen=True)
class FoldFile:
    """``MODEL-folds.json``: names of the cases of each fold, and the seed that they were drawn with."""

    seed: Count
    folds: tuple[tuple[str, ...], ...]
    __pydantic_config__ = STRICT


def all_names(configuration: Configuration) -> list[str]:
    """Names of the cases of all subsets, sorted."""
    return sorted({name for names in configuration.split().values() for name in names})


def make_folds(names: Sequence[str], count: int, seed: int = SEED) -> list[list[str]]:
    """Distribute cases at random over `count` folds whose sizes differ by one at most; each fold is sorted."""
    order = np.random.default_rng(seed).permutation(sorted(names))
    return [sorted(map(str, order[number::count])) for number in range(count)]


def stored_folds(model: str, configuration: Configuration, count: int) -> list[list[str]]:
    """The folds in the repository, or, for another number of them or another data set, new ones."""
    path = FOLDER / f"{model}-folds.json"
    names = all_names(configuration)
    if path.exists():
        folds = [list(fold) for fold in read_record(FoldFile, path, what="file of folds").folds]
        if len(folds) == count and sorted(name for fold in folds for name in fold) == names:
            return folds
    return make_folds(names, count)


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
