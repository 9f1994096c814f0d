"""``train`` from a configuration file, or from a folder of scans and point lists."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console
from H3DELandmarksLib.cli.train import FOLDER_OPTIONS, stop_wish
from H3DELandmarksLib.core.errors import InputError

if TYPE_CHECKING:
    from H3DELandmarksLib.cases import CaseProject
    from H3DELandmarksResearch.training.peers import Peers


def train_from_scratch(options: argparse.Namespace, console: Console) -> bool:
    """Train; returns True, or raises."""
    from H3DELandmarksLib.cohort.result_files import make_folder
    from H3DELandmarksResearch.training.configuration import find_configuration
    from H3DELandmarksResearch.training.peers import Peers
    from H3DELandmarksResearch.training.run import run_training

    _refuse_alone(options)
    if options.configuration is not None and options.from_folder is not None:
        raise InputError("A configuration names its own cases: leave it out, or leave out --from-folder.")
    if options.configuration is None and options.from_folder is None:
        raise InputError(
            "There is nothing to train from: give a configuration, or cases by --from-folder or --from-cases."
        )
    output = make_folder(Path(options.output))
    configuration = _planned(options, console) if options.from_folder else find_configuration(options.configuration)
    if options.plan_only:
        console.document({"ok": True, "configuration": configuration, "output": output})
        return True
    console.log_folder = output
    leads = Peers.joined().leads

    with console.task(configuration.stem) if leads else nullcontext(None) as progress:
        run_training(
            configuration,
            output,
            resume=options.resume,
            stages=[] if options.package else options.stage,
            progress=progress,
            package=not options.stage,
        )
    if not leads:
        return True
    console.say(f"Trained {configuration.stem}: the results are in {output}")
    if options.from_folder and not options.stage:
        _say_accuracy(console, output / "package")
    console.document({"ok": True, "configuration": configuration, "output": output})
    return True


def _refuse_alone(options: argparse.Namespace) -> None:
    """Refuse what belongs to ``--from-cases`` or ``--from-folder`` without them."""
    for name in FOLDER_OPTIONS:
        if getattr(options, name) and options.from_folder is None:
            raise InputError(f"--{name.replace('_', '-')} belongs to --from-folder: name the folder of scans.")
    if options.plan_only and (options.stage or options.package):
        word = "--package" if options.package else "--stage"
        raise InputError(f"--plan-only trains and packs nothing: leave it out, or leave out {word}.")
    given = {
        "--base-model": options.base_model,
        "--new-model": options.new_model,
        "--steps": None if options.from_folder else options.steps,
        "--encoder-from": options.encoder_from,
        "--held-out": options.held_out,
    }
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} belongs to --from-cases: name the project of corrected cases.")
    if options.device != "auto":
        raise InputError("--device belongs to --from-cases: a configuration trains on the GPU where there is one.")


def _say_accuracy(console: Console, folder: Path) -> None:
    """What the model is worth on the subjects that training never saw, and beside those who marked them."""
    from H3DELandmarksLib.formats.comparison import floor_of
    from H3DELandmarksLib.models import open_package

    package = open_package(folder)
    measured, figures = package.manifest.measured, package.manifest.accuracy.get("test", {})
    if measured:
        interval = figures.get("mre_interval_mm")
        within = "" if interval is None else f" (95 % interval of the mean: {interval[0]:.2f} to {interval[1]:.2f} mm)"
        floor = floor_of(figures)
        console.say(
            f"On {measured.cases} scans that it never saw, its points are {figures['mre_mm']:.2f} mm off on "
            f"average{within}; half of them lie within {measured.median_mm:.2f} mm of the right place."
            f"{f' {floor.sentence()}' if floor else ''} The card has the rest: {package.path / 'model-card.md'}"
        )
    console.say(f"Install it with: h3delandmarks models install {package.path}")


def _planned(options: argparse.Namespace, console: Console) -> Path:
    """The plan for a folder: written by the first process, or by an earlier run and perhaps edited since."""
    from H3DELandmarksResearch.planning import plan as planning
    from H3DELandmarksResearch.training.peers import Peers

    spacing = None if options.spacing is None else planning.spacing_of(options.spacing, "The option --spacing")
    arguments = (Path(options.from_folder), Path(options.output), options.model_id, spacing, options.steps)
    peers = Peers.joined()
    if peers.leads:
        is_kept = planning.plan_of(*arguments[:3]).exists()
        with console.task("Reading the cases") as progress:
            path = planning.plan_folder(*arguments, progress)
        console.say(f"The plan is {path}, and what it follows from {path.with_suffix('.md')}")
        if is_kept:
            console.say("It was there already and is kept: for other scans or options, remove it and plan anew.")
    peers.wait()
    return planning.plan_folder(*arguments)


def help_to_retrain(options: argparse.Namespace, project: CaseProject, peers: Peers) -> bool:
    """Train the stages of a retraining along with the process that leads, which alone writes and speaks."""
    from H3DELandmarksLib.formats.run import RunFolder, read_run
    from H3DELandmarksLib.retraining.run import Work

    peers.wait()
    run = read_run(options.output)
    alone = RunFolder(run.folder, run.record, writes=False)
    with stop_wish() as stopped:
        Work(alone, options.device, lambda fraction, message, **more: None, stopped, project).train_all()
    return True
