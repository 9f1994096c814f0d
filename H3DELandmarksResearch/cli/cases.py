"""Actions of ``cases``: start a project of corrected cases, add to it, exchange it, change its scheme."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console, add_json, add_progress
from H3DELandmarksLib.cli.detect import add_reading
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.text import plural

if TYPE_CHECKING:
    from H3DELandmarksLib.cases import CaseProject
    from H3DELandmarksLib.core.landmarks import LandmarkScheme

Action = Callable[[argparse.Namespace, Console], bool]


def add_action(actions: argparse._SubParsersAction, name: str, text: str, run: Action) -> argparse.ArgumentParser:
    """An action on a project, with ``--json``."""
    action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    action.add_argument("project", metavar="PROJECT", help="folder of the project")
    action.set_defaults(run=run)
    add_json(action)
    return action


def add_scheme_actions(actions: argparse._SubParsersAction) -> None:
    """Declare both actions."""
    migrating = add_action(actions, "migrate", "change the scheme; old cases stay valid and unchanged", run_migrate)
    migrating.add_argument("--scheme", required=True, metavar="FILE", help="the new version: id, version, landmarks")
    _add_what_stays(migrating)

    editing = add_action(
        actions,
        "scheme",
        "show the versions of the scheme, or make single changes ('cases migrate' for pairs and all else)",
        run_scheme,
    )
    editing.add_argument("--add", action="append", default=[], metavar="NAME", help="new midline point, with --define")
    editing.add_argument(
        "--define",
        action="append",
        default=[],
        nargs=2,
        metavar=("NAME", "TEXT"),
        help="where a landmark lies: words for a new one, another definition for an old one",
    )
    editing.add_argument("--drop", action="append", default=[], metavar="NAME", help="leave a landmark out")
    _add_what_stays(editing)


def _add_what_stays(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="a landmark that has another name and the same points",
    )
    action.add_argument(
        "--same-points",
        action="append",
        default=[],
        metavar="NAME",
        help="a landmark whose definition has other words for the same point: reviews stay valid",
    )
    action.add_argument("--dry-run", action="store_true", help="only say what would happen to how many cases")


def run_migrate(options: argparse.Namespace, console: Console) -> bool:
    """Migrate to the scheme of a file."""
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksResearch.cases.schemes import scheme_of_file

    project = open_project(options.project)
    return _migrate(project, scheme_of_file(Path(options.scheme)), options, console)


def run_scheme(options: argparse.Namespace, console: Console) -> bool:
    """Show versions, or migrate to one with single changes."""
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksResearch.cases.schemes import SchemeEdit

    project = open_project(options.project)
    definitions = dict(options.define)
    if len(definitions) < len(options.define):
        raise InputError("A landmark is defined twice: give --define once for each.")
    edit = SchemeEdit(options.add, definitions, options.drop, _renamings(options.rename))
    if edit == SchemeEdit([], {}, [], {}):
        return _show(project, options, console)
    return _migrate(project, edit.applied_to(project.scheme), options, console)


def _migrate(project: CaseProject, scheme: LandmarkScheme, options: argparse.Namespace, console: Console) -> bool:
    from H3DELandmarksLib.cases.store import read_index
    from H3DELandmarksResearch.cases.schemes import migrate, plan_migration

    plan = plan_migration(project, scheme, _renamings(options.rename), options.same_points)
    for sentence in plan.sentences():
        console.say(sentence)
    if not options.dry_run:
        migrate(plan)
        read_index(project)
    console.say("Nothing was changed." if options.dry_run else f"Done: version {scheme.version} holds from now on.")
    console.document({"ok": True, "done": not options.dry_run, "scheme": scheme.to_dict(), **plan.to_dict()})
    return True


def _show(project: CaseProject, options: argparse.Namespace, console: Console) -> bool:
    if options.same_points or options.dry_run:
        raise InputError("Nothing is to be changed: give --add, --define, --drop or --rename.")
    schemes = project.schemes()
    for scheme in schemes:
        console.say(f"{scheme.id} {scheme.version}: {len(scheme)} landmarks")
    for landmark in schemes[-1].landmarks:
        console.say(f"  {landmark.name}: {landmark.definition}")
    console.document({"ok": True, "schemes": [scheme.to_dict() for scheme in schemes]})
    return True


def _renamings(words: Iterable[str]) -> dict[str, str]:
    """New names by old ones."""
    renamed: dict[str, str] = {}
    for word in words:
        old, equals, new = word.partition("=")
        if not (old and equals and new):
            raise InputError(f"'{word}' is no renaming: write --rename OLD=NEW.")
        if old in renamed:
            raise InputError(f"'{old}' is renamed twice: give --rename once for each landmark.")
        renamed[old] = new
    return renamed


FORMS = ("folder", "mml", "nnlandmark", "zip")
# Without scans.
POINT_FORMS = ("mrk.json", "fcsv", "table-long", "table-wide", "tps", "nts", "morphologika", "morphoj")


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the actions."""
    new = add_action(actions, "new", "start a project", start)
    new.add_argument(
        "--scheme",
        required=True,
        metavar="MODEL|FILE",
        help="its landmarks: those of a model, or of a JSON file with id, version and landmarks",
    )

    add = add_action(actions, "add", "add a corrected case", add_case)
    add.add_argument("scan", metavar="SCAN", help="file or DICOM folder as it was loaded")
    add.add_argument("points", metavar="POINTS", help="corrected point list (.mrk.json, .fcsv)")
    add.add_argument("--proposed", metavar="FILE", help="point list as the model had proposed it")
    add.add_argument(
        "--accept",
        action="store_true",
        help="points that lie as proposed were looked at and accepted; else they count as not reviewed",
    )
    add.add_argument("--subject", metavar="CASE", help="id of another case of the same subject")
    add_reading(add, of_one=True)
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
    hand.add_argument(
        "--form", choices=(*FORMS, *POINT_FORMS), help="form of TARGET (default: zip for a .zip file, else folder)"
    )
    add_ras(hand)
    hand.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    add_progress(hand)

    add_scheme_actions(actions)


def add_ras(parser: argparse.ArgumentParser) -> None:
    """``--ras``."""
    parser.add_argument("--ras", action="store_true", help="write positions of point forms in RAS mm (default: LPS)")


def _add_origin(action: argparse.ArgumentParser) -> None:
    action.add_argument("--model", metavar="ID@VERSION", help="which model had proposed the points")
    action.add_argument("--unreviewed", action="store_true", help="nobody has looked at the points yet")


def start(options: argparse.Namespace, console: Console) -> bool:
    """Start a project."""
    from H3DELandmarksLib.cases import create_project

    project = create_project(options.project, scheme_of(options.scheme))
    scheme = project.scheme
    console.say(f"Started a project for {len(scheme)} landmarks ({scheme.id} {scheme.version}): {project.folder}")
    console.document({"ok": True, "project": project.folder, "scheme": scheme.to_dict()})
    return True


def add_case(options: argparse.Namespace, console: Console) -> bool:
    """Add one case."""
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksLib.cases.store import read_index
    from H3DELandmarksLib.io.isolated import read_volume
    from H3DELandmarksLib.io.markups import read_markups, stated_unit
    from H3DELandmarksResearch.cases.exchange import landmarks_from_sets, names_beyond

    if options.accept and (options.proposed is None or options.unreviewed):
        raise InputError("Only what was proposed and looked at can be accepted: give --proposed, not --unreviewed.")
    project = open_project(options.project)
    history = project.history()
    corrected = history.renamed(read_markups(options.points, history.all_names))
    proposed = options.proposed and history.renamed(read_markups(options.proposed, history.all_names))
    if not set(corrected.names) & set(project.scheme.names):
        raise InputError(f"'{options.points}' has no point of the scheme '{project.scheme.id}': rename its points.")
    reviewed = not options.unreviewed if proposed is None else options.accept
    landmarks, left_out = landmarks_from_sets(project.scheme, corrected, proposed, reviewed)
    if left_out:
        others = names_beyond(corrected, project.scheme)
        console.warn(f"{left_out} points were left out, because the scheme has no landmarks of their names: {others}.")
    units = {stated_unit(Path(path)) for path in (options.points, options.proposed) if path}
    if "px" in units and options.spacing:
        raise InputError(
            f"The points in '{options.points}' are pixels of a picture that does not state how large these are: leave "
            "out --spacing, or detect with it first."
        )
    # Programs that show such a picture count its pixels as 1 mm, as points do that were placed in it.
    volume = read_volume(options.scan, options.spacing, options.series, needs_size="mm" in units)
    added = project.add(volume, landmarks, _model(options), options.subject)
    read_index(project)
    what = "new" if added.is_new_case else "reviewed again" if added.is_new_revision else "known already"
    console.say(f"{added.case} (revision {added.revision}): {what}")
    console.document({"ok": True, **asdict(added), "points_left_out": left_out})
    return True


def list_cases(options: argparse.Namespace, console: Console) -> bool:
    """List cases; returns whether every case can be read."""
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksLib.cases.store import read_index

    project = open_project(options.project)
    scheme, summaries = project.scheme, read_index(project, options.rebuild)
    console.say(f"{plural(len(summaries), 'case')}, {plural(len(scheme), 'landmark')} ({scheme.id} {scheme.version})")
    for case in summaries:
        states = ", ".join(f"{count} {state}" for state, count in case.states.items())
        console.say(f"{case.id}  revision {case.revision}  {case.time}  {case.model or 'no model'}  {states}")
    complete = len(summaries) == len(project.cases())
    console.document({"ok": complete, "scheme": scheme.to_dict(), "cases": [asdict(case) for case in summaries]})
    return complete


def bring_in(options: argparse.Namespace, console: Console) -> bool:
    """Import; returns whether no case was skipped."""
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksLib.cases.store import read_index
    from H3DELandmarksResearch.cases.archive import add_archive
    from H3DELandmarksResearch.cases.exchange import import_cases

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
    """Export; returns whether no case was left out."""
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksResearch.cases.archive import write_archive
    from H3DELandmarksResearch.cases.exchange import export_cases

    project, target = open_project(options.project), Path(options.target)
    form = _form(options.form, target)
    if options.ras and form not in POINT_FORMS:
        raise InputError(f"--ras does nothing in the form '{form}', which says itself how points lie: leave it out.")
    with console.task("export") as progress:
        if form == "zip":
            summary = write_archive(project, target, progress, options.overwrite)
        else:
            summary = export_cases(project, form, target, progress, options.overwrite, options.ras)
    console.say(summary.text())
    content = {"form": form, "target": target, "cases": len(summary.written), "skipped": summary.skipped}
    console.document({"ok": not summary.skipped, **content})
    return not summary.skipped


def scheme_of(text: str) -> LandmarkScheme:
    """The scheme of a file, or of a model."""
    from H3DELandmarksLib.models import find_model
    from H3DELandmarksResearch.cases.schemes import scheme_of_file

    path = Path(text)
    return scheme_of_file(path) if path.suffix.lower() == ".json" else find_model(text).scheme


def _model(options: argparse.Namespace):
    from H3DELandmarksLib.cases import ModelName

    return None if options.model is None else ModelName.parse(options.model)


def _form(form: str | None, path: Path) -> str:
    return form or ("zip" if path.suffix.lower() == ".zip" else "folder")
