"""Folders that hold one scan and one point list per case.

``NAME.nii.gz`` (or .nrrd, .mha) lies beside ``NAME.mrk.json`` or ``NAME.fcsv``.
"""

from __future__ import annotations

from pathlib import Path

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksLib.io.markups import EXTENSION as POINTS_SUFFIX
from H3DELandmarksLib.io.markups import point_lists_in, read_markups

SCAN_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


def case_names(folder: Path) -> list[str]:
    """Names of all cases that have a point list, sorted.

    Raises:
        InputError: the folder is missing or holds no point list.
    """
    names = sorted(_point_lists(folder))
    if not names:
        raise InputError(
            f"No point list (*{POINTS_SUFFIX}, *.fcsv) is in '{folder}': give the folder that holds the cases."
        )
    return names


def points_of_case(folder: Path, name: str) -> Path:
    """The one point list of a case.

    Raises:
        InputError: there is none, or one of each form.
    """
    found = _point_lists(folder).get(name, [])
    if len(found) != 1:
        count = "no point list" if not found else "more than one point list"
        raise InputError(f"The case '{name}' has {count} in '{folder}': keep exactly one of that name.")
    return found[0]


def scan_of_case(folder: Path, name: str) -> Path:
    """The one scan of a case.

    Raises:
        InputError: there is none, or more than one.
    """
    scans = [folder / f"{name}{suffix}" for suffix in SCAN_SUFFIXES if (folder / f"{name}{suffix}").is_file()]
    if len(scans) != 1:
        found = "no scan" if not scans else "more than one scan"
        raise InputError(f"The case '{name}' has {found} in '{folder}': keep exactly one image file of that name.")
    return scans[0]


def read_case(folder: Path, name: str, landmark_names: tuple[str, ...] | None) -> tuple[Volume, LandmarkSet]:
    """Read one case.

    Args:
        folder: folder of cases.
        name: file name without suffix.
        landmark_names: names and order of the result; landmarks that the file lacks are unknown. None for all that
            the file has.

    Raises:
        InputError: scan or point list is missing or unreadable.
    """
    folder = Path(folder)
    scan = scan_of_case(folder, name)
    landmarks = read_markups(points_of_case(folder, name), landmark_names or ())
    return read_volume(scan), landmarks if landmark_names is None else landmarks.ordered_as(landmark_names)


def _point_lists(folder: Path) -> dict[str, list[Path]]:
    try:
        return point_lists_in(folder)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be read: check the path.") from error
