"""``report``: one page about all scans of a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from H3DELandmarksLib.cli.console import Console, add_command, add_json, add_overwrite, add_progress
from H3DELandmarksLib.core.errors import InputError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "report",
        help="write one page about all scans of a folder",
        description="Writes one HTML file about the results of detect in a folder, or about any point lists: pictures "
        "with the points, the most doubtful first, filters, distributions, shapes, failures. It needs no network, and "
        "can be printed.",
        example="results --output results/report.html",
    )
    parser.add_argument("folder", metavar="FOLDER", help="output folder of detect, or a folder of point lists")
    parser.add_argument("--output", required=True, metavar="FILE", help="HTML file")
    parser.add_argument("--title", default="Landmarks of a cohort", help="heading (default: %(default)s)")
    parser.add_argument(
        "--scans",
        nargs="+",
        default=(),
        metavar="DIR",
        help="where the scans are, if they were moved or no log names them",
    )
    parser.add_argument("--points-only", action="store_true", help="do not read the scans: draw the points alone")
    add_overwrite(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Write the page; returns True: failures of scans are what it reports."""
    from H3DELandmarksLib.core.files import refuse_existing
    from H3DELandmarksLib.core.text import plural
    from H3DELandmarksLib.io.isolated import start_reader
    from H3DELandmarksResearch.report.cohort import read_cohort
    from H3DELandmarksResearch.report.cohort_sections import cohort_page
    from H3DELandmarksResearch.report.page import write_page
    from H3DELandmarksResearch.report.thumbnails import points_alone, thumbnail_of_case

    if options.points_only and options.scans:
        raise InputError("--points-only reads no scans: leave out one of --points-only and --scans.")
    target = Path(options.output)
    refuse_existing(target, overwrite=options.overwrite)
    if not target.parent.is_dir():  # before pictures of all scans are made
        raise InputError(f"'{target}' cannot be written: its folder does not exist: make it, or choose another.")
    cases, pictures = read_cohort(Path(options.folder)), []
    if not options.points_only:
        start_reader()
    with console.task("report") as progress:
        for number, case in enumerate(cases):
            progress(number / len(cases), case.name)
            if options.points_only:
                pictures.append(points_alone(case.landmarks) if case.landmarks is not None else None)
            else:
                pictures.append(thumbnail_of_case(case, [Path(folder) for folder in options.scans]))
        progress(0.99, "Drawing")
        write_page(cohort_page(options.title, str(options.folder), cases, pictures, target), target)
    without = sum(case.landmarks is not None and (p is None or p.image is None) for case, p in zip(cases, pictures))
    if without and not options.points_only:
        console.warn(
            f"{plural(without, 'scan')} could not be read again, or changed since, and shown by points alone: give the "
            "folder of the scans with --scans."
        )
    failed = sum(case.landmarks is None for case in cases)
    size = target.stat().st_size
    console.say(f"{plural(len(cases), 'scan')}, {failed} failed, {size / 1e6:.1f} MB: {target}")
    console.document({"ok": True, "output": target, "scans": len(cases), "failed": failed, "bytes": size})
    return True
