"""``cases rank``: which scan of a folder to correct next."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.command_line.console import Console
from H3DELandmarksLib.command_line.detect import load_detector, pixel_size
from H3DELandmarksLib.command_line.options import add_engine, add_json, add_progress
from H3DELandmarksLib.errors import InputError

if TYPE_CHECKING:
    from H3DELandmarksLib.cohort.ranking import Ranking

ORDERS = ("random", "combined", "uncertainty", "distance")  # as benefit.ORDERS, the default first
COLUMNS = ("rank", "scan", "score", "uncertainty", "distance", "reasons")
DESCRIPTION = (
    "Ranks unlabelled scans for correction and says of each how unsure the model is of its points, and how unlike its "
    "shape is to what is known, so that scans which repeat others come last."
)


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the action."""
    action = actions.add_parser("rank", help="which scan of a folder to correct next", description=DESCRIPTION)
    action.add_argument("folder", metavar="FOLDER", help="with scans, or with one folder for each DICOM scan")
    action.add_argument("--model", required=True, metavar="ID", help="id, id@version or path of a model package")
    action.add_argument("--cases", metavar="PROJECT", help="leave out its scans, and count its cases as known")
    action.add_argument("--output", required=True, metavar="FILE", help="table (.csv), the most useful scan first")
    action.add_argument("--order", choices=ORDERS, default=ORDERS[0],
                        help="what counts: chance, uncertainty and distance, or one of them; what nearly repeats "
                        "another scan comes last (default: %(default)s, which no other has beaten on mouse skulls)")
    action.add_argument("--spacing", type=pixel_size, metavar="MM",
                        help="width and height of a pixel in mm, where the radiographs' files do not state it")
    action.set_defaults(run=rank)
    add_engine(action)
    add_json(action)
    add_progress(action)


def rank(options: argparse.Namespace, console: Console) -> bool:
    """Rank; returns whether every scan could be read."""
    from H3DELandmarksLib.cohort import open_project
    from H3DELandmarksLib.cohort.ranking import rank_scans
    from H3DELandmarksLib.cohort.scan_folder import scans_in

    output = Path(options.output)
    _check_replaceable(output)
    project = None if options.cases is None else open_project(options.cases)
    detector = load_detector(options.model, options.device, options.backend, options.precision)
    scans = scans_in(Path(options.folder), detector.flat)
    with console.task("rank") as progress:
        ranking = rank_scans(scans, detector, project, progress, None, options.spacing, options.order)
    _write(output, ranking)
    for scan, sentence in ranking.unreadable:
        console.warn(sentence if str(scan) in sentence else f"{scan}: {sentence}")
    for place, entry in enumerate(ranking.ranked, 1):
        console.say(f"{place:3d}  {entry.score:.2f}  {entry.scan.name}  {'; '.join(entry.reasons)}")
    console.say(f"{len(ranking.ranked)} scans ranked, {len(ranking.known)} in the project already, "
                f"{len(ranking.unreadable)} left out: {output}")
    console.document({
        "ok": not ranking.unreadable, "output": output,
        "model": {"id": detector.package.id, "version": detector.package.version},
        "scans": [{"rank": place, **entry.to_dict()} for place, entry in enumerate(ranking.ranked, 1)],
        "known": [{"scan": scan, "case": case} for scan, case in ranking.known],
        "unreadable": [{"scan": scan, "error": sentence} for scan, sentence in ranking.unreadable],
    })  # fmt: skip
    return not ranking.unreadable


def _check_replaceable(path: Path) -> None:
    """Refuse, before the work begins, to replace a file that is no ranking."""
    if path.suffix.lower() != ".csv":
        raise InputError(f"'{path}' is no table: give a name that ends with .csv.")
    if not path.parent.is_dir():
        raise InputError(f"The folder '{path.parent}' does not exist: make it, or choose another.")
    if path.exists():
        try:
            header = path.read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError):
            header = ""
        if header != ",".join(COLUMNS):
            raise InputError(f"'{path}' is there and no ranking, and is kept: choose another name.")


def _write(path: Path, ranking: Ranking) -> None:
    """The table; scans that could not be ranked are not in it."""
    from H3DELandmarksLib.files import replaced_when_complete

    with replaced_when_complete(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for place, scan in enumerate(ranking.ranked, 1):
            distance = "" if scan.distance != scan.distance else f"{scan.distance:.3f}"
            writer.writerow([place, scan.scan, f"{scan.score:.4f}", f"{scan.uncertainty:.4f}", distance,
                             "; ".join(scan.reasons)])
