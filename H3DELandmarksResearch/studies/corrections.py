"""How many corrections a reader needs until all points are within tolerance, without and with points that follow.

    h3delandmarks convert open-kbp ../shared/data/head-neck-ct runs/data/head-neck-ct
    H3DE_DATA=../shared/data python -m H3DELandmarksResearch.studies.corrections mouse-skull --model mouse-skull
    python -m H3DELandmarksResearch.studies.corrections mandibular-molar-phantom --model mandibular-molar-phantom
    python -m H3DELandmarksResearch.studies.corrections head-neck-ct --model head-neck-ct --condition coarser
    python -m H3DELandmarksResearch.studies.corrections --readers ../shared/data/isbi2015-cephalogram --tolerance 2

A simulated reader takes the most doubtful point first, accepts or corrects it, and stops where all points are within
tolerance. What revision needs is learnt from training points and calibration cases; only test cases are counted. With
--readers no model is needed: the points of a cephalogram's junior reader are taken for the found ones, those of the
senior for the truth. What a model finds is kept in runs/corrections. --model takes a weak model's package as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.anatomy import CORRECTIONS, Anatomy
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Evidence
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conditions import CONDITIONS, WHOLE
from H3DELandmarksResearch.cases.case_folder import points_of_case
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.studies.correction_cases import SeenCase, look
from H3DELandmarksResearch.training.configuration import (
    Configuration,
    find_configuration,
    load_cases,
    read_configuration,
)
from H3DELandmarksResearch.training.revision import Reviewed, learn_anatomy, read_through

RESAMPLES = 2000


def main(arguments: Sequence[str] | None = None) -> int:
    """Learn, simulate, and print the table."""
    options = _parser().parse_args(arguments)
    if options.readers:
        shapes, calibration, test = readers_cases(options.readers)
        tolerance = options.tolerance
    else:
        configuration = read_configuration(find_configuration(options.configuration))
        shapes, calibration, test = model_cases(configuration, options)
        tolerance = options.tolerance or configuration.record.tolerance_mm
    anatomy = learn_anatomy(shapes, calibration, tolerance)
    text = table(anatomy, test, options.reader_noise)
    print(text)
    if options.output:
        with atomic_write(options.output) as partial:
            partial.write_text(text, encoding="utf-8")
    return 0


def model_cases(
    configuration: Configuration, options: argparse.Namespace
) -> tuple[np.ndarray, list[Reviewed], list[Reviewed]]:
    """(N, K, 3) points of training cases, and what a model finds in calibration and test cases."""
    detector, subsets = Detector(find_model(options.model)), []
    for subset in (configuration.calibration_subset, "test"):
        condition = options.condition if subset == "test" else WHOLE
        cases = _disturbed(load_cases(configuration, subset, options.cache), condition)
        folder = options.cache / "corrections" / detector.package.id / subset / condition
        subsets.append([reviewed(seen) for seen in look(detector, cases, folder)])
    shapes = training_points(configuration) or [case.truth.positions for case in subsets[0]]
    return np.stack(shapes), subsets[0], subsets[1]


def training_points(configuration: Configuration) -> list[np.ndarray]:
    """(K, 3) LPS mm of each training case that lies in a folder; scans are not read, and phantoms not made."""
    if configuration.record.data.folder is None:
        return []
    folder, names = configuration.data_folder(), configuration.scheme.names
    lists = [read_markups(points_of_case(folder, name), names) for name in configuration.split()["train"]]
    return [landmarks.ordered_as(names).positions for landmarks in lists]


def _disturbed(cases: Iterable[Case], condition: str) -> Iterable[Case]:
    for case in cases:
        yield CONDITIONS[condition](case, np.random.default_rng([7, *case.name.encode()]))


def reviewed(seen: SeenCase) -> Reviewed:
    """A case from the cache, as simulations take it."""
    return Reviewed(Evidence(seen.found, seen.pose, seen.candidates), seen.truth)


def readers_cases(folder: Path) -> tuple[np.ndarray, list[Reviewed], list[Reviewed]]:
    """Cephalograms of ISBI 2015: shapes of 100, 50 for the calibration, and the 150 of the first test.

    Raises:
        InputError: the folder does not hold both readers' points.
    """
    readers = [_points_of(folder / "AnnotationsByMD" / f"400_{who}") for who in ("junior", "senior")]
    away = np.linalg.norm(readers[0] - readers[1], axis=2)[100:150]
    names = tuple(str(k + 1) for k in range(away.shape[1]))
    radius, confidence = np.quantile(away, 0.9, axis=0), (away <= 2).mean(axis=0)
    pose = Pose(np.eye(3), np.zeros(3))
    cases = [
        Reviewed(Evidence(LandmarkSet(names, found, confidence=confidence, radius=radius), pose), LandmarkSet(names, t))
        for found, t in zip(*readers)
    ]
    return readers[1][:100], cases[100:150], cases[150:300]


def _points_of(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("*.txt"))[:300]
    if len(files) < 300:
        raise InputError(f"'{folder}' does not hold the points of 300 cephalograms: give the folder of ISBI 2015.")
    points = [[line.split(",") for line in file.read_text().split()[:19]] for file in files]
    return np.pad(np.array(points, dtype=float) * (0.1999, 0.2), ((0, 0), (0, 0), (0, 1)))


def table(anatomy: Anatomy, cases: Sequence[Reviewed], noise_mm: float) -> str:
    """Corrections without and with following points, with 95 % bootstrap intervals over cases, and coverage."""
    counts, held = [], {number: list[np.ndarray]() for number in CORRECTIONS}
    for number, case in enumerate(cases):
        runs = [list(read_through(case, anatomy, h, noise_mm, np.random.default_rng(number))) for h in (False, True)]
        counts.append([steps[-1].corrections for steps in runs])
        for step in {step.corrections: step for step in reversed(runs[1])}.values():
            known = step.undecided & np.isfinite(step.landmarks.radius)
            if step.corrections in held:
                held[step.corrections].append((step.error <= step.landmarks.radius)[known])
    both = np.array(counts)
    drawn = both[np.random.default_rng(0).integers(len(both), size=(RESAMPLES, len(both)))].sum(axis=1)
    saved = 1 - drawn[:, 1] / np.maximum(drawn[:, 0], 1)
    without, helped = both.sum(axis=0)
    lines = [
        f"{len(cases)} cases, tolerance {anatomy.tolerance_mm:g} mm, reader's noise {noise_mm:g} mm, "
        f"caution {anatomy.caution:g}, scales {', '.join(f'{s:.2f}' for s in anatomy.scales)}",
        f"corrections without: {without} ({without / len(both):.2f} a case)",
        f"corrections with:    {helped} ({helped / len(both):.2f} a case)",
        f"saved: {100 * (1 - helped / max(without, 1)):.1f} % "
        f"[{100 * np.quantile(saved, 0.025):.1f}, {100 * np.quantile(saved, 0.975):.1f}]; "
        f"{(both[:, 1] < both[:, 0]).sum()} cases with fewer, {(both[:, 1] > both[:, 0]).sum()} with more",
    ]
    for number, inside in held.items():
        if inside and (together := np.concatenate(inside)).size:
            share = 100 * together.mean()
            lines.append(f"radii after {number}: {share:.1f} % of {together.size} undecided points within")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", nargs="?", help="training configuration: a path or a bundled name")
    parser.add_argument("--model", help="id or path of the model package")
    parser.add_argument("--readers", type=Path, help="folder of ISBI 2015: two readers' points and no model")
    parser.add_argument("--tolerance", type=float, help="mm (default: the configuration's)")
    parser.add_argument("--condition", default=WHOLE, choices=tuple(CONDITIONS), help="how test scans are disturbed")
    parser.add_argument("--reader-noise", type=float, default=0.0, help="mm, standard deviation of a reader's points")
    parser.add_argument("--cache", type=Path, default=RUNS, help="folder of generated cases and detections")
    parser.add_argument("--output", type=Path, help="text file for the table")
    return parser


if __name__ == "__main__":
    run_study(main)
