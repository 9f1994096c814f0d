"""Folders that hold one scan and one point list per case: ``NAME.nii.gz`` (or .nrrd, .mha) beside ``NAME.mrk.json``."""

from __future__ import annotations

from pathlib import Path

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksLib.io.markups import read_markups

POINTS_SUFFIX = ".mrk.json"
SCAN_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


def case_names(folder: Path) -> list[str]:
    """Names of all cases that have a point list, sorted.

    Raises:
        InputError: the folder is missing or holds no point list.
    """
    names = sorted(path.name.removesuffix(POINTS_SUFFIX) for path in Path(folder).glob(f"*{POINTS_SUFFIX}"))
    if not names:
        raise InputError(f"No point list (*{POINTS_SUFFIX}) is in '{folder}': give the folder that holds the cases.")
    return names


def read_case(folder: Path, name: str, landmark_names: tuple[str, ...]) -> tuple[Volume, LandmarkSet]:
    """Read one case.

    Args:
        folder: folder of cases.
        name: file name without suffix.
        landmark_names: names and order of the result; landmarks that the file lacks are unknown.

    Raises:
        InputError: scan or point list is missing or unreadable.
    """
    folder = Path(folder)
    scans = [folder / f"{name}{suffix}" for suffix in SCAN_SUFFIXES if (folder / f"{name}{suffix}").is_file()]
    if len(scans) != 1:
        found = "no scan" if not scans else "more than one scan"
        raise InputError(f"The case '{name}' has {found} in '{folder}': keep exactly one image file of that name.")
    landmarks = read_markups(folder / f"{name}{POINTS_SUFFIX}")
    return read_volume(scans[0]), landmarks.ordered_as(landmark_names)
