"""Retraining, killed with SIGKILL at chosen file operations: does it end as an uninterrupted one, is every case intact?

A tiny model is retrained from a project's cases as the command line does it, in a child process. It is killed at file
operations spread evenly over a whole run, a new run for each, and started again, which resumes it. When it is done,
weights, calibration and curve are compared with those of an uninterrupted run, and every case with what it was.
Run on Linux or macOS: ``python -m benchmarks.kill_training [--rounds 100]``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import matplotlib.backends.backend_agg  # noqa: F401 - what every run draws its curve with
import torch
import torch._dynamo  # noqa: F401 - what every optimizer imports

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Testing" / "helpers"))

from toy_projects import toy_base, toy_project

from benchmarks.killing import count_operations, kill_at
from H3DELandmarksLib.cases import CaseProject
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.formats.run import RUN, RunDecision, read_run
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.retraining.fine_tuning import plan_fine_tuning
from H3DELandmarksLib.retraining.run import retrain, start_run

STEPS, CHECKPOINT_SECONDS = 6, 1e-6  # a checkpoint after every step
COMPARED = ("package/manifest.json", "package/localizer.safetensors", "package/model-card.md", "localizer/curve.csv")


@dataclass
class Outcome:
    """What was seen.

    Attributes:
        kills: of a process that was at work.
        runs: that were finished in spite of them.
        moments: what the newest file of the run was at each kill.
        different: files that differ from those of the uninterrupted run.
        damaged: cases that cannot be read or are not what they were.
    """

    kills: int = 0
    runs: int = 0
    moments: Counter = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def work_on(folder: Path, project: CaseProject, decision: RunDecision) -> None:
    """Begin a run, or go on with it, as the command line does."""
    torch.set_num_threads(1)
    run = read_run(folder) if (folder / RUN).exists() else start_run(folder, decision)
    retrain(run, "cpu", project=project)


def _with_many_checkpoints(decision: RunDecision) -> RunDecision:
    first, *others = decision.plan.stages
    training = replace(first.training, checkpoint_seconds=CHECKPOINT_SECONDS, validate_every=3)
    plan = replace(decision.plan, stages=(replace(first, training=training), *others))
    return replace(decision, plan=plan)


def fingerprint(project: CaseProject) -> dict[str, str]:
    """SHA-256 of every file of every case."""
    files = sorted(path for path in (project.folder / "cases").rglob("*") if path.is_file())
    return {str(p.relative_to(project.folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def problems(project: CaseProject, before: dict[str, str]) -> list[str]:
    """Files that changed, and cases that cannot be read."""
    after = fingerprint(project)
    found = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    for case in project.cases():
        if not content_of(case.volume()).same_image(case.content()) or not case.revisions():
            found.append(case.id)
    return found


def newest(folder: Path) -> str:
    """What was written last, but for the record, which is written all the time."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != RUN] if folder.exists() else []
    return max(files, key=lambda p: p.stat().st_mtime_ns).name.split("-")[-1] if files else "nothing"


def run(folder: Path, rounds: int) -> Outcome:
    """Kill so many runs, each at another file operation, and finish every one.

    This process must not compute with PyTorch itself, whose threads no child would have; what it has imported and
    planned, no child needs to do again.
    """
    project, base = toy_project(folder / "project"), folder / "base"
    before, outcome = fingerprint(project), Outcome()
    count_operations(base, lambda _: toy_base(base))
    decision = _with_many_checkpoints(plan_fine_tuning(project, open_package(base), STEPS))
    whole = folder / "whole"
    operations = count_operations(whole, lambda _: work_on(whole, project, decision))
    for number in range(rounds):
        target = folder / f"run-{number}"
        work = lambda _, target=target: work_on(target, project, decision)  # noqa: E731
        operation = 1 + operations * number // rounds
        try:
            kill_at(operation, target, work)
            outcome.kills += 1
            outcome.moments[newest(target)] += 1
            print(f"killed at {operation} of {operations}, newest file {newest(target)}", file=sys.stderr, flush=True)
        except RuntimeError:
            pass  # how often progress is noted depends on the time: this run was shorter
        count_operations(target, work)
        outcome.runs += 1
        outcome.different += [
            f"{target.name}/{file}" for file in COMPARED if (target / file).read_bytes() != (whole / file).read_bytes()
        ]
        if not read_run(target).record.is_done:
            outcome.different.append(f"{target.name}: not done")
        outcome.damaged += problems(project, before)
        shutil.rmtree(target)
    return outcome


def main() -> int:
    """Print what was seen; 1 where anything was lost or differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), options.rounds)
    text = (
        f"{outcome.kills} kills in {outcome.runs} runs, all finished: {len(outcome.different)} files differ from "
        f"an uninterrupted run, {len(outcome.damaged)} files of cases changed or damaged; newest file at the kill: "
        f"{dict(outcome.moments)}"
    )
    print(text)
    if options.output:
        content = {
            "kills": outcome.kills,
            "runs": outcome.runs,
            "different": outcome.different,
            "damaged": outcome.damaged,
            "newest_file_at_kill": dict(outcome.moments),
        }
        options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if outcome.different or outcome.damaged else 0


if __name__ == "__main__":
    sys.exit(main())
