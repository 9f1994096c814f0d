"""``cases``: which scan to correct next, and what to look at before training; more where the research package is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console, add_engine, add_json, add_overwrite, add_progress
from H3DELandmarksLib.cli.detect import add_reading
from H3DELandmarksLib.cli.research import add_research_actions
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import refuse_existing, shown
from H3DELandmarksLib.core.resources import research_module
from H3DELandmarksLib.core.text import csv_text, plural

if TYPE_CHECKING:
    from H3DELandmarksLib.cases.next_case import Ranking

RANKING_COLUMNS = ("rank", "scan", "reason")
DESCRIPTION = (
    "Keeps corrected landmarks with their scans for training. Nothing is stored but voxels, geometry, positions, "
    "states, the model, the software's version and the time: no DICOM tags, names, paths or descriptions. Voxels stay "
    "as they are: faces are not removed, nor is text in the image."
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its actions."""
    parser = commands.add_parser("cases", help="keep, exchange and check corrected cases", description=DESCRIPTION)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="find what should be looked at before training",
        description="Find what should be looked at before training.",
    )
    check.add_argument("project", metavar="PROJECT", help="folder of the project")
    check.add_argument("--pictures", metavar="DIR", help="draw every finding")
    check.set_defaults(run=check_cases)
    add_json(check)
    add_overwrite(check)
    add_progress(check)
    add_next_case_action(actions)
    add_research_actions(actions, "cases")


def add_next_case_action(actions: argparse._SubParsersAction) -> None:
    """Declare the action."""
    action = actions.add_parser(
        "rank",
        help="which scan of a folder to correct next",
        description="Puts scans in random order; those that nearly repeat a case or another scan come last.",
    )
    action.add_argument("folder", metavar="FOLDER", help="with scans, or with one folder for each DICOM scan")
    action.add_argument(
        "--model", required=True, metavar="ID", help="finds the points; id, id@version or path of a model package"
    )
    action.add_argument("--cases", metavar="PROJECT", help="leave out its scans, and count its cases as known")
    action.add_argument("--output", required=True, metavar="FILE", help="table (.csv), the first scan first")
    add_reading(action)
    add_overwrite(action)
    action.set_defaults(run=rank)
    add_engine(action)
    add_json(action)
    add_progress(action)


def rank(options: argparse.Namespace, console: Console) -> bool:
    """Rank; returns whether every scan could be read."""
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksLib.cases.next_case import rank_scans
    from H3DELandmarksLib.cohort.detectors import load_detector
    from H3DELandmarksLib.cohort.inputs import scans_of_folder
    from H3DELandmarksLib.io.isolated import start_reader
    from H3DELandmarksLib.io.scan_folders import EVERY

    output = Path(options.output)
    _check_replaceable(output, options.overwrite)
    project = None if options.cases is None else open_project(options.cases)
    start_reader()  # it is ready once PyTorch is
    detector = load_detector(options.model, options.device, options.backend, options.precision)
    folder = Path(options.folder)
    found = scans_of_folder(folder, detector.is_2d, options.series, console.warn)
    series = None if options.series == EVERY else options.series
    with console.task("rank") as progress:
        ranking = rank_scans(found.scans, detector, project, progress, None, options.spacing, series)
    _write_ranking(output, ranking)
    unreadable = [*found.unreadable, *ranking.unreadable]
    for scan, sentence in unreadable:
        console.warn(sentence if shown(scan) in sentence else f"{shown(scan)}: {sentence}")
    for place, entry in enumerate(ranking.ranked, 1):
        console.say(f"{place:3d}  {_below(folder, entry.scan)}  {entry.reason}")
    console.say(
        f"{plural(len(ranking.ranked), 'scan')} ranked, {len(ranking.known)} in the project already, "
        f"{len(unreadable)} left out: {output}"
    )
    console.document(
        {
            "ok": not unreadable,
            "output": output,
            "model": {"id": detector.package.id, "version": detector.package.version},
            "scans": [{"rank": place, **entry.to_dict()} for place, entry in enumerate(ranking.ranked, 1)],
            "known": [{"scan": scan, "case": case} for scan, case in ranking.known],
            "unreadable": [{"scan": shown(scan), "error": sentence} for scan, sentence in unreadable],
            "passed_over": [{"path": shown(path), "reason": reason} for path, reason in found.passed_over],
        }
    )
    return not unreadable


def _below(folder: Path, scan: Path) -> Path | str:
    """The path of a scan in the folder that the user gave."""
    return scan.name if scan == folder else scan.relative_to(folder)


def _check_replaceable(path: Path, overwrite: bool) -> None:
    """Refuse, before the work begins, a name that is no table, or to replace a file."""
    if path.suffix.lower() != ".csv":
        raise InputError(f"'{path}' is no table: give a name that ends with .csv.")
    if not path.parent.is_dir():
        raise InputError(f"The folder '{path.parent}' does not exist: make it, or choose another.")
    refuse_existing(path, overwrite=overwrite)


def _write_ranking(path: Path, ranking: Ranking) -> None:
    """The table; scans that could not be ranked are not in it."""
    from H3DELandmarksLib.io.tables import write_rows

    ranked = enumerate(ranking.ranked, 1)
    rows = ((str(place), csv_text(str(entry.scan)), csv_text(entry.reason)) for place, entry in ranked)
    write_rows(path, RANKING_COLUMNS, rows)


def check_cases(options: argparse.Namespace, console: Console) -> bool:
    """Check; findings are results, not failures."""
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksLib.cases.quality import check_project
    from H3DELandmarksLib.cohort.result_files import make_folder

    project = open_project(options.project)
    pictures = None if options.pictures is None else make_folder(Path(options.pictures))
    if pictures is not None:
        refuse_existing(*pictures.glob("*.png"), overwrite=options.overwrite)
    with console.task("check") as progress:
        findings = check_project(project, progress)
        if pictures is not None:
            drawing = research_module("figures.findings", "Drawing findings")
            findings = drawing.draw_findings(project, findings, pictures, progress)
    for finding in findings:
        console.say(f"{finding.case}  {finding.kind.value}: {finding.reason}")
    count = len(project.cases())
    console.say(f"{plural(len(findings), 'finding')} in {len({f.case for f in findings})} of {plural(count, 'case')}")
    console.document({"ok": True, "cases": count, "findings": [f.to_dict() for f in findings]})
    return True
