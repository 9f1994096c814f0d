"""Adding cases, killed at every file operation in turn: is every case that was there still there, and complete?

A child process adds a case with two reviews and brings the index up to date, and is killed at its first file operation;
the next child at its second; and so on. After every kill the project is read as if nothing had happened. Run:
``python -m benchmarks.kill_export [--passes 1]``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.killing import count_operations, kill_at
from H3DELandmarksLib.cases import CaseLandmark, CaseProject, ReviewState, create_project
from H3DELandmarksLib.cases.store import INDEX, content_of, read_index
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme

SCHEME = LandmarkScheme("killed", "1", tuple(LandmarkDefinition(name, "a point") for name in "ABC"))
SIZE = 16  # voxels


@dataclass
class Outcome:
    """What was seen.

    Attributes:
        kills: how often the child was killed.
        cases: cases at the end.
        revisions: reviews at the end.
        lost: acknowledged reviews that are not there.
        damaged: cases that cannot be read or whose scan is another one.
        indices_rebuilt: how often the index told all cases after the kill.
    """

    kills: int = 0
    cases: int = 0
    revisions: int = 0
    lost: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    indices_rebuilt: int = 0


def sample(seed: int) -> Volume:
    """A small scan of its own for every seed."""
    rng = np.random.default_rng(seed)
    return Volume(rng.integers(-1000, 2000, (SIZE, SIZE, SIZE)).astype(np.int16), np.diag([0.5, 0.5, 0.5, 1.0]))


def add_case(folder: Path, seed: int, acknowledge: Callable[[str], None]) -> None:
    """Add a case and a second review of it, and say "case revision" of each that is done."""
    project = CaseProject(folder)
    for x in (1.0, 2.0):
        added = project.add(sample(seed), [CaseLandmark("A", ReviewState.PLACED, np.array([x, float(seed), 0.0]))])
        acknowledge(f"{added.case} {added.revision}")
        read_index(project)


def problems(project: CaseProject) -> list[str]:
    """Cases that cannot be read, or whose scan is not the one that their record names."""
    found = []
    for case in project.cases():
        try:
            if not content_of(case.volume()).same_image(case.content()) or not case.revisions():
                found.append(case.id)
        except Exception as error:  # whatever it is, the case is not intact
            found.append(f"{case.id}: {error}")
    return found


def run(folder: Path, passes: int = 1) -> Outcome:
    """Kill at every file operation, so many times, looking at the project after every kill."""
    project = create_project(folder / "project", SCHEME)
    add_case(project.folder, 0, lambda line: None)
    first = create_project(folder / "first", SCHEME)
    add_case(first.folder, 0, lambda line: None)  # imports what it needs
    operations = count_operations(first.folder, lambda acknowledge: add_case(first.folder, 1, acknowledge))
    outcome, acknowledged = Outcome(), set()
    for number in range(passes * operations):
        operation = number % operations + 1

        def work(acknowledge: Callable[[str], None], seed: int = 1000 + number) -> None:
            add_case(project.folder, seed, acknowledge)

        said = kill_at(operation, project.folder, work)
        acknowledged |= set(said)
        outcome.kills += 1
        (project.folder / INDEX).unlink(missing_ok=True)
        told = {summary.id for summary in read_index(project)}
        outcome.indices_rebuilt += told == {case.id for case in project.cases()}
    there = {f"{case.id} {number}" for case in project.cases() for number in case.revision_numbers()}
    outcome.lost = sorted(acknowledged - there)
    outcome.damaged = problems(project)
    outcome.cases, outcome.revisions = len(project.cases()), len(there)
    return outcome


def main() -> int:
    """Print what was seen; 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), options.passes)
    print(
        f"{outcome.kills} kills: {outcome.cases} cases with {outcome.revisions} reviews; "
        f"{len(outcome.lost)} acknowledged reviews lost, {len(outcome.damaged)} cases damaged, "
        f"index rebuilt {outcome.indices_rebuilt} times"
    )
    return 1 if outcome.lost or outcome.damaged or outcome.indices_rebuilt != outcome.kills else 0


if __name__ == "__main__":
    sys.exit(main())
