"""The two studies of how much retraining gains: mouse skulls of other strains, and another definition of the gonion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases import CaseLandmark, CaseProject, ReviewState, create_project
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.cases.schemes import migrate, next_version, plan_migration
from H3DELandmarksResearch.studies.folds import of_subset
from H3DELandmarksResearch.training.configuration import (
    Configuration,
    find_configuration,
    load_cases,
    read_configuration,
)

HERE = Path(__file__).resolve().parent
FIRST_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
# How far up from the old gonion to the condylion the clinic of the second study marks it.
UP_THE_RAMUS = 0.3


@dataclass(frozen=True)
class Study:
    """What is corrected, and what is measured.

    Attributes:
        title: of the plot.
        threshold_mm: of the detection rate.
        correct: names of the cases to be corrected, in this order.
        test: names of the cases that every model is measured on.
        load: reads one case, its points by the rule that the project follows.
        start: makes the project in a folder, for a base model.
        groups: landmarks that are reported together, by a label; the first is plotted in full.
    """

    title: str
    threshold_mm: float
    correct: tuple[str, ...]
    test: tuple[str, ...]
    load: Callable[[str], Case]
    start: Callable[[Path, ModelPackage], CaseProject]
    groups: dict[str, tuple[str, ...]]


def mouse_study() -> Study:
    """The base knows 15 strains; 20 others are corrected; the five test strains of the bundled model are measured."""
    half = read_configuration(HERE / "configurations" / "mouse-skull-half.json")
    whole = read_configuration(find_configuration("mouse-skull")).split()
    seen = {name for subset in ("train", "validation") for name in half.split()[subset]}
    others = sorted({name for subset, names in whole.items() if subset != "test" for name in names} - seen)
    test = tuple(half.split()["test"])
    if set(others) & set(test) or set(test) - set(whole["test"]):
        raise RuntimeError("A test strain would be corrected.")
    order = tuple(others[k] for k in np.random.default_rng(0).permutation(len(others)))
    return Study(
        "Mouse skull: base of 15 strains, corrected on others, measured on 5 test strains",
        0.3,
        order,
        test,
        lambda name: _load(half, name),
        lambda folder, base: create_project(folder, base.scheme),
        {"all landmarks": half.scheme.names},
    )


def definition_study(counts_from: str = "calibration", measured_on: str = "validation") -> Study:
    """A clinic marks the gonion higher on the ramus than the base's rule; test patients are never touched.

    Args:
        counts_from: subset of the configuration whose patients are corrected.
        measured_on: subset whose patients are measured.
    """
    configuration = read_configuration(find_configuration("head-neck-ct"))
    split = configuration.split()
    if "test" in (counts_from, measured_on):
        raise ValueError("test patients are for the bundled model alone")
    moved = tuple(name for name in configuration.scheme.names if name.startswith("gonion"))
    others = tuple(name for name in configuration.scheme.names if name not in moved)
    return Study(
        "Head and neck: the clinic's own gonion, 30 % up the ramus",
        4.0,
        tuple(split[counts_from]),
        tuple(split[measured_on]),
        lambda name: with_higher_gonion(_load(configuration, name)),
        _migrated_project,
        {"gonion, redefined": moved, "all other landmarks": others},
    )


def with_higher_gonion(case: Case) -> Case:
    """The points of a case as the clinic would mark them; unknown where the condylion is not known."""
    points, names = case.landmarks, case.landmarks.names
    positions, presence = points.positions.copy(), points.presence.copy()
    for side in ("L", "R"):
        low, high = names.index(f"gonion-{side}"), names.index(f"condylion-{side}")
        positions[low] += UP_THE_RAMUS * (positions[high] - positions[low])
        if not points.present[high] and points.present[low]:
            presence[low] = np.nan
    return Case(case.name, case.volume, LandmarkSet(names, positions, presence))


def add_corrected(project: CaseProject, case: Case, day: int) -> None:
    """Put a case into a project as if an expert had corrected it."""
    points = case.landmarks
    landmarks = [
        CaseLandmark(name, ReviewState.PLACED, position)
        if there
        else CaseLandmark(name, ReviewState.UNKNOWN if unknown else ReviewState.ABSENT)
        for name, position, there, unknown in zip(points.names, points.positions, points.present, points.unknown)
    ]
    project.add(case.volume, landmarks, time=FIRST_DAY + timedelta(days=day))


def _load(configuration: Configuration, name: str) -> Case:
    return load_cases(of_subset(configuration, [name]), "train", HERE)[0]


def _migrated_project(folder: Path, base: ModelPackage) -> CaseProject:
    """A project whose scheme has left the base's: another definition of the gonion."""
    project = create_project(folder, base.scheme)
    rule = f"The point {100 * UP_THE_RAMUS:.0f} % of the way from the angle of the jaw up to the condylion."
    landmarks = tuple(
        LandmarkDefinition(p.name, rule) if p.name.startswith("gonion") else p for p in base.scheme.landmarks
    )
    newer = LandmarkScheme(
        base.scheme.id, next_version(base.scheme.version), landmarks, base.scheme.pairs, base.scheme.lateral
    )
    migrate(plan_migration(project, newer))
    return project
