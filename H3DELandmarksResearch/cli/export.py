"""``export``: point lists, as they are now, in the forms of other programs."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from H3DELandmarksLib.cli.console import Console, add_command, add_json, add_overwrite
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksResearch.cli.cases import POINT_FORMS, add_ras

if TYPE_CHECKING:
    from H3DELandmarksLib.cases.export import OutgoingCase
    from H3DELandmarksLib.core.landmarks import LandmarkSet
    from H3DELandmarksLib.formats.export import ExportedCase


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "export",
        help="write point lists in the form of another program",
        description="Writes the points of many scans as point lists, as one table, or as the arrays of morphometric "
        "programs, into a new folder with a record of where they come from (export.json).",
        example="results --form tps --output for-geomorph",
    )
    parser.add_argument("points", metavar="POINTS", nargs="+", help="point list (.mrk.json, .fcsv) or folder of such")
    parser.add_argument("--form", choices=POINT_FORMS, required=True, help="what to write")
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder")
    parser.add_argument(
        "--complete",
        choices=("cases", "landmarks"),
        help="for programs that take no gaps: leave out cases that lack a landmark, or landmarks that a case lacks",
    )
    add_ras(parser)
    add_overwrite(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Export; returns whether every point list could be read."""
    from H3DELandmarksLib.cases.export import export_points

    target, cases, errors = Path(options.output), [], []
    known: dict[str, None] = {}  # names of landmarks, in the order of the lists
    for name, path in named_point_lists(options.points).items():
        try:
            cases.append(_case(name, path, known))
            known |= dict.fromkeys(cases[-1].corrected.names)
        except InputError as error:
            errors.append(console.failure(error))
    if not cases:
        raise InputError("No point list can be exported: choose others.")
    names = tuple(known)
    cases = [_with_all(case, names) for case in cases]
    if options.complete:
        cases, names = _without_gaps(cases, names, options.complete, console)
    summary = export_points(cases, names, options.form, target, None, options.overwrite, options.ras)
    console.say(summary.text())
    content = {"form": options.form, "target": target, "cases": summary.written, "landmarks": names, "errors": errors}
    console.document({"ok": not errors, **content})
    return not errors


def named_point_lists(points: Sequence[str]) -> dict[str, Path]:
    """The point lists by names that differ; a file that is given twice is taken once.

    Of a BIDS data set, as results of one are, those of its subjects count too.
    """
    from H3DELandmarksLib.cohort.result_files import plan_results
    from H3DELandmarksLib.core.text import numbered
    from H3DELandmarksLib.io.markups import point_list_name
    from H3DELandmarksResearch.cases.case_folder import point_lists_of

    paths: list[Path] = []
    for given in map(Path, points):
        if not given.is_dir():
            paths.append(given)
            continue
        found = point_lists_of(given)
        if not found:
            raise InputError(f"The folder '{given}' holds no point list (.mrk.json, .fcsv): choose another folder.")
        paths += found
    planned = plan_results(paths, Path())
    short = [point_list_name(Path(files.name)) or files.name for files in planned]
    count = Counter(name.casefold() for name in short)
    names = [n if count[n.casefold()] == 1 else files.name.replace(".", "_") for n, files in zip(short, planned)]
    return dict(zip(numbered(names), (files.scan for files in planned)))


def _case(name: str, path: Path, known: Collection[str]) -> OutgoingCase:
    """A point list, whose labels are taken for known names that differ in case or blanks alone."""
    from H3DELandmarksLib.cases.export import OutgoingCase
    from H3DELandmarksLib.cohort.result_files import MODEL
    from H3DELandmarksLib.formats.export import ExportedCase
    from H3DELandmarksLib.io.markups import origin_beside, read_stamp, unit_of_points
    from H3DELandmarksResearch.cases.case_folder import read_result

    landmarks = read_result(path, known)
    stamp = read_stamp(path) or {}
    pixels: Literal["px"] | None = "px" if unit_of_points(path) == "px" else None
    scan = origin.scan if (origin := origin_beside(path)) else None
    about = {"scan_sha256": scan.voxels_sha256, "shape": scan.shape, "spacing_mm": scan.spacing_mm} if scan else {}
    record = ExportedCase(name, (), model=stamp.get(MODEL), length_unit=pixels, **about)
    return OutgoingCase(name, _no_scan, landmarks, landmarks.ordered_as(()), record)


def _no_scan():
    raise InputError("A point list has no scan: choose a form without scans.")


def _without_gaps(
    cases: Sequence[OutgoingCase], names: tuple[str, ...], kept: str, console: Console
) -> tuple[list[OutgoingCase], tuple[str, ...]]:
    """Only what has no gaps: whole cases, or the landmarks that all cases have; what is left out is told."""
    if kept == "cases":
        whole = [case for case in cases if case.corrected.present.all()]
        left_out = [case.id for case in cases if not case.corrected.present.all()]
    else:
        common = tuple(name for k, name in enumerate(names) if all(case.corrected.present[k] for case in cases))
        left_out = [name for name in names if name not in common]
        whole = [_with_all(case, common) for case in cases] if common else []
        names = common
    if not whole or not names:
        raise InputError(f"No {kept} are without gaps: export with gaps, or leave out fewer points.")
    if left_out:
        console.warn(f"{len(left_out)} {kept} have gaps and are left out: {', '.join(left_out)}.")
    return whole, names


def _with_all(case: OutgoingCase, names: tuple[str, ...]) -> OutgoingCase:
    """The case with all landmarks that any list has."""
    from dataclasses import replace

    landmarks = case.corrected.ordered_as(names)
    return replace(case, corrected=landmarks, record=_described(case.record, landmarks))


def _described(record: ExportedCase, landmarks: LandmarkSet) -> ExportedCase:
    """The record with what is known of each landmark: of a list that nobody has changed, a program said it."""
    from dataclasses import replace

    from H3DELandmarksLib.formats.export import ExportedLandmark

    by: Literal["program"] | None = "program" if record.model else None
    said = (
        ExportedLandmark(name, *((statement.value, by) if statement.is_known else ("unknown", None)))
        for name, statement in zip(landmarks.names, landmarks.statements)
    )
    return replace(record, landmarks=tuple(said))
