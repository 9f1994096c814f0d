"""Cases in the form of nnLandmark (MIC-DKFZ/nnLandmark), which is nnU-Net's with landmarks in JSON files.

What its readme says: ``imagesTr/CASE_0000.nii.gz``; ``labelsTr/CASE.nii.gz`` with a cube of 3 x 3 x 3 voxels of the
landmark's value; ``dataset.json`` as nnU-Net's; ``name_to_label.json`` with the value of each name, from 1;
``spacing.json`` with ``image_spacing`` and ``annotation_spacing`` of each case; ``all_landmarks_voxel.json`` with the
voxel coordinates of each case and name. What is inferred from its scripts: coordinates follow the axes of the file and
need not be whole; a landmark that a case lacks is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from H3DELandmarksLib.cases.export import OutgoingCase
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.export import Coordinates
from H3DELandmarksLib.formats.reading import FormatError, parse_json
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksResearch.cases.exchange import ExternalCase

IMAGES, LABELS, TESTS, CHANNEL, ENDING = "imagesTr", "labelsTr", "imagesTs", "_0000", ".nii.gz"
VALUES, SPACINGS, POINTS, DATASET = "name_to_label.json", "spacing.json", "all_landmarks_voxel.json", "dataset.json"
READABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
MAX_COORDINATE = 1e6  # voxels
CUBE = np.array(np.meshgrid(*([-1, 0, 1],) * 3, indexing="ij")).reshape(3, -1).T


def sources(folder: Path, scheme: LandmarkScheme) -> Sequence[ExternalCase]:
    """The cases of a data set, test images included where the points are given for them."""
    points = _object(folder / POINTS)
    cases = []
    for name in sorted(points):
        images = [
            path
            for place in (IMAGES, TESTS)
            for ending in READABLE
            if (path := folder / place / f"{name}{CHANNEL}{ending}").is_file()
        ]
        if images:
            cases.append(ExternalCase(name, partial(_read, images[0], points[name])))
    if not cases:
        raise InputError(f"'{folder}' has no image in {IMAGES} for the cases of {POINTS}: check that it is complete.")
    return cases


class Writer:
    """Writes a data set; points that are absent or that nobody has decided about are left out."""

    coordinates: ClassVar[Coordinates] = "voxels"
    absent: ClassVar[str] = "left out; undecided: the same"

    def __init__(self, names: Sequence[str], target: Path, is_ras: bool = False) -> None:
        """Make the folders."""
        self.target = target
        self.values = {name: number for number, name in enumerate(names, 1)}
        self.points: dict[str, dict[str, list[float]]] = {}
        self.spacings: dict[str, dict[str, Any]] = {}
        for place in (IMAGES, LABELS):
            (target / place).mkdir()

    def add(self, case: OutgoingCase) -> None:
        """Write scan and label map.

        Raises:
            InputError: two landmarks lie in the same voxel, or NIfTI cannot hold the scan.
        """
        volume, landmarks = case.read(), case.corrected.ordered_as(tuple(self.values))
        ijk = volume.grid.ijk_from_lps(landmarks.positions)
        labels = _label_map(case.id, volume, ijk, landmarks.present)
        write_volume(self.target / IMAGES / f"{case.id}{CHANNEL}{ENDING}", volume)
        write_volume(self.target / LABELS / f"{case.id}{ENDING}", Volume(labels, volume.affine))
        self.points[case.id] = {n: ijk[k].tolist() for k, n in enumerate(self.values) if landmarks.present[k]}
        self.spacings[case.id] = {"image_spacing": volume.spacing.tolist(), "annotation_spacing": None}

    def close(self) -> None:
        """Write the tables of all cases."""
        dataset = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, **self.values},
            "numTraining": len(self.points),
            "file_ending": ENDING,
        }
        tables = ((VALUES, self.values), (SPACINGS, self.spacings), (POINTS, self.points), (DATASET, dataset))
        for name, content in tables:
            with atomic_write(self.target / name) as temporary:
                temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _label_map(case: str, volume: Volume, ijk: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(I, J, K) value of the landmark in its cube; a voxel of several cubes belongs to the nearest landmark.

    Args:
        case: for messages.
        volume: gives the size.
        ijk: (K, 3) voxel coordinates.
        present: (K,) which landmarks to draw.
    """
    labels = np.zeros(volume.array.shape, dtype=np.uint8 if len(ijk) < 256 else np.uint16)
    nearest = np.full(volume.array.shape, np.inf, dtype=np.float32)
    centers = np.round(np.where(present[:, None], ijk, -9)).astype(int)
    shown = [tuple(center) for center in centers[present]]
    if len(set(shown)) != len(shown):
        raise InputError(
            f"Two landmarks of '{case}' lie in one voxel, which nnLandmark's label maps cannot hold: "
            "correct them, or choose another form."
        )
    for k in np.flatnonzero(present):
        voxels = centers[k] + CUBE
        voxels = voxels[((voxels >= 0) & (voxels < labels.shape)).all(axis=1)]
        distance = np.linalg.norm(voxels - centers[k], axis=1)
        place = tuple(voxels.T)
        closer = distance < nearest[place]
        nearest[place] = np.where(closer, distance, nearest[place])
        labels[place] = np.where(closer, k + 1, labels[place])
    return labels


def _read(path: Path, points: Any) -> tuple[Volume, LandmarkSet, None]:
    volume = read_volume(path)
    try:
        names = tuple(points)
        ijk = np.array([points[name] for name in names], dtype=float).reshape(len(names), 3)
        are_numbers = all(type(x) in (int, float) for name in names for x in points[name])
        if not are_numbers or not (np.abs(ijk) <= MAX_COORDINATE).all():
            raise ValueError("a coordinate is no number, or out of range")
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise InputError(f"The points of '{path.name}' are not three numbers each: correct {POINTS}.") from error
    return volume, LandmarkSet(names, volume.grid.lps_from_ijk(ijk)), None


def _object(path: Path) -> Mapping[str, Any]:
    try:
        content = parse_json(path.read_bytes())
    except (OSError, FormatError) as error:
        raise InputError(f"'{path}' cannot be read: give the folder of an nnLandmark data set.") from error
    if not isinstance(content, dict):
        raise InputError(f"'{path}' holds no cases: give the folder of an nnLandmark data set.")
    return content
