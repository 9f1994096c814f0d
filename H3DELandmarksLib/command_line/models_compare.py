"""``models compare`` and ``models promote``: is a retrained model better, and may it take its base's place?"""

from __future__ import annotations

import argparse
from pathlib import Path

from H3DELandmarksLib.command_line.console import Console
from H3DELandmarksLib.command_line.options import add_engine, add_json, add_progress
from H3DELandmarksLib.errors import MissingDependencyError


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the actions."""
    compare = actions.add_parser(
        "compare", help="compare a retrained model with its base",
        description="Compares two models on corrected cases that neither has learnt from.",
    )  # fmt: skip
    compare.add_argument("base", metavar="BASE", help="id, id@version or path of a model package")
    compare.add_argument("candidate", metavar="CANDIDATE", help="the same, such as RUN/package")
    compare.add_argument("--cases", required=True, metavar="PROJECT", help="folder of the project of corrected cases")
    compare.add_argument(
        "--run", metavar="RUN", dest="run_folder",
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
        "promote", help="make a retrained model the current version",
        description="Keeps the model of a retraining and makes it current, if its comparison says that it is better.",
    )  # fmt: skip
    promote.add_argument("folder", metavar="RUN", help="folder of the retraining")
    promote.add_argument("--comparison", metavar="FILE", help="of 'models compare' (default: RUN/comparison.json)")
    promote.add_argument("--override", metavar="REASON", help="promote it all the same; the reason is kept with it")
    promote.set_defaults(run=promote_candidate)
    for action in (compare, promote):
        add_json(action)


def _add_rule(parser: argparse.ArgumentParser) -> None:
    rule = parser.add_argument_group("when the candidate may be promoted")
    rule.add_argument("--margin", type=float, metavar="MM",
                      help="the interval of its improvement must lie above this (default: 0)")
    rule.add_argument("--landmark-margin", type=float, metavar="MM",
                      help="no landmark's interval may lie beyond this much worse (default: tolerance / 4)")
    rule.add_argument("--presence-margin", type=float, metavar="SHARE",
                      help="how much less often it may tell rightly whether a landmark is there (default: 0.02)")
    rule.add_argument("--min-cases", type=int, metavar="N",
                      help="held-out cases of different subjects that are needed (default: 5)")


def compare_packages(options: argparse.Namespace, console: Console) -> bool:
    """Compare; returns True, whatever the outcome."""
    from H3DELandmarksLib.cohort import open_project
    from H3DELandmarksLib.models import find_model
    from H3DELandmarksLib.promotion.compare import compare_models, detect_both, named_now
    from H3DELandmarksLib.promotion.comparison import write_comparison
    from H3DELandmarksLib.promotion.held_out import held_out_cases
    from H3DELandmarksLib.promotion.rule import Rule, decide
    from H3DELandmarksLib.promotion.run_folder import read_run

    base, candidate = find_model(options.base), find_model(options.candidate)
    run = None if options.run_folder is None else read_run(options.run_folder)
    project = open_project(options.cases)
    cases = held_out_cases(project, base, candidate, run)
    stated = {
        "margin_mm": options.margin, "landmark_margin_mm": options.landmark_margin,
        "presence_margin": options.presence_margin, "least_subjects": options.min_cases,
    }  # fmt: skip
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
    from H3DELandmarksLib.promotion.run_folder import COMPARISON

    return Path(options.run_folder) / COMPARISON if options.run_folder else None


def _draw(comparison, options: argparse.Namespace, output: Path | None, console: Console) -> Path | None:
    """Draw the chart; without matplotlib only a chart that was asked for is missed."""
    from H3DELandmarksLib.promotion.chart import draw_comparison

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
    from H3DELandmarksLib.promotion.promote import promote_run

    promotion = promote_run(options.folder, options.comparison, options.override)
    package, comparison, decision = promotion.package, promotion.comparison, promotion.decision
    console.say(f"{package.id} {package.version} is the current version now: {package.path}")
    if comparison is not None:
        console.say(comparison.sentence())
    if promotion.override is not None:
        console.say(f"The rule was overridden: {promotion.override}")
    console.document({
        "ok": True, "id": package.id, "version": package.version, "path": package.path,
        "comparison": None if comparison is None else comparison.sentence(),
        "decision": None if decision is None else decision.to_dict(), "override": promotion.override,
    })  # fmt: skip
    return True
