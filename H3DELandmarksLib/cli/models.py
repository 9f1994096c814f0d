"""``models``: which model packages there are, what they say of themselves, whether they are intact, installing one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from H3DELandmarksLib.cli import recalibrate
from H3DELandmarksLib.cli.console import Console, add_engine, add_json, add_progress
from H3DELandmarksLib.core.errors import MissingDependencyError
from H3DELandmarksLib.core.research import is_research_installed, research_module

if TYPE_CHECKING:
    from H3DELandmarksLib.models import ModelPackage
    from H3DELandmarksLib.models.versions import ModelVersion


def add_version_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the actions."""
    versions = actions.add_parser("versions", help="the versions of a model, and which one is current")
    versions.add_argument("model", metavar="ID", help="id of a model")
    versions.set_defaults(run=list_versions)

    back = actions.add_parser("revert", help="make an earlier version of a model current again")
    back.add_argument("model", metavar="ID", help="id of a model")
    back.add_argument("version", metavar="VERSION", nargs="?", help="default: the one that was current before")
    back.set_defaults(run=revert_model)

    share = actions.add_parser(
        "share",
        help="write a model as a file for another site",
        description="Writes a model with its card, its lineage (hashes of cases, base) and checksums. No names of "
        "cases, subjects, folders or people go along; title, description, intended use, limits, licenses and "
        "definitions do, as their author wrote them.",
    )
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
        f"{'*' if version.is_current else ' '} {version.package.version}",
        version.date or "no date",
        version.source,
        f"from {version.base}" if version.base else "no base",
        *([f"{version.cases} corrected cases"] if version.cases is not None else []),
        version.comparison or "not compared",
        *([f"overridden: {version.override}"] if version.override else []),
    ]
    return "  ".join(told)


def _described(version: ModelVersion) -> dict[str, Any]:
    return {
        "version": version.package.version,
        "current": version.is_current,
        "source": version.source,
        "date": version.date,
        "base": version.base,
        "cases": version.cases,
        "comparison": version.comparison,
        "override": version.override,
        "path": version.package.path,
    }


def revert_model(options: argparse.Namespace, console: Console) -> bool:
    """Go back."""
    from H3DELandmarksLib.models.versions import revert

    version = revert(options.model, options.version)
    console.say(f"{options.model} {version.package.version} is the current version now.")
    console.document({"ok": True, "id": options.model, **_described(version)})
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
        said += f"; another version stays current, make this one current with: models revert {package.id} "
        said += package.version
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


def add_comparison_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the actions."""
    compare = actions.add_parser(
        "compare",
        help="compare a retrained model with its base",
        description="Compares two models on corrected cases that neither has learnt from.",
    )
    compare.add_argument("base", metavar="BASE", help="id, id@version or path of a model package")
    compare.add_argument("candidate", metavar="CANDIDATE", help="the same, such as RUN/package")
    compare.add_argument("--cases", required=True, metavar="PROJECT", help="folder of the project of corrected cases")
    compare.add_argument(
        "--run",
        metavar="RUN",
        dest="run_folder",
        help="folder of the retraining: its held-out cases judge (default: all cases that neither learnt from)",
    )
    compare.add_argument("--output", metavar="FILE", help="JSON file (default: RUN/comparison.json)")
    compare.add_argument("--chart", metavar="FILE", help="draw it, too (default: beside the JSON file, as PNG)")
    compare.add_argument(
        "--tolerance", type=float, metavar="MM", help="distance that counts as right (default: the base's own)"
    )
    _add_rule(compare)
    add_engine(compare)
    add_progress(compare)
    compare.set_defaults(run=compare_packages)

    promote = actions.add_parser(
        "promote",
        help="make a retrained model the current version",
        description="Keeps the model of a retraining and makes it current, if its comparison says that it is better.",
    )
    promote.add_argument("folder", metavar="RUN", help="folder of the retraining")
    promote.add_argument("--comparison", metavar="FILE", help="of 'models compare' (default: RUN/comparison.json)")
    promote.add_argument("--override", metavar="REASON", help="promote it all the same; the reason is kept with it")
    promote.set_defaults(run=promote_candidate)
    for action in (compare, promote):
        add_json(action)


def _add_rule(parser: argparse.ArgumentParser) -> None:
    rule = parser.add_argument_group("when the candidate may be promoted")
    rule.add_argument(
        "--margin", type=float, metavar="MM", help="the interval of its improvement must lie above this (default: 0)"
    )
    rule.add_argument(
        "--landmark-margin",
        type=float,
        metavar="MM",
        help="no landmark's interval may lie beyond this much worse (default: tolerance / 4)",
    )
    rule.add_argument(
        "--presence-margin",
        type=float,
        metavar="SHARE",
        help="how much less often it may tell rightly whether a landmark is there (default: 0.02)",
    )
    rule.add_argument(
        "--min-cases", type=int, metavar="N", help="held-out cases of different subjects that are needed (default: 5)"
    )


def compare_packages(options: argparse.Namespace, console: Console) -> bool:
    """Compare; returns True, whatever the outcome."""
    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksLib.formats.comparison import Rule, decide, write_comparison
    from H3DELandmarksLib.formats.run import read_run
    from H3DELandmarksLib.models import find_model
    from H3DELandmarksLib.retraining.compare import compare_models, detect_both, held_out_cases, named_now

    base, candidate = find_model(options.base), find_model(options.candidate)
    run = None if options.run_folder is None else read_run(options.run_folder)
    project = open_project(options.cases)
    cases = held_out_cases(project, base, candidate, run)
    stated = {
        "margin_mm": options.margin,
        "landmark_margin_mm": options.landmark_margin,
        "presence_margin": options.presence_margin,
        "least_subjects": options.min_cases,
    }
    Rule.usual(1.0, **stated)  # refuses wrong margins before the work
    with console.task("compare") as progress:
        found = detect_both(
            (base, candidate), cases, options.device, progress, backend=options.backend, precision=options.precision
        )
    comparison = compare_models(base, candidate, cases, named_now(project.history(), found), options.tolerance)
    rule = Rule.usual(comparison.tolerance_mm, **stated)
    decision = decide(comparison, rule)
    more = {"rule": rule.to_dict(), "decision": decision.to_dict()}
    output = _output(options)
    if output is not None:
        write_comparison(comparison, output, more)
    chart = _draw(comparison, options, output, console)
    console.say(comparison.text())
    console.say(decision.text())
    console.document({"ok": True, "output": output, "chart": chart, **comparison.to_dict(), **more})
    return True


def _output(options: argparse.Namespace) -> Path | None:
    """Where the comparison goes; nowhere where nobody says."""
    if options.output:
        return Path(options.output)
    from H3DELandmarksLib.formats.run import COMPARISON

    return Path(options.run_folder) / COMPARISON if options.run_folder else None


def _draw(comparison, options: argparse.Namespace, output: Path | None, console: Console) -> Path | None:
    """Draw the chart; without matplotlib only a chart that was asked for is missed."""
    from H3DELandmarksLib.figures.plots import draw_comparison

    path = Path(options.chart) if options.chart else None if output is None else output.with_suffix(".png")
    if path is None:
        return None
    try:
        draw_comparison(comparison, path)
    except MissingDependencyError as error:
        if options.chart:
            raise
        console.warn(str(error))
        return None
    return path


def promote_candidate(options: argparse.Namespace, console: Console) -> bool:
    """Promote, or raise with what speaks against it."""
    from H3DELandmarksLib.retraining.promote import promote_run

    promotion = promote_run(options.folder, options.comparison, options.override)
    package, comparison, decision = promotion.package, promotion.comparison, promotion.decision
    console.say(f"{package.id} {package.version} is the current version now: {package.path}")
    if comparison is not None:
        console.say(comparison.sentence())
    if promotion.override is not None:
        console.say(f"The rule was overridden: {promotion.override}")
    console.document(
        {
            "ok": True,
            "id": package.id,
            "version": package.version,
            "path": package.path,
            "comparison": None if comparison is None else comparison.sentence(),
            "decision": None if decision is None else decision.to_dict(),
            "override": promotion.override,
        }
    )
    return True


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
    add_comparison_actions(actions)
    add_version_actions(actions)
    if is_research_installed():
        research_module("cli", "Importing published weights").import_published.add_action(actions)
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
    fields = {name: package.content[name] for name in SUMMARY_FIELDS}
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
