"""Models of the molars on composites of held-out patients, on phantoms, and on real scans without known points.

    export H3DE_DATA=../shared/data
    NEW=runs/mandibular-molar/package
    python -m H3DELandmarksResearch.studies.composites --models mandibular-molar-phantom $NEW
    python -m H3DELandmarksResearch.studies.composites --models mandibular-molar-phantom $NEW --first 1000 --count 10
    python -m H3DELandmarksResearch.studies.composites --models mandibular-molar-phantom $NEW --real 10

The second line makes other teeth, views and scanners than the configuration's. With ``--real``, planning CT as it is
stored is coarser than the models take, so that it is resampled to 1 mm, 19 cm around the mandible: how many points are
found, how many surely, and how far from the contour of the mandible they lie.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, crop_grid, resample
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.evaluation import Evaluation, evaluate_sets
from H3DELandmarksLib.evaluation.metrics import mean_radial_error, radius_coverage, success_rates
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.composites import Patient, read_patient
from H3DELandmarksResearch.composites.training_cases import composite_cases
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.training.configuration import (
    Configuration,
    find_configuration,
    load_cases,
    read_configuration,
)

SURE = 0.5
FINE_MM = 1.2
AROUND_MM = (190, 200, 190)
HEADER = (
    "| model | cases | scans | MRE, mm | median / p90 | within 2 mm, % | presence, % | missed / invented "
    "| radius holds, % |\n|---|---|---|---|---|---|---|---|---|"
)
REAL_HEADER = (
    "| model | patient | found | surely | mm from the mandible: median / largest | surely and over 15 mm off |\n"
    "|---|---|---|---|---|---|"
)


def figures(evaluation: Evaluation) -> str:
    """Cells of a table: errors in mm, success within 2 mm, presence, and how often the stated radius holds."""
    errors = evaluation.errors[np.isfinite(evaluation.errors)]
    invented = int((evaluation.predicted & ~evaluation.present & evaluation.known).sum())
    spread = np.percentile(errors, [50, 90]) if errors.size else (np.nan, np.nan)
    cells = (
        f"{len(evaluation.cases)}",
        f"{mean_radial_error(evaluation.errors)[0]:.2f}",
        f"{spread[0]:.2f} / {spread[1]:.2f}",
        f"{100 * float(success_rates(evaluation.errors, evaluation.present, (2.0,))[0]):.1f}",
        f"{100 * evaluation.presence.accuracy:.1f}",
        f"{int(evaluation.missed.sum())} of {int(evaluation.present.sum())} / {invented}",
        f"{100 * radius_coverage(evaluation.errors, evaluation.radius):.0f}",
    )
    return " | ".join(cells)


def real_line(detector: Detector, patient: Patient) -> str:
    """Cells of a table: what a model finds in a patient's lower head resampled to 1 mm."""
    around = crop_grid(patient.bone.mean(axis=0), np.eye(3), 1.0, AROUND_MM)
    scan = resample(patient.scan, around, -1024.0)
    found = detector.detect(Volume(scan.array.round().astype(np.int16), scan.affine))
    if not found.present.any():
        return f"{patient.name} | 0 | 0 | - | 0"
    sure = found.present & (found.confidence >= SURE)
    distance = np.full(len(found), np.nan)
    distance[found.present] = cKDTree(patient.bone).query(found.positions[found.present])[0]
    spread = f"{np.nanmedian(distance):.1f} / {np.nanmax(distance):.1f}"
    far = int((sure & (distance > 15)).sum())
    return f"{patient.name} | {int(found.present.sum())} | {int(sure.sum())} | {spread} | {far}"


def _measure(detectors: Sequence[Detector], what: str, cases: Sequence[Case]) -> None:
    """Print a line for each model."""
    if not cases:
        return
    references = {case.name: case.landmarks for case in cases}
    for detector in detectors:
        found = {case.name: detector.detect(case.volume) for case in cases}
        package = detector.package
        print(f"| {package.id} {package.version} | {what} | {figures(evaluate_sets(found, references))} |", flush=True)


def _measure_composites(detectors: Sequence[Detector], cases: Sequence[Case]) -> None:
    """Print lines for those of fine voxels and for those of the voxels of planning CT."""
    coarse = [case.volume.spacing[0] > FINE_MM for case in cases]
    for title, wanted in (("fine composites", False), ("coarse composites", True)):
        _measure(detectors, title, [case for case, is_coarse in zip(cases, coarse) if is_coarse == wanted])


def _real(detectors: Sequence[Detector], configuration: Configuration, subset: str, count: int) -> None:
    """Print a line for each of the first patients whose mandible is contoured, and each model."""
    data = configuration.record.data
    names = read_configuration(configuration.path.parent / str(data.patients)).split()[subset]
    for name in names:
        try:
            patient = read_patient(configuration.data_folder(), name)
        except InputError:
            continue
        for detector in detectors:
            package = detector.package
            print(f"| {package.id} {package.version} | {real_line(detector, patient)} |", flush=True)
        count -= 1
        if not count:
            return


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="ids or paths of model packages")
    parser.add_argument("--configuration", default="mandibular-molar-phantom")
    parser.add_argument("--subset", default="test", choices=("validation", "calibration", "test"))
    parser.add_argument("--first", type=int, help="number of the first composite: others than the configuration's")
    parser.add_argument("--count", type=int, default=10, help="with --first: how many")
    parser.add_argument("--real", type=int, metavar="N", help="look at N real scans instead")
    parser.add_argument("--cache", type=Path, default=RUNS, help="folder of generated cases")
    options = parser.parse_args()
    configuration = read_configuration(find_configuration(options.configuration))
    detectors = [Detector(find_model(model)) for model in options.models]
    if options.real:
        print(REAL_HEADER)
        _real(detectors, configuration, options.subset, options.real)
        return
    print(HEADER)
    if options.first is not None:
        data = configuration.record.data
        names = read_configuration(configuration.path.parent / str(data.patients)).split()[options.subset]
        folder, spacings = options.cache / "composites", data.spacings_mm or ()
        made = composite_cases(configuration.data_folder(), names, options.count, spacings, folder, options.first)
        _measure_composites(detectors, list(made))
        return
    cases = load_cases(configuration, options.subset, options.cache)
    _measure_composites(detectors, [case for case in cases if case.name.startswith("composite")])
    _measure(detectors, "phantoms", [case for case in cases if case.name.startswith("phantom")])


if __name__ == "__main__":
    run_study(main)
