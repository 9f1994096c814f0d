"""A model for spine radiographs on pictures that it never saw: Cobb angles, counting of vertebrae, corners.

    H3DE_DATA=runs/data python -m H3DELandmarksResearch.studies.spines spine --subset test
    H3DE_DATA=runs/data python -m H3DELandmarksResearch.studies.spines spine --subset test --conditions

Angles are measured as users get them, without vertebrae that have an absent corner. Lengths are shares of the height of
a vertebra, since the set does not say how large its pixels are. A vertebra counts as one off where its center lies
nearer to that of a neighbor than to its own; a picture, where more than half do. `--conditions` shows pictures as users
have them, and whether radii are stated only where they hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.rows import is_off
from H3DELandmarksLib.core.text import markdown_table
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.evaluation.measure_geometry import cobb_angles
from H3DELandmarksLib.evaluation.measures import measure
from H3DELandmarksLib.formats.measurements import measurements_of
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.studies.recognition_scans import StudyScan, own_scans
from H3DELandmarksResearch.training.configuration import find_configuration, load_cases, read_configuration

CORNERS = 4
BOOTSTRAPS, SEED = 2000, 3


def vertebrae(positions: np.ndarray) -> np.ndarray:
    """(V, 4, 3) corners of (4 V, 3) points, four of each vertebra from the top."""
    return positions.reshape(-1, CORNERS, 3)


def heights(corners: np.ndarray) -> np.ndarray:
    """(V,) distances between the midpoints of the end plates of (V, 4, 3) vertebrae."""
    upper, lower = corners[:, :2].mean(axis=1), corners[:, 2:].mean(axis=1)
    result: np.ndarray = np.linalg.norm(upper - lower, axis=1)
    return result


def counted_off(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(V,) how many vertebrae each found one, (V, 4, 3), lies away from its own among the true ones; 0 is right."""
    distance = np.linalg.norm(found.mean(axis=1)[:, None] - truth.mean(axis=1)[None], axis=2)
    distance = np.where(np.isnan(distance), np.inf, distance)
    nearest: np.ndarray = distance.argmin(axis=1) - np.arange(len(found))
    return np.where(np.isfinite(distance).any(axis=1), nearest, 0)


def interval(values: Sequence[float]) -> str:
    """Mean with its 95 % bootstrap interval over pictures."""
    array, rng = np.asarray(values, float), np.random.default_rng(SEED)
    means = rng.choice(array, (BOOTSTRAPS, len(array))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{array.mean():.2f} ({low:.2f} to {high:.2f})"


def report(cases: Sequence[Case], found: Sequence[LandmarkSet], detector: Detector, told: Sequence[bool]) -> str:
    """Tables of angles, counting and corners.

    Args:
        cases: with their points.
        found: in them.
        detector: that found them.
        told: of which pictures it says that vertebrae may be counted one off.
    """
    truth = [vertebrae(case.landmarks.positions) for case in cases]
    spines = [vertebrae(one.positions) for one in found]
    angle, held = _angles(cases, found, detector)
    whole = np.isfinite(angle).all(axis=1)
    shares = [_corner_errors(a, b) for a, b in zip(spines, truth)]
    off = [counted_off(a, b) for a, b in zip(spines, truth)]
    pictures_off = [float(np.mean(one != 0) > 0.5) for one in off]
    wrong, flags = np.array(pictures_off) > 0, np.array(told, bool)
    complete = [bool(np.isfinite(one.positions).all()) for one in found]
    rows = [
        ("what", "value"),
        ("pictures, of which with all corners found", f"{len(cases)}, {sum(complete)}"),
        ("pictures with all three angles", f"{whole.sum()}"),
        *(
            (f"{name} Cobb angle, mean absolute error, degrees", interval(angle[whole, number]))
            for number, name in enumerate(("first", "second", "third"))
        ),
        ("all three angles, degrees", interval(angle[whole].mean(axis=1))),
        ("corner error, share of the vertebra's height: median", f"{np.nanmedian(np.concatenate(shares)):.2f}"),
        ("corners within a quarter of the height, %", interval([100 * np.nanmean(one <= 0.25) for one in shares])),
        ("vertebrae one off or more, %", interval([100 * np.mean(one != 0) for one in off])),
        ("pictures one off or more, %", interval([100 * one for one in pictures_off])),
        ("of these told of", f"{(flags & wrong).sum()} of {wrong.sum()}"),
        ("told of among the others", f"{(flags & ~wrong).sum()} of {(~wrong).sum()}"),
        ("90 % intervals of the three angles that hold the right one, %", ", ".join(f"{100 * h:.0f}" for h in held)),
    ]
    return markdown_table(rows)


def _angles(cases: Sequence[Case], found: Sequence[LandmarkSet], detector: Detector) -> tuple[np.ndarray, list[float]]:
    """(N, 3) absolute errors of the Cobb angles in degrees, NaN without an angle, and how often intervals hold."""
    definitions, reaches = measurements_of(detector.scheme), detector.calibration.reaches
    assert definitions is not None
    errors, held = np.full((len(cases), 3), np.nan), np.full((len(cases), 3), np.nan)
    for row, (case, one) in enumerate(zip(cases, found)):
        right = _cobb(vertebrae(case.landmarks.positions))
        said = [part for part in measure(one, definitions, flat=True, reaches=reaches) if "Cobb" in part.name]
        for column, part in enumerate(said):
            if part.value is not None:
                errors[row, column] = abs(part.value - right[column])
            if part.low90 is not None and part.high90 is not None:
                held[row, column] = part.low90 <= right[column] <= part.high90
    return errors, np.nanmean(held, axis=0).tolist()


def _cobb(corners: np.ndarray) -> np.ndarray:
    result: np.ndarray = cobb_angles(corners[None])[0]
    return result


def _corner_errors(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    result: np.ndarray = (np.linalg.norm(found - truth, axis=2) / heights(truth)[:, None]).ravel()
    return result


def condition_table(detector: Detector, scans: Iterable[StudyScan]) -> str:
    """What becomes of pictures under each condition: refused, counted one off, told of, radii stated and held."""
    rows: dict[str, list[tuple[bool, bool, bool, np.ndarray, np.ndarray]]] = {}
    for scan in scans:
        volume, truth = scan.make()
        if truth is None or not truth.present.any():
            continue
        found = detector.findings(volume)
        said, count = detector.conclude(found, volume), detector.placed(found).count
        right, landmarks = truth.ordered_as(said.doubtful.names), said.landmarks
        is_wrong = count is not None and is_off(said.doubtful.positions, right.positions, count.step)
        error = np.linalg.norm(landmarks.positions - right.positions, axis=1)
        told = said.miscounted is not None and said.miscounted.doubtful
        refused = said.recognition is not None and not said.recognition.recognised
        rows.setdefault(scan.condition, []).append((refused, is_wrong, told, error, landmarks.radius))
    head = ("condition", "pictures", "refused", "of the others one off", "told of", "told of right ones")
    return markdown_table(
        [(*head, "radii stated", "hold"), *(_condition_row(name, every) for name, every in rows.items())]
    )


def _condition_row(name: str, every: list[tuple[bool, bool, bool, np.ndarray, np.ndarray]]) -> tuple[str, ...]:
    shown = [one for one in every if not one[0]]
    wrong, told = (np.array([one[column] for one in shown], bool) for column in (1, 2))
    error, radius = (np.concatenate([one[column] for one in shown] or [[]]) for column in (3, 4))
    stated = np.isfinite(error) & np.isfinite(radius)
    held = f"{100 * (error <= radius)[stated].mean():.1f} %" if stated.any() else "-"
    counts = (len(every), len(every) - len(shown), wrong.sum())
    flags = (f"{(told & wrong).sum()} of {wrong.sum()}", f"{(told & ~wrong).sum()} of {(~wrong).sum()}")
    return (name, *map(str, counts), *flags, str(stated.sum()), held)


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="id, id@version or path of a model for the 68 corners")
    parser.add_argument("--configuration", type=Path, help="whose data and split serve (default: the model's own)")
    parser.add_argument("--subset", default="validation")
    parser.add_argument("--conditions", action="store_true", help="pictures as users have them")
    options = parser.parse_args()
    package = find_model(options.model)
    path = options.configuration or find_configuration(package.id)
    cases = load_cases(read_configuration(path), options.subset, RUNS)
    detector = Detector(package)
    if options.conditions:
        print(condition_table(detector, own_scans(options.subset, cases)))
        return
    placed = [detector.placed(detector.findings(case.volume)) for case in cases]
    doubts = [detector.calibration.miscounted(one.count) for one in placed]
    told = [doubt is not None and doubt.doubtful for doubt in doubts]
    print(report(cases, [detector.landmark_set(one) for one in placed], detector, told))


if __name__ == "__main__":
    run_study(main)
