"""Training configurations: one JSON file per model says data, split, networks and schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from H3DELandmarksLib.core.text import nearest
from H3DELandmarksLib.formats.manifest import ModelDescription, check_height
from H3DELandmarksLib.formats.reading import Count, Finite, NotNegative, Positive, Share, Text
from H3DELandmarksLib.formats.training import SUBSETS, TrainingStage

CALIBRATION = "calibration"
# What each reader of training data needs to be told, and what it may be told besides.
NEEDED = {
    "case-folder": ("folder", "split"),
    "phantom": ("seeds", "spacings_mm"),
    "composite": ("folder", "patients", "composites", "seeds", "spacings_mm"),
}
MADE = ("wide_share", "less_room_mm")
OPTIONAL = {"case-folder": ("poses",), "phantom": MADE, "composite": MADE}


@dataclass(frozen=True)
class RigidMotion:
    """Where the points of a case lie in its scan: ``rotation @ point + translation``, LPS mm."""

    rotation: tuple[tuple[Finite, Finite, Finite], tuple[Finite, Finite, Finite], tuple[Finite, Finite, Finite]]
    translation: tuple[Finite, Finite, Finite]
    median_residual_mm: NotNegative | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Which cases a model is made with.

    Attributes:
        reader: "case-folder", "phantom" or "composite" (teeth of the phantom in scans of patients, and phantoms).
        folder: of scans and point lists; ``${H3DE_DATA}`` in it names the environment variable.
        split: names of the cases of each subset, or the name of a file in the folder that holds them.
        poses: file beside the configuration with the rigid motion of cases whose points lie in another pose.
        patients: of composites: configuration beside this one, by whose split patients are parted.
        composites: how many there are in each subset.
        seeds: of the phantom: first and last (excluded) of each subset.
        spacings_mm: of the phantom: voxel sizes taken in turn.
        wide_share: of phantoms and composites: share whose lower molars vary as widely as in patients.
        less_room_mm: of phantoms: where it is not 0, every other one has no third molars, and up to so many mm less
            room behind the second ones.
    """

    reader: Literal["case-folder", "phantom", "composite"]
    folder: Text | None = None
    split: Text | dict[str, tuple[str, ...]] | None = None
    poses: Text | None = None
    patients: Text | None = None
    composites: dict[str, Count] | None = None
    seeds: dict[str, tuple[Count, Count]] | None = None
    spacings_mm: tuple[Positive, ...] | None = None
    wide_share: Share = 0.0
    less_room_mm: NotNegative = 0.0

    def __post_init__(self) -> None:
        for name in NEEDED[self.reader]:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: it is missing, the reader '{self.reader}' needs it")
        for entry in fields(self):
            known = ("reader", *NEEDED[self.reader], *OPTIONAL[self.reader])
            if entry.name not in known and getattr(self, entry.name) != entry.default:
                raise ValueError(f"{entry.name}: the reader '{self.reader}' makes nothing of it; leave it out")
        for name, subsets in (("split", self.split), ("seeds", self.seeds), ("composites", self.composites)):
            if isinstance(subsets, Mapping):
                _check_subsets(name, list(subsets))
        if isinstance(self.split, Mapping):
            check_split(self.split)
        if self.seeds is not None:
            _check_seeds(self.seeds, self.composites or {})


def _check_subsets(entry: str, subsets: Sequence[str]) -> None:
    known = (*SUBSETS, CALIBRATION)
    for subset in subsets:
        if subset not in known:
            raise ValueError(f"{entry}.{subset}: there is no such subset: {nearest(subset, known)}")
    for subset in SUBSETS:
        if subset not in subsets:
            raise ValueError(f"{entry}.{subset}: it is missing")


def check_split(split: Mapping[str, Sequence[str]]) -> None:
    """A case that teaches may not judge, each counts once, and there are some of either.

    Raises:
        ValueError: it names the entry.
    """
    seen: dict[str, str] = {}
    for subset, names in split.items():
        for name in names:
            if name in seen:
                where = f"twice in {subset}" if seen[name] == subset else f"in {seen[name]} and in {subset}"
                raise ValueError(f"split: the case '{name}' stands {where}")
            seen[name] = subset
    _check_counts("split", {subset: len(names) for subset, names in split.items()})


def _check_counts(entry: str, counts: Mapping[str, int]) -> None:
    """Without cases to calibrate a model by it is not measured either, so that there need be none for that."""
    if not counts["train"]:
        raise ValueError(f"{entry}.train: there is no case to learn from")
    if not counts["test"] and counts.get(CALIBRATION, counts["validation"]):
        raise ValueError(f"{entry}.test: there is no case to measure the model by")


def _check_seeds(seeds: Mapping[str, tuple[int, int]], composites: Mapping[str, int]) -> None:
    for subset in composites and {*seeds} ^ {*composites}:
        raise ValueError(f"{'composites' if subset in seeds else 'seeds'}.{subset}: it is missing")
    for subset, (first, last) in seeds.items():
        if last < first:
            raise ValueError(f"seeds.{subset}: {last} comes before {first}")
        for other, (begin, end) in seeds.items():
            if other != subset and max(first, begin) < min(last, end):
                raise ValueError(f"seeds: {subset} and {other} share phantoms")
    _check_counts(
        "seeds", {subset: last - first + composites.get(subset, 0) for subset, (first, last) in seeds.items()}
    )


@dataclass(frozen=True, kw_only=True)
class TrainingConfiguration(ModelDescription):
    """A training configuration.

    Attributes:
        scheme: file of the landmarks beside the configuration; the phantom brings its own.
        data: the cases.
        stages: in the order in which they look.
        tolerance_mm: error up to which a position counts as right.
        thresholds_mm: of success rates in the report.
        own_frame: whether cases are turned onto the mean shape; follows from the stages' poses and must agree.
        start_from: model whose weights training begins with.
        show_scans: whether the model card may show scans.
        joint: whether points are placed together, by the anatomy of the training cases and by the errors in calibration
            cases; for structures that repeat.
        cross_conformal: whether radii are learnt from calibration and test cases in turn.
    """

    scheme: Text | None = None
    data: TrainingData
    stages: tuple[TrainingStage, ...]
    tolerance_mm: Positive
    thresholds_mm: tuple[Positive, ...] | None = None
    own_frame: bool | None = None
    start_from: Text | None = None
    show_scans: bool = False
    joint: bool = False
    cross_conformal: bool = False
    format_version: Literal[1] = 1

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages: there must be one at least")
        if self.own_frame is not None and self.own_frame != self.sees_canonical_pose:
            raise ValueError(
                f"own_frame: {str(self.own_frame).lower()} contradicts the poses of the stages "
                f"({', '.join(stage.poses for stage in self.stages)}); leave it out"
            )
        check_height(self.height_mm, self.is_2d)
        if self.height_mm is None and any(stage.augmentation.cut for stage in self.stages):
            raise ValueError(
                "augmentation.cut: it needs height_mm, since cut pictures are counted as high as whole ones"
            )
        if any(stage.is_closer and stage.augmentation.cut for stage in self.stages):
            raise ValueError("augmentation.cut: it belongs to stages that search whole pictures; leave it out")
        if any(stage.is_closer for stage in self.stages) and not self.joint:
            raise ValueError("joint: the poses 'structures' need points that are placed together, true")
        if self.data.reader == "case-folder" and self.scheme is None:
            raise ValueError("scheme: it is missing; name the file of the landmarks")

    @property
    def is_2d(self) -> bool:
        """Whether the model reads radiographs and not volumes."""
        return self.stages[0].is_2d

    @property
    def sees_canonical_pose(self) -> bool:
        """Whether any stage sees the anatomy in its own frame, so that cases are turned onto the mean shape."""
        return any(stage.sees_canonical_pose for stage in self.stages)
