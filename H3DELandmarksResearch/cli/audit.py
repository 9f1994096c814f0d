"""``audit``: whether the points and pictures of a folder of cases can be trusted."""

from __future__ import annotations

import argparse
from pathlib import Path

from H3DELandmarksLib.cli.console import Console, add_command, add_json, add_overwrite, add_progress
from H3DELandmarksLib.core.text import plural


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "audit",
        help="find repeated pictures and doubtful points in a folder of cases",
        description="Looks for pictures that stand under two names (also cut, scaled, or with other grey values), "
        "exchanged sides and names, points far from where the other cases have them, points on which readers differ "
        "unusually, structures that were marked twice, and points beside the scan. "
        "Ends with exit code 0 where nothing was found and 2 where something should be looked at.",
        example="cases --scheme scheme.json --output audit",
    )
    parser.add_argument("folder", metavar="FOLDER", help="with one scan and one point list a case")
    parser.add_argument(
        "--scheme", metavar="MODEL|FILE", help="landmarks with their pairs (default: all names, without pairs)"
    )
    parser.add_argument("--split", metavar="FILE", help="subsets of the cases (default: split.json in the folder)")
    parser.add_argument(
        "--predictions",
        metavar="DIR",
        help="point lists of a model that has not learnt from these cases, such as those of a cross-validation: points "
        "far from the model's are told, the habits of each reader taken out",
    )
    parser.add_argument("--output", metavar="DIR", help="folder for audit.csv and audit.json")
    add_overwrite(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Audit; returns whether there is no finding."""
    from H3DELandmarksLib.cohort.result_files import make_folder
    from H3DELandmarksLib.core.files import refuse_existing
    from H3DELandmarksLib.formats.reading import to_plain
    from H3DELandmarksResearch.cases.audit import (
        RECORD,
        TABLE,
        audit_folder,
        audit_record,
        scheme_of_folder,
        subsets_of,
        write_audit,
    )
    from H3DELandmarksResearch.cli.cases import scheme_of

    folder = Path(options.folder)
    output = None if options.output is None else make_folder(Path(options.output))
    if output is not None:
        refuse_existing(output / TABLE, output / RECORD, overwrite=options.overwrite)
    scheme = scheme_of_folder(folder) if options.scheme is None else scheme_of(options.scheme)
    split = folder / "split.json" if options.split is None else Path(options.split)
    subsets = subsets_of(split) if options.split is not None or split.is_file() else {}
    with console.task("audit") as progress:
        predictions = None if options.predictions is None else Path(options.predictions)
        cases, findings = audit_folder(folder, scheme, subsets, progress, predictions)
    record = audit_record(cases, findings)
    for finding in findings:
        console.say(f"{finding.case}  {finding.kind.value}: {finding.reason}")
    console.say(f"{plural(len(findings), 'finding')} in {len({f.case for f in findings})} of {plural(cases, 'case')}")
    files = {} if output is None else dict(zip(("table", "record"), write_audit(output, record)))
    console.document({"ok": not findings, **to_plain(record), **files})
    return not findings
