"""How a plan follows from a folder's cases: landmarks and pairs, subsets, sizes, stages, steps.

In the spirit of nnU-Net's plans (Isensee et al., Nature Methods 18:203, 2021): what is measured in the data decides,
and what was decided is written down for editing. Stages of volumes follow the rules of retraining's new models.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.text import plural, same_names
from H3DELandmarksLib.formats.manifest import Group
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.formats.training import Augmentation, TrainingStage
from H3DELandmarksLib.retraining.new_model import FINER, Anatomy, new_stages
from H3DELandmarksLib.retraining.plan import STRONG, USUAL_TRAINING, schedule

MIN_SUBJECTS = 6
# Of the subjects; at least one each.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.15
# With fewer subjects, radii are learnt from validation and test cases in turn.
ENOUGH_TO_SPARE = 60
# A landmark that fewer cases show is left out.
MIN_CASES_OF_LANDMARK = 3
MIN_GLUED = 3
SIDES = (("left", "right"), ("l", "r"), ("sin", "dex"), ("sinister", "dexter"))

# For radiographs: a network that a computer without a GPU trains in an hour or two, and pixels that it trains on.
SMALL_2D = {
    "in_channels": 1,
    "dims": [24, 40, 64, 88, 96],
    "heads": [2, 4, 8, 8, 8],
    "n_win": [8, 8, 8, 4],
    "topk": [1, 4, 8, 16],
    "mlp_ratios": [2, 2, 2, 2, 2],
    "drop_path": 0.05,
    "neck_dim": 56,
    "image_dim": 16,
    "norm": "group",
}
SEARCH_PIXELS, CLOSER_PIXELS, SIDE_STEP = 50_000, 100_000, 32
FILLED_2D = 0.75
MAX_STEPS, FIRST_STEPS, STEPS_A_CASE = 6000, 1500, 40


def scheme_of(
    model_id: str, lists: Sequence[LandmarkSet], least: int = MIN_CASES_OF_LANDMARK
) -> tuple[LandmarkScheme, list[str]]:
    """The landmarks that enough cases show, in the order of the longest list, with pairs by their names.

    Args:
        model_id: names the scheme.
        lists: landmarks of each case.
        least: how many cases show a landmark.

    Returns:
        The scheme, and the names that are left out since fewer cases show them.

    Raises:
        InputError: no landmark is left.
    """
    lists = _named_alike(lists)
    ordered = dict.fromkeys(name for one in sorted(lists, key=lambda one: -len(one.names)) for name in one.names)
    shown = Counter(name for one in lists for name, there in zip(one.names, one.present) if there)
    kept = [name for name in ordered if shown[name] >= least]
    if not kept:
        raise InputError(f"No landmark is shown by {plural(least, 'case')}: place the same names in more scans.")
    texts = {name: definition for one in lists for name, definition in zip(one.names, one.definitions) if definition}
    landmarks = tuple(LandmarkDefinition(name, texts.get(name, name)) for name in kept)
    pairs = tuple(pairs_of(kept))
    return LandmarkScheme(f"{model_id}-{len(kept)}", "1.0", landmarks, pairs), [n for n in ordered if n not in kept]


def _named_alike(lists: Sequence[LandmarkSet]) -> list[LandmarkSet]:
    """The same; where two names differ in case or blanks alone, and no case has both, the more frequent one stands."""
    kept: list[str] = []
    for name, _ in Counter(name for one in lists for name in one.names).most_common():
        other = same_names([name], kept).get(name)
        if other is None or any({name, other} <= set(one.names) for one in lists):
            kept.append(name)
    meant = [same_names(one.names, kept) for one in lists]
    return [replace(one, names=tuple(m.get(name, name) for name in one.names)) for one, m in zip(lists, meant)]


def pairs_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """(left, right) of names that differ by the side alone.

    The side is a word, as in gonion-L and gonion-R, or left and right; or else a capital L or R at one end of the name,
    as in La and Ra, where at least `MIN_GLUED` pairs are so and no name with such a letter lacks its partner. A name is
    in one pair at most: of "left L" and its partners, by the words left and right.
    """
    known = {name.casefold(): name for name in names}
    pairs: list[tuple[str, str]] = []
    for left, right in SIDES:
        for name in names:
            for found in re.finditer(rf"(?<![a-z0-9]){left}(?![a-z0-9])", name.casefold()):
                other = known.get(name.casefold()[: found.start()] + right + name.casefold()[found.end() :])
                if other is not None and not {name, other} & {one for pair in pairs for one in pair}:
                    pairs.append((name, other))
    return pairs or _glued_pairs(names)


def _glued_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    for side in (r"^{}(?=[a-z0-9])", r"(?<=[a-z0-9]){}$"):
        left, right = (re.compile(side.format(letter)) for letter in "LR")
        pairs = [(name, left.sub("R", name)) for name in names if left.search(name)]
        if len(pairs) >= MIN_GLUED and {one for _, one in pairs} == {name for name in names if right.search(name)}:
            return pairs
    return []


def subsets_of(subjects: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Cases of "train", "validation" and "test", whole subjects in one subset, drawn by the hash of their names.

    Args:
        subjects: subject of each case.

    Raises:
        InputError: there are fewer than six subjects.
    """
    names = sorted(set(subjects.values()), key=lambda subject: hashlib.sha256(subject.encode()).hexdigest())
    if len(names) < MIN_SUBJECTS:
        raise InputError(
            f"There are {len(names)} subjects, and training needs {MIN_SUBJECTS} at least, of which some are held out: "
            "annotate more scans."
        )
    test, validation = (max(1, round(share * len(names))) for share in (TEST_SHARE, VALIDATION_SHARE))
    chosen = {
        "train": set(names[test + validation :]),
        "validation": set(names[test : test + validation]),
        "test": set(names[:test]),
    }
    return {
        subset: tuple(case for case, subject in subjects.items() if subject in members)
        for subset, members in chosen.items()
    }


@dataclass(frozen=True)
class PlannedStages:
    """Stages and why they are so.

    Attributes:
        stages: for the configuration.
        reasons: sentences.
    """

    stages: tuple[TrainingStage, ...]
    reasons: tuple[str, ...]


def plan_stages(anatomy: Anatomy, scheme: LandmarkScheme, is_2d: bool, cases: int, steps: int | None) -> PlannedStages:
    """A search of the whole scan in coarse voxels and, where that shows more, a closer look at all points.

    Args:
        anatomy: sizes.
        scheme: landmarks.
        is_2d: whether the scans are radiographs.
        cases: that teach.
        steps: of each stage; by default as many as the number of cases asks for.
    """
    stages = (
        _of_radiographs(anatomy, scheme, cases, steps) if is_2d else new_stages(anatomy, scheme, cases, steps, None)
    )
    extent = " x ".join(f"{length:.3g}" for length in anatomy.extent[: 2 if is_2d else 3])
    why = "as asked for" if steps else "by the number of cases for training"
    reasons = [
        f"The points of a case spread over up to {extent} mm in scans with voxels of about {anatomy.voxel:.3g} mm.",
        *(f"'{s.name}' sees {_sides(s, is_2d)} of {s.spacing_mm:g} mm." for s in stages),
        "Subjects lie in any pose, so that the search turns." if anatomy.canonical_pose else "Subjects lie alike.",
        f"{stages[0].training.steps} steps a stage, {why}.",
    ]
    return PlannedStages(stages, tuple(reasons))


def _sides(stage: TrainingStage, is_2d: bool) -> str:
    return " x ".join(map(str, stage.shape[: 2 if is_2d else 3])) + (" pixels" if is_2d else " voxels")


def _of_radiographs(
    anatomy: Anatomy, scheme: LandmarkScheme, cases: int, steps: int | None
) -> tuple[TrainingStage, ...]:
    count = steps or min(MAX_STEPS, FIRST_STEPS + STEPS_A_CASE * cases)
    search_spacing, search_shape = _grid(anatomy.field_of_view[:2], anatomy.voxel, SEARCH_PIXELS)
    search = _stage("localizer", search_spacing, search_shape, scheme, anatomy, count)
    spacing, shape = _grid(anatomy.extent[:2] / FILLED_2D, anatomy.voxel, CLOSER_PIXELS)
    if spacing >= FINER * search_spacing:
        return (search,)
    return (search, _stage("closer", spacing, shape, scheme, anatomy, count))


def _grid(size: np.ndarray, finest: float, pixels: int) -> tuple[float, tuple[int, int, int]]:
    """The finest pixels, and the crop of them, that cover a size in mm and are not too many."""
    spacing = finest
    while True:
        width, height = (int(max(SIDE_STEP, SIDE_STEP * np.ceil(mm / spacing / SIDE_STEP))) for mm in size)
        if width * height <= pixels or width == height == SIDE_STEP:
            return float(f"{spacing:.3g}"), (width, height, 1)
        spacing *= 1.05


def _stage(
    name: str, spacing: float, shape: tuple[int, int, int], scheme: LandmarkScheme, anatomy: Anatomy, steps: int
) -> TrainingStage:
    first = name == "localizer"
    spare = np.maximum(np.array(shape[:2]) * spacing / 2 - anatomy.extent[:2] / 2, 2 * spacing)
    x, y = (float(round(length, 3)) for length in (0.8 if first else 0.4) * spare)
    augmentation = Augmentation(
        **{**STRONG, "contrast": 0.35, "brightness": 0.1, "gamma": 0.35, "scale": 0.2},
        mirror=0.5 if scheme.pairs else 0.0,
        truncate=0.2,
        nothing=0.05 if first else 0.0,
        rotation_degrees=20.0 if first else 15.0,
        shift_mm=(x, y, 0.0),
    )
    planned = schedule(steps)
    planned["warmup"] = min(200, max(1, steps // 10))
    planned["ema"] = min(0.999, max(0.5, 1 - 10 / steps))
    return TrainingStage(
        name=name,
        network=Network("hyatt", {**SMALL_2D, "landmarks": len(scheme)}),
        spacing_mm=spacing,
        shape=shape,
        groups=(Group(scheme.names),),
        views=2 if scheme.pairs and not first else 1,
        training=replace(USUAL_TRAINING, sigma=1.0 if first else 1.5, **planned),
        augmentation=augmentation,
    )
