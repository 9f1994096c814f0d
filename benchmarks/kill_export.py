"""Adding cases, killed with SIGKILL at random moments: is every case that was there still there, and complete?

A child process adds cases and reviews as fast as it can and says each one that is done; it is killed after a random
time. Then the project is read as if nothing had happened. Run: ``python -m benchmarks.kill_export [--rounds 100]``.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases import CaseLandmark, CaseProject, ReviewState, create_project
from H3DELandmarksLib.cases.index import INDEX, read_index
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme

SCHEME = LandmarkScheme("killed", "1", tuple(LandmarkDefinition(name, "a point") for name in "ABC"))
SIZE, LONGEST_S, LONGEST_IN_CASES = 48, 0.25, 5  # whichever is longer, so that a busy computer also finishes cases


@dataclass
class Outcome:
    """What was seen.

    Attributes:
        rounds: kills.
        cases: cases at the end.
        revisions: reviews at the end.
        moments: what the child was doing when it was killed, as far as the folder shows it.
        lost: acknowledged reviews that are not there.
        damaged: cases that cannot be read or whose scan is another one.
        indices_rebuilt: how often the index told all cases after the kill.
    """

    rounds: int = 0
    cases: int = 0
    revisions: int = 0
    moments: Counter = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    indices_rebuilt: int = 0


def sample(seed: int) -> Volume:
    """A small scan of its own for every seed."""
    rng = np.random.default_rng(seed)
    return Volume(rng.integers(-1000, 2000, (SIZE, SIZE, SIZE)).astype(np.int16), np.diag([0.5, 0.5, 0.5, 1.0]))


def add_until_killed(folder: Path, seed: int, acknowledge: int) -> None:
    """Add cases, each with a second review, and write "case revision" for each that is done."""
    project = CaseProject(folder)
    while True:
        for x in (1.0, 2.0):
            landmark = CaseLandmark("A", ReviewState.PLACED, np.array([x, float(seed), 0.0]))
            added = project.add(sample(seed), [landmark])
            os.write(acknowledge, f"{added.case} {added.revision}\n".encode())
            read_index(project)
        seed += 1


def kill_once(folder: Path, seed: int, delay: float) -> list[tuple[str, int]]:
    """Start a child, kill it, and give what it had acknowledged."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            add_until_killed(folder, seed, write_end)
        finally:
            os._exit(1)  # only an error gets here
    os.close(write_end)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError("The child ended by itself.")
    said = b""
    while select.select([read_end], [], [], 0)[0] and (piece := os.read(read_end, 65536)):
        said += piece
    os.close(read_end)
    lines = said.decode().split("\n")[:-1]
    return [(case, int(revision)) for case, revision in (line.split() for line in lines)]


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


def seconds_per_case(project: CaseProject) -> float:
    """How long adding a case takes now; the first one imports, so that no child spends its time on that."""
    project.add(sample(0), [])
    started = time.monotonic()
    project.add(sample(1), [])
    return time.monotonic() - started


def run(folder: Path, rounds: int, seed: int = 0) -> Outcome:
    """Kill so many times, looking at the project after every kill."""
    random.seed(seed)
    longest = max(LONGEST_S, LONGEST_IN_CASES * seconds_per_case(create_project(folder / "first", SCHEME)))
    project = create_project(folder / "project", SCHEME)
    outcome, acknowledged = Outcome(), set()
    for number in range(rounds):
        delay = random.uniform(0.0, longest)
        acknowledged |= set(kill_once(project.folder, seed=1000 * number, delay=delay))
        left = [path for path in project.folder.glob(".h3de-*/**/*") if path.is_file()]
        left += [path for path in project.folder.glob(".h3de-*") if path.is_file()]
        newest = max(left, key=lambda path: path.stat().st_mtime_ns).name.split("-")[-1] if left else "nothing"
        outcome.moments[f"writing {newest}"] += 1
        (project.folder / INDEX).unlink(missing_ok=True)
        told = {summary.id for summary in read_index(project)}
        outcome.indices_rebuilt += told == {case.id for case in project.cases()}
        there = {(case.id, number) for case in project.cases() for number in case.revision_numbers()}
        outcome.lost = sorted(f"{case} {revision}" for case, revision in acknowledged - there)
        outcome.rounds += 1
        for path in project.folder.glob(".h3de-*"):  # so that the next moment is told apart; a day does it otherwise
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    outcome.damaged = problems(project)
    outcome.cases, outcome.revisions = len(project.cases()), len(there)
    return outcome


def main() -> int:
    """Print what was seen; 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), options.rounds)
    print(
        f"{outcome.rounds} kills: {outcome.cases} cases with {outcome.revisions} reviews; {len(outcome.lost)} "
        f"acknowledged reviews lost, {len(outcome.damaged)} cases damaged, index rebuilt {outcome.indices_rebuilt} "
        f"times; killed while {dict(outcome.moments)}"
    )
    return 1 if outcome.lost or outcome.damaged or outcome.indices_rebuilt != outcome.rounds else 0


if __name__ == "__main__":
    sys.exit(main())
