"""The stages of a model for another scheme: landmarks that went leave their groups, new ones join the nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np

from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.shape_model import ShapeModel

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
