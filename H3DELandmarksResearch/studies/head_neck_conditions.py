"""How the head-neck-ct model copes with scans as they come: truncated, 8-bit, metal, other axis orders, no jaw at all.

A truncated scan ends at one of the landmarks, so that the presence of some hangs on a voxel; a column of its own
leaves out those within 10 mm of an end.

    python -m H3DELandmarksResearch.studies.head_neck_conditions --model head-neck-ct --subset test
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.calibration import truncated_case
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conditions import restored_case
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.training.configuration import find_configuration, load_cases, read_configuration

CENTROIDS = ("parotid-L", "parotid-R", "larynx", "brainstem")
BELOW_LARYNX_MM = 25.0
ABOVE_BRAINSTEM_MM = 40.0
BORDER_MM = 10.0


def eight_bit(case: Case, rng: np.random.Generator) -> Case:
    """Values of -1024..3071 HU as 0..255."""
    scaled = np.clip((case.volume.array.astype(float) + 1024) / 4095 * 255, 0, 255)
    return Case(case.name, Volume(scaled.round().astype(np.uint8), case.volume.affine), case.landmarks)


def with_metal(case: Case, rng: np.random.Generator) -> Case:
    """Four fillings at the height of the teeth with bright and dark streaks in the slices that hold them."""
    menton = case.landmarks.positions[case.landmarks.names.index("menton")]
    if np.isnan(menton).any():
        return case
    array = case.volume.array.astype(np.float32)
    i, j, k = np.indices(array.shape, sparse=True)
    for side, back, up in ((-20, 25, 35), (20, 25, 35), (-24, 38, 40), (24, 38, 40)):
        x, y, z = case.volume.grid.ijk_from_lps(menton + [side, back, up + rng.uniform(-5, 5)])
        angle = np.arctan2(j - y, i - x)
        distance = np.hypot(i - x, j - y)
        fade = np.exp(-(((k - z) / 1.2) ** 2)) * np.exp(-distance / 12)
        body = array > -500
        array += body * 900 * np.cos(angle * rng.integers(5, 9) + rng.uniform(0, 6)) * fade
        array[(distance < 1.2) & (np.abs(k - z) < 1.5)] = 3071
    return Case(case.name, Volume(array.clip(-1024, 3071).astype(np.int16), case.volume.affine), case.landmarks)


def shoulders(case: Case, rng: np.random.Generator) -> Case | None:
    """What lies 25 mm and more below the larynx: no landmark is in view."""
    top = _slice_beside(case, "larynx", -BELOW_LARYNX_MM)
    if top is None or top < 16:
        return None
    return _without_points(case.part((0, 0, 0), (*case.volume.array.shape[:2], int(top))))


def crown(case: Case, rng: np.random.Generator) -> Case | None:
    """What lies 40 mm and more above the brainstem's center: no landmark is in view."""
    bottom = _slice_beside(case, "brainstem", ABOVE_BRAINSTEM_MM)
    i, j, k = case.volume.array.shape
    if bottom is None or k - (first := int(np.ceil(bottom))) < 16:
        return None
    return _without_points(case.part((0, 0, first), (i, j, k - first)))


def _slice_beside(case: Case, name: str, above: float) -> float | None:
    """Index of the slice so many mm above a landmark; None where it is not there."""
    place = case.landmarks.positions[case.landmarks.names.index(name)]
    return None if np.isnan(place).any() else float(case.volume.grid.ijk_from_lps(place + [0, 0, above])[2])


def _without_points(case: Case) -> Case:
    names = case.landmarks.names
    return replace(case, landmarks=LandmarkSet(names, np.full((len(names), 3), np.nan), np.zeros(len(names))))


def noise(case: Case, rng: np.random.Generator) -> Case:
    """Noise in place of the scan."""
    array = rng.normal(0, 300, (64, 64, 64)).astype(np.int16)
    return _without_points(replace(case, volume=Volume(array, case.volume.affine)))


CONDITIONS: dict[str, Callable[[Case, np.random.Generator], Case | None]] = {
    "as stored": lambda case, rng: case,
    "truncated": truncated_case,
    "8 bits": eight_bit,
    "heavy metal": with_metal,
    "axes shuffled": restored_case,
    "shoulders only": shoulders,
    "crown only": crown,
    "noise": noise,
}


def beyond_doubt(original: Case, changed: Case) -> np.ndarray:
    """(K,) whether each landmark lies at least `BORDER_MM` within the changed scan or beyond its ends."""
    grid = changed.volume.grid
    index = grid.ijk_from_lps(original.landmarks.positions)
    depth = (np.minimum(index + 0.5, np.array(grid.shape) - 0.5 - index) * grid.spacing).min(axis=1)
    return ~(np.abs(depth) < BORDER_MM)


def table_row(title: str, originals: Sequence[Case], cases: Sequence[Case], found: Sequence[LandmarkSet]) -> str:
    """One line: errors of bone points and of centroids, and presence accuracy with and without doubtful landmarks."""
    centroid = np.isin(cases[0].landmarks.names, CENTROIDS)
    truth = np.array([case.landmarks.presence for case in cases])
    present = np.array([landmarks.present for landmarks in found])
    error = np.array([np.linalg.norm(f.positions - c.landmarks.positions, axis=1) for f, c in zip(found, cases)])
    known = ~np.isnan(truth)
    right = present == (truth == 1)
    clear = known & np.array([beyond_doubt(old, new) for old, new in zip(originals, cases)])
    cells = [title, str(len(cases))]
    for chosen in (error[:, ~centroid], error[:, centroid]):
        values = chosen[np.isfinite(chosen)]
        cells.append(f"{np.median(values):.1f} / {np.percentile(values, 90):.1f}" if values.size else "-")
    shares = [f"{100 * right[chosen].mean():.1f} ({chosen.sum()})" for chosen in (known, clear)]
    return " | ".join([*cells, *shares, f"{100 * (truth[known] == 1).mean():.0f}"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="head-neck-ct", help="id or path of the model package")
    parser.add_argument("--configuration", default="head-neck-ct")
    parser.add_argument("--subset", default="test", choices=("train", "validation", "test"))
    options = parser.parse_args()
    detector = Detector(find_model(options.model))
    cases = load_cases(read_configuration(find_configuration(options.configuration)), options.subset, RUNS)
    print(
        "| condition | scans | bone: median / p90, mm | centroids: median / p90, mm | presence, % (n) "
        f"| presence {BORDER_MM:.0f} mm or more from the scan's ends, % (n) | in view, % |"
    )
    print("|---|---|---|---|---|---|---|")
    for title, change in CONDITIONS.items():
        rng = np.random.default_rng(0)
        pairs = [(case, new) for case in cases if (new := change(case, rng)) is not None]
        if pairs:
            originals, changed = zip(*pairs)
            found = [detector.detect(case.volume) for case in changed]
            print(f"| {table_row(title, originals, changed, found)} |", flush=True)


if __name__ == "__main__":
    run_study(main)
