"""``train``: a model from annotated cases, as a configuration file describes, or from a project's corrected cases."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console, add_device, add_json, add_progress, count
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.resources import research_module
from H3DELandmarksLib.core.text import plural

if TYPE_CHECKING:
    from H3DELandmarksLib.cases import CaseProject
    from H3DELandmarksLib.formats.run import RunFolder


FOLDER_OPTIONS = ("model_id", "spacing", "plan_only")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what retraining needs beside ``--output``, ``--resume`` and ``--progress``."""
    group = parser.add_argument_group("from corrected cases")
    group.add_argument("--from-cases", metavar="PROJECT", help="folder of the project; five cases at least")
    start = group.add_mutually_exclusive_group()
    start.add_argument("--base-model", metavar="ID", help="retrain this model: id, id@version or path")
    start.add_argument("--new-model", metavar="ID", help="train a new model of this id for the project's scheme")
    group.add_argument("--encoder-from", metavar="ID", help="with --new-model: start from this model's encoder")
    group.add_argument("--steps", type=count, metavar="N", help="steps of each stage (default: by the number of cases)")
    group.add_argument(
        "--held-out",
        type=float,
        metavar="SHARE",
        help="share of subjects kept for the comparison with the base (default: 0.2)",
    )
    add_device(group)


def run_retraining(options: argparse.Namespace, console: Console) -> bool:
    """Retrain; returns True, or raises."""
    _check(options)
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksLib.retraining.run import retrain
    from H3DELandmarksLib.training.loop import PEERS, has_peers

    project, output = open_project(options.from_cases), Path(options.output)
    peers = research_module("training.peers", PEERS).Peers.joined() if has_peers() else None
    if peers and not peers.leads:
        succeeded: bool = research_module("cli.train", PEERS).help_to_retrain(options, project, peers)
        return succeeded
    run = _run(options, project, output, console)
    if peers:
        peers.wait()  # the others read the run
    console.log_folder = output
    record = run.record
    with stop_wish() as stopped, console.task(record.model.id) as progress:
        candidate = retrain(run, options.device, progress, stopped, project)
    counts = record.counts
    for note in record.notes:
        console.say(note)
    console.say(f"Trained {candidate.id} {candidate.version} on {counts['train']} cases: {candidate.path}")
    measured = candidate.manifest.measured
    if measured:
        console.say(
            f"On {measured.cases} {measured.subset} cases, half of its points lie within {measured.median_mm:.2f} mm "
            f"of the right place. {measured.caution()}".rstrip()
        )
    console.document(
        {
            "ok": True,
            "run": output,
            "package": candidate.path,
            "model": candidate.id,
            "version": candidate.version,
            "cases": counts,
            "measured": None if measured is None else {**asdict(measured), "caution": measured.caution()},
            "notes": record.notes,
        }
    )
    return True


def _check(options: argparse.Namespace) -> None:
    """Refuse arguments that don't go together."""
    if options.configuration is not None or options.from_folder is not None:
        raise InputError("A configuration or a folder has its own cases: leave it out, or leave out --from-cases.")
    for name in FOLDER_OPTIONS:
        if getattr(options, name):
            raise InputError(
                f"--{name.replace('_', '-')} belongs to --from-folder: leave it out, or leave --from-cases."
            )
    if options.stage or options.package:
        raise InputError("--stage and --package belong to configurations: a retraining always does all stages.")
    if options.encoder_from is not None and options.new_model is None:
        raise InputError("--encoder-from belongs to --new-model: retraining starts from the whole base model.")
    if not options.resume and options.base_model is None and options.new_model is None:
        raise InputError("Name the model to retrain with --base-model, or a new one with --new-model.")


def _run(options: argparse.Namespace, project: CaseProject, output: Path, console: Console) -> RunFolder:
    """The run to go on with, or a new one."""
    from H3DELandmarksLib.cohort.result_files import make_folder
    from H3DELandmarksLib.formats.run import RUN, read_run
    from H3DELandmarksLib.models import find_model
    from H3DELandmarksLib.retraining.fine_tuning import plan_fine_tuning
    from H3DELandmarksLib.retraining.new_model import plan_new_model
    from H3DELandmarksLib.retraining.plan import USUAL_SHARE
    from H3DELandmarksLib.retraining.run import start_run

    if (output / RUN).exists():
        if not options.resume:
            raise InputError(
                f"'{output}' holds an earlier run: add --resume to go on with it, or choose another folder."
            )
        run = read_run(output)
        _check_same(options, run, console)
        return run
    share = USUAL_SHARE if options.held_out is None else options.held_out
    if options.base_model is not None:
        decision = plan_fine_tuning(project, find_model(options.base_model), options.steps, share)
    elif options.new_model is not None:
        donor = None if options.encoder_from is None else find_model(options.encoder_from)
        decision = plan_new_model(project, options.new_model, donor, options.steps, share)
    else:
        raise InputError(f"There is no run in '{output}' to go on with: check the folder.")
    return start_run(make_folder(output), decision)


def _check_same(options: argparse.Namespace, run: RunFolder, console: Console) -> None:
    """Refuse, or tell of, what a run that goes on does not do, as it was decided when it began."""
    from H3DELandmarksLib.models import find_model

    record, where = run.record, f"The run in '{run.folder}'"
    wanted = options.new_model or (options.base_model and find_model(options.base_model).id)
    if wanted and wanted != record.model.id:
        raise InputError(f"{where} trains the model '{record.model.id}', not '{wanted}': choose another.")
    donor = record.encoder_from.id if record.encoder_from else None
    if options.encoder_from is not None and find_model(options.encoder_from).id != donor:
        raise InputError(f"{where} does not begin with the encoder of --encoder-from: leave it out, or start anew.")
    steps = record.plan.stages[-1].training.steps
    if options.steps is not None and options.steps != steps:
        raise InputError(f"{where} has {steps} steps a stage: leave out --steps, or start anew in another folder.")
    if options.held_out is not None:
        kept = plural(record.counts["held-out"], "held-out case")
        console.warn(f"{where} goes on with the {kept} that it began with: --held-out changes nothing any more.")


@contextmanager
def stop_wish() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come, which end the work at the next step; a second SIGINT ends it at once."""
    wish = threading.Event()

    def note(number: int, frame: object) -> None:
        if wish.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        wish.set()

    if threading.current_thread() is not threading.main_thread():
        yield wish.is_set
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser("train", help="train a model, or retrain one from corrected cases")
    parser.add_argument(
        "configuration",
        metavar="CONFIG",
        nargs="?",
        help="JSON file, or a bundled one by name, such as mandibular-molar-phantom",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for checkpoints, curves and the package")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in the folder")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--stage", action="append", metavar="NAME", help="train only this stage; stages may run at once")
    part.add_argument("--package", action="store_true", help="write the package of the checkpoints, train nothing")
    add_folder_arguments(parser)
    add_arguments(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what training from a plain folder needs beside ``--output``, ``--resume`` and ``--steps``."""
    group = parser.add_argument_group("from a folder of scans and point lists")
    group.add_argument("--from-folder", metavar="FOLDER", help="plan and train a model for the points in a folder")
    group.add_argument("--model-id", metavar="ID", help="of the new model (default: after the folder's name)")
    group.add_argument("--spacing", metavar="MM", help="width and height of a pixel, for pictures, as 0.1 or 0.1x0.12")
    group.add_argument("--plan-only", action="store_true", help="write the plan for editing, train nothing")


def run(options: argparse.Namespace, console: Console) -> bool:
    """Train; returns True, or raises."""
    if options.from_cases is not None:
        return run_retraining(options, console)
    purpose = "Training from a configuration or a folder"
    succeeded: bool = research_module("cli.train", purpose).train_from_scratch(options, console)
    return succeeded
