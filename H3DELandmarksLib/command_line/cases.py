"""``cases``: a project of corrected cases: start it, add to it, exchange it, check it before training, change it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from H3DELandmarksLib.command_line import case_ranking, case_scheme
from H3DELandmarksLib.command_line.case_action import add_action
from H3DELandmarksLib.command_line.console import Console
from H3DELandmarksLib.command_line.options import add_progress
from H3DELandmarksLib.errors import InputError

FORMS = ("folder", "mml", "nnlandmark", "zip")
DESCRIPTION = (
    "Keeps corrected landmarks with their scans for training. Nothing is stored but voxels, geometry, positions, "
    "states, the model, the software's version and the time: no DICOM tags, names, paths or descriptions. Voxels stay "
    "as they are: faces are not removed, nor is text in the image."
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its actions."""
    parser = commands.add_parser("cases", help="keep, exchange and check corrected cases", description=DESCRIPTION)
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    new = add_action(actions, "new", "start a project", start)
    new.add_argument("--scheme", required=True, metavar="MODEL|FILE",
                     help="its landmarks: those of a model, or of a JSON file with id, version and landmarks")

    add = add_action(actions, "add", "add a corrected case", add_case)
    add.add_argument("scan", metavar="SCAN", help="file or DICOM folder as it was loaded")
    add.add_argument("points", metavar="POINTS", help="corrected point list (.mrk.json)")
    add.add_argument("--proposed", metavar="FILE", help="point list as the model had proposed it")
    add.add_argument("--accept", action="store_true",
                     help="points that lie as proposed were looked at and accepted; else they count as not reviewed")
    add.add_argument("--subject", metavar="CASE", help="id of another case of the same subject")
    _add_origin(add)

    listing = add_action(actions, "list", "cases with their states", list_cases)
    listing.add_argument("--rebuild", action="store_true", help="make the index again from the cases")

    bring = add_action(actions, "import", "add cases of another form", bring_in)
    bring.add_argument("source", metavar="SOURCE", help="folder, or the zip file of another project")
    bring.add_argument("--form", choices=FORMS, help="what SOURCE is (default: zip for a .zip file, else folder)")
    _add_origin(bring)
    add_progress(bring)

    hand = add_action(actions, "export", "write all cases in another form", hand_out)
    hand.add_argument("target", metavar="TARGET", help="new folder, or zip file")
    hand.add_argument("--form", choices=FORMS, help="form of TARGET (default: zip for a .zip file, else folder)")
    add_progress(hand)

    check = add_action(actions, "check", "find what should be looked at before training", check_cases)
    check.add_argument("--pictures", metavar="DIR", help="draw every finding")
    add_progress(check)

    case_scheme.add_actions(actions)
    case_ranking.add_actions(actions)


def _add_origin(action: argparse.ArgumentParser) -> None:
    action.add_argument("--model", metavar="ID@VERSION", help="which model had proposed the points")
    action.add_argument("--unreviewed", action="store_true", help="nobody has looked at the points yet")


def start(options: argparse.Namespace, console: Console) -> bool:
    """Start a project."""
    from H3DELandmarksLib.cohort import create_project

    project = create_project(options.project, _scheme(options.scheme))
    scheme = project.scheme
    console.say(f"Started a project for {len(scheme)} landmarks ({scheme.id} {scheme.version}): {project.folder}")
    console.document({"ok": True, "project": project.folder, "scheme": scheme.to_dict()})
    return True


def add_case(options: argparse.Namespace, console: Console) -> bool:
    """Add one case."""
    from H3DELandmarksLib.cohort import open_project
    from H3DELandmarksLib.cohort.decisions import landmarks_from_sets
    from H3DELandmarksLib.cohort.index import read_index
    from H3DELandmarksLib.markups_json import read_markups
    from H3DELandmarksLib.volume_io import read_volume

    if options.accept and (options.proposed is None or options.unreviewed):
        raise InputError("Only what was proposed and looked at can be accepted: give --proposed, not --unreviewed.")
    project = open_project(options.project)
    history = project.history()
    corrected = history.renamed(read_markups(options.points))
    proposed = None if options.proposed is None else history.renamed(read_markups(options.proposed))
    if not set(corrected.names) & set(project.scheme.names):
        raise InputError(f"'{options.points}' has no point of the scheme '{project.scheme.id}': rename its points.")
    reviewed = not options.unreviewed if proposed is None else options.accept
    landmarks, left_out = landmarks_from_sets(project.scheme, corrected, proposed, reviewed)
    if left_out:
        console.warn(f"{left_out} points were left out, because the scheme has no landmarks of their names.")
    added = project.add(read_volume(options.scan), landmarks, _model(options), options.subject)
    read_index(project)
    what = "new" if added.is_new_case else "reviewed again" if added.is_new_revision else "known already"
    console.say(f"{added.case} (revision {added.revision}): {what}")
    console.document({"ok": True, **asdict(added), "points_left_out": left_out})
    return True


def list_cases(options: argparse.Namespace, console: Console) -> bool:
    """List cases; returns whether every case can be read."""
    from H3DELandmarksLib.cohort import open_project
    from H3DELandmarksLib.cohort.index import read_index

    project = open_project(options.project)
    scheme, summaries = project.scheme, read_index(project, options.rebuild)
    console.say(f"{len(summaries)} cases, {len(scheme)} landmarks ({scheme.id} {scheme.version})")
    for case in summaries:
        states = ", ".join(f"{count} {state}" for state, count in case.states.items())
        console.say(f"{case.id}  revision {case.revision}  {case.time}  {case.model or 'no model'}  {states}")
    complete = len(summaries) == len(project.cases())
    console.document({"ok": complete, "scheme": scheme.to_dict(), "cases": [asdict(case) for case in summaries]})
    return complete


def bring_in(options: argparse.Namespace, console: Console) -> bool:
    """Import; returns whether no case was skipped."""
    from H3DELandmarksLib.cohort import open_project
    from H3DELandmarksLib.cohort.archive import add_archive
    from H3DELandmarksLib.cohort.exchange import import_cases
    from H3DELandmarksLib.cohort.index import read_index

    project, source = open_project(options.project), Path(options.source)
    form = _form(options.form, source)
    if form == "zip" and (options.model or options.unreviewed):
        raise InputError("A zip file says itself what was reviewed and by which model: leave out these arguments.")
    with console.task("import") as progress:
        if form == "zip":
            summary = add_archive(project, source, progress)
        else:
            summary = import_cases(project, form, source, progress, not options.unreviewed, _model(options))
    read_index(project)
    console.say(f"{summary.text()}: {project.folder}")
    console.document({"ok": not summary.skipped, "form": form, **summary.to_dict()})
    return not summary.skipped


def hand_out(options: argparse.Namespace, console: Console) -> bool:
    """Export."""
    from H3DELandmarksLib.cohort import open_project
    from H3DELandmarksLib.cohort.archive import write_archive
    from H3DELandmarksLib.cohort.exchange import export_cases

    project, target = open_project(options.project), Path(options.target)
    form = _form(options.form, target)
    with console.task("export") as progress:
        if form == "zip":
            count = write_archive(project, target, progress)
        else:
            count = export_cases(project, form, target, progress)
    console.say(f"{count} cases written: {target}")
    console.document({"ok": True, "form": form, "target": target, "cases": count})
    return True


def check_cases(options: argparse.Namespace, console: Console) -> bool:
    """Check; findings are results, not failures."""
    from H3DELandmarksLib.cohort import open_project
    from H3DELandmarksLib.cohort.checks import check_project, draw_findings
    from H3DELandmarksLib.command_line.result_files import make_folder

    project = open_project(options.project)
    pictures = None if options.pictures is None else make_folder(Path(options.pictures))
    with console.task("check") as progress:
        findings = check_project(project, progress)
        if pictures is not None:
            findings = draw_findings(project, findings, pictures, progress)
    for finding in findings:
        console.say(f"{finding.case}  {finding.kind.value}: {finding.reason}")
    console.say(f"{len(findings)} findings in {len({f.case for f in findings})} of {len(project.cases())} cases")
    console.document({"ok": True, "cases": len(project.cases()), "findings": [f.to_dict() for f in findings]})
    return True


def _scheme(text: str):
    """The scheme of a file, or of a model."""
    from H3DELandmarksLib.cohort.scheme_file import scheme_of_file
    from H3DELandmarksLib.models import find_model

    path = Path(text)
    return scheme_of_file(path) if path.suffix.lower() == ".json" else find_model(text).scheme


def _model(options: argparse.Namespace):
    from H3DELandmarksLib.cohort import ModelName

    return None if options.model is None else ModelName.parse(options.model)


def _form(form: str | None, path: Path) -> str:
    return form or ("zip" if path.suffix.lower() == ".zip" else "folder")
