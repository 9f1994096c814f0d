"""``models versions``, ``revert``, ``share`` and ``add``: versions of a model here, and models of other sites."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from H3DELandmarksLib.command_line.console import Console
from H3DELandmarksLib.command_line.options import add_json

if TYPE_CHECKING:
    from H3DELandmarksLib.models.versions import ModelVersion


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the actions."""
    versions = actions.add_parser("versions", help="the versions of a model, and which one is current")
    versions.add_argument("model", metavar="ID", help="id of a model")
    versions.set_defaults(run=list_versions)

    back = actions.add_parser("revert", help="make an earlier version of a model current again")
    back.add_argument("model", metavar="ID", help="id of a model")
    back.add_argument("version", metavar="VERSION", nargs="?", help="default: the one that was current before")
    back.set_defaults(run=revert_model)

    share = actions.add_parser(
        "share", help="write a model as a file for another site",
        description="Writes a model with its card, its lineage (hashes of cases, base) and checksums. No names of "
        "cases, subjects, folders or people go along; title, description, intended use, limits, licenses and "
        "definitions do, as their author wrote them.",
    )  # fmt: skip
    share.add_argument("model", metavar="ID", help="id or id@version")
    share.add_argument("path", metavar="FILE.zip", help="new file")
    share.set_defaults(run=share_package)

    add = actions.add_parser("add", help="add a model that another site has shared")
    add.add_argument("path", metavar="FILE.zip", help="file of 'models share'")
    add.set_defaults(run=add_package)
    for action in (versions, back, share, add):
        add_json(action)


def list_versions(options: argparse.Namespace, console: Console) -> bool:
    """One line for each version."""
    from H3DELandmarksLib.models.versions import versions_of

    versions = versions_of(options.model)
    for version in versions:
        console.say(_line(version))
    console.document({"ok": True, "id": options.model, "versions": [_described(version) for version in versions]})
    return True


def _line(version: ModelVersion) -> str:
    told = [
        f"{'*' if version.is_current else ' '} {version.package.version}", version.date or "no date", version.source,
        f"from {version.base}" if version.base else "no base",
        *([f"{version.cases} corrected cases"] if version.cases is not None else []),
        version.comparison or "not compared", *([f"overridden: {version.override}"] if version.override else []),
    ]  # fmt: skip
    return "  ".join(told)


def _described(version: ModelVersion) -> dict[str, Any]:
    return {
        "version": version.package.version, "current": version.is_current, "source": version.source,
        "date": version.date, "base": version.base, "cases": version.cases, "comparison": version.comparison,
        "override": version.override, "path": version.package.path,
    }  # fmt: skip


def revert_model(options: argparse.Namespace, console: Console) -> bool:
    """Go back."""
    from H3DELandmarksLib.models.versions import revert

    version = revert(options.model, options.version)
    console.say(f"{options.model} {version.package.version} is the current version now.")
    console.document({"ok": True, "id": options.model, **_described(version)})
    return True


def share_package(options: argparse.Namespace, console: Console) -> bool:
    """Write the file."""
    from H3DELandmarksLib.promotion.sharing import share_model

    package = share_model(options.model, options.path)
    console.say(f"Wrote {package.id} {package.version} for others: {options.path}\nRead its title, description, "
                "limits and definitions before you send it: they go along as they were written.")
    console.document({"ok": True, "id": package.id, "version": package.version, "path": options.path})
    return True


def add_package(options: argparse.Namespace, console: Console) -> bool:
    """Check and add."""
    from H3DELandmarksLib.promotion.sharing import add_shared

    added = add_shared(options.path)
    package = added.package
    name = f"{package.id} {package.version}"
    said = f"Added {name}" if added.is_new else f"{name} was here already"
    if added.is_new and package.version != added.shared_version:
        said += f" (shared as {added.shared_version}, which is another model here)"
    if not added.is_current:
        said += f"; another version stays current, make this one current with: models revert {package.id} "
        said += package.version
    console.say(said)
    console.document({
        "ok": True, "id": package.id, "version": package.version, "shared_version": added.shared_version,
        "new": added.is_new, "current": added.is_current, "path": package.path,
    })  # fmt: skip
    return True
