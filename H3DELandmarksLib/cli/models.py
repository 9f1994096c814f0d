"""``models``: which models there are, and whether a retrained one is better; more where the research package is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from H3DELandmarksLib.cli.console import (
    Console,
    add_command,
    add_engine,
    add_json,
    add_model,
    add_overwrite,
    add_progress,
    distance,
)
from H3DELandmarksLib.cli.research import add_research_actions
from H3DELandmarksLib.core.errors import InputError, MissingDependencyError
from H3DELandmarksLib.core.files import refuse_existing
from H3DELandmarksLib.core.resources import research_module

if TYPE_CHECKING:
    from H3DELandmarksLib.formats.comparison import Comparison
    from H3DELandmarksLib.models import ModelPackage


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its actions."""
    parser = add_command(
        commands, "models", help="list, describe, check, install, compare and share models", example="info mouse-skull"
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = add_command(actions, "list", help="models that can be used", example="--scan scan.nrrd")
    listing.add_argument("--scan", help="those that may fit this scan first, the others with the reason")
    listing.set_defaults(run=list_models)
    add_json(listing)
    _add_compare(actions)
    add_research_actions(actions, "models")


def _add_compare(actions: argparse._SubParsersAction) -> None:
    compare = add_command(
        actions,
        "compare",
        help="compare a retrained model with its base",
        description="Compares two models on corrected cases that neither has learnt from.",
        example="mouse-skull run/package --cases cases --run run",
    )
    add_model(compare, "base", metavar="BASE")
    add_model(compare, "candidate", metavar="CANDIDATE", help="the same, such as RUN/package")
    compare.add_argument("--cases", required=True, metavar="PROJECT", help="folder of corrected cases")
    compare.add_argument(
        "--run",
        metavar="RUN",
        dest="run_folder",
        help="folder of the retraining: its held-out cases judge (default: all cases that neither learnt from)",
    )
    compare.add_argument("--output", metavar="FILE", help="JSON file (default: RUN/comparison.json)")
    compare.add_argument(
        "--chart", metavar="FILE", help="draw it, too, as .png, .svg or .pdf (default: .png beside the JSON file)"
    )
    add_overwrite(compare)
    compare.add_argument(
        "--tolerance", type=distance, metavar="MM", help="distance that counts as right (default: the base's own)"
    )
    rule = compare.add_argument_group("when the candidate may be promoted")
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
    add_engine(compare)
    add_progress(compare)
    add_json(compare)
    compare.set_defaults(run=compare_packages)


def list_models(options: argparse.Namespace, console: Console) -> bool:
    """Print one line per model, those that fit a given scan first; packages that cannot be used are told apart."""
    from H3DELandmarksLib.core.text import aligned
    from H3DELandmarksLib.models import available_models

    entries = available_models()
    packages = [entry.package for entry in entries if entry.package]
    unusable = [{"id": entry.id, "path": entry.path, "problem": entry.problem} for entry in entries if entry.problem]
    if options.scan:
        usable = [{**summary(package), "unfit": reason} for package, reason in _for_scan(packages, Path(options.scan))]
    else:
        usable = [summary(package) for package in packages]
    columns = ("id", "version", "landmarks", "modality", "title")
    rows = [[str(model[column]) for column in columns] for model in usable]
    console.say("\n".join(aligned([columns, *rows])) if rows else "There is no usable model.")
    for model in usable:
        if model.get("unfit"):
            console.say(f"Not for this scan: {model['unfit']}")
    for entry in unusable:
        console.warn(str(entry["problem"]))
    console.document({"ok": True, "models": usable, "unusable": unusable})
    return True


def _for_scan(packages: Sequence[ModelPackage], path: Path) -> list[tuple[ModelPackage, str]]:
    """Models and why each does not fit a scan (empty where it may); those that fit come first."""
    from H3DELandmarksLib.core.errors import UnknownPixelSize
    from H3DELandmarksLib.io.dicom import modality
    from H3DELandmarksLib.io.isolated import read_volume
    from H3DELandmarksLib.models.fit import ScanFacts, fitting_first

    needing = ""
    try:
        volume = read_volume(path)
    except UnknownPixelSize as error:
        volume, needing = read_volume(path, needs_size=False), str(error)
    facts = ScanFacts.of(volume.grid, modality(path))
    # Models that read lengths as shares of the picture's height need no size.
    sized = [p for p in packages if needing and p.manifest.is_2d and p.manifest.height_mm is None]
    others = fitting_first([package for package in packages if package not in sized], facts)
    return others + [(package, needing) for package in sized]


def summary(package: ModelPackage) -> dict[str, Any]:
    manifest = package.manifest
    return {
        "id": package.id,
        "version": package.version,
        "title": manifest.title,
        "modality": manifest.modality,
        "anatomy": manifest.anatomy,
        "landmarks": len(package.scheme),
        "path": package.path,
        "caution": manifest.measured.caution() if manifest.measured else "",
    }


def compare_packages(options: argparse.Namespace, console: Console) -> bool:
    """Compare; returns True, whatever the outcome."""
    from dataclasses import replace

    from H3DELandmarksLib.cases import open_project
    from H3DELandmarksLib.formats.comparison import write_comparison
    from H3DELandmarksLib.formats.run import COMPARISON, read_run
    from H3DELandmarksLib.models import find_model
    from H3DELandmarksLib.retraining.compare import compare_models, detect_both, held_out_cases
    from H3DELandmarksLib.retraining.promote import decide, usual_rule

    chart = options.chart or (options.output and Path(options.output).with_suffix(".png"))
    if options.output and Path(chart) == Path(options.output):
        raise InputError(
            f"'{options.output}' cannot hold the comparison and its chart: name a file that ends with .json."
        )
    refuse_existing(options.output, chart, overwrite=options.overwrite)
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
    usual_rule(1.0, **stated)  # refuses wrong margins before the work
    with console.task("compare") as progress:
        found = detect_both(
            (base, candidate), cases, options.device, progress, backend=options.backend, precision=options.precision
        )
    history = project.history()
    found = [[history.renamed(points) for points in sets] for sets in found]
    comparison = compare_models(base, candidate, cases, found, options.tolerance)
    rule = usual_rule(comparison.tolerance_mm, **stated)
    decision = decide(comparison, rule)
    comparison = replace(comparison, rule=rule, decision=decision)
    output = Path(options.output) if options.output else run.folder / COMPARISON if run else None
    if output:
        write_comparison(comparison, output)
    chart = _draw(comparison, options.chart, output, console)
    console.say(comparison.text())
    console.say(decision.text())
    console.document({"ok": True, "output": output, "chart": chart, **comparison.to_dict()})
    return True


def _draw(comparison: Comparison, wanted: str | None, output: Path | None, console: Console) -> Path | None:
    """Draw the chart; without the research package or matplotlib only a chart that was asked for is missed."""
    path = Path(wanted) if wanted else output and output.with_suffix(".png")
    if path is None:
        return None
    try:
        research_module("figures.plots", "The chart of a comparison").draw_comparison(comparison, path)
    except MissingDependencyError as error:
        if wanted:
            raise
        console.warn(str(error))
        return None
    return path
