"""What a retraining says of itself: its candidate and the cases that it learnt from and held out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import write_watched
from H3DELandmarksLib.formats.lineage import Lineage, ModelReference
from H3DELandmarksLib.models import ModelPackage, open_package

RUN, FORMAT_VERSION = "run.json", 1
RUNNING, CANCELLED, FAILED, DONE = "running", "cancelled", "failed", "done"
SECONDS_BETWEEN_WRITES = 1.0
# What must be there for a run to go on.
DECIDED = ("kind", "project", "scheme", "base", "encoder_from", "model", "own_frame", "cases", "stages", "plan")


@dataclass
class RunRecord:
    """The file of one run.

    Attributes:
        folder: of the run.
        content: the whole file. Decided at the start: ``kind`` (fine-tuning or new-model), ``project`` (folder),
            ``scheme``, ``base`` and ``encoder_from`` (id, version, digest and path of a model, or null), ``model`` (id
            and version of the candidate, and what else its manifest says), ``own_frame``, ``cases`` (id, revision,
            sha256, subset of each), ``left_out`` (reasons by case), ``notes`` (what could not be held apart), and
            ``plan`` (stages with their settings). Told on the way: ``state``, ``message``, ``updated``, ``device``,
            ``stages`` (name, step, steps), ``step``, ``steps``, ``seconds_left``.
    """

    folder: Path
    content: dict[str, Any]
    written: float = 0.0

    def update(self, now: bool = True, **changes: Any) -> None:
        """Change entries and write; with `now` False not more often than once a second."""
        self.content.update(changes)
        if now or time.monotonic() - self.written > SECONDS_BETWEEN_WRITES:
            self.content["updated"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            text = json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False)
            write_watched(self.folder / RUN, f"{text}\n")
            self.written = time.monotonic()

    def told(self, stage: str, step: int) -> None:
        """Note that a stage has done so many steps."""
        for entry in self.content["stages"]:
            if entry["name"] == stage:
                entry["step"] = step
        self.content["step"] = sum(entry["step"] for entry in self.content["stages"])


def new_record(folder: Path, decided: Mapping[str, Any]) -> RunRecord:
    """Begin a run.

    Args:
        folder: exists and holds no run.
        decided: what `RunRecord` calls decided at the start.
    """
    stages = [{"name": s["name"], "step": 0, "steps": s["training"]["steps"]} for s in decided["plan"]["stages"]]
    record = RunRecord(
        folder,
        {
            "format_version": FORMAT_VERSION,
            "software": __version__,
            "state": RUNNING,
            "message": None,
            **decided,
            "device": None,
            "stages": stages,
            "step": 0,
            "steps": sum(s["steps"] for s in stages),
            "seconds_left": None,
        },
    )
    record.update()
    return record


def read_record(folder: Path) -> RunRecord:
    """The record of a run.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(folder) / RUN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        complete = content["format_version"] == FORMAT_VERSION and all(key in content for key in DECIDED)
    except FileNotFoundError as error:
        raise InputError(f"'{folder}' holds no retraining: check the folder.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is damaged: start the retraining again in another folder.") from error
    if not complete:
        raise InputError(f"'{path}' is of another version of this software: start again in another folder.")
    return RunRecord(Path(folder), content)


RUN, PACKAGE, COMPARISON = "run.json", "package", "comparison.json"
_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class RunFolder:
    """A retraining on disk.

    Attributes:
        folder: of the run.
        lineage: its base and all its cases.
        state: "running", "cancelled", "failed" or "done".
    """

    folder: Path
    lineage: Lineage
    state: str

    def candidate(self) -> ModelPackage:
        """The package that the run has made.

        Raises:
            InputError: the run is not done.
            ModelPackageError: the package cannot be used.
        """
        if self.state != "done":
            raise InputError(f"The retraining in '{self.folder}' is not finished ({self.state}): resume it first.")
        return open_package(self.folder / PACKAGE)

    @property
    def base(self) -> ModelReference | None:
        """The model that the run started from; None where it started from nothing."""
        return self.lineage.base


def read_run(folder: str | Path) -> RunFolder:
    """Read the record of a retraining.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(folder) / RUN
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        return RunFolder(Path(folder), Lineage.from_dict(content), str(content["state"]))
    except FileNotFoundError as error:
        raise InputError(f"'{folder}' holds no retraining (no {RUN}): choose the folder of a run.") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"The record '{path}' cannot be read: retrain again, or choose another run.") from error
