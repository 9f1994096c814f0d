"""Folders that hold one scan and one point list per case.

``NAME.nii.gz`` (or .nrrd, .mha) lies beside ``NAME.mrk.json`` or ``NAME.fcsv``, which is the reference. Where several
people marked the cases, each for himself, their points lie in ``readers/READER/NAME.mrk.json`` (or .fcsv); READER is a
word for the person. The reference may be their mean, or what they agreed on.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from H3DELandmarksLib.cohort import bids
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import walked
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import composed
from H3DELandmarksLib.evaluation.measures import without_moved_radii
from H3DELandmarksLib.formats.case_record import TOKEN
from H3DELandmarksLib.formats.provenance import written_points
from H3DELandmarksLib.io.images import READABLE_EXTENSIONS, without_ending
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksLib.io.markups import EXTENSION as POINTS_SUFFIX
from H3DELandmarksLib.io.markups import origin_beside, point_list_name, point_lists_in, read_markups, write_markups
from H3DELandmarksLib.io.radiograph_files import PICTURE_EXTENSIONS

READERS = "readers"
SCAN_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


def case_name(scan: Path) -> str:
    """The name of a scan's case: that of its file, or of its folder, without the ending of an image."""
    lower = scan.name.lower()
    endings = sorted((*SCAN_SUFFIXES, *READABLE_EXTENSIONS, *PICTURE_EXTENSIONS), key=len, reverse=True)
    ending = next((e for e in endings if lower.endswith(e) and len(lower) > len(e)), "")
    return scan.name[: len(scan.name) - len(ending)]


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


def point_lists_of(folder: Path) -> list[Path]:
    """The point lists of a folder; of a data set, as results of one are, those of its subjects too."""
    subjects = sorted(folder.glob("sub-*")) if bids.is_data_set(folder) else []
    folders = (place for subject in subjects for place, *_ in walked(subject))
    return [path for place in (folder, *folders) for lists in point_lists_in(place).values() for path in lists]


def source_name(points: Path) -> str | None:
    """The name of the scan that results are of, as the file beside says; None of point lists that are none."""
    name = point_list_name(points) or ""
    if f"{bids.LABEL}_" not in name:
        return None
    beside = points.with_name(f"{name}.json")
    try:
        sources = json.loads(beside.read_text(encoding="utf-8"))["Sources"]
        return without_ending(sources[0].rpartition("/")[2])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def read_result(path: Path, names: Collection[str] = ()) -> LandmarkSet:
    """The points of a list as `read_markups` does, without what a model has said of those that were moved since.

    That stood beside the model's own points, which the file of origins beside a result tells.
    """
    landmarks, origin = read_markups(path, names), origin_beside(path)
    return landmarks if origin is None else without_moved_radii(landmarks, written_points(origin))


def points_of_case(folder: Path, name: str) -> Path:
    """The one point list of a case.

    Raises:
        InputError: there is none, or one of each form.
    """
    lists = _point_lists(folder)
    found = lists.get(name) or [path for other in lists if composed(other) == composed(name) for path in lists[other]]
    return the_only(found, folder, name)


def the_only(found: Sequence[Path], folder: Path, name: str) -> Path:
    """The point list of a case; raises as `points_of_case` does."""
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
    if not scans and not name.isascii() and folder.is_dir():  # other systems store accents otherwise
        wanted = {composed(f"{name}{suffix}") for suffix in SCAN_SUFFIXES}
        scans = [path for path in sorted(folder.iterdir()) if composed(path.name) in wanted and path.is_file()]
    if len(scans) != 1:
        found = "no scan" if not scans else "more than one scan"
        forms = ", ".join(SCAN_SUFFIXES)
        raise InputError(f"The case '{name}' has {found} in '{folder}': keep exactly one of that name ({forms}).")
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


def readers_in(folder: Path) -> list[str]:
    """The words for the readers whose points lie in a folder of cases, sorted; none where there is one reader.

    Raises:
        InputError: a reader's folder has a name that is no such word, or two differ in case only.
    """
    try:
        names = sorted(path.name for path in (folder / READERS).iterdir() if path.is_dir() and path.name[:1] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"The folder '{folder / READERS}' cannot be read: check the permission.") from error
    bad = [n for n in names if not TOKEN.fullmatch(n) or sum(n.casefold() == o.casefold() for o in names) > 1]
    if bad:
        raise InputError(
            f"'{folder / READERS / bad[0]}' cannot be a reader's folder: give each reader another word of letters, "
            "digits, dots and hyphens, as 'senior' or 'reader-2'."
        )
    return names


def readers_of_case(folder: Path, name: str, landmark_names: Collection[str] = ()) -> dict[str, LandmarkSet]:
    """What each reader marked in a case, LPS mm, by the reader's word; empty where nobody did.

    Args:
        folder: of cases.
        name: of the case.
        landmark_names: that are expected; labels which differ in case, blanks or the form of accents alone become them.

    Raises:
        InputError: a reader's point list is unreadable, or there is one of each form.
    """
    return {
        reader: read_markups(points_of_case(place, name), landmark_names)
        for reader in readers_in(folder)
        if composed(name) in map(composed, _point_lists(place := folder / READERS / reader))
    }


def write_readers(folder: Path, name: str, readers: Mapping[str, LandmarkSet]) -> None:
    """Write what each reader marked in a case (LPS mm) where `readers_of_case` finds it."""
    for reader, points in readers.items():
        (folder / READERS / reader).mkdir(parents=True, exist_ok=True)
        write_markups(folder / READERS / reader / f"{name}{POINTS_SUFFIX}", points)


def _point_lists(folder: Path) -> dict[str, list[Path]]:
    try:
        return point_lists_in(folder)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be read: check the path.") from error
