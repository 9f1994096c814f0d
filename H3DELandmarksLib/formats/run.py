"""``run.json``: what a retraining has decided, which cases it uses, and how far it is.

`RunDecision` is what a plan decides; `RunRecord` adds how far the work is: the whole file; `RunFolder` is a record
with the folder in which it is kept. Whoever asks about retrainings, the command line or the panel, reads them here::

    for run in list_runs(folder):          # the newest first; needs neither PyTorch nor pydantic
        run.folder, run.record.state       # "running", "cancelled", "failed" or "done"
        run.record.model.id, run.record.model.version, run.record.base  # candidate; what it began with, or None
        run.record.step, run.record.steps, run.record.message, run.record.seconds_left
        run.record.counts                  # number of cases by subset: "train", "validation", "held-out"
        run.record.stage_names             # folders of the curves
        run.record.is_done, run.record.may_be_running()
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import is_held, write_watched
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.formats.case_record import TIME_FORMAT, Sha256, utc_now
from H3DELandmarksLib.formats.lineage import Lineage, ModelReference, UsedCase
from H3DELandmarksLib.formats.manifest import Intensity, ModelId, Version, check_stages
from H3DELandmarksLib.formats.reading import (
    Count,
    Finite,
    Limits,
    NotNegative,
    Positive,
    PositiveCount,
    Text,
    read_record,
    refuse_newer,
    to_json,
)
from H3DELandmarksLib.formats.training import TrainingStage

RUN, PACKAGE, COMPARISON = "run.json", "package", "comparison.json"
LOCK = ".lock"  # held by the program that works on the run
FORMAT_VERSION: Literal[2] = 2
RUNNING: Literal["running"] = "running"
CANCELLED: Literal["cancelled"] = "cancelled"
FAILED, DONE = "failed", "done"
Subset = Literal["train", "validation", "held-out"]
TRAIN: Subset = "train"
VALIDATION: Subset = "validation"
HELD_OUT: Subset = "held-out"
KILLED = "Its program was ended from outside; it can be resumed."
SECONDS_BETWEEN_WRITES = 1.0
SECONDS_UNTIL_FORGOTTEN = 60.0  # a run that goes on says so every few seconds
# Entries of version 1 that follow from others.
DERIVED_IN_VERSION_1 = ("own_frame", "step", "steps")


@dataclass(frozen=True)
class StartModel:
    """A model that a run begins with.

    Attributes:
        id, version: as in its manifest.
        digest: of everything that determines what it finds.
        path: where it lay.
    """

    id: Text
    version: Text
    digest: Sha256
    path: str

    @property
    def reference(self) -> ModelReference:
        """The model without the place where it lies."""
        return ModelReference(self.id, self.version, self.digest)


@dataclass(frozen=True)
class RunCase:
    """A corrected case of a run.

    Attributes:
        id: of the case.
        revision: number of the review that is used.
        sha256: of the values of its scan.
        subset: "train", "validation" or "held-out".
    """

    id: Text
    revision: PositiveCount
    sha256: Sha256
    subset: Subset


@dataclass(frozen=True, kw_only=True)
class CandidateDescription:
    """What the candidate is called and how it reads scans; entries as in a manifest.

    Attributes:
        tolerance_mm: of a new model; a retrained one keeps that of its base.
    """

    id: ModelId
    version: Version
    intensity: Intensity
    outside: Finite | None = None
    max_spacing_mm: Positive | None = None
    tolerance_mm: Positive | None = None
    height_mm: Positive | None = None


@dataclass(frozen=True)
class RunPlan:
    """Stages with their settings.

    Attributes:
        stages: in the order in which they are trained.
        base_names: name in the base's scheme of each landmark that the base knows.
    """

    stages: Annotated[tuple[TrainingStage, ...], Limits(min_length=1)]
    base_names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is."""

    name: Text
    step: Count
    steps: PositiveCount


@dataclass(frozen=True, kw_only=True)
class RunDecision:
    """What is decided before a run begins; everything that it does follows from this.

    Attributes:
        kind: of run.
        project: folder of the cases.
        scheme: landmarks of the candidate.
        cases: that are used, and for what.
        left_out: reasons by id of the other cases.
        notes: sentences about what the cases were too few for, and which of them show one picture.
        base: model that is retrained; None for a new one.
        encoder_from: model whose layers that read the image a new one takes over.
        model: the candidate.
        plan: its stages.
    """

    kind: Literal["fine-tuning", "new-model"]
    project: Text
    scheme: LandmarkScheme
    cases: tuple[RunCase, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    base: StartModel | None = None
    encoder_from: StartModel | None = None
    model: CandidateDescription
    plan: RunPlan

    def __post_init__(self) -> None:
        check_stages(self.plan.stages, self.scheme)

    @property
    def is_2d(self) -> bool:
        """Whether the candidate reads radiographs and not volumes."""
        return self.plan.stages[0].is_2d

    @property
    def sees_canonical_pose(self) -> bool:
        """Whether any stage sees the anatomy in its own frame, so that cases are turned onto the mean shape."""
        return any(stage.sees_canonical_pose for stage in self.plan.stages)

    @property
    def counts(self) -> dict[str, int]:
        """Number of cases by subset."""
        subsets: list[str] = [case.subset for case in self.cases]
        return {subset: subsets.count(subset) for subset in (TRAIN, VALIDATION, HELD_OUT)}

    @property
    def lineage(self) -> Lineage:
        """What the candidate is made from, by hash alone."""
        cases = tuple(UsedCase(case.sha256, case.revision, case.subset) for case in self.cases)
        base = self.base.reference if self.base else None
        encoder_from = self.encoder_from.reference if self.encoder_from else None
        return Lineage(base, cases, encoder_from=encoder_from)


@dataclass(frozen=True, kw_only=True)
class RunRecord(RunDecision):
    """The whole file.

    Attributes:
        state: how the run stands.
        stages: how far each stage is.
        updated: when this was written, UTC.
        message: why it failed.
        device: that it runs on.
        seconds_left: None while unknown.
        cpu_seconds: that a study has measured.
        software: version that began the run.
    """

    state: Literal["running", "cancelled", "failed", "done"]
    stages: tuple[StageProgress, ...]
    updated: Annotated[str, Limits(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    message: str | None = None
    device: str | None = None
    seconds_left: NotNegative | None = None
    cpu_seconds: NotNegative | None = None
    software: str = __version__
    format_version: Literal[2] = FORMAT_VERSION

    @property
    def step(self) -> int:
        """Steps done, of all stages together."""
        return sum(stage.step for stage in self.stages)

    @property
    def steps(self) -> int:
        """Steps planned, of all stages together."""
        return sum(stage.steps for stage in self.stages)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, which are those of their folders."""
        return tuple(stage.name for stage in self.stages)

    @property
    def is_done(self) -> bool:
        """Whether the candidate is there."""
        return self.state == DONE

    def may_be_running(self) -> bool:
        """Whether a program may be working on it at this moment."""
        updated = datetime.strptime(self.updated, TIME_FORMAT).replace(tzinfo=timezone.utc)
        return (
            self.state == RUNNING and (datetime.now(timezone.utc) - updated).total_seconds() < SECONDS_UNTIL_FORGOTTEN
        )


class RunFolder:
    """A retraining on disk.

    Attributes:
        folder: of the run.
        record: as it was read or written last.
        writes: whether changes reach the disk; of several processes at one run, only the first writes.
    """

    def __init__(self, folder: Path, record: RunRecord, writes: bool = True) -> None:
        self.folder = Path(folder)
        self.record = record
        self.writes = writes
        self._written = 0.0

    @property
    def package_folder(self) -> Path:
        """Where the candidate lies once the run is done."""
        return self.folder / PACKAGE

    def update(self, now: bool = True, **changes: Any) -> None:
        """Change entries of the record and write it; with `now` False not more often than once a second."""
        self.record = replace(self.record, **changes)
        if self.writes and (now or time.monotonic() - self._written > SECONDS_BETWEEN_WRITES):
            self.record = replace(self.record, updated=utc_now())
            write_watched(self.folder / RUN, to_json(self.record).decode("utf-8"))
            self._written = time.monotonic()

    def record_step(self, stage: str, step: int) -> None:
        """Note, without writing, that a stage has done so many steps."""
        stages = tuple(replace(entry, step=step) if entry.name == stage else entry for entry in self.record.stages)
        self.record = replace(self.record, stages=stages)


def new_run(folder: Path, decision: RunDecision) -> RunFolder:
    """Write the record of a run that begins in a folder, which exists and holds no run."""
    stages = tuple(StageProgress(stage.name, 0, stage.training.steps) for stage in decision.plan.stages)
    decided = {name: getattr(decision, name) for name in RunDecision.__dataclass_fields__}
    run = RunFolder(folder, RunRecord(**decided, state=RUNNING, stages=stages, updated=utc_now()))
    run.update()
    return run


def read_run(folder: str | Path) -> RunFolder:
    """The retraining in a folder; one that nobody works on any more, since its program was killed, is "cancelled".

    Raises:
        InputError: there is none, or its record cannot be used.
    """
    path = Path(folder) / RUN
    if not path.exists():
        raise InputError(f"'{folder}' holds no retraining (no {RUN}): choose the folder of a run.")
    advice = "retrain again, or choose another run"
    record = read_record(RunRecord, path, what="record", advice=advice, upgrade=_upgraded)
    if record.state == RUNNING and not record.may_be_running() and not is_held(Path(folder) / LOCK):
        record = replace(record, state=CANCELLED, message=KILLED, seconds_left=None)
    return RunFolder(Path(folder), record)


def list_runs(folder: str | Path) -> list[RunFolder]:
    """The retrainings in the folders of a folder, the newest name first; what cannot be read is passed over."""
    runs = []
    for path in sorted(Path(folder).glob(f"*/{RUN}"), reverse=True):
        try:
            runs.append(read_run(path.parent))
        except InputError:
            continue
    return runs


def _upgraded(content: Any) -> Any:
    """A record of any version as today's."""
    refuse_newer(content, FORMAT_VERSION)
    if not isinstance(content, dict) or content.get("format_version") != 1:
        return content
    kept = {name: value for name, value in content.items() if name not in DERIVED_IN_VERSION_1}
    return {**kept, "format_version": FORMAT_VERSION}
