"""In which direction the points of a cross-validated model err, and whether left and right err together.

    python -m H3DELandmarksResearch.studies.error_directions mouse-skull --work runs/cross-validation-mouse-skull

Reads the folds that `cross_validation` has trained and looks at each fold's specimens once more, this time
for the errors as vectors in the model frame. A point whose error is spread along one line only sits on a suture or a
ridge whose end is not seen, or is marked differently. Where left and right err together, the reason lies in
the specimen or its annotator, and not in the noise of two separate placements.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.models import open_package
from H3DELandmarksResearch.studies import RESULTS, command_of, run_study
from H3DELandmarksResearch.training.configuration import find_configuration, load_cases, read_configuration


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at the specimens of all folds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", help="training configuration: a path or a bundled name")
    parser.add_argument("--work", type=Path, required=True, help="folder of the cross-validation")
    parser.add_argument("--output", type=Path, help="Markdown file (default: benchmarks/error_directions-....md)")
    options = parser.parse_args(arguments)
    configuration = read_configuration(find_configuration(options.configuration))
    errors = errors_of_folds(options.work)
    output = options.output or RESULTS / f"error_directions-{configuration.path.stem}.md"
    command = command_of("error_directions", arguments)
    with atomic_write(output) as partial:
        partial.write_text(table(errors, configuration.scheme, command), encoding="utf-8")
    print(output.read_text(encoding="utf-8"))
    return 0


def errors_of_folds(work: Path) -> np.ndarray:
    """(N, K, 3) errors in mm along the axes of the model frame, NaN where a point is missed or does not exist.

    Raises:
        InputError: no fold of the cross-validation is trained.
    """
    errors = []
    for folder in sorted(work.glob("fold-*")):
        if not (folder / "package" / "manifest.json").exists():
            continue
        fold = read_configuration(folder / "configuration.json")
        detector = Detector(open_package(folder / "package"))
        for case in load_cases(fold, "test", folder):
            found = detector.findings(case.volume)
            truth = case.landmarks.ordered_as(detector.scheme.names).positions
            errors.append((found.positions - truth) @ found.pose.rotation)
    if not errors:
        raise InputError(f"'{work}' holds no trained fold: run the study cross_validation first.")
    return np.stack(errors)


def spread(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations (3,) in mm along the principal axes of (N, 3) errors, least first; the axes as columns."""
    variances, axes = np.linalg.eigh(np.cov(errors[np.isfinite(errors).all(axis=1)].T))
    return np.sqrt(np.maximum(variances, 0)), axes


def correlation_of_sides(left: np.ndarray, right: np.ndarray) -> float:
    """Correlation of (N, 3) errors of a pair, mirrored into one side, along the line on which they vary most."""
    right = right * (-1, 1, 1)
    both = np.isfinite(left).all(axis=1) & np.isfinite(right).all(axis=1)
    left, right = (side[both] - side[both].mean(axis=0) for side in (left, right))
    line = spread(np.concatenate([left, right]))[1][:, -1]
    return float(np.corrcoef(left @ line, right @ line)[0, 1])


def table(errors: np.ndarray, scheme: LandmarkScheme, command: str) -> str:
    """Markdown of all points, those with the largest mean error first."""
    index = {name: k for k, name in enumerate(scheme.names)}
    together = {}
    for left, right in scheme.pairs:
        together[left] = together[right] = correlation_of_sides(errors[:, index[left]], errors[:, index[right]])
    lines = [
        "# Directions of errors",
        "",
        f"`{command}`; {len(errors)} specimens, each looked at by a model that never saw it. Standard deviations in mm "
        "along the principal axes of each point's errors; correlation of a left and its right point along their "
        "longest axis.",
        "",
        "| point | mean error, mm | across | between | along | left and right |",
        "|---|---|---|---|---|---|",
    ]
    means = np.nanmean(np.linalg.norm(errors, axis=2), axis=0)
    for k in np.argsort(-means):
        name = scheme.names[k]
        across, between, along = spread(errors[:, k])[0]
        sides = f"{together[name]:.2f}" if name in together else "no pair"
        lines.append(f"| {name} | {means[k]:.3f} | {across:.3f} | {between:.3f} | {along:.3f} | {sides} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_study(main)
