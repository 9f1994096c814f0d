"""A project of small cases, a retraining that held some of them out, and models that are compared on them."""

from pathlib import Path

import numpy as np
from run_records import write_run_record

from H3DELandmarksLib.cases import CaseLandmark, CaseProject, ReviewState, create_project
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.models import ModelPackage

SIZE, SPACING = 24, 2.0
MIDDLE = np.full(3, SIZE * SPACING / 2)


def small_scan(seed: int) -> Volume:
    """A ball in air with noise of its own."""
    rng = np.random.default_rng(seed)
    lps = np.stack(np.meshgrid(*(np.arange(SIZE) * SPACING,) * 3, indexing="ij"), axis=-1)
    values = np.where(np.linalg.norm(lps - MIDDLE, axis=-1) < 16, 800, -1000) + rng.normal(0, 60, (SIZE,) * 3)
    return Volume(values.round().astype(np.int16), np.diag([SPACING, SPACING, SPACING, 1.0]))


def truth(seed: int, count: int) -> np.ndarray:
    """(count, 3) LPS mm."""
    return MIDDLE + np.random.default_rng(seed + 500).normal(0, 8, (count, 3))


def make_project(
    folder: Path, scheme: LandmarkScheme, cases: int, points=None, subjects=None, absent=()
) -> CaseProject:
    """A project whose cases have all landmarks placed.

    Args:
        folder: of the project.
        scheme: of the project.
        cases: how many.
        points: gives (K, 3) LPS mm of a case; by default `truth`.
        subjects: number of an earlier case by number of a case of the same subject.
        absent: (case, landmark) that are not in the scan.
    """
    project, ids = create_project(folder, scheme), []
    for seed in range(cases):
        places = truth(seed, len(scheme)) if points is None else points(seed)
        landmarks = [
            CaseLandmark(name, ReviewState.ABSENT)
            if (seed, name) in absent
            else CaseLandmark(name, ReviewState.PLACED, place)
            for name, place in zip(scheme.names, places)
        ]
        subject = (subjects or {}).get(seed)
        ids.append(project.add(small_scan(seed), landmarks, subject=None if subject is None else ids[subject]).case)
    return project


def case_ids(project: CaseProject, cases: int) -> list[str]:
    """Ids in the order of the seeds."""
    return [project.find(small_scan(seed)).id for seed in range(cases)]


def make_run(
    folder: Path, project: CaseProject, base: ModelPackage | None, subsets: list[str], state: str = "done"
) -> Path:
    """The record of a retraining; its package is written by the caller.

    Args:
        folder: of the run.
        project: whose cases.
        base: model that it started from.
        subsets: of the cases, in the order of their seeds.
        state: of the run.
    """
    cases = [
        {"id": name, "revision": 1, "sha256": project.case(name).content().digest, "subset": subset}
        for name, subset in zip(case_ids(project, len(subsets)), subsets)
    ]
    start = {"id": base.id, "version": base.version, "digest": "0" * 64, "path": str(base.path)} if base else None
    return write_run_record(
        folder, project.scheme, cases=cases, base=start, state=state, project=str(project.folder), device="cpu"
    )


def found_at(cases, error: float, missing=(), names=None, seed: int = 0) -> list[LandmarkSet]:
    """What a model finds that errs by so many mm in a direction of its own.

    Args:
        cases: held-out cases.
        error: mm; a number, or one for each (case, landmark).
        missing: (case, landmark) numbers that it does not find.
        names: of its landmarks; by default those of the reference.
        seed: of the directions.
    """
    rng, found = np.random.default_rng(seed), []
    for n, case in enumerate(cases):
        reference = case.reference.ordered_as(tuple(names or case.reference.names))
        direction = rng.normal(size=(len(reference), 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        points = np.nan_to_num(reference.positions, nan=0.0)
        points = points + direction * np.broadcast_to(error, (len(cases), len(reference)))[n][:, None]
        presence = [0.0 if (n, k) in missing else 1.0 for k in range(len(reference))]
        found.append(LandmarkSet(reference.names, points, presence))
    return found
