"""The retrainings of a training set: where they lie, and how far each is, as its ``run.json`` says.

The library's own reader belongs to training, which nothing but the command line may import.
"""

import csv
import json
import math
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

RECORD = "run.json"
DONE = "done"
RUNNING = "running"
SECONDS_UNTIL_FORGOTTEN = 60.0  # a run that goes on says so every few seconds


@dataclass(frozen=True)
class RetrainingRun:
    """One retraining.

    Attributes:
        folder: of the run.
        state: running, cancelled, failed or done.
        model: ID@VERSION of the candidate.
        base: ID@VERSION of the model that it began with, empty for a new model.
        step, steps: done, and planned, of all stages together.
        stages: their names in order.
        counts: number of cases by subset: train, validation, held-out.
        updated: when the run said so, UTC.
        content: the whole record.
    """

    folder: Path
    state: str
    model: str
    base: str
    step: int
    steps: int
    stages: tuple
    counts: dict
    updated: datetime
    content: dict

    @property
    def title(self):
        """What the panel calls the candidate."""
        return self.model.replace("@", " ")

    @property
    def isDone(self):
        """Whether the candidate is there."""
        return self.state == DONE

    def maybeRunning(self):
        """Whether a program may be working on it at this moment."""
        age = (datetime.now(timezone.utc) - self.updated).total_seconds()
        return self.state == RUNNING and age < SECONDS_UNTIL_FORGOTTEN


def runsFolder(project):
    """Where the retrainings of a training set lie: beside it, since only cases are kept in it."""
    return project.parent / f"{project.name}-runs"


def newRunFolder(project):
    """A folder for the next retraining, which does not exist yet."""
    folder, number = runsFolder(project), 1
    while (folder / f"run-{number:03d}").exists():
        number += 1
    return folder / f"run-{number:03d}"


def findRuns(project):
    """The retrainings of a training set, the newest first; what cannot be read is passed over."""
    found = []
    for path in sorted(runsFolder(project).glob(f"*/{RECORD}"), reverse=True):
        run = readRun(path.parent)
        if run is not None:
            found.append(run)
    return found


def readRun(folder):
    """The RetrainingRun in a folder, None where there is none that can be read."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        subsets = [case["subset"] for case in content["cases"]]
        base = content["base"]
        return RetrainingRun(
            folder,
            content["state"],
            _key(content["model"]),
            _key(base) if base else "",
            content["step"],
            content["steps"],
            tuple(stage["name"] for stage in content["stages"]),
            {subset: subsets.count(subset) for subset in set(subsets)},
            datetime.strptime(content["updated"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc),
            content,
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def readCurves(run):
    """{stage: [{column: number}]} of a run, as far as it is; NaN where a cell holds no number."""
    return {stage: _rows(run.folder / stage / "curve.csv") for stage in run.stages}


def _rows(path):
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(stream)]
    except OSError:
        return []


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _key(model):
    return f"{model['id']}@{model['version']}"
