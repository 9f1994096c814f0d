"""``convert``: a published data set as a folder of cases to train from."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from H3DELandmarksLib.cli.console import Console, add_json, add_progress
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksResearch.converters.converters import CONVERTERS

DESCRIPTION = (
    "Turns a data set in its published form into a folder with one scan and one point list (.mrk.json) a case, and, "
    "where the set has a published split, split.json. Cases that the folder already holds are left alone."
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command; every kind of data set has its own help."""
    parser = commands.add_parser("convert", help="turn a published data set into cases", description=DESCRIPTION)
    kinds = parser.add_subparsers(metavar="KIND", required=True, dest="kind")
    for name, converter in CONVERTERS.items():
        kind = kinds.add_parser(
            name,
            help=converter.title,
            description=textwrap.fill(DESCRIPTION, 100),
            epilog=converter.notes,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        kind.add_argument("source", metavar="SOURCE", help="folder of the published data set")
        kind.add_argument("target", metavar="TARGET", help="folder for the cases; made if it does not exist")
        for flag, keywords in converter.options.items():
            kind.add_argument(flag, **keywords)
        kind.add_argument(
            "--leave-out-repeats",
            action="store_true",
            help="name no case in split.json whose picture another case has; else a split that shares one is refused",
        )
        add_json(kind)
        add_progress(kind)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Convert; returns whether no case was skipped."""
    from H3DELandmarksLib.cohort.result_files import make_folder

    converter = CONVERTERS[options.kind]
    source = Path(options.source)
    if not source.exists():
        raise InputError(f"The data set '{source}' does not exist: check the path.")
    target = make_folder(Path(options.target))
    if target.resolve() == source.resolve():
        raise InputError("Source and target are the same folder: choose another target.")
    with console.task(options.kind) as progress:
        summary = converter.load()(source, target, vars(options), progress)
    for note in summary.notes:
        console.say(note)
    console.say(f"{summary.text()}: {target}")
    console.document({"ok": not summary.skipped, "kind": options.kind, "target": target, **vars(summary)})
    return not summary.skipped
