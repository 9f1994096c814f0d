"""Networks, heads, targets and losses compared in one run: same folds of specimens, same budget of time for each.

    python -m H3DELandmarksResearch.studies.compare_networks --work runs/compare-networks
    python -m H3DELandmarksResearch.studies.compare_networks --work runs/compare-networks --folds 0 --seconds 360

Every network learns one stage of a bundled configuration (see configurations/compare-networks.json) from all folds but
one, for so many steps as fit into the budget, and is measured on the specimens of that fold, in their canonical pose.
The budget counts the computing time of one process, so that a busy machine costs nobody anything; on a GPU it is time
on the clock. Steps are measured beforehand. Kill it at any moment and start it again: it goes on from the last
checkpoint. Table, figures and picture are written anew after each run.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import H3DELandmarksResearch.networks.residual_unet  # noqa: F401  adds the architecture
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.engine import EngineSettings
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.scan import Scan
from H3DELandmarksLib.detection.search import refine
from H3DELandmarksLib.detection.stage import StageNetwork
from H3DELandmarksLib.formats.reading import FormatError, Positive, build, read_record, to_json, to_plain
from H3DELandmarksLib.formats.training import EVERY_LOSS_SETTING, LOSS_SETTINGS, Training, TrainingStage
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.training.cases import Case, TrainingCase, prepare_case
from H3DELandmarksLib.training.loop import StageTrainer
from H3DELandmarksLib.training.sampling import CropSampler
from H3DELandmarksResearch.studies import RESULTS, command_of, run_study
from H3DELandmarksResearch.studies.comparison_report import ComparisonPlan, write_report
from H3DELandmarksResearch.studies.folds import FOLDER, all_names, of_subset, stored_folds
from H3DELandmarksResearch.training.configuration import (
    Configuration,
    find_configuration,
    load_cases,
    read_configuration,
)
from H3DELandmarksResearch.training.run import shape_of

logger = logging.getLogger(__name__)
TIMED_STEPS = 5
NEVER = 10**9  # steps


@dataclass(frozen=True, kw_only=True)
class BudgetedTraining(Training):
    """``settings.json`` of a run: how a network is trained, with the steps that fit into its budget.

    Attributes:
        budget_seconds: of computing time.
    """

    budget_seconds: Positive


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and measure whatever is missing, then write the figures."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    plan = read_record(ComparisonPlan, options.plan, what="plan")
    configuration = read_configuration(find_configuration(options.configuration or plan.configuration)).with_steps()
    folds = stored_folds(configuration.record.id, configuration, options.fold_count)
    unknown = sorted(set(options.networks or ()) - set(plan.networks))
    if unknown:
        raise InputError(f"There is no network {', '.join(unknown)}: choose from {', '.join(plan.networks)}.")
    names, command = options.networks or list(plan.networks), command_of("compare_networks", arguments)
    cases: dict[str, Case] = {}
    for fold in range(len(folds)) if options.folds is None else options.folds:
        for name in names:
            folder = options.work / f"fold-{fold}" / name
            if not options.report and not (folder / "result.json").exists():
                cases = cases or _load_all(configuration, options.work)
                held_out = [cases[n] for n in folds[fold]]
                learnt = [cases[n] for n in sorted(set(cases) - set(folds[fold]))]
                stage = stage_of(configuration, plan, name)
                logger.info("fold %d, %s", fold, plan.networks[name].title)
                result = train_and_measure(configuration, stage, learnt, held_out, folder, options.seconds)
                _write(folder / "result.json", to_json({"network": name, "fold": fold, **result}))
                write_report(options.work, plan, configuration, folds, options.output, command)
    if not any(options.work.glob("fold-*/*/result.json")):
        raise InputError(f"There is nothing to report on in '{options.work}' yet: leave --report out.")
    write_report(options.work, plan, configuration, folds, options.output, command)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--folds", type=int, nargs="+", help="numbers of the folds to test on (default: all)")
    parser.add_argument("--fold-count", type=int, default=5, help="how many folds there are")
    parser.add_argument("--networks", nargs="+", help="names from the plan (default: all)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="budget of a run")
    parser.add_argument("--report", action="store_true", help="train nothing, write the report of what is done")
    parser.add_argument("--plan", type=Path, default=FOLDER / "compare-networks.json", help="what is compared")
    parser.add_argument("--configuration", help="training configuration, in place of the plan's")
    parser.add_argument("--output", type=Path, default=RESULTS / "compare_networks", help="report without suffix")
    return parser


def _load_all(configuration: Configuration, cache: Path) -> dict[str, Case]:
    whole = of_subset(configuration, all_names(configuration))
    return {case.name: case for case in load_cases(whole, "train", cache)}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def stage_of(configuration: Configuration, plan: ComparisonPlan, name: str) -> TrainingStage:
    """The configuration's stage with what an entry of the plan changes in it; all are measured by a single look.

    Raises:
        InputError: the configuration has no such stage, or network, loss and decoding do not fit together.
    """
    stages = {stage.name: stage for stage in configuration.record.stages}
    if plan.stage not in stages:
        raise InputError(f"'{configuration.path}' has no stage '{plan.stage}': choose from {', '.join(stages)}.")
    stage, entry = stages[plan.stage], plan.networks[name]
    network = entry.network or stage.network
    changed = {
        **to_plain(stage),
        "views": 1,
        **plan.stage_settings,
        "network": {"architecture": network.architecture, "settings": {**network.settings, **entry.settings}},
        "decoding": to_plain(entry.decoding or stage.decoding),
        "training": _changed_training(stage.training, entry.training),
        "augmentation": {**to_plain(stage.augmentation), **entry.augmentation},
    }
    try:
        return build(TrainingStage, changed)
    except FormatError as error:
        raise InputError(f"The network '{name}' of the plan cannot be trained, {error}: correct it.") from error


def _changed_training(training: Training, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Training with changes; another loss leaves behind the settings that it does not take."""
    taken = LOSS_SETTINGS.get(changes.get("loss", training.loss), ())
    kept = {k: v for k, v in to_plain(training).items() if k in taken or k not in EVERY_LOSS_SETTING}
    return {**kept, **changes}


def train_and_measure(
    configuration: Configuration,
    stage: TrainingStage,
    learnt: Sequence[Case],
    held_out: Sequence[Case],
    folder: Path,
    seconds: float,
) -> dict[str, Any]:
    """Train a stage within a budget, or go on with it, and measure it on the specimens that it never saw."""
    shape = shape_of(learnt, configuration)
    prepare = lambda case: prepare_case(case, configuration.record, shape, configuration.canonical_pose)  # noqa: E731
    training = [prepare(case) for case in learnt]
    sampler = CropSampler(stage, configuration.scheme, shape, stage.augmentation)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    settings = _within_budget(stage, sampler, training, folder, device, clock, seconds)
    trainer = StageTrainer(replace(stage, training=settings), sampler, folder, device)
    trainer.resume()
    marks = [clock()]
    trainer.run(training, (), watch=lambda step: marks.append(clock()))
    return {
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "steps": trainer.step,
        "seconds_a_step": float(np.mean(np.diff(marks))) if len(marks) > 1 else None,
        "budget_seconds": seconds,
        "errors_mm": measure(trainer, configuration, shape, [prepare(case) for case in held_out]),
    }


def _within_budget(
    stage: TrainingStage,
    sampler: CropSampler,
    cases: Sequence[TrainingCase],
    folder: Path,
    device: torch.device,
    clock: Callable[[], float],
    seconds: float,
) -> BudgetedTraining:
    """Settings with as many steps as fit into the budget; they are measured once and kept with the run.

    Raises:
        InputError: the run was begun with another budget.
    """
    path = folder / "settings.json"
    if path.exists():
        kept = read_record(BudgetedTraining, path, what="settings", advice="begin the run in another folder")
        if kept.budget_seconds != seconds:
            was = kept.budget_seconds
            raise InputError(f"'{folder}' was begun with a budget of {was:g} s: use that, or another folder.")
        return kept
    training = replace(stage.training, validate_every=NEVER)
    marks: list[float] = []
    with tempfile.TemporaryDirectory() as trial:
        timed = replace(stage, training=replace(training, steps=TIMED_STEPS))
        StageTrainer(timed, sampler, Path(trial), device).run(cases, (), watch=lambda step: marks.append(clock()))
    steps = max(1, round(seconds / float(np.median(np.diff(marks)))))
    settings = {
        **to_plain(training),
        "steps": steps,
        "warmup": min(training.warmup, -(-steps // 10)),
        # Averaged weights of a short training shouldn't still hold the first ones.
        "ema": min(training.ema, 1 - 5 / max(steps, 10)),
        "budget_seconds": seconds,
    }
    result = build(BudgetedTraining, settings)
    _write(path, to_json(result))
    return result


def measure(
    trainer: StageTrainer, configuration: Configuration, shape: ShapeModel, cases: Sequence[TrainingCase]
) -> dict[str, list[float | None]]:
    """Errors in mm of each case's landmarks, None where there is none, in crops that lie as the truth says."""
    weights = {name: to_array(value) for name, value in trainer.weights().items()}
    settings = EngineSettings.choose(device=trainer.device.type, backend="torch", precision="fp32")
    network = StageNetwork(trainer.stage, weights, configuration.scheme, settings)
    errors = {}
    for case in cases:
        truth = case.case.landmarks
        count = len(truth.positions)
        start = RawPredictions(np.full((count, 3), np.nan), np.zeros(count), np.zeros(count), case.pose)
        scan = Scan(case.case.volume, case.intensity, case.outside)
        found = refine(network, scan, shape, start, canonical_pose=configuration.canonical_pose)
        distance = np.linalg.norm(found.positions - truth.positions, axis=1)
        errors[case.case.name] = [float(d) if there else None for d, there in zip(distance, truth.present)]
    return errors


if __name__ == "__main__":
    run_study(main)
