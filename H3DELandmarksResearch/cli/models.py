"""Actions of ``models``: describe, check and install a model, promote a retrained one, exchange it with other sites."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from H3DELandmarksLib.cli.console import Console, add_command, add_json, add_model
from H3DELandmarksLib.cli.models import summary

if TYPE_CHECKING:
    from H3DELandmarksLib.formats.versions import HistoryEntry
    from H3DELandmarksLib.models import ModelPackage
    from H3DELandmarksLib.models.versions import ModelVersion


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the actions."""
    _add_package_actions(actions)
    _add_promote(actions)
    _add_version_actions(actions)


def _add_package_actions(actions: argparse._SubParsersAction) -> None:
    info = add_command(
        actions, "info", help="what a model does, its landmarks and its model card", example="mouse-skull"
    )
    add_model(info)
    info.set_defaults(run=describe_model)

    verify = add_command(actions, "verify", help="check manifests and the SHA-256 of weights", example="mouse-skull")
    add_model(verify, nargs="?", help="id, id@version or path; all models when left out")
    verify.set_defaults(run=verify_models)

    install = add_command(actions, "install", help="check a model package and add it", example="my-model.zip")
    install.add_argument("path", metavar="PATH", help="folder or zip file")
    install.add_argument("--replace", action="store_true", help="replace a model of the same id and version")
    install.set_defaults(run=install_package)
    for action in (info, verify, install):
        add_json(action)


def _add_promote(actions: argparse._SubParsersAction) -> None:
    promote = add_command(
        actions,
        "promote",
        help="make a retrained model the current version",
        description="Keeps the model of a retraining and makes it current, if its comparison says that it is better.",
        example="run",
    )
    promote.add_argument("folder", metavar="RUN", help="folder of the retraining")
    promote.add_argument("--comparison", metavar="FILE", help="of 'models compare' (default: RUN/comparison.json)")
    promote.add_argument("--override", metavar="REASON", help="promote it all the same; the reason is kept with it")
    add_json(promote)
    promote.set_defaults(run=promote_candidate)


def _add_version_actions(actions: argparse._SubParsersAction) -> None:
    versions = add_command(
        actions, "versions", help="the versions of a model, and which one is current", example="mouse-skull"
    )
    add_model(versions, help="id of a model")
    versions.set_defaults(run=list_versions)

    back = add_command(
        actions, "revert", help="make an earlier version of a model current again", example="mouse-skull 1.0.0"
    )
    add_model(back, help="id of a model")
    back.add_argument("version", metavar="VERSION", nargs="?", help="default: the one that was current before")
    back.set_defaults(run=revert_model)

    share = add_command(
        actions,
        "share",
        help="write a model as a file for another site",
        description="Writes a model with its card, its lineage (hashes of cases, base) and checksums. No names of "
        "cases, subjects, folders or people go along; title, description, intended use, limits, licenses and "
        "definitions do, as their author wrote them.",
        example="mouse-skull@1.1.0 mouse-skull.zip",
    )
    add_model(share, help="id or id@version")
    share.add_argument("path", metavar="FILE.zip", help="new file")
    share.set_defaults(run=share_package)

    add = add_command(actions, "add", help="add a model that another site has shared", example="mouse-skull.zip")
    add.add_argument("path", metavar="FILE.zip", help="file of 'models share'")
    add.set_defaults(run=add_package)
    for action in (versions, back, share, add):
        add_json(action)


def describe_model(options: argparse.Namespace, console: Console) -> bool:
    """Print a model's card and landmarks."""
    from H3DELandmarksLib.models import find_model

    package = find_model(options.model)
    card = package.model_card()
    pictures = [package.path / name for name in package.picture_files]
    landmarks = [f"  {landmark.name}: {landmark.definition}" for landmark in package.scheme.landmarks]
    console.say(f"{package.id} {package.version} ({package.path})\n\n{card.strip()}\n\nLandmarks")
    console.say("\n".join(landmarks))
    if pictures:
        console.say("\nPictures of the model card\n" + "\n".join(f"  {path}" for path in pictures))
    console.document(
        {"ok": True, "path": package.path, "manifest": package.content, "model_card": card, "pictures": pictures}
    )
    return True


def verify_models(options: argparse.Namespace, console: Console) -> bool:
    """Check one model or all; returns whether all are intact."""
    from H3DELandmarksLib.models import available_models, find_model

    if options.model:
        results = [_verified(find_model(options.model), console)]
    else:
        results = []
        for entry in available_models():
            if entry.package:
                results.append(_verified(entry.package, console))
            else:
                console.warn(entry.problem or "")
                results.append({"id": entry.id, "path": entry.path, "ok": False, "error": entry.problem})
    intact = all(result["ok"] for result in results)
    console.document({"ok": intact, "models": results})
    return intact


def _verified(package: ModelPackage, console: Console) -> dict[str, Any]:
    result = {"id": package.id, "version": package.version, "path": package.path}
    try:
        package.verify()
    except Exception as error:
        return {**result, "ok": False, "error": console.failure(error)}
    console.say(f"{package.id} {package.version}: intact")
    return {**result, "ok": True}


def install_package(options: argparse.Namespace, console: Console) -> bool:
    """Check and copy a model package."""
    package = install_model(options.path, replace=options.replace)
    console.say(f"Installed {package.id} {package.version} in {package.path}")
    console.document({"ok": True, "model": summary(package)})
    return True


def install_model(path: str | Path, *, replace: bool = False) -> ModelPackage:
    """Check a model package completely and copy it into the user's folder.

    Args:
        path: package folder or zip file; only files that its manifest names are copied.
        replace: whether a model of the same id and version may be replaced.

    Raises:
        ModelPackageError: the package is not valid, or that version is there already; nothing has been written then.
        MissingDependencyError: pydantic, which the check needs, is not installed.
    """
    from H3DELandmarksLib.core.errors import ModelPackageError
    from H3DELandmarksLib.formats.versions import append_entry, read_history
    from H3DELandmarksLib.models import available_models, open_package, registry
    from H3DELandmarksLib.models.package import write_files

    package = open_package(path)
    package.verify()
    present = [(entry.package.id, entry.package.version) for entry in available_models() if entry.package]
    if not replace and (package.id, package.version) in present:
        raise ModelPackageError(
            f"The model '{package.id}' {package.version} is installed already: allow it to be replaced, or keep it."
        )
    target = registry.user_folder() / f"{package.id}-{package.version}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelPackageError(f"'{target.parent}' cannot be created: check the permission to write there.") from error
    write_files(target, {name: package.read(name) for name in package.files})
    installed = open_package(target)
    if read_history(registry.user_folder(), installed.id):
        append_entry(registry.user_folder(), installed.id, lambda history: _installed(history, installed))
    return installed


def _installed(history: Sequence[HistoryEntry], package: ModelPackage) -> HistoryEntry:
    """The entry about an installed version, which becomes current where it is newer than the current one."""
    from H3DELandmarksLib.formats.versions import HistoryEntry, current_version, version_order
    from H3DELandmarksLib.models import available_models
    from H3DELandmarksLib.models.package import package_digest

    versions = [entry.package.version for entry in available_models() if entry.package and entry.id == package.id]
    current = current_version(history, versions)
    newest = max(filter(None, (current, package.version)), key=version_order)
    return HistoryEntry("install", package.version, newest, current, package_digest(package))


def promote_candidate(options: argparse.Namespace, console: Console) -> bool:
    """Promote, or raise with what speaks against it."""
    from H3DELandmarksLib.formats.reading import to_plain
    from H3DELandmarksLib.retraining.promote import promote_run

    promotion = promote_run(options.folder, options.comparison, options.override)
    package = promotion.package
    sentence = promotion.comparison.sentence() if promotion.comparison else None
    console.say(f"{package.id} {package.version} is the current version now: {package.path}")
    if sentence:
        console.say(sentence)
    if promotion.override is not None:
        console.say(f"The rule was overridden: {promotion.override}")
    console.document(
        {
            "ok": True,
            "id": package.id,
            "version": package.version,
            "path": package.path,
            "comparison": sentence,
            "decision": to_plain(promotion.decision),
            "override": promotion.override,
        }
    )
    return True


def list_versions(options: argparse.Namespace, console: Console) -> bool:
    """One line for each version."""
    from H3DELandmarksLib.models.versions import versions_of

    versions = versions_of(options.model)
    for version in versions:
        console.say(_version_line(version))
    console.document({"ok": True, "id": options.model, "versions": [_version_entry(version) for version in versions]})
    return True


def _version_entry(version: ModelVersion) -> dict[str, Any]:
    """A version for programs, as `ModelVersion` describes it."""
    told = ("source", "date", "base", "cases", "comparison", "override")
    return {
        "version": version.package.version,
        "current": version.is_current,
        **{name: getattr(version, name) for name in told},
        "path": version.package.path,
    }


def _version_line(version: ModelVersion) -> str:
    told = [
        f"{'*' if version.is_current else ' '} {version.package.version}",
        version.date or "no date",
        version.source,
        f"from {version.base}" if version.base else "no base",
        *([f"{version.cases} corrected cases"] if version.cases is not None else []),
        version.comparison or "not compared",
        *([f"overridden: {version.override}"] if version.override else []),
    ]
    return "  ".join(told)


def revert_model(options: argparse.Namespace, console: Console) -> bool:
    """Go back."""
    from H3DELandmarksLib.models.versions import revert

    version = revert(options.model, options.version)
    console.say(f"{options.model} {version.package.version} is the current version now.")
    console.document({"ok": True, "id": options.model, **_version_entry(version)})
    return True


def share_package(options: argparse.Namespace, console: Console) -> bool:
    """Write the file."""
    from H3DELandmarksLib.models.sharing import share_model

    package = share_model(options.model, options.path)
    console.say(
        f"Wrote {package.id} {package.version} for others: {options.path}\nRead its title, description, "
        "limits and definitions before you send it: they go along as they were written."
    )
    console.document({"ok": True, "id": package.id, "version": package.version, "path": options.path})
    return True


def add_package(options: argparse.Namespace, console: Console) -> bool:
    """Check and add."""
    from H3DELandmarksLib.models.sharing import add_shared

    added = add_shared(options.path)
    package = added.package
    name = f"{package.id} {package.version}"
    said = f"Added {name}" if added.is_new else f"{name} was here already"
    if added.is_new and package.version != added.shared_version:
        said += f" (shared as {added.shared_version}, which is another model here)"
    if not added.is_current:
        said += "; another version stays current, make this one current with: "
        said += f"models revert {package.id} {package.version}"
    console.say(said)
    console.document(
        {
            "ok": True,
            "id": package.id,
            "version": package.version,
            "shared_version": added.shared_version,
            "new": added.is_new,
            "current": added.is_current,
            "path": package.path,
        }
    )
    return True
