"""Training of a whole model: every stage, calibration on validation cases, the test table, the package."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.files import held
from H3DELandmarksLib.core.image_plane import is_radiograph
from H3DELandmarksLib.core.shape_model import ShapeModel, learn_shape_model
from H3DELandmarksLib.core.text import first_of
from H3DELandmarksLib.formats.run import LOCK
from H3DELandmarksLib.formats.training import TrainingStage, recorded_cases
from H3DELandmarksLib.models import ModelPackage, find_model
from H3DELandmarksLib.training.cases import Case, TrainingCase, prepare_case
from H3DELandmarksLib.training.checkpoints import CHECKPOINT, averaged_weights, has_checkpoint, load_checkpoint
from H3DELandmarksLib.training.loop import StageTrainer, stage_trainer
from H3DELandmarksLib.training.sampling import CropSampler
from H3DELandmarksLib.training.warm_start import load_initial_weights
from H3DELandmarksResearch.training.configuration import (
    Configuration,
    load_cases,
    read_configuration,
    refuse_shared_pictures,
    refuse_shared_subjects,
    refuse_unreadable_points,
)
from H3DELandmarksResearch.training.packaging import build_package, write_uncalibrated
from H3DELandmarksResearch.training.peers import starts_alone_or_leads

logger = logging.getLogger(__name__)
LONE_MM = 1e-6  # a landmark that spreads less does not tell how far it does


def shape_of(cases: Sequence[Case], configuration: Configuration) -> ShapeModel:
    """Mean shape and tolerance of the training cases; a lone landmark or one of a single case has a tolerance, too.

    Raises:
        InputError: no case shows a landmark.
    """
    subjects = np.stack([case.landmarks.positions for case in cases])
    shown = np.isfinite(subjects).all(axis=2).any(axis=0)
    if unseen := [name for name, there in zip(configuration.scheme.names, shown) if not there]:
        raise InputError(
            f"No case for training shows {first_of(unseen)}: name landmarks of the scheme '{configuration.scheme.id}' "
            "as the point lists do, or leave out those that nobody has placed."
        )
    shape = learn_shape_model(subjects, configuration.scheme, configuration.canonical_pose)
    size = float(np.linalg.norm(np.ptp(shape.mean, axis=0)))
    spread = np.where(shape.tolerance > LONE_MM, shape.tolerance, max(0.01 * size, 0.1))
    return replace(shape, tolerance=spread)


def train_stage(
    configuration: Configuration, number: int, output: Path, resume: bool, progress: Progress | None = None
) -> StageTrainer:
    """Train one stage to its last step; a stage that is resumed at its last step is left as it is.

    Args:
        configuration: what to train.
        number: index of the stage.
        output: folder of checkpoints, curves and generated data.
        resume: continue from a checkpoint, if there is one.
        progress: receives the fraction of the stage and a sentence.

    Raises:
        InputError: there is a checkpoint that was not to be continued; it is kept.
    """
    stage = configuration.with_steps().record.stages[number]
    training, validation = (load_cases(configuration, subset, output.parent) for subset in ("train", "validation"))
    _check_dimension(stage, [*training, *validation])
    shape = shape_of(training, configuration)
    sampler = CropSampler(stage, configuration.scheme, shape, stage.augmentation)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = stage_trainer(stage, sampler, output / stage.name, device)
    if trainer.checkpoint.exists() and not resume:
        raise InputError(f"'{output}' holds an earlier run: add --resume to go on with it, or choose another folder.")
    if trainer.resume():
        logger.info("%s: resumed at step %d", stage.name, trainer.step)
    elif configuration.record.start_from is not None:
        load_initial_weights(trainer.network, find_model(configuration.record.start_from), stage.name)

    def prepared(cases: Sequence[Case]) -> list[TrainingCase]:
        return [prepare_case(case, configuration.record, shape, configuration.canonical_pose) for case in cases]

    trainer.run(prepared(training), prepared(validation), progress)
    return trainer


def _check_dimension(stage: TrainingStage, cases: Sequence[Case]) -> None:
    """Refuse radiographs for a stage that learns from volumes, and the reverse."""
    for case in cases:
        if is_radiograph(case.volume) != stage.is_2d:
            is_now, learns = ("a volume", "radiographs") if stage.is_2d else ("a radiograph", "volumes")
            shape = " x ".join(map(str, stage.shape))
            raise InputError(
                f"The case '{case.name}' is {is_now}, but the stage '{stage.name}' (crops of {shape}) learns from "
                f"{learns}: change the data or the stage's shape."
            )


def _check_checkpoints(configuration: Configuration, output: Path) -> None:
    """Refuse what an earlier configuration left: weights of other landmarks, or that know cases which are held out."""
    held_out = _held_out(configuration)
    for stage in configuration.record.stages:
        path = output / stage.name / CHECKPOINT
        if not has_checkpoint(path):
            continue
        earlier = load_checkpoint(path).progress
        if earlier.landmarks not in ((), stage.landmarks):
            reason = "is of other landmarks, or of the same in another order"
        elif seen := [name for name in earlier.learnt if name in held_out]:
            reason = f"has learnt from cases that are held out now ({first_of(seen)})"
        else:
            continue
        raise InputError(f"The checkpoint '{path}' {reason}: choose another folder, or delete it to start anew.")


def _held_out(configuration: Configuration) -> frozenset[str]:
    """Names of the cases that do not teach; none where cases are made."""
    if configuration.record.data.reader != "case-folder":
        return frozenset()
    return frozenset(name for subset, names in configuration.split().items() if subset != "train" for name in names)


def _warn_of_start(configuration: Configuration) -> None:
    """Say where the model to start from may know cases that are held out; other data may have the same names.

    Raises:
        ModelPackageError: there is no such model.
    """
    start = configuration.record.start_from
    taught = () if start is None else recorded_cases(find_model(start).manifest, "train")
    if seen := sorted(_held_out(configuration).intersection(taught)):
        logger.warning(
            "'%s', which training starts from, has learnt from cases that are called as those held out here (%s): if "
            "they are the same scans, errors on them will look too small.",
            start,
            first_of(seen),
        )


def run_training(
    config_path: Path,
    output: Path,
    resume: bool = False,
    stages: Sequence[str] | None = None,
    progress: Progress | None = None,
    package: bool = True,
) -> None:
    """Train the model that a configuration describes; under ``torchrun``, with all its processes together.

    Args:
        config_path: JSON configuration.
        output: folder of the run; checkpoints, curves and, at the end, ``package`` lie there.
        resume: continue an interrupted run.
        stages: names of the stages to train now; all when not given.
        progress: receives the fraction of the current stage and a sentence.
        package: write the package at the end; needs a checkpoint of every stage.

    Raises:
        InputError: the configuration, its data or a stage's name is wrong, or a checkpoint is missing.
    """
    configuration = read_configuration(config_path)
    output.mkdir(parents=True, exist_ok=True)
    refuse_unreadable_points(configuration)
    refuse_shared_subjects(configuration)
    refuse_shared_pictures(configuration, output.parent)
    _check_checkpoints(configuration, output)
    if not resume and stages != []:
        _warn_of_start(configuration)
    names = [stage.name for stage in configuration.record.stages]
    for name in names if stages is None else stages:
        if name not in names:
            raise InputError(f"The configuration has no stage '{name}': choose one of {', '.join(names)}.")
        (output / name).mkdir(exist_ok=True)
        with held(output / name / LOCK) if starts_alone_or_leads() else nullcontext(True) as is_mine:
            if not is_mine:
                raise InputError(f"Another program trains the stage '{name}' in '{output}': wait for it, or stop it.")
            train_stage(configuration, names.index(name), output, resume, progress)
    if package and starts_alone_or_leads():
        package_run(configuration, output)


def package_run(configuration: Configuration, output: Path) -> ModelPackage:
    """Write ``output/package`` from a run's latest checkpoints, calibrated on cases of its own and reported on test.

    Without validation cases it is not calibrated yet: `recalibrate_package` does it by the folds of a cross-validation.
    """
    configuration = configuration.with_steps()
    calibration = configuration.calibration_subset
    if not (configuration.record.data.seeds or configuration.split())[calibration]:
        logger.warning("There are no validation cases: calibrate the package with 'models recalibrate --folds'.")
        return package_uncalibrated(configuration, output)
    subsets = {name: load_cases(configuration, name, output.parent) for name in ("train", calibration, "test")}
    return build_package(
        output / "package",
        configuration,
        _weights(configuration, output),
        shape_of(subsets["train"], configuration),
        subsets[calibration],
        subsets["test"],
        calibration,
        np.stack([case.landmarks.positions for case in subsets["train"]]),
    )


def package_uncalibrated(configuration: Configuration, output: Path) -> ModelPackage:
    """Write ``output/package`` from a run's latest checkpoints for measuring positions alone."""
    configuration = configuration.with_steps()
    shape = shape_of(load_cases(configuration, "train", output.parent), configuration)
    return write_uncalibrated(output / "package", configuration, _weights(configuration, output), shape)


def _weights(configuration: Configuration, output: Path) -> list[dict[str, Tensor]]:
    """Averaged weights of each stage's latest checkpoint."""
    return [averaged_weights(output / stage.name / CHECKPOINT) for stage in configuration.record.stages]
