"""Accuracy of a model package on the test cases of its training configuration, in several stored poses.

    python -m H3DELandmarksResearch.studies.accuracy mouse-skull --model mouse-skull --poses 4
    MODEL=mandibular-molar-phantom
    python -m H3DELandmarksResearch.studies.accuracy $MODEL --model $MODEL --molars-missing

A stored pose is the same scan with its header turned by a random rotation and its voxel axes reordered and flipped:
what a scanner or a converter may do to a scan without touching a voxel. The first pose is always the scan as it is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.evaluation import Evaluation, evaluate_sets
from H3DELandmarksLib.evaluation.metrics import THRESHOLDS_MM, mean_radial_error
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conditions import restored_case
from H3DELandmarksResearch.evaluation.reliability import compare_statements
from H3DELandmarksResearch.phantom import generate_phantom
from H3DELandmarksResearch.phantom.scheme import MOLARS
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.training.configuration import (
    Configuration,
    doubtful_cases,
    find_configuration,
    load_cases,
    read_configuration,
)


def turned(case: Case, rng: np.random.Generator) -> Case:
    """The case with its header, and so the patient, turned by a random rotation."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    landmarks = LandmarkSet(case.landmarks.names, case.landmarks.positions @ turn[:3, :3].T, case.landmarks.presence)
    return Case(case.name, Volume(case.volume.array, turn @ case.volume.affine), landmarks)


def stored_poses(case: Case, count: int, axes_only: bool) -> Iterator[Case]:
    """The case as it is, then `count` - 1 times stored in another way."""
    yield case
    for pose in range(1, count):
        rng = np.random.default_rng([pose, *case.name.encode()])
        changed = restored_case(case if axes_only else turned(case, rng), rng)
        yield Case(f"{case.name}, pose {pose}", changed.volume, changed.landmarks)


def phantoms_with_missing_molars(configuration: Configuration) -> Iterator[Case]:
    """Test seeds at 0.5 mm, each with one to four molars missing.

    Raises:
        InputError: the cases are not phantoms.
    """
    seeds = configuration.record.data.seeds
    if seeds is None:
        raise InputError(f"The cases of '{configuration.path}' are not phantoms: leave out --molars-missing.")
    for seed in range(*seeds["test"]):
        rng = np.random.default_rng(seed)
        missing = tuple(rng.choice(MOLARS, size=1 + seed % 4, replace=False))
        made = generate_phantom(seed, missing=missing, spacing=0.5)
        yield Case(f"{seed} without {' '.join(sorted(missing))}", made.volume, made.landmarks)


def main() -> None:
    """Print the table and, with --output, save it as JSON."""
    options = _parser().parse_args()
    configuration = read_configuration(find_configuration(options.configuration))
    package = find_model(options.model)
    cases = _cases(configuration, options)
    posed = (pose for case in cases for pose in stored_poses(case, options.poses, options.axes_only))
    predictions, references, seconds = {}, {}, []
    detector = Detector(package)
    for case in posed:
        start = time.perf_counter()
        predictions[case.name] = detector.detect(case.volume)
        seconds.append(time.perf_counter() - start)
        references[case.name] = case.landmarks
    thresholds = configuration.record.thresholds_mm or THRESHOLDS_MM
    evaluation = evaluate_sets(predictions, references, thresholds)
    print(f"{package.id} {package.version}: {options.subset} cases of {options.configuration}")
    print(evaluation.text())
    reliability = compare_statements(predictions, references, configuration.record.tolerance_mm).summary()
    for name, part in reliability.items():
        print(f"{name}: ECE {part['ece']}, with bins of equal mass {part['ece_equal_mass']}")
    print(_case_lines(evaluation))
    print(apart_line(evaluation, doubtful_cases(configuration.path)), end="")
    print(f"median time {np.median(seconds):.1f} s a scan")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"{package.id}.json").write_text(json.dumps(evaluation.to_dict(), indent=1), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", help="training configuration: a path or a bundled name")
    parser.add_argument("--model", required=True, help="id or path of the model package")
    parser.add_argument("--subset", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--poses", type=int, default=1, help="stored poses of each case (full rotations)")
    parser.add_argument("--axes-only", action="store_true", help="shuffle axes without turning the patient")
    parser.add_argument("--molars-missing", action="store_true", help="phantom: remove one to four molars of each case")
    parser.add_argument("--cache", type=Path, default=RUNS, help="folder of generated cases")
    parser.add_argument("--output", type=Path, help="folder for the table")
    return parser


def _cases(configuration: Configuration, options: argparse.Namespace) -> Iterable[Case]:
    if options.molars_missing:
        return phantoms_with_missing_molars(configuration)
    return load_cases(configuration, options.subset, options.cache)


def apart_line(evaluation: Evaluation, doubtful: Mapping[str, str]) -> str:
    """The mean error without doubtful cases, in whatever pose they are stored, as a line; empty where none is there."""
    kept = [name.split(", pose ")[0] not in doubtful for name in evaluation.cases]
    if all(kept) or not any(kept):
        return ""
    mre, sd = mean_radial_error(evaluation.errors[kept])
    return f"without the {kept.count(False)} doubtful scans: {mre:.3f} +- {sd:.3f} mm\n"


def _case_lines(evaluation: Evaluation) -> str:
    """The mean error of each case, and the worst one."""
    lines, worst = [], 0.0
    for name, row in zip(evaluation.cases, evaluation.errors):
        measured = row[np.isfinite(row)]
        if measured.size:
            worst = max(worst, float(measured.mean()))
        lines.append(f"{name:40s} {f'{measured.mean():.3f} mm' if measured.size else 'nothing to measure'}")
    return "\n".join([*lines, f"worst case mean {worst:.3f} mm"])


if __name__ == "__main__":
    run_study(main)
