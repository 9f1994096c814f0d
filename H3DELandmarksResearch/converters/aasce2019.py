"""Spine radiographs of AASCE 2019 (SpineWeb data set 16): 17 vertebrae, T1 to L5, with four corners each.

The size of the pixels is not known and differs between the pictures. A pixel of the picture as it lies there counts as
1 mm unless the user says more: what is measured in these cases are pixels and angles, never millimeters.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.converters.conversion import Progress, SourceCase, Summary, case_name, convert_cases
from H3DELandmarksResearch.converters.flat_images import find_images, points_on_image, read_radiograph, spacing_of

VERTEBRAE = tuple([f"T{k}" for k in range(1, 13)] + [f"L{k}" for k in range(1, 6)])
CORNERS = ("upper left", "upper right", "lower left", "lower right")
NAMES = tuple(f"{vertebra} {corner}" for vertebra in VERTEBRAE for corner in CORNERS)
NOTE = "The size of the pixels is unknown: lengths of these cases are pixels, not millimeters."


@dataclass(frozen=True)
class Entry:
    """The points of a picture.

    Attributes:
        image: file name of the picture.
        points: (68, 2) pixels.
        faulty: whether its labels are known to be faulty; such a case is written, but belongs to no subset.
        patient: pictures of one patient stay in one subset.
    """

    image: str
    points: np.ndarray
    faulty: bool
    patient: str


def convert(source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Summary:
    """Convert the set.

    Args:
        source: folder that holds the pictures and either landmarks.json (corners in pixels, with flags), or the
            challenge's filenames.csv and landmarks.csv (corners as shares of the picture's size).
        target: folder for the cases; its split takes every eighth patient for validation and every eighth for test.
        options: ``spacing`` (mm, or None for 1, which makes all lengths pixels).
        progress: receives the fraction done and the name of the case at hand.

    Raises:
        InputError: pictures or points are missing.
    """
    images = {name: paths[0] for name, paths in find_images(source).items()}
    spacing = spacing_of(options.get("spacing") or 1.0, "The option --spacing")
    entries = [entry for entry in _entries(source, images) if entry.image.lower() in images]
    if not entries:
        raise InputError(f"'{source}' holds no pictures with points: choose the folder of the AASCE 2019 set.")
    subsets = _subsets(entries)
    cases = [
        SourceCase(
            case_name(Path(entry.image).stem),
            partial(_read, images[entry.image.lower()], entry, spacing),
            ("faulty",) if entry.faulty else (subsets[entry.patient],),
        )
        for entry in entries
    ]
    summary = convert_cases(cases, target, progress, bool(options.get("leave_out_repeats")))
    if not options.get("spacing"):
        summary.notes.append(NOTE)
    faulty = sum(entry.faulty for entry in entries)
    if faulty:
        summary.notes.append(f"{faulty} cases with faulty labels belong to no subset of split.json.")
    return summary


def _entries(source: Path, images: Mapping[str, Path]) -> list[Entry]:
    for path in sorted(source.rglob("landmarks.json")):
        return _from_json(path)
    for path in sorted(source.rglob("landmarks.csv")):
        return _from_tables(path, images)
    raise InputError(f"'{source}' holds neither landmarks.json nor landmarks.csv: choose the folder of the set.")


def _from_json(path: Path) -> list[Entry]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return [
            Entry(
                f"{name}.jpg",
                np.array(case["points_px"], float).reshape(len(NAMES), 2),
                bool(case.get("flags")),
                _patient(str(case.get("source", name))),
            )
            for name, case in record["cases"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}' does not hold 68 points in pixels for each case: copy it again.") from error


def _from_tables(path: Path, images: Mapping[str, Path]) -> list[Entry]:
    names = path.with_name("filenames.csv")
    try:
        files = [row[0] for row in csv.reader(names.read_text(encoding="utf-8").splitlines()) if row]
        shares = np.loadtxt(path, delimiter=",", ndmin=2).reshape(len(files), 2, len(NAMES)).transpose(0, 2, 1)
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' and '{names}' should hold one row a picture, 136 numbers in the first.") from error
    return [
        Entry(name, points * _size(images[name.lower()]), False, _patient(name))
        for name, points in zip(files, shares)
        if name.lower() in images
    ]


def _size(path: Path) -> np.ndarray:
    return np.array(read_radiograph(path, (1.0, 1.0)).array.shape[:2], float)


def _patient(source: str) -> str:
    """The number that the file names of the set give a patient, as 162 in "sunhl-1th-02-Jan-2017-162 A AP.jpg"."""
    found = re.search(r"-(\d+) ?[A-Z]? ", source)
    return found.group(1) if found else source


def _subsets(entries: list[Entry]) -> dict[str, str]:
    """The subset of each patient."""
    patients = sorted({entry.patient for entry in entries})
    turn = {3: "validation", 7: "test"}
    return {patient: turn.get(number % 8, "train") for number, patient in enumerate(patients)}


def _read(path: Path, entry: Entry, spacing: tuple[float, float]) -> tuple[Volume, LandmarkSet]:
    volume = read_radiograph(path, spacing)
    return volume, points_on_image(path, volume, NAMES, _within(entry.points, volume))


def _within(points: np.ndarray, volume: Volume) -> np.ndarray:
    """Corners that the label puts beyond the picture's edge are missing."""
    edge = np.array(volume.array.shape[:2]) - 0.5
    inside: np.ndarray = ((points >= -0.5) & (points <= edge)).all(axis=1)
    return np.where(inside[:, None], points, np.nan)
