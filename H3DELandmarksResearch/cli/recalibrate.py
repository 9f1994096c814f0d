"""``models recalibrate``: calibration, accuracy, pictures and card of a package anew, its weights left as they are."""

from __future__ import annotations

import argparse
from pathlib import Path

from H3DELandmarksLib.cli.console import Console, add_command, add_json, add_model


def add_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the action."""
    parser = add_command(
        actions,
        "recalibrate",
        help="calibrate and measure a model's weights again, and write its package with a new card",
        example="mouse-skull --output mouse-skull-again",
    )
    add_model(parser)
    parser.add_argument("--configuration", metavar="CONFIG", help="what it was trained by; the bundled one of its id")
    parser.add_argument(
        "--folds",
        metavar="DIR",
        help="cross-validation of its kind, see studies.cross_validation: calibrate on the cases that it learnt from, "
        "each looked at by the model that was held out from it",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the new package; must not exist")
    parser.add_argument(
        "--cache", metavar="DIR", help="folder of generated cases and of findings; beside the output if not given"
    )
    parser.set_defaults(run=run)
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Write the new package."""
    from H3DELandmarksLib.core.errors import InputError
    from H3DELandmarksLib.models import find_model
    from H3DELandmarksResearch.training.configuration import find_configuration, load_cases, read_configuration
    from H3DELandmarksResearch.training.cross_fitting import folds_of
    from H3DELandmarksResearch.training.packaging import recalibrate_package

    package, output = find_model(options.model), Path(options.output)
    if output.exists():
        raise InputError(f"'{output}' exists: choose another folder for the new package.")
    configuration = read_configuration(find_configuration(options.configuration or package.id))
    output.parent.mkdir(parents=True, exist_ok=True)
    cache = Path(options.cache) if options.cache else output.parent
    learnt = [name for name in configuration.split() if name != "test"] if options.folds else []
    subsets = learnt or [configuration.calibration_subset]
    cases = {name: load_cases(configuration, name, cache) for name in (*subsets, "test")}
    folds = []
    if options.folds:
        folds = folds_of(Path(options.folds), package, [case for name in learnt for case in cases[name]], cache)
    made = recalibrate_package(output, package, configuration, cases, folds)
    console.say(f"Wrote {made.id} {made.version} to {made.path}")
    console.document({"ok": True, "path": made.path, "accuracy": made.manifest.accuracy})
    return True
