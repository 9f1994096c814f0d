"""A run of retraining from its record: every stage, then the candidate; stopped and gone on with at any moment."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases import CaseProject, open_project
from H3DELandmarksLib.core.errors import Cancelled, InputError, ModelPackageError
from H3DELandmarksLib.core.files import TEMPORARY_PREFIX, held
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.engine import choose_device
from H3DELandmarksLib.formats.run import (
    CANCELLED,
    DONE,
    FAILED,
    LOCK,
    RUN,
    RUNNING,
    TRAIN,
    RunDecision,
    RunFolder,
    StartModel,
    new_run,
)
from H3DELandmarksLib.formats.training import TrainingStage
from H3DELandmarksLib.models import ModelPackage, find_model, open_package
from H3DELandmarksLib.models.package import package_digest
from H3DELandmarksLib.retraining import fine_tuning, new_model
from H3DELandmarksLib.retraining.candidate import DRAFT, RunDataset, build_candidate
from H3DELandmarksLib.retraining.cases import recorded_cases
from H3DELandmarksLib.training.checkpoints import CHECKPOINT, averaged_weights
from H3DELandmarksLib.training.loop import StageTrainer, stage_trainer
from H3DELandmarksLib.training.sampling import CropSampler
from H3DELandmarksLib.training.warm_start import load_early_layers, load_initial_weights, matching_channels

logger = logging.getLogger(__name__)
TRAINING_SHARE = 0.95  # of the work; the rest is the candidate's calibration and accuracy
STEPS_BEFORE_A_GUESS = 5  # of the time left
KEPT_OF_RATE = 0.95  # what a step leaves of the rate of those before it
Report = Callable[..., None]


class TimeLeft:
    """Guesses the seconds left from the time per voxel of a batch, which all stages have about in common."""

    def __init__(self, stages: Sequence[TrainingStage]) -> None:
        """Take stages with their settings."""
        self._voxels = {stage.name: float(np.prod(stage.shape)) * stage.training.batch for stage in stages}
        self._last: float | None = None
        self._seconds_per_voxel: float | None = None
        self._steps = 0

    def step_done(self, stage: str) -> None:
        """Tell that a step was made just now; the first one after a pause starts the clock."""
        now = time.monotonic()
        if self._last is not None:
            rate = (now - self._last) / self._voxels[stage]
            share = KEPT_OF_RATE if self._steps else 0.0
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


def start_run(folder: Path, decision: RunDecision) -> RunFolder:
    """Begin a run in a folder that is empty or does not exist.

    Args:
        folder: of the run.
        decision: of `plan_fine_tuning` or `plan_new_model`.

    Raises:
        InputError: something lies there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / LOCK) as is_mine:  # so that of two programs at once the first one begins
        if not is_mine or (folder / RUN).exists():
            raise InputError(
                f"'{folder}' holds an earlier run: add --resume to go on with it, or choose another folder."
            )
        if any(not path.name.startswith(".") and path.suffix != ".log" for path in folder.iterdir()):
            raise InputError(f"'{folder}' is not empty: choose another folder for the run.")
        return new_run(folder, decision)


def retrain(
    run: RunFolder,
    device: str = "auto",
    progress: Report = lambda fraction, message, **more: None,
    cancelled: Callable[[], bool] = lambda: False,
    project: CaseProject | None = None,
) -> ModelPackage:
    """Do what a record says, from where it was left.

    Args:
        run: that was started, stopped or killed; one that is done is left as it is.
        device: "auto", "cpu", "cuda" or "mps".
        progress: receives the fraction done and one sentence, and by name `stage` at hand (None while none is trained),
            `step` and `steps` of all stages together, and `seconds_left` (None while unknown).
        cancelled: asked after every step; True saves a checkpoint and ends the work.
        project: where the cases lie, if not where they were.

    Returns:
        The candidate, ``package`` in the run's folder.

    Raises:
        Cancelled: `cancelled` said so.
        InputError: another program is at work on it, the base model or a case is not there as it was, or the memory is
            too small.
    """
    if run.record.is_done:
        with suppress(ModelPackageError):
            return open_package(run.package_folder)
    with held(run.folder / LOCK) as is_mine:
        if not is_mine:
            raise InputError(f"Another program is at work on the run in '{run.folder}': wait for it, or stop it first.")
        try:
            candidate = Work(run, device, progress, cancelled, project).do()
        except (Cancelled, KeyboardInterrupt):
            run.update(state=CANCELLED, seconds_left=None)
            raise
        except Exception as error:
            run.update(state=FAILED, message=" ".join(str(error).split()), seconds_left=None)
            raise
        run.update(state=DONE, seconds_left=0.0)
        return candidate


class Work:
    """The work of one run."""

    def __init__(
        self, run: RunFolder, device: str, progress: Report, cancelled: Callable[[], bool], project: CaseProject | None
    ) -> None:
        self.run = run
        self.progress = progress
        self.cancelled = cancelled
        self.stages = run.record.plan.stages
        self.time_left = TimeLeft(self.stages)
        self.device = choose_device(device)
        run.update(state=RUNNING, message=None, device=self.device.type)
        record = run.record
        self.cases = recorded_cases(project or open_project(record.project), record.scheme, record.cases)
        self.base = _model_as_it_was(record.base)
        self.donor = _model_as_it_was(record.encoder_from)
        for path in run.folder.glob(f"{TEMPORARY_PREFIX}*") if run.writes else ():  # what a killed run left
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def train_all(self) -> RunDataset:
        """All stages; returns the cases."""
        self.report(None, "Reading the cases")
        dataset = RunDataset(self.run, self.cases, self.shape(), self.check_cancelled)
        for stage in self.stages:
            self.train(stage, dataset)
        self.time_left.pause()
        return dataset

    def do(self) -> ModelPackage:
        """All stages and the candidate."""
        dataset = self.train_all()
        weights = [averaged_weights(self.run.folder / stage.name / CHECKPOINT) for stage in self.stages]
        self.report(None, "Calibrating the candidate")
        candidate = build_candidate(self.run, self.base, weights, dataset, self.device.type, self.check_cancelled)
        shutil.rmtree(self.run.folder / DRAFT, ignore_errors=True)
        self.report(None, "Done", fraction=1.0)
        return candidate

    def shape(self) -> ShapeModel:
        """The candidate's mean shape."""
        record = self.run.record
        taught = [case for case, row in zip(self.cases, record.cases) if row.subset == TRAIN]
        if self.base is None:
            return new_model.shape_of_new(taught, record.scheme, record.sees_canonical_pose)
        names = record.plan.base_names
        return fine_tuning.shape_after(self.base, names, record.scheme, taught, record.sees_canonical_pose)

    def train(self, stage: TrainingStage, dataset: RunDataset) -> None:
        """One stage to its last step."""
        sampler = CropSampler(stage, self.run.record.scheme, dataset.shape, stage.augmentation)
        trainer = stage_trainer(stage, sampler, self.run.folder / stage.name, self.device)
        if trainer.resume():
            logger.info("%s: goes on at step %d", stage.name, trainer.step)
        else:
            self.load_start(trainer, stage)
        self.time_left.pause()
        self.run.record_step(stage.name, trainer.step)

        def watch(step: int) -> None:
            self.time_left.step_done(stage.name)
            self.run.record_step(stage.name, step)
            self.report(stage.name, f"{stage.name}: step {step} of {stage.training.steps}")
            self.check_cancelled()

        trainer.run(dataset.prepared(TRAIN), dataset.for_curve(), watch=watch)
        self.run.update()

    def load_start(self, trainer: StageTrainer, stage: TrainingStage) -> None:
        """Weights to begin with."""
        if self.base is not None:
            before = self.base.manifest.stage(stage.name)
            channels = matching_channels(stage.groups, before.groups, self.run.record.plan.base_names)
            load_initial_weights(trainer.network, self.base, stage.name, channels)
        elif self.donor is not None:
            load_early_layers(trainer.network, self.donor, new_model.donor_stage(self.donor).name)

    def check_cancelled(self) -> None:
        """Give way to a wish to stop."""
        if self.cancelled():
            raise Cancelled("The training was cancelled; it can be resumed.")

    def report(self, stage: str | None, message: str, fraction: float | None = None) -> None:
        """Say how far the run is, and write it down now and then."""
        left = {progress.name: progress.steps - progress.step for progress in self.run.record.stages}
        seconds = self.time_left.seconds(left)
        self.run.update(now=False, seconds_left=seconds)
        step, steps = self.run.record.step, self.run.record.steps
        fraction = TRAINING_SHARE * step / steps if fraction is None else fraction
        self.progress(fraction, message, stage=stage, step=step, steps=steps, seconds_left=seconds)


def _model_as_it_was(entry: StartModel | None) -> ModelPackage | None:
    """A model that a run was started from.

    Raises:
        InputError: it is gone, or another one now.
    """
    if entry is None:
        return None
    try:
        path = Path(entry.path)
        package = open_package(path) if path.exists() else find_model(f"{entry.id}@{entry.version}")
    except ModelPackageError as error:
        raise InputError(
            f"The model '{entry.id}' {entry.version} that this run began with cannot be used any more ({error}): start "
            "a new run."
        ) from error
    if package_digest(package) != entry.digest:
        raise InputError(
            f"The model '{entry.id}' {entry.version} is not the one that this run began with: start a new run."
        )
    return package
