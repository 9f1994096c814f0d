"""Folds of a training configuration's cases: the same for every comparison, and derived from nothing but a seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.files import replaced_when_complete
from H3DELandmarksResearch.training.configuration import Configuration

FOLDER = Path(__file__).resolve().parent / "configurations"
SEED = 1


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
        folds = json.loads(path.read_text(encoding="utf-8"))["folds"]
        if len(folds) == count and sorted(name for fold in folds for name in fold) == names:
            return folds
    return make_folds(names, count)


def of_subset(configuration: Configuration, names: Sequence[str]) -> Configuration:
    """The configuration with these cases for training and no others."""
    values = dict(configuration.values)
    return replace(configuration, values={**values, "data": {**values["data"], "split": {"train": list(names)}}})


def write_fold(configuration: Configuration, folds: Sequence[Sequence[str]], number: int, path: Path) -> Path:
    """Write the configuration that tests on one fold, validates on the next and learns from the others.

    Args:
        configuration: as for training on all cases.
        folds: names of the cases of each.
        number: of the fold to test on.
        path: file to write.
    """
    values = deepcopy(dict(configuration.values))
    following = (number + 1) % len(folds)
    learnt = [name for k, fold in enumerate(folds) if k not in (number, following) for name in fold]
    values["data"]["split"] = {"train": learnt, "validation": list(folds[following]), "test": list(folds[number])}
    beside = configuration.path.resolve().parent
    if "scheme" in values:
        values["scheme"] = str(beside / values["scheme"])
    if "poses" in values["data"]:
        values["data"]["poses"] = str(beside / values["data"]["poses"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_complete(path) as partial:
        partial.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return path
