"""A run of retraining from its record: every stage, then the candidate; stopped and gone on with at any moment."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.cases import CaseProject, open_project
from H3DELandmarksLib.core.errors import Cancelled, InputError, ModelPackageError
from H3DELandmarksLib.core.files import TEMPORARY_PREFIX
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.detection.engine import choose_device
from H3DELandmarksLib.formats.run import CANCELLED, DONE, FAILED, RUN, RUNNING, RunRecord, new_record
from H3DELandmarksLib.models import ModelPackage, find_model, open_package
from H3DELandmarksLib.models.package import package_digest
from H3DELandmarksLib.retraining import fine_tuning, new_model
from H3DELandmarksLib.retraining.candidate import DRAFT, PACKAGE, Material, build_candidate
from H3DELandmarksLib.retraining.cases import recorded_cases
from H3DELandmarksLib.retraining.plan import TRAIN
from H3DELandmarksLib.training.loop import CHECKPOINT, StageTrainer, averaged_weights
from H3DELandmarksLib.training.sampling import CropSampler
from H3DELandmarksLib.training.warm_start import load_early_layers, load_initial_weights, matching_channels

STEPS_BEFORE_A_GUESS = 5
RECENT = 0.95


class TimeLeft:
    """Guesses the seconds left from the time per voxel of a batch, which all stages have about in common."""

    def __init__(self, stages: Sequence[Mapping]) -> None:
        """Take stages with their settings."""
        self._voxels = {s["name"]: float(np.prod(s["shape"])) * s["training"]["batch"] for s in stages}
        self._last: float | None = None
        self._seconds_per_voxel: float | None = None
        self._steps = 0

    def step_done(self, stage: str) -> None:
        """Tell that a step was made just now; the first one after a pause starts the clock."""
        now = time.monotonic()
        if self._last is not None:
            rate = (now - self._last) / self._voxels[stage]
            share = RECENT if self._steps else 0.0
            self._seconds_per_voxel = share * (self._seconds_per_voxel or 0.0) + (1 - share) * rate
            self._steps += 1
        self._last = now

    def pause(self) -> None:
        """Leave out what happens until the next step."""
        self._last = None

    def seconds(self, remaining: Mapping[str, int]) -> float | None:
        """For so many steps of each stage; None while it is unknown."""
        if self._steps < STEPS_BEFORE_A_GUESS or self._seconds_per_voxel is None:
            return None
        return self._seconds_per_voxel * sum(self._voxels[name] * steps for name, steps in remaining.items())


logger = logging.getLogger(__name__)
TRAINING_SHARE = 0.95  # of the work; the rest is the candidate's calibration and accuracy


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        fraction: from 0 to 1.
        message: one sentence.
        stage: at hand; None while none is trained.
        step, steps: of all stages together.
        seconds_left: None while unknown.
    """

    fraction: float
    message: str
    stage: str | None
    step: int
    steps: int
    seconds_left: float | None


Watcher = Callable[[Status], None]


def start_run(folder: Path, decided: Mapping[str, Any]) -> RunRecord:
    """Begin a run in a folder that is empty or does not exist.

    Args:
        folder: of the run.
        decided: by `plan_fine_tuning` or `plan_new_model`.

    Raises:
        InputError: something lies there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RUN).exists():
        raise InputError(f"'{folder}' holds an earlier run: add --resume to go on with it, or choose another folder.")
    if any(not path.name.startswith(".") and path.suffix != ".log" for path in folder.iterdir()):
        raise InputError(f"'{folder}' is not empty: choose another folder for the run.")
    return new_record(folder, decided)


def retrain(
    record: RunRecord,
    device: str = "auto",
    watcher: Watcher | None = None,
    cancelled: Callable[[], bool] | None = None,
    project: CaseProject | None = None,
) -> ModelPackage:
    """Do what a record says, from where it was left.

    Args:
        record: of a run that was started, stopped or killed; one that is done is left as it is.
        device: "auto", "cpu", "cuda" or "mps".
        watcher: is told how far the run is.
        cancelled: asked after every step; True saves a checkpoint and ends the work.
        project: where the cases lie, if not where they were.

    Returns:
        The candidate, ``package`` in the run's folder.

    Raises:
        Cancelled: `cancelled` said so.
        InputError: the base model or a case is not there as it was, or the memory is too small.
    """
    candidate = _finished(record)
    if candidate is not None:
        return candidate
    try:
        run = _Run(record, device, watcher or (lambda status: None), cancelled or (lambda: False), project)
        candidate = run.work()
    except (Cancelled, KeyboardInterrupt):
        record.update(state=CANCELLED, seconds_left=None)
        raise
    except Exception as error:
        record.update(state=FAILED, message=" ".join(str(error).split()), seconds_left=None)
        raise
    record.update(state=DONE, seconds_left=0.0)
    return candidate


def _finished(record: RunRecord) -> ModelPackage | None:
    """The candidate of a run that is done."""
    if record.content["state"] != DONE:
        return None
    try:
        return open_package(record.folder / PACKAGE)
    except ModelPackageError:
        return None


class _Run:
    """The work of one run."""

    def __init__(
        self,
        record: RunRecord,
        device: str,
        watcher: Watcher,
        cancelled: Callable[[], bool],
        project: CaseProject | None,
    ) -> None:
        self.record, self.watcher, self.cancelled = record, watcher, cancelled
        self.stages = record.content["plan"]["stages"]
        self.time_left = TimeLeft(self.stages)
        self.device = choose_device(device)
        record.update(state=RUNNING, message=None, device=self.device.type)
        content = record.content
        self.scheme = LandmarkScheme.from_dict(content["scheme"])
        project = project or open_project(content["project"])
        self.cases = recorded_cases(project, self.scheme, content["cases"])
        self.base, self.donor = (_model_as_it_was(content[key]) for key in ("base", "encoder_from"))
        for path in record.folder.glob(f"{TEMPORARY_PREFIX}*"):  # what a killed run left
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def work(self) -> ModelPackage:
        """All stages and the candidate."""
        self.tell(None, "Reading the cases")
        taught = [c for c, row in zip(self.cases, self.record.content["cases"]) if row["subset"] == TRAIN]
        own_frame, names = self.record.content["own_frame"], self.record.content["plan"]["base_names"]
        if self.base is not None:
            shape = fine_tuning.shape_after(self.base, names, self.scheme, taught, own_frame)
        else:
            shape = new_model.shape_of_new(taught, self.scheme, own_frame)
        material = Material(self.record.content, self.cases, shape, self.ask)
        for stage in self.stages:
            self.train(stage, material)
        self.time_left.pause()
        weights = [averaged_weights(self.record.folder / stage["name"] / CHECKPOINT) for stage in self.stages]
        self.tell(None, "Calibrating the candidate")
        candidate = build_candidate(self.record, self.base, weights, material, self.device.type, self.ask)
        shutil.rmtree(self.record.folder / DRAFT, ignore_errors=True)
        self.tell(None, "Done", fraction=1.0)
        return candidate

    def train(self, stage: Mapping, material: Material) -> None:
        """One stage to its last step."""
        sampler = CropSampler(stage, self.scheme, material.shape, stage["augmentation"])
        trainer = StageTrainer(stage, stage["training"], sampler, self.record.folder / stage["name"], self.device)
        if trainer.resume():
            logger.info("%s: goes on at step %d", stage["name"], trainer.step)
        else:
            self.start(trainer, stage)
        self.time_left.pause()
        self.record.told(stage["name"], trainer.step)

        def watch(step: int) -> None:
            self.time_left.step_done(stage["name"])
            self.record.told(stage["name"], step)
            self.tell(stage["name"], f"{stage['name']}: step {step} of {stage['training']['steps']}")
            self.ask()

        training, curve = material.prepared(TRAIN), material.for_curve()
        trainer.run(training, curve, watch=watch)
        self.record.update()

    def start(self, trainer: StageTrainer, stage: Mapping) -> None:
        """Weights to begin with."""
        if self.base is not None:
            entry = next(s for s in self.base.manifest["stages"] if s["name"] == stage["name"])
            names = self.record.content["plan"]["base_names"]
            channels = matching_channels(stage["groups"], entry["groups"], names)
            load_initial_weights(trainer.network, self.base, stage["name"], channels)
        elif self.donor is not None:
            load_early_layers(trainer.network, self.donor, new_model.donor_stage(self.donor)["name"])

    def ask(self) -> None:
        """Give way to a wish to stop."""
        if self.cancelled():
            raise Cancelled("The training was cancelled; it can be resumed.")

    def tell(self, stage: str | None, message: str, fraction: float | None = None) -> None:
        """Say how far the run is, and write it down now and then."""
        rows = self.record.content["stages"]
        left = {row["name"]: row["steps"] - row["step"] for row in rows}
        seconds = self.time_left.seconds(left)
        step, steps = self.record.content["step"], self.record.content["steps"]
        fraction = TRAINING_SHARE * step / steps if fraction is None else fraction
        self.record.update(now=False, seconds_left=seconds)
        self.watcher(Status(fraction, message, stage, step, steps, seconds))


def _model_as_it_was(entry: Mapping | None) -> ModelPackage | None:
    """A model that a run was started from.

    Raises:
        InputError: it is gone, or another one now.
    """
    if entry is None:
        return None
    try:
        path = Path(entry["path"])
        package = open_package(path) if path.exists() else find_model(f"{entry['id']}@{entry['version']}")
    except ModelPackageError as error:
        raise InputError(
            f"The model '{entry['id']}' {entry['version']} that this run began with cannot be used any "
            f"more ({error}): start a new run."
        ) from error
    if package_digest(package) != entry["digest"]:
        raise InputError(
            f"The model '{entry['id']}' {entry['version']} is not the one that this run began with: start a new run."
        )
    return package
