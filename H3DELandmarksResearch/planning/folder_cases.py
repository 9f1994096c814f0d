"""What a folder holds for training: scans, the points that belong to each, and whose they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cohort.bids import subject_of
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import shown, walked
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import is_radiograph
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import composed, first_of
from H3DELandmarksLib.formats.export import EXPORT
from H3DELandmarksLib.io.isolated import find_scans, read_volume
from H3DELandmarksLib.io.markups import named_as_expected, point_list_name, read_markups
from H3DELandmarksResearch.cases.case_folder import READERS, SCAN_SUFFIXES, case_name, readers_in
from H3DELandmarksResearch.cases.exchange import PROPOSED
from H3DELandmarksResearch.cases.subjects import SUBJECTS, read_subjects
from H3DELandmarksResearch.converters.flat_images import PixelSize, points_on_image
from H3DELandmarksResearch.planning.point_tables import TablePoints, holds_measurements, read_tables

Points = Callable[[Path, Volume], LandmarkSet]


@dataclass(frozen=True)
class FolderCase:
    """A scan with points.

    Attributes:
        name: of the case, its scan's file name without ending.
        scan: file, or folder of a DICOM series.
        points: gives the landmarks (LPS mm) of scan and its volume, those that the case has.
        plain: whether scan and point list lie in the folder as training reads them.
        subject: scans of one subject stay in one subset.
        readers: the same as `points` for what each of several people marked, by a word for each.
    """

    name: str
    scan: Path
    series: str | None
    points: Points
    plain: bool
    subject: str
    readers: Mapping[str, Points] = field(default_factory=dict)

    def read(self, spacing: PixelSize | None, names: Sequence[str]) -> tuple[Volume, LandmarkSet]:
        """Scan and landmarks in the order of `names`; those that the case lacks are unknown."""
        volume = self.read_scan(spacing)
        return volume, self._named(self.points, volume, names)

    def read_points(self, spacing: PixelSize | None) -> LandmarkSet:
        """All landmarks of the case, LPS mm."""
        return self.points(self.scan, self.read_scan(spacing))

    def read_readers(self, spacing: PixelSize | None, names: Sequence[str]) -> dict[str, LandmarkSet]:
        """What each reader marked, by the reader's word, in the order of `names`."""
        if not self.readers:
            return {}
        volume = self.read_scan(spacing)
        return {reader: self._named(points, volume, names) for reader, points in self.readers.items()}

    def _named(self, points: Points, volume: Volume, names: Sequence[str]) -> LandmarkSet:
        return named_as_expected(points(self.scan, volume), names, shown(self.scan)).ordered_as(tuple(names))

    def read_scan(self, spacing: PixelSize | None) -> Volume:
        """The scan alone."""
        return read_volume(self.scan, spacing, self.series)


@dataclass(frozen=True)
class FolderContent:
    """All cases of a folder.

    Attributes:
        cases: by name.
        notes: sentences about what was left out.
    """

    cases: tuple[FolderCase, ...]
    notes: tuple[str, ...]


def look_through(folder: Path, run: Path | None = None) -> FolderContent:
    """Find the cases of a folder and all folders in it, but for that of a run.

    Points lie beside their scan, or anywhere under the folder, as NAME.mrk.json, NAME.fcsv or NAME.csv where the scan
    is NAME with any ending, or in one table with a column that names the scan, see `point_tables.read_tables`. What
    several people marked lies in the same forms under ``readers/READER``; the other points are the reference. Tables
    of measurements, and what a model had proposed for cases that were exported, are passed over.
    ``subjects.csv`` (see `read_subjects`) says which scans are of one subject; else the BIDS name of the subject
    does, and without one every scan is a subject of its own.

    Raises:
        InputError: no scan has points, or a file of points cannot be used.
    """
    points, plain = _all_points(folder, run)
    readers = {reader: _all_points(folder / READERS / reader) for reader in readers_in(folder)}
    cases, without = [], []
    scans = [(case_name(path), path, series) for path, series in _scans(folder, run)]
    names = {name for name, _, _ in scans}
    used = {name for name in names if composed(name) in points}
    subjects = read_subjects(_tables_of_subjects(folder), used, names | points.keys())
    for name, path, series in scans:
        key = composed(name)
        if key not in points:
            without.append(name)
            continue
        said = {reader: found[key] for reader, (found, _) in readers.items() if key in found}
        is_plain = path.parent == folder and path.name.lower().endswith(SCAN_SUFFIXES) and name in plain
        is_plain = is_plain and all(name in readers[reader][1] for reader in said)
        subject = subjects.get(name) or subject_of(path.relative_to(folder)) or name
        cases.append(FolderCase(name, path, series, points[key], is_plain, subject, said))
    _check(folder, cases, points)
    notes = []
    if without:
        notes.append(f"Scans that have no points and are left out: {first_of(without)}.")
    lost = sorted(set(points) - {composed(case.name) for case in cases})
    if lost:
        notes.append(f"Points of which there is no scan of their name: {first_of(lost)}.")
    return FolderContent(tuple(sorted(cases, key=lambda case: case.name)), tuple(notes))


def _scans(folder: Path, run: Path | None) -> list[tuple[Path, str | None]]:
    """Volumes, and where there are none, radiographs."""
    for radiographs in (False, True):
        found = [
            s for s in find_scans(folder, radiographs=radiographs).scans if run is None or run not in s.path.parents
        ]
        if found:
            return [(scan.path, scan.series) for scan in found]
    raise InputError(f"'{folder}' holds no scans: give the folder that holds scans and their points.")


def _all_points(folder: Path, run: Path | None = None) -> tuple[dict[str, Points], set[str]]:
    """Points by case (`composed`) but for those of readers, and the cases whose list training reads as it lies."""
    found: dict[str, list[tuple[Path, Points]]] = {}
    plain: set[str] = set()
    for path in _files(folder):
        if folder / READERS in path.parents or run in path.parents:
            continue
        name = point_list_name(path)
        if name is not None:
            found.setdefault(composed(name), []).append((path, partial(_from_list, path)))
            if path.parent == folder:
                plain.add(name)
        elif path.suffix.lower() == ".csv" and path.name.lower() != SUBJECTS and not holds_measurements(path):
            for scan, table in read_tables(path).items():
                found.setdefault(composed(case_name(Path(scan))), []).append((path, partial(_from_table, table)))
    for name, lists in sorted(found.items()):
        if len(lists) > 1:
            (one, _), (other, _) = lists[:2]
            raise InputError(
                f"The points of '{name}' stand in several files or rows ('{shown(one)}', '{shown(other)}'): keep one. "
                "Where they are of several scans of one name, give each scan and its points a name of its own."
            )
    return {name: lists[0][1] for name, lists in found.items()}, plain


def _files(folder: Path) -> list[Path]:
    """All files but hidden ones and what a model had proposed for the cases of an export; links are followed."""
    found: list[Path] = []
    for place, folders, names in walked(folder):
        left_out = PROPOSED if EXPORT in names else ""
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != left_out)
        found += [place / name for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _from_list(path: Path, scan: Path, volume: Volume) -> LandmarkSet:
    return read_markups(path)


def _from_table(table: TablePoints, scan: Path, volume: Volume) -> LandmarkSet:
    if table.is_flat and not is_radiograph(volume):
        raise InputError(f"'{table.path}' has no column z, and '{scan}' is no radiograph: give x, y and z (LPS mm).")
    names = tuple(table.positions)
    places = np.array([table.positions[name] for name in names])
    landmarks = points_on_image(scan, volume, names, places[:, :2]) if table.in_pixels else LandmarkSet(names, places)
    unknown = [name in table.unknown for name in names]
    return replace(landmarks, presence=np.where(unknown, np.nan, landmarks.presence))


def _tables_of_subjects(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if path.name.lower() == SUBJECTS]


def _check(folder: Path, cases: Sequence[FolderCase], points: dict[str, Points]) -> None:
    if not cases:
        hint = "no point list lies there" if not points else f"points are there of {', '.join(sorted(points)[:3])}"
        raise InputError(
            f"No scan in '{folder}' has points ({hint}): name point lists as their scans (a.nii.gz, a.mrk.json)."
        )
    twice = [name for name, count in Counter(composed(case.name) for case in cases).items() if count > 1]
    if twice:
        raise InputError(f"Several scans in '{folder}' are called {', '.join(twice[:5])}: rename all but one.")
