"""How far derived points of head and neck move with the lattice, and how far a model lies from steady ones.

Contours and scan of each patient are resampled on a lattice shifted by half a voxel along each axis, and the points are
derived again: by the rules alone, and averaged over lattices with unsteady points left out, as the converter does it.

    FOLDER=../shared/data/head-neck-ct
    python -m H3DELandmarksResearch.studies.label_stability $FOLDER --subset test --model head-neck-ct
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.text import markdown_table
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksLib.models import find_model
from H3DELandmarksResearch.head_neck import HEAD_NECK_SCHEME, ORGANS, derive_landmarks, derive_stable
from H3DELandmarksResearch.head_neck.stability import around_contours, shifted
from H3DELandmarksResearch.studies import run_study
from H3DELandmarksResearch.training.configuration import find_configuration, read_configuration

BONE = [
    k
    for k, name in enumerate(HEAD_NECK_SCHEME.names)
    if name.split("-")[0] in ("menton", "gonion", "condylion", "coronoid")
]
HALF = (0.5, 0.5, 0.5)


def jaw_and_scan(folder: Path, name: str) -> tuple[Volume, Volume] | None:
    """The mandible's contour and the scan around it; None where none is drawn."""
    labels, scan = (canonical(read_volume(folder / f"{name}_{kind}.nii.gz")) for kind in ("organs", "ct"))
    mandible = np.where(labels.array == ORGANS["mandible"], labels.array, 0)
    return around_contours(Volume(mandible, labels.affine), scan) if mandible.any() else None


def derived(labels: Volume, scan: Volume) -> np.ndarray:
    """(4, K, 3) LPS mm: by the rules alone and averaged over lattices, on this lattice and on one half a voxel off."""
    moved = shifted(labels, scan, HALF)
    rows = [derive(*pair).positions for derive in (derive_landmarks, derive_stable) for pair in ((labels, scan), moved)]
    return np.stack(rows)[:, BONE]


def summary(values: np.ndarray) -> tuple[str, ...]:
    """Number, median, 90th percentile and maximum of those that are known."""
    known = values[np.isfinite(values)]
    if not known.size:
        return ("0", "-", "-", "-")
    return str(known.size), *(f"{v:.2f}" for v in (np.median(known), np.percentile(known, 90), known.max()))


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(..., K) mm between (..., K, 3) points."""
    between: np.ndarray = np.linalg.norm(first - second, axis=-1)
    return between


def table(points: np.ndarray, found: np.ndarray | None) -> str:
    """Markdown of (N, 4, K, 3) derived points and, with a model, (N, K, 3) found ones."""
    rules, rules_moved, steady, steady_moved = np.moveaxis(points, 1, 0)
    rows: list[Sequence[str]] = [("bone points", "n", "median, mm", "90th percentile", "maximum")]
    rows.append(("by the rules alone, half a voxel further", *summary(distance(rules, rules_moved))))
    rows.append(("averaged, steady ones, half a voxel further", *summary(distance(steady, steady_moved))))
    if found is not None:
        rows.append(("model from the rules' points", *summary(distance(found, rules))))
        rows.append(("model from steady points", *summary(distance(found, steady))))
        unsteady = np.where(np.isfinite(steady), np.nan, rules)
        rows.append(("model from points that are left out", *summary(distance(found, unsteady))))
    known, kept = (
        int(np.isfinite(part[..., 0]).sum()) for part in (rules, np.where(np.isfinite(rules), steady, np.nan))
    )
    return f"{markdown_table(rows)}\n\n{kept} of {known} points are steady."


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="NAME_ct.nii.gz beside NAME_organs.nii.gz")
    parser.add_argument("--subset", default="test", choices=("train", "validation", "calibration", "test"))
    parser.add_argument("--model", help="id or path of a model package, to be measured against both kinds of points")
    parser.add_argument("--patients", type=int, help="the first so many alone")
    options = parser.parse_args()
    detector = None if options.model is None else Detector(find_model(options.model))
    points, found = [], []
    for name in read_configuration(find_configuration("head-neck-ct")).split()[options.subset][: options.patients]:
        part = jaw_and_scan(options.folder, name)
        if part is None:
            continue
        points.append(derived(*part))
        if detector is not None:
            found.append(detector.detect(read_volume(options.folder / f"{name}_ct.nii.gz")).positions[BONE])
    print(f"{len(points)} patients with a contour of the mandible\n")
    print(table(np.array(points), np.array(found) if found else None))


if __name__ == "__main__":
    run_study(main)
