"""``cases migrate`` and ``cases scheme``: change the landmarks of a project and keep its cases valid."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.command_line.case_action import add_action
from H3DELandmarksLib.command_line.console import Console
from H3DELandmarksLib.errors import InputError

if TYPE_CHECKING:
    from H3DELandmarksLib.cohort import CaseProject
    from H3DELandmarksLib.landmarks import LandmarkScheme


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Declare both actions."""
    migrating = add_action(actions, "migrate", "change the scheme; old cases stay valid and unchanged", run_migrate)
    migrating.add_argument("--scheme", required=True, metavar="FILE", help="the new version: id, version, landmarks")
    _add_what_stays(migrating)

    editing = add_action(actions, "scheme", "show the versions of the scheme, or make a new one", run_scheme)
    editing.add_argument("--add", action="append", default=[], metavar="NAME", help="new landmark, with --define")
    editing.add_argument("--define", action="append", default=[], nargs=2, metavar=("NAME", "TEXT"),
                         help="where a landmark lies: words for a new one, another definition for an old one")
    editing.add_argument("--drop", action="append", default=[], metavar="NAME", help="leave a landmark out")
    editing.add_argument("--pair", action="append", default=[], nargs=2, metavar=("LEFT", "RIGHT"),
                         help="names that a mirror image exchanges")
    editing.add_argument("--lateral", action="append", default=[], metavar="NAME",
                         help="landmark of one side without a counterpart in the scheme")
    editing.add_argument("--version", metavar="TEXT", help="of the new scheme (default: the old one counted up)")
    editing.add_argument("--output", metavar="FILE", help="write the new scheme there, for 'cases migrate' later")
    _add_what_stays(editing)


def _add_what_stays(action: argparse.ArgumentParser) -> None:
    action.add_argument("--rename", action="append", default=[], metavar="OLD=NEW",
                        help="a landmark that has another name and the same points")
    action.add_argument("--same-points", action="append", default=[], metavar="NAME",
                        help="a landmark whose definition has other words for the same point: reviews stay valid")
    action.add_argument("--dry-run", action="store_true", help="only say what would happen to how many cases")


def run_migrate(options: argparse.Namespace, console: Console) -> bool:
    """Migrate to the scheme of a file."""
    from H3DELandmarksLib.cohort import open_project
    from H3DELandmarksLib.cohort.scheme_file import scheme_of_file

    project = open_project(options.project)
    return _migrate(project, scheme_of_file(Path(options.scheme)), options, console)


def run_scheme(options: argparse.Namespace, console: Console) -> bool:
    """Show versions, write a new one to a file, or migrate to it."""
    from H3DELandmarksLib.cohort import open_project
    from H3DELandmarksLib.cohort.scheme_edit import SchemeEdit

    project = open_project(options.project)
    edit = SchemeEdit(
        options.add, dict(options.define), options.drop, _renamings(options.rename), options.pair, options.lateral,
        options.version,
    )
    if edit == SchemeEdit([], {}, [], {}, [], [], options.version):
        return _show(project, options, console)
    scheme = edit.applied_to(project.scheme)
    if options.output is None:
        return _migrate(project, scheme, options, console)
    _write(Path(options.output), scheme)
    console.say(f"Wrote version {scheme.version} of the scheme, which the project does not have yet: {options.output}")
    console.document({"ok": True, "output": options.output, "scheme": scheme.to_dict(), "done": False})
    return True


def _migrate(
    project: CaseProject, scheme: LandmarkScheme, options: argparse.Namespace, console: Console
) -> bool:
    from H3DELandmarksLib.cohort.index import read_index
    from H3DELandmarksLib.cohort.migration import migrate, plan_migration

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
    if options.output or options.version or options.same_points or options.dry_run:
        raise InputError("Nothing is to be changed: give --add, --define, --drop, --rename, --pair or --lateral.")
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


def _write(path: Path, scheme: LandmarkScheme) -> None:
    from H3DELandmarksLib.files import replaced_when_complete

    if path.exists():
        raise InputError(f"'{path}' is there already: choose another name.")
    with replaced_when_complete(path) as temporary:
        temporary.write_text(json.dumps(scheme.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
