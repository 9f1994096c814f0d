"""Many radiographs of many subjects, as cases of a data set."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.converters.conversion import SourceCase
from H3DELandmarksResearch.radiographs.case import Subject, make_radiograph
from H3DELandmarksResearch.radiographs.recipe import Recipe


def radiograph_cases(
    subjects: Mapping[str, Callable[[], Subject]], recipe: Recipe, views: int, seed: int, subset: str
) -> list[SourceCase]:
    """Radiographs that are taken when they are read, named ``SUBJECT_VIEW-NUMBER``.

    Each has random numbers of its own, from seed, subject and number: it is the same picture whichever others are
    taken, so that a run that was stopped can go on.

    Args:
        subjects: functions that load the subjects, by name; the last one is kept in memory.
        recipe: how to take them.
        views: radiographs of each subject; the recipe's views take turns.
        seed: of everything random.
        subset: "train", "validation", "calibration" or "test"; all radiographs of a subject belong to it.
    """

    @lru_cache(maxsize=1)
    def subject(name: str) -> Subject:
        return subjects[name]()

    def reader(name: str, view: str, number: int) -> Callable[[], tuple[Volume, LandmarkSet]]:
        def read() -> tuple[Volume, LandmarkSet]:
            rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
            radiograph = make_radiograph(subject(name), recipe, view, rng)
            return radiograph.volume, radiograph.landmarks

        return read

    turns = [recipe.views[number % len(recipe.views)] for number in range(views)]
    return [
        SourceCase(f"{name}_{view}-{number:03d}", reader(name, view, number), (subset,))
        for name in subjects
        for number, view in enumerate(turns)
    ]
