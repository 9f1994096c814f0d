"""``phantom``: a made lower jaw with the exact positions of its landmarks, for trying and testing."""

from __future__ import annotations

import argparse
from pathlib import Path

from H3DELandmarksLib.cli.console import Console, add_json, add_overwrite


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser("phantom", help="make a digital phantom of the lower jaw")
    parser.add_argument("--seed", required=True, type=int, metavar="N", help="the same number gives the same phantom")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for phantom_N.nrrd, phantom_N.mrk.json")
    parser.add_argument(
        "--missing", default=None, metavar="NAMES", help="molars to leave out, separated by commas (default: by chance)"
    )
    parser.add_argument("--spacing", type=float, default=None, metavar="MM", help="voxel size (default: by chance)")
    add_overwrite(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Make the phantom and write its scan and true landmarks."""
    from H3DELandmarksLib.cohort.result_files import make_folder
    from H3DELandmarksLib.core.files import refuse_existing
    from H3DELandmarksLib.io.images import write_volume
    from H3DELandmarksLib.io.markups import write_markups
    from H3DELandmarksResearch.phantom import generate_phantom

    folder = make_folder(Path(options.output))
    missing = None if options.missing is None else [name.strip() for name in options.missing.split(",") if name.strip()]
    scan, markups = (folder / f"phantom_{options.seed}{extension}" for extension in (".nrrd", ".mrk.json"))
    refuse_existing(scan, markups, overwrite=options.overwrite)
    case = generate_phantom(options.seed, missing=missing, spacing=options.spacing)
    write_volume(scan, case.volume)
    write_markups(markups, case.landmarks)
    console.say(f"Wrote {scan} and {markups}")
    console.document(
        {"ok": True, "seed": options.seed, "scan": scan, "markups": markups, "description": case.description}
    )
    return True
