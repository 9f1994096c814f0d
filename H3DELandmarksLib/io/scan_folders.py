"""What of a folder can be read as scans: files, and DICOM series wherever their files lie.

DICOM files of one study are one scan, which reading takes from the series with most slices. It is named after the
highest folder that holds nothing but this study: of ``sub-01/dicom/IM1 ...`` that is ``sub-01``. For radiographs every
DICOM file is a scan. Names are those under which things lie in the folder, also where they are links to elsewhere.
A file that is named like a scan counts as one even if it cannot be read, so that reading tells what is wrong.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.dicom import FEWEST_IMAGES, check_deflated, is_dicom, is_of_patient
from H3DELandmarksLib.io.images import READABLE_EXTENSIONS
from H3DELandmarksLib.io.radiograph_files import PICTURE_EXTENSIONS

SEGMENTATIONS = (".seg.nrrd", ".seg.nhdr")
NO_SCAN = "no scan by its name"
EVERY = "all"
"""In place of a series: every series is a scan of its own."""
DRAWN = b"tEXtSoftware\0H3DELandmarks"
"""In pictures that detection has drawn."""

_MOST_LINKS = 3  # to folders, one within the other
_DEEPEST = 100
_PLACES = ("ImagePositionPatient", "PerFrameFunctionalGroupsSequence")
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Rows",
    "Columns",
    "NumberOfFrames",
    *_PLACES,
]


@dataclass(frozen=True)
class FoundScan:
    """A scan that reading will find.

    Attributes:
        path: file or folder, to be read with `series`.
        series: UID, where there are others in the folder.
    """

    path: Path
    series: str | None = None


@dataclass(frozen=True)
class FoundScans:
    """What a folder holds.

    Attributes:
        scans: in the order of their paths.
        passed_over: what else lies there, and why it is no scan.
        unreadable: folders that cannot be looked into, and why.
    """

    scans: tuple[FoundScan, ...]
    passed_over: tuple[tuple[Path, str], ...] = ()
    unreadable: tuple[tuple[Path, str], ...] = ()


def find_scans(folder: str | Path, radiographs: bool = False, series: str | None = None) -> FoundScans:
    """Look through a folder and all folders in it.

    Args:
        folder: where to look.
        radiographs: whether the scans are radiographs: pictures count, and every DICOM file is a scan of its own.
        series: UID, number or description; of DICOM studies only those that have such a series are found, if any has.
            `EVERY`: each series is a scan of its own.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    search = _Search(Path(folder), radiographs)
    search.look(search.root, (os.path.realpath(search.root),))
    if search.unreadable and search.unreadable[0][0] == search.root:
        raise InputError(f"The folder '{folder}' {search.unreadable[0][1]}: check the path and the permission.")
    scans = _of_files(search) + (_of_radiographs(search) if radiographs else _of_studies(search, series))
    if len(scans) == 1 and scans[0].series is None and scans[0].path in {image.path for image in search.images}:
        scans = [FoundScan(search.root)]
    return FoundScans(
        tuple(sorted(scans, key=lambda scan: (scan.path.parts, scan.series or ""))),
        tuple(sorted(search.passed_over)),
        tuple(sorted(search.unreadable)),
    )


@dataclass(frozen=True)
class _Image:
    """A DICOM file: `study` is what tells scans apart, `names` are UID, number and description of the series.

    `is_placed`: whether it states the position of its frames, as movies do not.
    """

    path: Path
    instance: str
    study: tuple[str, ...]
    names: tuple[str, str, str]
    frames: int = 1
    is_placed: bool = False


@dataclass
class _Search:
    """What was found so far."""

    root: Path
    radiographs: bool
    files: list[Path] = field(default_factory=list)
    images: list[_Image] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)  # DICOM files
    passed_over: list[tuple[Path, str]] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)

    def look(self, folder: Path, places: tuple[str, ...], links: int = 0) -> None:
        """Look through a folder; `places` are the real paths of it and of the folders on the way to it."""
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            self.unreadable.append((folder, f"cannot be read ({error.strerror})"))
            return
        for path in entries:
            if path.name.startswith("."):
                self.passed_over.append((path, "hidden"))
            elif os.path.isdir(path):
                self._look_below(path, places, links + path.is_symlink())
            else:
                self._sort(path)

    def _look_below(self, folder: Path, places: tuple[str, ...], links: int) -> None:
        real = os.path.realpath(folder)
        if real in places or links > _MOST_LINKS or len(places) > _DEEPEST:
            self.passed_over.append((folder, "a link in a circle" if len(places) <= _DEEPEST else "too deep"))
            return
        before = self._count()
        self.look(folder, (*places, real), links)
        if folder.name.lower().endswith(READABLE_EXTENSIONS) and self._count() == before:
            self.files.append(folder)  # named like a file

    def _count(self) -> int:
        return len(self.files) + len(self.images) + len(self.broken) + len(self.unreadable)

    def _sort(self, path: Path) -> None:
        """Put a file where it belongs."""
        name = path.name.lower()
        if name == "dicomdir":
            self.passed_over.append((path, "a list of DICOM files"))
        elif name.endswith(SEGMENTATIONS):
            self.passed_over.append((path, "a segmentation"))
        elif os.path.isfile(path) and is_dicom(path):
            self._sort_dicom(path)
        elif name.endswith(PICTURE_EXTENSIONS) and (reason := self._why_no_radiograph(path)):
            self.passed_over.append((path, reason))
        elif name.endswith(READABLE_EXTENSIONS):
            self.files.append(path)
        else:
            self.passed_over.append((path, NO_SCAN))

    def _why_no_radiograph(self, path: Path) -> str:
        if not self.radiographs:
            return "a picture, while the model reads volumes"
        return "drawn by detection" if os.path.isfile(path) and _is_drawn(path) else ""

    def _sort_dicom(self, path: Path) -> None:
        import pydicom

        try:
            check_deflated(path)
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            uid, patient = str(data.get("SeriesInstanceUID", "")), str(data.get("PatientID", ""))
            study = str(data.get("StudyInstanceUID", "")) or f"of {uid or path.parent}"
            names = uid, str(data.get("SeriesNumber", "") or ""), str(data.get("SeriesDescription", "") or "")
            is_image, frames = is_of_patient(data), int(data.get("NumberOfFrames", 1) or 1)
            is_placed, instance = any(name in data for name in _PLACES), str(data.get("SOPInstanceUID", path))
        except Exception:  # of any kind, since files are hostile; reading tells
            self.broken.append(path)
            return
        if is_image:
            self.images.append(_Image(path, instance, (patient, study), names, frames, is_placed))
        else:
            self.passed_over.append((path, "DICOM without an image of a patient"))


def _is_drawn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return DRAWN in file.read(1024)
    except OSError:
        return False


def _of_files(search: _Search) -> list[FoundScan]:
    """Files of other kinds, and damaged DICOM files that reading a series beside them would not name."""
    slices = Counter((image.path.parent, image.names[0]) for image in search.images)
    with_slices = {folder for (folder, _), count in slices.items() if count > 1}
    alone = []
    for path in search.broken:
        if path.parent in with_slices and not search.radiographs:
            search.passed_over.append((path, "a damaged DICOM file"))
        else:
            alone.append(path)
    return [FoundScan(path) for path in (*search.files, *alone)]


def _of_radiographs(search: _Search) -> list[FoundScan]:
    return [FoundScan(image.path) for image in search.images]


def _of_studies(search: _Search, series: str | None) -> list[FoundScan]:
    """One scan for each study, where it can be told apart from others by a folder or by its series."""
    if series == EVERY:
        return _of_series(search)
    search.images = [image for images in _by_study(search.images).values() for image in _with_copies_apart(images)]
    studies = _by_study(search.images)
    fitting = {key for key, images in studies.items() if any(series in image.names for image in images)}
    for key in [key for key in studies if fitting and key not in fitting]:
        search.passed_over.append((_common_folder(studies.pop(key)), f"a study without a series '{series}'"))
    inside = _studies_by_folder(search)
    found: dict[Path, FoundScan] = {}
    for images in sorted(studies.values(), key=_slices, reverse=True):
        scan = _scan_of_study(search.root, images, inside, series)
        if scan.path in found:
            search.passed_over.append((images[0].path, _beside(images)))
            continue
        found[scan.path] = scan
        for uid in {image.names[0] for image in images} - {scan.series} if scan.series else ():
            search.passed_over.append((scan.path, f"series {uid} of the same study: choose it with --series"))
    return list(found.values())


def _of_series(search: _Search) -> list[FoundScan]:
    """Every series that is a volume, by the folder that holds nothing else, or by a folder and its UID."""
    search.images = [replace(image, study=(*image.study, image.names[0])) for image in search.images]
    search.images = [image for images in _by_study(search.images).values() for image in _with_copies_apart(images)]
    inside = _studies_by_folder(search)
    found = []
    for images in _by_study(search.images).values():
        if len(images) < FEWEST_IMAGES and images[0].frames < FEWEST_IMAGES:
            search.passed_over.append((images[0].path, f"a series of {len(images)} images is no volume"))
        else:
            found.append(_scan_of_study(search.root, images, inside, None))
    return found


def _by_study(images: Iterable[_Image]) -> dict[tuple[str, ...], list[_Image]]:
    studies: dict[tuple[str, ...], list[_Image]] = defaultdict(list)
    for image in images:
        studies[image.study].append(image)
    return studies


def _with_copies_apart(images: Sequence[_Image]) -> list[_Image]:
    """The images of a study; where folders side by side hold the same ones, each of them is a study of its own."""
    place = _common_folder(images)
    parts: dict[Path, list[_Image]] = defaultdict(list)
    for image in images:
        parts[Path(*image.path.parts[: len(place.parts) + 1])].append(image)
    counts = Counter(instance for part in parts.values() for instance in {image.instance for image in part})
    if len(parts) == 1 or any(image.path.parent == place for image in images) or counts.most_common(1)[0][1] == 1:
        return list(images)
    result: list[_Image] = []
    for folder, part in parts.items():
        if any(counts[image.instance] > 1 for image in part):
            part = _with_copies_apart([replace(image, study=(*image.study, str(folder))) for image in part])
        result += part
    return result


def _beside(images: Sequence[_Image]) -> str:
    return (
        f"{len(images)} files of another study (series {_largest_series(images)}) in the same folder: choose it with "
        "--series, or give it a folder of its own"
    )


def _scan_of_study(root: Path, images: Sequence[_Image], inside: dict[Path, set], series: str | None) -> FoundScan:
    """The highest folder of a study alone; else its one file, or its folder with a series."""
    place = _common_folder(images)
    alone = {images[0].study}
    if inside[place] == alone:
        while place != root and inside[place.parent] == alone:
            place = place.parent
        return FoundScan(place)
    if len(images) == 1:
        return FoundScan(images[0].path)
    if all(len(key) == 1 or key in alone for key in inside[place]):  # files of other kinds, which DICOM passes over
        return FoundScan(place)
    fitting = [image for image in images if series in image.names] or images
    return FoundScan(place, _largest_series(fitting))


def _largest_series(images: Iterable[_Image]) -> str:
    """The UID of the series with most slices, of those that state their position where any does."""
    series: dict[str, list[_Image]] = defaultdict(list)
    for image in images:
        series[image.names[0]].append(image)

    def slices(uid: str) -> tuple[bool, int]:
        placed = _slices(image for image in series[uid] if image.is_placed)
        return placed >= FEWEST_IMAGES, _slices(series[uid])

    return max(series, key=slices)


def _slices(images: Iterable[_Image]) -> int:
    return sum(image.frames for image in images)


def _common_folder(images: Sequence[_Image]) -> Path:
    return Path(os.path.commonpath([image.path.parent for image in images]))


def _studies_by_folder(search: _Search) -> dict[Path, set]:
    """What lies in each folder or below: keys of studies, and for each scan of another kind the tuple of its path."""
    inside: dict[Path, set] = defaultdict(set)
    studies = [(image.path, image.study) for image in search.images]
    others = [(path, (str(path),)) for path in (*search.files, *search.broken)]
    for path, key in [*studies, *others]:
        for folder in path.parents:
            inside[folder].add(key)
            if folder == search.root:
                break
    return inside
