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
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

import H3DELandmarksResearch.networks.residual_unet  # noqa: F401  adds the architecture
from H3DELandmarksLib.cli.train import find_configuration
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import replaced_when_complete
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.engine import EngineSettings
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.scan import Scan
from H3DELandmarksLib.detection.search import refine
from H3DELandmarksLib.detection.stage import StageNetwork
from H3DELandmarksLib.training.cases import Case, TrainingCase, prepare_case
from H3DELandmarksLib.training.loop import StageTrainer
from H3DELandmarksLib.training.losses import check_objective
from H3DELandmarksLib.training.sampling import CropSampler
from H3DELandmarksResearch.studies import RESULTS, run_study
from H3DELandmarksResearch.studies.comparison_report import write_report
from H3DELandmarksResearch.studies.folds import FOLDER, all_names, of_subset, stored_folds
from H3DELandmarksResearch.training.configuration import Configuration, load_cases, read_configuration
from H3DELandmarksResearch.training.run import shape_of

logger = logging.getLogger(__name__)
TIMED_STEPS = 5
MERGED = ("network", "training", "augmentation")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and measure whatever is missing, then write the figures."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    plan = json.loads(options.plan.read_text(encoding="utf-8"))
    configuration = read_configuration(find_configuration(options.configuration or plan["configuration"]))
    folds = stored_folds(configuration.values["id"], configuration, options.fold_count)
    unknown = sorted(set(options.networks or ()) - set(plan["networks"]))
    if unknown:
        raise InputError(f"There is no network {', '.join(unknown)}: choose from {', '.join(plan['networks'])}.")
    names = options.networks or list(plan["networks"])
    cases: dict[str, Case] = {}
    for fold in range(len(folds)) if options.folds is None else options.folds:
        for name in names:
            folder = options.work / f"fold-{fold}" / name
            if not options.report and not (folder / "result.json").exists():
                cases = cases or _load_all(configuration, options.work)
                held_out = [cases[n] for n in folds[fold]]
                learnt = [cases[n] for n in sorted(set(cases) - set(folds[fold]))]
                stage = stage_of(configuration, plan, name)
                logger.info("fold %d, %s", fold, plan["networks"][name]["title"])
                result = train_and_measure(configuration, stage, learnt, held_out, folder, options.seconds)
                _write(folder / "result.json", {"network": name, "fold": fold, **result})
                write_report(options.work, plan, configuration, folds, options.output, _command(arguments))
    if not any(options.work.glob("fold-*/*/result.json")):
        raise InputError(f"There is nothing to report on in '{options.work}' yet: leave --report out.")
    write_report(options.work, plan, configuration, folds, options.output, _command(arguments))
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


def _command(arguments: Sequence[str] | None) -> str:
    return " ".join(
        [
            "python -m H3DELandmarksResearch.studies.compare_networks",
            *(sys.argv[1:] if arguments is None else arguments),
        ]
    )


def _load_all(configuration: Configuration, cache: Path) -> dict[str, Case]:
    whole = of_subset(configuration, all_names(configuration))
    return {case.name: case for case in load_cases(whole, "train", cache)}


def _write(path: Path, values: Mapping) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_complete(path) as partial:
        partial.write_text(json.dumps(values, indent=1), encoding="utf-8")


def stage_of(configuration: Configuration, plan: Mapping, name: str) -> dict:
    """The configuration's stage with what an entry of the plan changes in it; all are measured by a single look."""
    names = [stage["name"] for stage in configuration.values["stages"]]
    stage = deepcopy(dict(configuration.values["stages"][names.index(plan["stage"])])) | {"views": 1}
    stage |= plan.get("stage_settings", {})
    entry = plan["networks"][name]
    for key in MERGED:
        stage[key] = {**stage[key], **entry.get(key, {})}
    if "settings" in entry:
        stage["network"]["settings"] = {**stage["network"]["settings"], **entry["settings"]}
    stage["decoding"] = entry.get("decoding", stage.get("decoding", {"method": "softmax"}))
    check_objective(stage)
    return stage


def train_and_measure(
    configuration: Configuration,
    stage: Mapping,
    learnt: Sequence[Case],
    held_out: Sequence[Case],
    folder: Path,
    seconds: float,
) -> dict:
    """Train a stage within a budget, or go on with it, and measure it on the specimens that it never saw."""
    shape = shape_of(learnt, configuration)
    prepare = lambda case: prepare_case(case, configuration.values, shape, configuration.own_frame)  # noqa: E731
    training = [prepare(case) for case in learnt]
    sampler = CropSampler(stage, configuration.scheme, shape, stage["augmentation"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    settings = _within_budget(stage, sampler, training, folder, device, clock, seconds)
    trainer = StageTrainer(stage, settings, sampler, folder, device)
    trainer.resume()
    marks = [clock()]
    trainer.run(training, (), watch=lambda step: marks.append(clock()))
    result = {
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "steps": trainer.step,
        "seconds_a_step": float(np.mean(np.diff(marks))) if len(marks) > 1 else None,
        "budget_seconds": seconds,
    }
    return result | {"errors_mm": measure(trainer, configuration, shape, [prepare(case) for case in held_out])}


def _within_budget(
    stage: Mapping,
    sampler: CropSampler,
    cases: Sequence[TrainingCase],
    folder: Path,
    device: torch.device,
    clock: Callable[[], float],
    seconds: float,
) -> dict:
    """Settings with as many steps as fit into the budget; they are measured once and kept with the run."""
    kept = folder / "settings.json"
    if kept.exists():
        settings = json.loads(kept.read_text(encoding="utf-8"))
        if settings["budget_seconds"] != seconds:
            was = settings["budget_seconds"]
            raise InputError(f"'{folder}' was begun with a budget of {was:g} s: use that, or another folder.")
        return settings
    settings = {**stage["training"], "validate_every": 10**9}
    marks: list[float] = []
    with tempfile.TemporaryDirectory() as trial:
        trainer = StageTrainer(stage, {**settings, "steps": TIMED_STEPS}, sampler, Path(trial), device)
        trainer.run(cases, (), watch=lambda step: marks.append(clock()))
    steps = max(1, round(seconds / float(np.median(np.diff(marks)))))
    settings |= {"steps": steps, "warmup": min(settings["warmup"], -(-steps // 10)), "budget_seconds": seconds}
    # Averaged weights of a short training shouldn't still hold the first ones.
    settings["ema"] = min(settings["ema"], 1 - 5 / max(steps, 10))
    _write(kept, settings)
    return settings


def measure(
    trainer: StageTrainer, configuration: Configuration, shape: ShapeModel, cases: Sequence[TrainingCase]
) -> dict[str, list[float | None]]:
    """Errors in mm of each case's landmarks, None where there is none, in crops that lie as the truth says."""
    weights = {name: value.numpy() for name, value in trainer.weights().items()}
    settings = EngineSettings.choose(device=trainer.device.type, backend="torch", precision="fp32")
    network = StageNetwork(trainer.stage, weights, configuration.scheme, settings)
    errors = {}
    for case in cases:
        truth = case.case.landmarks
        count = len(truth.positions)
        start = RawPredictions(np.full((count, 3), np.nan), np.zeros(count), np.zeros(count), case.pose)
        scan = Scan(case.case.volume, case.intensity, case.outside)
        found = refine(network, scan, shape, start, own_frame=configuration.own_frame)
        distance = np.linalg.norm(found.positions - truth.positions, axis=1)
        errors[case.case.name] = [float(d) if there else None for d, there in zip(distance, truth.present)]
    return errors


if __name__ == "__main__":
    run_study(main)
