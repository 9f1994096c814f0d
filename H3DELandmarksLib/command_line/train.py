"""``train``: a model from annotated cases, as a configuration file describes, or from a project's corrected cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from H3DELandmarksLib.command_line import retraining
from H3DELandmarksLib.command_line.console import Console
from H3DELandmarksLib.command_line.options import add_json, add_progress
from H3DELandmarksLib.errors import InputError

BUNDLED = Path(__file__).resolve().parent.parent / "training" / "configurations"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser("train", help="train a model, or retrain one from corrected cases")
    parser.add_argument(
        "configuration", metavar="CONFIG", nargs="?",
        help="JSON file, or a bundled one by name, such as mandibular-molar-phantom",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for checkpoints, curves and the package")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in the folder")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--stage", action="append", metavar="NAME", help="train only this stage; stages may run at once")
    part.add_argument("--package", action="store_true", help="write the package of the checkpoints, train nothing")
    retraining.add_arguments(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Train; returns True, or raises."""
    from H3DELandmarksLib.command_line.result_files import make_folder

    if options.from_cases is not None:
        return retraining.run(options, console)
    retraining.refuse_alone(options)
    if options.configuration is None:
        raise InputError("There is nothing to train from: give a configuration, or cases with --from-cases.")
    configuration = find_configuration(options.configuration)
    console.log_folder = output = make_folder(Path(options.output))
    from H3DELandmarksLib.training.run import run_training

    with console.task(configuration.stem) as progress:
        run_training(
            configuration,
            output,
            resume=options.resume,
            stages=[] if options.package else options.stage,
            progress=progress,
            package=not options.stage,
        )
    console.say(f"Trained {configuration.stem}: the results are in {output}")
    console.document({"ok": True, "configuration": configuration, "output": output})
    return True


def find_configuration(name: str) -> Path:
    """A configuration file by path, or a bundled one by name.

    Raises:
        InputError: there is neither.
    """
    for path in (Path(name), BUNDLED / f"{name}.json"):
        if path.is_file():
            return path
    raise InputError(f"The configuration '{name}' does not exist: give the path of a JSON file.")
