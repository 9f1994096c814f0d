"""``radiographs``: simulated radiographs of annotated scans or of the phantom, to train two-dimensional models."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console, add_json, add_progress
from H3DELandmarksLib.core.errors import InputError

if TYPE_CHECKING:
    from H3DELandmarksResearch.radiographs import Recipe, Subject
    from H3DELandmarksResearch.training.configuration import Configuration

SUBSETS = ("train", "validation", "calibration", "test")
DESCRIPTION = (
    "Projects the scans of a training configuration onto a flat detector, as a recipe says, and writes each radiograph "
    "as a one-slice scan with its point list (.mrk.json) in mm at the detector, and split.json. Subjects stay in the "
    "subset that the configuration puts them in. Radiographs that the folder already holds are left alone."
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser("radiographs", help="simulate radiographs of annotated scans", description=DESCRIPTION)
    parser.add_argument("recipe", metavar="RECIPE", help="JSON file, or mouse-skull or mandibular-molar (the phantom)")
    parser.add_argument("target", metavar="TARGET", help="folder for the radiographs; made if it does not exist")
    parser.add_argument("--subset", action="append", choices=SUBSETS, help="repeatable (default: all there are)")
    parser.add_argument("--view", action="append", metavar="NAME", help="repeatable (default: all that the recipe has)")
    parser.add_argument("--views", type=_positive, default=8, metavar="N", help="of a subject (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same number gives the same pictures")
    parser.add_argument("--subjects", type=_positive, metavar="N", help="only the first N of each subset")
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def run(options: argparse.Namespace, console: Console) -> bool:
    """Take the radiographs; returns whether none was skipped."""
    from H3DELandmarksLib.cohort.result_files import make_folder
    from H3DELandmarksResearch.converters.conversion import convert_cases
    from H3DELandmarksResearch.radiographs import read_recipe
    from H3DELandmarksResearch.radiographs.collection import radiograph_cases
    from H3DELandmarksResearch.training.configuration import find_configuration, read_configuration

    recipe = read_recipe(options.recipe).with_views(options.view)
    configuration = read_configuration(find_configuration(recipe.values["configuration"]))
    if options.seed < 0:
        raise InputError("The seed must not be negative: choose 0 or more.")
    target = make_folder(Path(options.target))
    cases = []
    for subset in _subsets(configuration, options.subset):
        subjects = _subjects(configuration, recipe, subset, options.subjects)
        cases += radiograph_cases(subjects, recipe, options.views, options.seed, subset)
    with console.task(recipe.id) as progress:
        summary = convert_cases(cases, target, progress)
    console.say(f"{summary.text()}: {target}")
    console.document({"ok": not summary.skipped, "recipe": recipe.id, "target": target, **vars(summary)})
    return not summary.skipped


def _subsets(configuration: Configuration, wanted: list[str] | None) -> list[str]:
    """The subsets asked for, once each; all that the configuration has where none is."""
    subsets = configuration.record.data.seeds or configuration.split()
    there = [subset for subset in SUBSETS if subset in subsets]
    for subset in wanted or ():
        if subset not in there:
            raise InputError(f"'{configuration.path.stem}' has no subset '{subset}': choose among {', '.join(there)}.")
    return list(dict.fromkeys(wanted or there))


def _subjects(
    configuration: Configuration, recipe: Recipe, subset: str, most: int | None
) -> Mapping[str, Callable[[], Subject]]:
    """The subjects of a subset, by name."""
    from H3DELandmarksResearch.radiographs.subjects import phantom_subject, specimen_subject
    from H3DELandmarksResearch.training.configuration import load_cases

    seeds = configuration.record.data.seeds
    if seeds is not None:
        first, last = seeds[subset]
        return {f"phantom-{seed}": partial(phantom_subject, seed) for seed in range(first, last)[:most]}
    cases = load_cases(configuration, subset, configuration.path.parent)[:most]
    axes, scheme = recipe.values.get("axes"), configuration.scheme
    return {c.name: partial(specimen_subject, c.name, c.volume, c.landmarks, scheme, axes) for c in cases}
