"""The studies behind the published tables, each a program: ``python -m H3DELandmarksResearch.studies.NAME --help``.

Accuracy: `accuracy` (a model on its test cases), `cross_validation` and `error_directions`, `head_neck_conditions`,
`fine_voxels`, `recognition`. Learning: `compare_networks` (same folds and time for each), `learning_curve` (error
against the number of corrected cases). Review: `corrections` (how many a reader needs). Checks of cases:
`check_planted_errors`. New landmarks: `few_examples` (without training). Measurements: `measurements` (Cobb angles,
classes of readers, coverage of intervals).
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.core.files import atomic_write

# Where runs are kept and tables are written, in the folder that a study is started in.
RUNS = Path("runs")
RESULTS = Path("benchmarks")


def command_of(name: str, arguments: Sequence[str] | None) -> str:
    """How a study was started, for its table; arguments of this process where None."""
    given = sys.argv[1:] if arguments is None else arguments
    return " ".join([f"python -m H3DELandmarksResearch.studies.{name}", *given])


def write_results(stem: Path, figures: Mapping, text: str) -> None:
    """Write a study's figures as ``STEM.json`` and its table as ``STEM.md``."""
    for suffix, content in ((".json", json.dumps(figures, indent=1)), (".md", text)):
        with atomic_write(stem.with_name(stem.name + suffix)) as partial:
            partial.write_text(content, encoding="utf-8")


def run_study(main: Callable[[], int | None]) -> None:
    """Run a study's main function, and leave the program with its exit code or, with code 1, an error's sentence."""
    try:
        sys.exit(main())
    except H3DELandmarksError as error:
        sys.exit(str(error))
