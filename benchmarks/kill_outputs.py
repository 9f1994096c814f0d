"""Results, exports and installations, killed or out of space at every file operation: is all old or all new?

Each kind of output is written once; then it is written again with other content in a child process, which is killed at
its first file operation, at its second, and so on, meets a full disk from there on, or cannot write a file beyond some
size. After each the outputs are compared with the old and the new ones, and written once more, which must succeed.
Run on Linux or macOS: ``python -m benchmarks.kill_outputs [--sizes 12]``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Testing" / "helpers"))

from benchmarks.killing import count_operations, fail_at, kill_at, limit_files
from H3DELandmarksLib.cases import CaseProject
from H3DELandmarksLib.cohort.result_files import ResultFiles
from H3DELandmarksLib.core.files import TEMPORARY_PREFIX, atomic_write, restore_interrupted
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.export import EXPORT
from H3DELandmarksResearch.cases.archive import write_archive
from H3DELandmarksResearch.cases.exchange import export_cases

Content = dict[str, str]


@dataclass
class Outcome:
    """What was seen of one kind of output.

    Attributes:
        kills, full_disks, limits: how often the work was stopped in each way.
        mixed: outputs that were neither old nor new as a whole, by the way in which they were stopped.
        untold: full disks that were told by something else than a sentence, or not at all though nothing was written.
        not_repeated: how the work was stopped where it could not be repeated.
        left: hidden files that were still there after it was repeated.
    """

    kills: int = 0
    full_disks: int = 0
    limits: int = 0
    mixed: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    not_repeated: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost."""
        return not (self.mixed or self.untold or self.not_repeated or self.left)


@dataclass(frozen=True)
class Output:
    """A kind of output.

    Attributes:
        write: writes content number 0 or 1 into a folder.
        settle: what the next look at the folder does.
    """

    write: Callable[[Path, int], None]
    settle: Callable[[Path], None] = lambda folder: None


def points(number: int) -> LandmarkSet:
    """What is found the first and the second time."""
    return LandmarkSet(("A", "B", "C"), np.arange(9.0).reshape(3, 3) + 10 * number, confidence=[0.5, 0.6, 0.7])


def write_results(folder: Path, number: int) -> None:
    """Point list, table and picture of a scan."""
    files = ResultFiles(folder.parent / "scan.nrrd", folder, "scan")
    files.check_replaceable(picture=True)
    files.write(points(number), {"scan": "0" * 64}, lambda path: _write_bytes(path, f"picture {number}".encode()))


def _write_bytes(path: Path, content: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def settle_results(folder: Path) -> None:
    """What the next detection does first."""
    ResultFiles(folder.parent / "scan.nrrd", folder, "scan").check_replaceable(picture=True)


def write_export(form: str, projects: tuple[Path, Path], folder: Path, number: int) -> None:
    """The cases of one of two projects."""
    export_cases(CaseProject(projects[number]), form, folder / "export", lambda fraction, text: None, overwrite=True)


def write_zip(projects: tuple[Path, Path], folder: Path, number: int) -> None:
    """The same as an archive."""
    write_archive(CaseProject(projects[number]), folder / "cases.zip", lambda fraction, text: None, overwrite=True)


def install(folder: Path, number: int) -> None:
    """A model package in place of another, as ``models install --replace`` does it."""
    with atomic_write(folder / "toy-1.0.0") as temporary:
        temporary.mkdir()
        for name in ("manifest.json", "model-card.md", "localizer.safetensors"):
            (temporary / name).write_bytes(f"{name} {number}".encode() * 200)


def outputs(folder: Path) -> dict[str, Output]:
    """Every kind of output; makes the projects whose cases are exported."""
    from sample_cases import SCHEME, placed, points_of, scan_of

    from H3DELandmarksLib.cases import create_project

    projects = (folder / "project-0", folder / "project-1")
    for number, path in enumerate(projects):
        project = create_project(path, SCHEME)
        for seed in range(2):
            project.add(scan_of(seed + number), placed(points_of(seed + number)))
    forms = {
        form: Output(partial(write_export, form, projects), restore_interrupted) for form in ("folder", "nnlandmark")
    }
    return {
        "results": Output(write_results, settle_results),
        "zip": Output(partial(write_zip, projects)),
        "install": Output(install, restore_interrupted),
        **forms,
    }


def content(folder: Path) -> Content:
    """SHA-256 of every file that is not hidden; of an export's record, what does not depend on the time."""
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.name == EXPORT:
        data = json.dumps({**json.loads(data), "time": None}).encode()
    return hashlib.sha256(data).hexdigest()


def campaign(output: Output, folder: Path, sizes: int, every: int = 1) -> Outcome:
    """Stop the second writing of an output in every way, at every so many-th file operation."""
    both = []
    for number in (0, 1):
        (folder / f"whole-{number}").mkdir(parents=True)
        output.write(folder / f"whole-{number}", number)
        both.append(content(folder / f"whole-{number}"))
    place, outcome = folder / "place", Outcome()

    def work(acknowledge: Callable[[str], None]) -> None:
        output.write(place, 1)

    def begin() -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        output.write(place, 0)

    begin()
    operations = count_operations(place, work)
    largest = max(path.stat().st_size for path in place.rglob("*") if path.is_file())
    for number in range(1, operations + 1, every):
        for stop, kind in ((kill_at, "killed"), (fail_at, "full")):
            begin()
            said = stop(number, place, work)
            _judge(output, place, both, f"{kind} at {number} of {operations}", said, outcome)
            outcome.kills += kind == "killed"
            outcome.full_disks += kind == "full"
    for number in range(sizes):
        begin()
        size = largest * number // sizes
        _judge(output, place, both, f"files of {size} bytes", limit_files(size, place, work), outcome)
        outcome.limits += 1
    return outcome


def _judge(output: Output, place: Path, both: list[Content], how: str, said: list[str], outcome: Outcome) -> None:
    """Look at an output that was stopped, and write it once more."""
    old, new = both
    found = content(place)
    if not _is_whole(found, both):
        outcome.mixed.append(f"{how}: {sorted(found)}")
    output.settle(place)
    settled = content(place)
    if settled not in both:
        outcome.mixed.append(f"{how}, looked at: {sorted(settled)}")
    if not how.startswith("killed"):
        word = said[-1].partition(":")[0] if said else "nothing"
        if word not in ("OutputError", "InputError") and settled != new:
            outcome.untold.append(f"{how}: {said}")
    try:
        output.write(place, 1)
    except Exception as error:
        outcome.not_repeated.append(f"{how}: {error}")
    else:
        if content(place) != new:
            outcome.not_repeated.append(f"{how}: other content")
        fresh = [p.name for p in place.rglob(f"{TEMPORARY_PREFIX}*") if not how.startswith("killed")]
        outcome.left += [f"{how}: {name}" for name in fresh]


def _is_whole(found: Content, both: list[Content]) -> bool:
    """Whether all files are of one writing; some may be aside, where the next look finds them."""
    return any(found.items() <= whole.items() for whole in both)


def run(folder: Path, sizes: int = 12, kinds: tuple[str, ...] = (), every: int = 1) -> dict[str, Outcome]:
    """All campaigns, or those of some kinds; see `campaign`."""
    logging.disable(logging.WARNING)
    try:
        chosen = {name: output for name, output in outputs(folder / "given").items() if not kinds or name in kinds}
        return {name: campaign(output, folder / name, sizes, every) for name, output in chosen.items()}
    finally:
        logging.disable(logging.NOTSET)


def main() -> int:
    """Print what was seen; 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=12, help="how many limits of the size of files to try")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(Path(folder), options.sizes)
    for name, outcome in outcomes.items():
        print(
            f"{name}: {outcome.kills} kills, {outcome.full_disks} full disks, {outcome.limits} limits of size; "
            f"{len(outcome.mixed)} mixed, {len(outcome.untold)} untold, {len(outcome.not_repeated)} not repeated, "
            f"{len(outcome.left)} left behind"
        )
        for problem in (*outcome.mixed, *outcome.untold, *outcome.not_repeated, *outcome.left):
            print(f"  {problem}")
    if options.output:
        result = {name: asdict(outcome) for name, outcome in outcomes.items()}
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(outcome.is_good for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
