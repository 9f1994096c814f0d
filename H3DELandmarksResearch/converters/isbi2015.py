"""The ISBI2015 cephalograms as published: numbered images, and for each a text file of "x,y" lines by two doctors.

Images 1 to 150 are for training, 151 to 300 and 301 to 400 are the challenge's two test sets; pixels measure 0.1 mm.
The reference position is the mean of both doctors. A text file goes on with classifications after the 19 points.
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
from H3DELandmarksResearch.converters.conversion import Progress, SourceCase, Summary, convert_cases, with_validation
from H3DELandmarksResearch.converters.flat_images import find_images, points_on_image, read_radiograph, spacing_of
from H3DELandmarksResearch.converters.radiograph_sets import RADIOGRAPH_SETS

DOCTORS = ("400_senior", "400_junior")
SET = RADIOGRAPH_SETS["isbi2015"]


def convert(source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Summary:
    """Convert the set.

    Args:
        source: folder that holds images and the folders 400_senior and 400_junior, at any depth.
        target: folder for the cases; the split file has "test1" and "test2" beside "test".
        options: ``spacing`` (mm, or None for 0.1), ``hold_out`` (n: every n-th training case is for validation).
        progress: receives the fraction done and the name of the case at hand.

    Raises:
        InputError: images or a doctor's folder are missing.
    """
    folders = [_doctor_folder(source, name) for name in DOCTORS]
    spacing = spacing_of(options.get("spacing") or SET.spacing, "The option --spacing")
    cases = [
        SourceCase(f"{number:03d}", partial(_read, path, folders, number, spacing), _subsets(number))
        for number, path in sorted(_numbered_images(source).items())
    ]
    if not cases:
        raise InputError(f"'{source}' holds no images 001 to 400: choose the folder that holds RawImage.")
    summary = convert_cases(
        with_validation(cases, int(options.get("hold_out", 0))),
        target,
        progress,
        bool(options.get("leave_out_repeats")),
    )
    if int(options.get("hold_out", 0)) > 0:
        summary.notes.append("The challenge has no validation cases: some training cases serve as such (split.json).")
    return summary


def _doctor_folder(source: Path, name: str) -> Path:
    found = [path for path in sorted(source.rglob(name)) if path.is_dir()]
    if len(found) != 1:
        raise InputError(f"'{source}' should hold one folder {name} with text files: unpack AnnotationsByMD there.")
    return found[0]


def _numbered_images(source: Path) -> dict[int, Path]:
    images: dict[int, Path] = {}
    for paths in find_images(source).values():
        for path in paths:
            if path.stem.isdecimal() and 1 <= int(path.stem) <= 400:
                images.setdefault(int(path.stem), path)
    return images


def _subsets(number: int) -> tuple[str, ...]:
    if number <= 150:
        return ("train",)
    return ("test", "test1" if number <= 300 else "test2")


def _read(path: Path, folders: list[Path], number: int, spacing: tuple[float, float]) -> tuple[Volume, LandmarkSet]:
    points = np.mean([_points(folder, number) for folder in folders], axis=0)
    volume = read_radiograph(path, spacing)
    return volume, points_on_image(path, volume, SET.names, points)


def _points(folder: Path, number: int) -> np.ndarray:
    """(19, 2) pixel coordinates by one doctor."""
    path = next((p for p in (folder / f"{number:03d}.txt", folder / f"{number}.txt") if p.is_file()), None)
    if path is None:
        raise InputError(f"'{folder / f'{number:03d}.txt'}' is missing: copy the annotations again.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()[: len(SET.names)]
        points = np.array([[float(word) for word in line.replace(",", " ").split()] for line in lines])
        return points.reshape(len(SET.names), 2)
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' does not begin with 19 lines of x,y: copy it again.") from error
