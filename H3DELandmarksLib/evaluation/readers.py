"""Several people's points of the same cases: their mean, and how far apart they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.evaluation.metrics import radial_errors
from H3DELandmarksLib.formats.comparison import HumanFloor

Readings = Mapping[str, LandmarkSet]


def mean_of_readers(readings: Readings, names: tuple[str, ...]) -> LandmarkSet:
    """The mean position of every landmark.

    Args:
        readings: of one case by reader, LPS mm.
        names: landmarks and their order.

    Returns:
        LPS mm; the mean over those who placed a landmark, where at least two did. It is absent where all who say
        something say so, and unknown elsewhere.
    """
    sets = [points.ordered_as(names) for points in readings.values()]
    placed = np.array([one.present for one in sets], dtype=bool).reshape(-1, len(names))
    says = ~np.array([one.unknown for one in sets], dtype=bool).reshape(-1, len(names))
    total = np.nansum(np.array([one.positions for one in sets]).reshape(-1, len(names), 3), axis=0)
    count = placed.sum(axis=0)
    enough = count >= 2
    positions = np.where(enough[:, None], total / np.maximum(count, 1)[:, None], np.nan)
    absent = says.any(axis=0) & (count == 0)
    return LandmarkSet(names, positions, np.where(enough, 1.0, np.where(absent, 0.0, np.nan)))


def human_floor(found: Sequence[LandmarkSet], readings: Sequence[Readings]) -> HumanFloor | None:
    """How far a model is from the readers' mean, and they from each other, on the same points.

    Args:
        found: (N) by the model, LPS mm; its landmarks are the ones that count.
        readings: (N) by reader, LPS mm, matched by name.

    Returns:
        None where no landmark of any case was found and placed by two readers.
    """
    readers = {reader for case in readings for reader in case}
    model, between, points = [], [], 0
    for mine, case in zip(found, readings):
        mean = mean_of_readers(case, mine.names)
        both = mine.present & mean.present
        points += int(both.sum())
        model.append(radial_errors(mine.positions, mean.positions)[both])
        placed = [one.ordered_as(mine.names).positions for one in case.values()]
        between += [radial_errors(a, b)[both] for a, b in combinations(placed, 2)]
    if not points:
        return None
    return HumanFloor(len(readers), points, _mean(between), _mean(model))


def _mean(errors: Sequence[np.ndarray]) -> float:
    values = np.concatenate(errors)
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
