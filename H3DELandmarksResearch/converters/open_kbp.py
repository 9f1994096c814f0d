"""OpenKBP (ababier/open-kbp): planning CT of heads and necks with contours, as cases with derived landmarks.

Points are those on which lattices shifted by half a voxel agree; their radius is how far they spread all the same.

Two forms are read: the published one (a folder a patient with sparse CSV files), and ``NAME_ct.nii.gz`` beside
``NAME_organs.nii.gz`` with the values of `ORGANS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksResearch.converters.conversion import Progress, SourceCase, Summary, case_name, convert_cases
from H3DELandmarksResearch.head_neck import HEAD_NECK_SCHEME, ORGANS, derive_stable

SHAPE = (128, 128, 128)
AIR_HU = -1024
ORGAN_FILES = {
    "brainstem": "Brainstem.csv",
    "spinal cord": "SpinalCord.csv",
    "parotid-R": "RightParotid.csv",
    "parotid-L": "LeftParotid.csv",
    "esophagus": "Esophagus.csv",
    "larynx": "Larynx.csv",
    "mandible": "Mandible.csv",
}


def convert(source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Summary:
    """Convert the set; every patient becomes a scan in Hounsfield units and a point list.

    Args:
        source: folder with patients in any subfolders, in either form.
        target: folder for the cases.
        options: none.
        progress: receives the fraction done and the name of the case at hand.

    Raises:
        InputError: there is no patient.
    """
    published = {case_name(path.parent.name): path.parent for path in source.rglob("voxel_dimensions.csv")}
    prepared = {path.name.removesuffix("_ct.nii.gz"): path for path in source.rglob("*_ct.nii.gz")}
    readers = {name: partial(read_published, folder) for name, folder in published.items()}
    readers |= {name: partial(_read_prepared, path) for name, path in prepared.items()}
    if not readers:
        raise InputError(f"'{source}' holds no patient with voxel_dimensions.csv: choose the folder provided-data.")
    known = dict.fromkeys(HEAD_NECK_SCHEME.names, 0)
    cases = [SourceCase(name, partial(_case, readers[name], known)) for name in sorted(readers, key=_by_number)]
    summary = convert_cases(cases, target, progress, bool(options.get("leave_out_repeats")))
    if summary.written:
        counts = ", ".join(f"{name} {count}" for name, count in known.items())
        summary.notes.append(f"Landmarks that the contours support, in {len(summary.written)} cases: {counts}.")
    return summary


def read_published(folder: Path) -> tuple[Volume, Volume]:
    """Scan (int16 HU) and label volume (uint8) of a patient; array axes run to the left, back and up.

    The published arrays run from front to back, right to left and top to bottom, and hold HU + 1024, zeros left out.

    Raises:
        InputError: a file is missing or damaged.
    """
    spacing = _numbers(folder / "voxel_dimensions.csv", header=0)
    if spacing.size != 3 or not (spacing > 0).all():
        raise InputError(f"'{folder / 'voxel_dimensions.csv'}' does not hold three voxel sizes: download it again.")
    affine = np.diag([*spacing.ravel(), 1.0])
    values = _numbers(folder / "ct.csv", header=1, columns=(0, 1))
    scan = np.zeros(SHAPE, dtype=np.float32)
    scan.ravel()[_places(folder / "ct.csv", values[:, 0])] = values[:, 1]
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for organ, name in ORGAN_FILES.items():
        if (folder / name).exists():
            labels.ravel()[_places(folder / name, _numbers(folder / name, header=1)[:, 0])] = ORGANS[organ]
    hounsfield = np.round(scan + AIR_HU).astype(np.int16)
    return Volume(_left_back_up(hounsfield), affine), Volume(_left_back_up(labels), affine)


def _left_back_up(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(1, 0, 2)[:, :, ::-1])


def _numbers(path: Path, header: int, columns: tuple[int, ...] = (0,)) -> np.ndarray:
    """(N, columns) of a CSV file."""
    try:
        return np.loadtxt(path, delimiter=",", skiprows=header, usecols=columns, ndmin=2)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"'{path}' is missing or is not a table of numbers: download it again.") from error


def _places(path: Path, index: np.ndarray) -> np.ndarray:
    size = np.prod(SHAPE)
    if not ((index >= 0) & (index < size)).all():
        raise InputError(f"'{path}' names voxels outside {SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}: it is of another set.")
    return index.astype(np.int64)


def _read_prepared(path: Path) -> tuple[Volume, Volume]:
    scan, labels = read_volume(path), read_volume(path.with_name(path.name.replace("_ct.nii.gz", "_organs.nii.gz")))
    if scan.array.shape != labels.array.shape or not np.allclose(scan.affine, labels.affine, atol=1e-3):
        raise InputError(f"'{path}' and its organs differ in size or place: restore the pair.")
    return scan, labels


def _case(read: partial, known: dict[str, int]) -> tuple[Volume, LandmarkSet]:
    """Read a patient, derive the landmarks with their spreads, as radii, and count those that are known."""
    scan, labels = read()
    landmarks = derive_stable(labels, scan)
    for name, unknown in zip(landmarks.names, landmarks.unknown):
        known[name] += not unknown
    return scan, landmarks


def _by_number(name: str) -> tuple[int, str]:
    digits = "".join(c for c in name if c.isdigit())
    return int(digits or 0), name
