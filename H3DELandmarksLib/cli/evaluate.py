"""``evaluate``: how far predicted point lists are from reference ones."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console, add_json
from H3DELandmarksLib.core.errors import InputError

if TYPE_CHECKING:
    from H3DELandmarksLib.core.landmarks import LandmarkSet

EXTENSION = ".mrk.json"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "evaluate",
        help="compare predictions with a reference",
        description="Compares point lists (*.mrk.json) of the same name in two folders.",
    )
    parser.add_argument("--predictions", required=True, metavar="DIR", help="folder with predicted point lists")
    parser.add_argument("--reference", required=True, metavar="DIR", help="folder with true point lists")
    parser.add_argument(
        "--thresholds",
        type=float,
        nargs="+",
        metavar="MM",
        default=[2.0, 2.5, 3.0, 4.0],
        help="distances that count as detected (default: 2 2.5 3 4)",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Compare; returns whether every file could be read and every reference has a prediction."""
    from H3DELandmarksLib.evaluation import evaluate_sets

    failures: list[str] = []
    predictions, references = (
        _read_folder(Path(folder), console, failures) for folder in (options.predictions, options.reference)
    )
    if not predictions.keys() & references.keys():
        raise InputError(
            f"No point list in '{options.predictions}' has the name of one in '{options.reference}': "
            "name predictions and references alike."
        )
    evaluation = evaluate_sets(predictions, references, options.thresholds)
    for name in evaluation.without_prediction:
        failures.append(f"There is no prediction for the reference '{name}': detect landmarks in that scan, too.")
        console.warn(failures[-1])
    console.say(evaluation.text())
    console.document({"ok": not failures, "errors": failures, **evaluation.to_dict()})
    return not failures


def _read_folder(folder: Path, console: Console, failures: list[str]) -> Mapping[str, LandmarkSet]:
    """Point lists by name; unreadable ones are told and added to `failures`."""
    from H3DELandmarksLib.io.markups import read_markups

    if not folder.is_dir():
        raise InputError(f"The folder '{folder}' does not exist: check the path.")
    paths = sorted(folder.glob(f"*{EXTENSION}"))
    if not paths:
        raise InputError(f"The folder '{folder}' holds no point list (*{EXTENSION}): choose another folder.")
    sets = {}
    for path in paths:
        try:
            sets[path.name.removesuffix(EXTENSION)] = read_markups(path)
        except InputError as error:
            failures.append(console.failure(error))
    return sets
