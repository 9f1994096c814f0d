"""The scans in a folder of unlabelled ones."""

from __future__ import annotations

from pathlib import Path

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.volume_io import DICOM_EXTENSIONS, READABLE_EXTENSIONS

NO_SCANS = (".seg.nrrd", ".seg.nhdr")


def scans_in(folder: Path, radiographs: bool = False) -> list[Path]:
    """Files that can be scans, and folders with DICOM files, by name; what else lies there is left out.

    Args:
        folder: where to look; folders in it are looked into one level deep.
        radiographs: whether every DICOM file is an image of its own; else those of one folder are one scan.

    Raises:
        InputError: there is no such folder, or nothing in it can be a scan.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be read ({error.strerror}): check the path.") from error
    files = [path for path in entries if path.is_file() and _may_be_scan(path)]
    found = files if radiographs else [path for path in files if not _is_dicom(path)]
    if len(found) < len(files):
        found.append(folder)
    for path in entries:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.is_file() and _is_dicom(file))
            found += inside if radiographs else [path] if inside else []
    if not found:
        raise InputError(f"'{folder}' holds no scans: give the folder with the files, or with one folder for each "
                         "DICOM scan.")
    return found


def _may_be_scan(path: Path) -> bool:
    name = path.name.lower()
    return not name.endswith(NO_SCANS) and (name.endswith(READABLE_EXTENSIONS) or _is_dicom(path))


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(DICOM_EXTENSIONS):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
