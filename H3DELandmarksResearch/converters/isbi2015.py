"""The ISBI2015 cephalograms as published: numbered images, and for each a text file of "x,y" lines by two doctors.

Images 1 to 150 are for training, 151 to 300 and 301 to 400 are the challenge's two test sets; pixels measure 0.1 mm.
The reference position is the mean of both doctors, whose own points are written as those of the readers "senior" and
"junior". A text file goes on with classifications after the 19 points.

Some pictures of the first test set are training pictures again. A picture that repeats is in one of train, validation
and test only; ``test1`` keeps all images of the first test set, ``test1_clean`` each picture that is not learnt from
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.cases.same_picture import fingerprint, repeated_pictures
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json
from H3DELandmarksResearch.converters.conversion import (
    SUBSETS,
    Progress,
    SourceCase,
    Summary,
    convert_cases,
    with_validation,
)
from H3DELandmarksResearch.converters.flat_images import (
    PixelSize,
    find_images,
    points_on_image,
    read_radiograph,
    spacing_of,
)
from H3DELandmarksResearch.converters.radiograph_sets import RADIOGRAPH_SETS

DOCTORS = ("400_senior", "400_junior")
SET = RADIOGRAPH_SETS["isbi2015"]
CLEAN = "test1_clean"


def convert(source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Summary:
    """Convert the set.

    Args:
        source: folder that holds images and the folders 400_senior and 400_junior, at any depth.
        target: folder for the cases; the split file has "test1", "test1_clean" and "test2" beside "test".
        options: ``spacing`` (mm, or None for 0.1), ``hold_out`` (n: every n-th training case is for validation).
        progress: receives the fraction done and the name of the case at hand.

    Raises:
        InputError: images or a doctor's folder are missing.
    """
    folders = [_doctor_folder(source, name) for name in DOCTORS]
    spacing = spacing_of(options.get("spacing") or SET.spacing, "The option --spacing")
    images = sorted(_numbered_images(source).items())
    if not images:
        raise InputError(f"'{source}' holds no images 001 to 400: choose the folder that holds RawImage.")

    def case(number: int, path: Path) -> SourceCase:
        read = _Reading(path, folders, number, spacing)
        return SourceCase(f"{number:03d}", read.reference, _subsets(number), read.readers)

    cases = with_validation([case(*image) for image in images], int(options.get("hold_out", 0)))
    progress(0.0, "looking for repeated pictures")
    pairs = _repeated({f"{number:03d}": path for number, path in images}, spacing)
    summary = convert_cases(
        _apart(cases, pairs, _clean_test(source)), target, progress, bool(options.get("leave_out_repeats"))
    )
    if pairs:
        told = ", ".join(f"{later} = {first}" for first, later in pairs)
        summary.notes.append(
            f"{len(pairs)} pictures are there again under another name ({told}): each is in one of train, validation "
            "and test only; test1 keeps all, test1_clean none that repeats, unless splits.json names it."
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


def _repeated(images: Mapping[str, Path], spacing: PixelSize) -> list[tuple[str, str]]:
    """Pairs of images with the same picture; of several, the first is in all pairs.

    Images that cannot be read are told when their case is converted.
    """
    prints = {}
    for name, path in images.items():
        try:
            prints[name] = fingerprint(read_radiograph(path, spacing))
        except InputError:
            continue
    names, first = list(prints), {}
    for repeat in repeated_pictures(list(prints.values())):
        earlier, later = names[repeat.first], names[repeat.second]
        first.setdefault(later, first.get(earlier, earlier))
    return [(earlier, later) for later, earlier in first.items()]


def _clean_test(source: Path) -> frozenset[str]:
    """What a file splits.json in the folder names as "test1_clean"; empty where there is none."""
    path = source / "splits.json"
    if not path.is_file():
        return frozenset()
    try:
        content = parse_json(path.read_bytes())
        return frozenset(build(list[str], content.get(CLEAN, []) if isinstance(content, dict) else None))
    except (OSError, FormatError) as error:
        raise InputError(f"'{path}' is not a split file: remove it, or copy it again.") from error


def _apart(
    cases: Sequence[SourceCase], pairs: Sequence[tuple[str, str]], listed: frozenset[str]
) -> Sequence[SourceCase]:
    """The cases with every picture in one of train, validation and test: the first of these that one of its names has.

    Args:
        cases: all.
        pairs: names of the same picture; of several names, the first is in all pairs.
        listed: names of "test1_clean"; where there are none, it has each picture that is not learnt from once.
    """
    first = {later: name for name, later in pairs}
    mine = {case.name: min((SUBSETS.index(s) for s in case.subsets if s in SUBSETS), default=3) for case in cases}
    best: dict[str, int] = {}
    for name, subset in mine.items():
        picture = first.get(name, name)
        best[picture] = min(subset, best.get(picture, subset))
    seen, result = set(), []
    for case in cases:
        picture = first.get(case.name, case.name)
        subsets = case.subsets
        if mine[case.name] != best[picture] or (case.name in first and "test" in subsets and picture in seen):
            subsets = tuple(subset for subset in subsets if subset not in SUBSETS)
        elif "test1" in subsets and not listed:
            subsets = (*subsets, CLEAN)
        if case.name in listed:
            subsets = (*subsets, CLEAN)
        seen.add(picture)
        result.append(replace(case, subsets=subsets))
    return result


@dataclass(frozen=True)
class _Reading:
    """Where a case's picture and points are."""

    path: Path
    folders: list[Path]
    number: int
    spacing: PixelSize

    def reference(self) -> tuple[Volume, LandmarkSet]:
        """The picture with the mean of both doctors, LPS mm."""
        points = np.mean([_points(folder, self.number) for folder in self.folders], axis=0)
        volume = read_radiograph(self.path, self.spacing)
        return volume, points_on_image(self.path, volume, SET.names, points)

    def readers(self) -> dict[str, LandmarkSet]:
        """What each doctor marked, LPS mm."""
        volume = read_radiograph(self.path, self.spacing)
        words = (folder.name.rpartition("_")[2] for folder in self.folders)
        points = (_points(folder, self.number) for folder in self.folders)
        return {word: points_on_image(self.path, volume, SET.names, p) for word, p in zip(words, points)}


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
