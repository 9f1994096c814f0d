"""Retraining, killed with SIGKILL at random moments: does it end as an uninterrupted one, and is every case intact?

A tiny model is retrained from a project's cases as the command line does it, in a child process that is killed after a
random time and started again, which resumes the run. When it is done, weights, calibration and curve are compared with
those of an uninterrupted run, and every case of the project with what it was; then the next run begins, until there
were enough kills. Linux only. Run: ``python -m benchmarks.kill_training [--rounds 100]``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Testing" / "helpers"))

from toy_projects import toy_base, toy_project

from H3DELandmarksLib.cases import CaseProject
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.formats.run import RUN, RunDecision, read_run
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.retraining.fine_tuning import plan_fine_tuning
from H3DELandmarksLib.retraining.run import retrain, start_run

STEPS, CHECKPOINT_SECONDS = 12, 0.05
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


def work_on(folder: Path, project: CaseProject, base_path: Path) -> None:
    """Begin a run, or go on with it, as the command line does."""
    torch.set_num_threads(1)
    if (folder / RUN).exists():
        run = read_run(folder)
    else:
        run = start_run(folder, _with_many_checkpoints(plan_fine_tuning(project, open_package(base_path), STEPS)))
    retrain(run, "cpu", project=project)


def _with_many_checkpoints(decision: RunDecision) -> RunDecision:
    first, *others = decision.plan.stages
    training = replace(first.training, checkpoint_seconds=CHECKPOINT_SECONDS, validate_every=3)
    plan = replace(decision.plan, stages=(replace(first, training=training), *others))
    return replace(decision, plan=plan)


def in_child(work: Callable[[], object]) -> int:
    """Process id of a child that does the work; it imports nothing anew, so that its time is spent on the work.

    This process must not compute with PyTorch itself, whose threads no child would have.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def kill_after(child: int, seconds: float) -> bool:
    """Kill a child after so many seconds of processor time; False where it was done before.

    Raises:
        RuntimeError: the child failed by itself.
    """
    while processor_seconds(child) < seconds:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(f"The training failed with status {status}.")
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def processor_seconds(process: int) -> float:
    """What a process has used so far, which does not depend on what else the computer does."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def run(folder: Path, rounds: int, seed: int = 0) -> Outcome:
    """Kill so many times, and finish every run."""
    random.seed(seed)
    project, base = toy_project(folder / "project"), folder / "base"
    before, outcome = fingerprint(project), Outcome()
    _finish(in_child(lambda: toy_base(base)))
    usual = _finish(in_child(lambda: work_on(folder / "whole", project, base)))
    number = 0
    while outcome.kills < rounds:
        number += 1
        target = folder / f"run-{number}"
        killed = True
        while killed:
            child = in_child(lambda target=target: work_on(target, project, base))
            seconds = random.uniform(0, 1.3 * usual) if outcome.kills < rounds else 3600.0
            killed = kill_after(child, seconds)
            if killed:
                outcome.kills += 1
                print(f"kill {outcome.kills}, run {number}, newest file {newest(target)}", file=sys.stderr, flush=True)
                outcome.moments[newest(target)] += 1
        outcome.runs += 1
        outcome.different += [
            f"{target.name}/{file}"
            for file in COMPARED
            if (target / file).read_bytes() != (folder / "whole" / file).read_bytes()
        ]
        if not read_run(target).record.is_done:
            outcome.different.append(f"{target.name}: not done")
        outcome.damaged += problems(project, before)
        shutil.rmtree(target)
    return outcome


def _finish(child: int) -> float:
    """Processor time of a child that must succeed, in seconds."""
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError("The uninterrupted run failed.")
    return used.ru_utime + used.ru_stime


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
