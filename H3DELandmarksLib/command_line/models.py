"""``models``: which model packages there are, what they say of themselves, whether they are intact, installing one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from H3DELandmarksLib.command_line import import_published, models_compare, models_versions, recalibrate
from H3DELandmarksLib.command_line.console import Console
from H3DELandmarksLib.command_line.options import add_json

if TYPE_CHECKING:
    from H3DELandmarksLib.models import ModelPackage

SUMMARY_FIELDS = ("id", "version", "title", "modality", "anatomy")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its actions."""
    parser = commands.add_parser("models", help="list, describe, check, install, compare and share models")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="models that can be used")
    listing.set_defaults(run=list_models)

    info = actions.add_parser("info", help="what a model does, its landmarks and its model card")
    info.add_argument("model", metavar="ID", help="id, id@version or path of a model package")
    info.set_defaults(run=describe_model)

    verify = actions.add_parser("verify", help="check manifests and the SHA-256 of weights")
    verify.add_argument("model", metavar="ID", nargs="?", help="id, id@version or path; all models when left out")
    verify.set_defaults(run=verify_models)

    install = actions.add_parser("install", help="check a model package and add it")
    install.add_argument("path", metavar="PATH", help="folder or zip file")
    install.add_argument("--replace", action="store_true", help="replace a model of the same id and version")
    install.set_defaults(run=install_package)

    for action in (listing, info, verify, install):
        add_json(action)
    models_compare.add_actions(actions)
    models_versions.add_actions(actions)
    import_published.add_action(actions)
    recalibrate.add_action(actions)


def list_models(options: argparse.Namespace, console: Console) -> bool:
    """Print one line per model; packages that cannot be used are told apart."""
    from H3DELandmarksLib.models import available_models

    entries = available_models()
    usable = [_summary(entry.package) for entry in entries if entry.package]
    broken = [{"id": entry.id, "path": entry.path, "problem": entry.problem} for entry in entries if not entry.package]
    rows = [(m["id"], m["version"], str(m["landmarks"]), m["modality"], m["title"]) for m in usable]
    header = ("id", "version", "landmarks", "modality", "title")
    console.say(_table([header, *rows]) if rows else "There is no usable model.")
    for entry in broken:
        console.warn(entry["problem"])
    console.document({"ok": True, "models": usable, "unusable": broken})
    return True


def _summary(package: ModelPackage) -> dict[str, Any]:
    fields = {name: package.manifest[name] for name in SUMMARY_FIELDS}
    return {**fields, "landmarks": len(package.scheme), "path": package.path}


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def describe_model(options: argparse.Namespace, console: Console) -> bool:
    """Print a model's landmarks with their definitions, and its model card."""
    from H3DELandmarksLib.models import find_model

    package = find_model(options.model)
    card = package.model_card()
    console.say(f"{package.id} {package.version} ({package.path})\n\n{card.strip()}\n\nLandmarks")
    console.say("\n".join(f"  {landmark.name}: {landmark.definition}" for landmark in package.scheme.landmarks))
    pictures = [package.path / name for name in package.picture_files]
    if pictures:
        console.say("\nPictures of the model card\n" + "\n".join(f"  {path}" for path in pictures))
    console.document({
        "ok": True, "path": package.path, "manifest": package.manifest, "model_card": card, "pictures": pictures
    })  # fmt: skip
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
                console.warn(entry.problem)
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
    from H3DELandmarksLib.models import install_model

    package = install_model(options.path, replace=options.replace)
    console.say(f"Installed {package.id} {package.version} in {package.path}")
    console.document({"ok": True, "model": _summary(package)})
    return True
