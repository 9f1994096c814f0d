"""What the user gave as scans: files, folders, patterns, lists and BIDS data sets; and where their results go."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from H3DELandmarksLib.cohort import bids
from H3DELandmarksLib.cohort.result_files import ResultFiles, plan_results
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import shown
from H3DELandmarksLib.core.text import name_key, numbered, plural
from H3DELandmarksLib.io import isolated
from H3DELandmarksLib.io.scan_folders import EVERY, NO_SCAN
from H3DELandmarksLib.io.tables import read_rows
from H3DELandmarksLib.models.package import MANIFEST

LIST_EXTENSIONS = (".csv", ".tsv")
COLUMNS = {
    "path": ("path", "scan", "file", "image"),
    "model": ("model",),
    "subject": ("subject", "patient", "id"),
    "region": ("region", "roi"),
    "series": ("series",),
}
MOST_NAMED = 10
FEWEST = 3  # files that are a cohort although each was named
RESERVED = "cohort"
"""The name of the table and the log of all scans."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class GivenScan:
    """One scan.

    Attributes:
        path: file or folder.
        series: to be read, where a folder holds several.
        subject: whom it shows, where something says so.
        model: id or path, where it is another than that of the command.
        region: file of the box to search, where a list names one.
        data_set: the BIDS data set that it belongs to.
        is_stated: whether a list names the subject, which says more than where the scan lies.
    """

    path: Path
    series: str | None = None
    subject: str | None = None
    model: str | None = None
    region: Path | None = None
    data_set: Path | None = None
    is_stated: bool = False

    @property
    def place(self) -> tuple[str, ...]:
        """Where it lies, whatever is wanted of it."""
        return os.path.abspath(self.path), self.series or ""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from others."""
        return *self.place, str(self.model or ""), str(self.region or "")


@dataclass
class Given:
    """Everything that the user gave.

    Attributes:
        failed: what cannot be used or holds no scan, and why.
        passed_over: what else lies in folders, and why it is no scan.
        is_cohort: whether a table and a log of all scans are to be expected.
    """

    radiographs: bool
    series: str | None
    warn: Tell
    failed: list[tuple[Path, Exception]] = field(default_factory=list)
    passed_over: list[tuple[Path, str]] = field(default_factory=list)
    is_cohort: bool = False
    _kept: dict[tuple[str, ...], GivenScan] = field(default_factory=dict)
    _stated: dict[tuple[str, ...], str | None] = field(default_factory=dict)
    """The subject that a list names for a scan; None where lists give it to two."""

    @property
    def scans(self) -> list[GivenScan]:
        """In order, each once, without those that lists give to two subjects; the subject that a list names holds."""
        told = [replace(scan, subject=self._stated.get(scan.place, scan.subject)) for scan in self._kept.values()]
        return [scan for scan in told if scan.subject is not None or scan.place not in self._stated]

    def add(self, path: Path) -> None:
        """Add what a path stands for; what is wrong with it is kept in `failed`."""
        try:
            for place in _matches(path):
                self._add(place)
        except Exception as error:
            self.failed.append((path, error))
        self.is_cohort = self.is_cohort or len(self._kept) >= FEWEST

    def _keep(self, scan: GivenScan) -> None:
        """Results of a scan of a data set go where that has them, whatever else names it."""
        if scan.data_set is not None or scan.key not in self._kept:
            self._kept[scan.key] = scan
        if not scan.is_stated:
            return
        before = self._stated.setdefault(scan.place, scan.subject)
        if before not in (None, scan.subject):
            self._stated[scan.place] = None
            error = InputError(f"'{shown(scan.path)}' is listed as of '{before}' and of '{scan.subject}': keep one.")
            self.failed.append((scan.path, error))

    def _add(self, path: Path) -> None:
        if path.name.lower().endswith(LIST_EXTENSIONS) and not _is_folder(path):
            for scan in _read_list(path, self.series):
                self._add_listed(scan)
        elif not _is_folder(path):
            self._keep(GivenScan(path, _of_file(self.series), bids.subject_of(path)))
            return
        elif bids.is_data_set(path):
            self._add_data_set(path)
        else:
            self._add_folder(path)
        self.is_cohort = True

    def _add_data_set(self, root: Path) -> None:
        scans, passed_over = bids.find_files(root)
        if not any(path.exists() for path in scans):
            raise InputError(f"The data set '{shown(root)}' holds no scans: check that its subjects were downloaded.")
        self.passed_over += passed_over
        for path, reason in passed_over:
            self.warn(f"'{shown(path)}' was passed over: {reason}.")
        series = _of_file(self.series)
        for path in scans:
            self._keep(GivenScan(path, series, bids.subject_of(path), data_set=root))

    def _add_folder(self, folder: Path) -> None:
        for path, series in self._scans_of(folder, self.series):
            self._keep(GivenScan(path, series, bids.subject_of(path.relative_to(folder))))

    def _add_listed(self, listed: GivenScan) -> None:
        """A line of a list; of a folder of which every series is wanted, each of them."""
        if listed.series != EVERY or not _is_folder(listed.path):
            self._keep(replace(listed, series=_of_file(listed.series)))
            return
        try:
            found = self._scans_of(listed.path, EVERY)
        except Exception as error:
            self.failed.append((listed.path, error))
            return
        for path, series in found:
            self._keep(replace(listed, path=path, series=series))

    def _scans_of(self, folder: Path, wanted: str | None) -> list[tuple[Path, str | None]]:
        """The scans of a folder, and the series of each that is to be read; what else it holds is kept."""
        found = scans_of_folder(folder, self.radiographs, wanted, self.warn)
        self.passed_over += found.passed_over
        for place, reason in found.unreadable:
            locked = InputError(f"'{shown(place)}' {reason}: check the permission to read it.")
            self.failed.append((place, locked))
        return [(scan.path, scan.series or _of_file(wanted)) for scan in found.scans]


def _of_file(series: str | None) -> str | None:
    """The series to read in one place; that every one is wanted concerns finding alone."""
    return None if series == EVERY else series


def scans_of_folder(folder: Path, radiographs: bool, series: str | None, warn: Tell):
    """The scans of a folder, see `io.scan_folders.FoundScans`; what was passed over is told.

    Args:
        folder: where to look.
        radiographs, series: as for `io.scan_folders.find_scans`.
        warn: receives sentences.

    Raises:
        InputError: it cannot be looked into, or nothing in it can be a scan.
    """
    found = isolated.find_scans(folder, radiographs, series)
    unknown = [path.name for path, reason in found.passed_over if reason == NO_SCAN]
    for path, reason in found.passed_over:
        if reason != NO_SCAN:
            warn(f"'{shown(path)}' was passed over: {reason}.")
    if unknown:
        names = ", ".join(unknown[:MOST_NAMED]) + (" ..." if len(unknown) > MOST_NAMED else "")
        warn(shown(f"'{folder}' holds {plural(len(unknown), 'file')} without the name of a scan: {names}."))
    if not (found.scans or found.unreadable):
        raise InputError(
            f"'{shown(folder)}' holds no scans: give the folder with the files, or with one folder for each DICOM scan."
        )
    return found


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # reading tells
        return False


def _matches(path: Path) -> list[Path]:
    """The path, or what a pattern stands for that no shell has replaced.

    Raises:
        InputError: nothing has such a name.
    """
    if not glob.has_magic(str(path)) or os.path.lexists(path):
        return [path]
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not found:
        raise InputError(f"No file matches '{shown(path)}': check the pattern.")
    return found


def _read_list(path: Path, series: str | None) -> list[GivenScan]:
    """The scans that a table names; paths in it are relative to its folder.

    Raises:
        InputError: it cannot be read, or has no column of paths.
    """
    try:
        rows = read_rows(path)
    except OSError as error:
        raise InputError(f"The list '{shown(path)}' cannot be opened: check its path and the permission.") from error
    except ValueError as error:
        raise InputError(f"The list '{shown(path)}' cannot be read ({error}): save it as CSV in UTF-8.") from error
    columns = _columns(rows[0]) if rows else {}
    if "path" not in columns:
        raise InputError(
            f"The list '{shown(path)}' names no scans: give it a header with a column 'path', and if wanted 'model', "
            "'subject', 'region' and 'series'."
        )
    return [_given(path, line, row, columns, series) for line, row in enumerate(rows, start=2) if any(row.values())]


def _columns(row: Mapping[str, object]) -> dict[str, str]:
    """The columns of a list by what they hold."""
    names = {str(name).strip().lower(): str(name) for name in row if name}
    return {
        what: names[next(name for name in known if name in names)]
        for what, known in COLUMNS.items()
        if any(name in names for name in known)
    }


def _given(
    path: Path, line: int, row: Mapping[str, str | None], columns: Mapping[str, str], series: str | None
) -> GivenScan:
    cells = {what: (row.get(name) or "").strip() or None for what, name in columns.items()}
    if cells["path"] is None:
        raise InputError(f"Line {line} of the list '{shown(path)}' names no scan: fill in its column 'path'.")
    model, region = cells.get("model"), cells.get("region")
    scan = path.parent / cells["path"]
    return GivenScan(
        scan,
        cells.get("series") or series,
        cells.get("subject") or bids.subject_of(scan),
        str(path.parent / model) if model and _is_package(path.parent / model) else model,
        path.parent / region if region else None,
        is_stated=cells.get("subject") is not None,
    )


def _is_package(path: Path) -> bool:
    """Whether a model package may lie there, and no folder of scans that is called as a model is."""
    return os.path.isfile(path) or os.path.isfile(path / MANIFEST)


def plan(scans: Sequence[GivenScan], folder: Path, is_cohort: bool) -> list[tuple[GivenScan, ResultFiles]]:
    """Each scan with the files of its results; names are those of `result_files.plan_results`.

    What several scans of one path differ in is added to their names; results of BIDS data sets lie as their scans do,
    and the folder is declared to be a derivative of these.

    Raises:
        InputError: as for `bids.write_description`.
    """
    for root in dict.fromkeys(scan.data_set for scan in scans if scan.data_set):
        bids.write_description(folder, root)
    in_data_sets = iter(_bids_files([scan for scan in scans if scan.data_set is not None], folder))
    others = [scan for scan in scans if scan.data_set is None]
    by_place = {os.path.abspath(files.scan): files.name for files in plan_results([s.path for s in others], folder)}
    shared = Counter(os.path.abspath(scan.path) for scan in others)
    names = [f"{by_place[p]}{_mark(s) if shared[p] > 1 else ''}" for s in others for p in [os.path.abspath(s.path)]]
    unique: Iterator[str] = iter(numbered([RESERVED, *names])[1:] if is_cohort else numbered(names))
    return [
        (scan, next(in_data_sets) if scan.data_set is not None else ResultFiles(scan.path, folder, next(unique)))
        for scan in scans
    ]


def _bids_files(scans: Sequence[GivenScan], folder: Path) -> list[ResultFiles]:
    """Results of equal names are told apart in their description: by data set, then by extension, then by number."""
    marks = [""] * len(scans)
    for tells in (_data_set_name, lambda scan: _label(scan.path.name.partition(".")[2])):
        keys = [_bids_key(scan, mark) for scan, mark in zip(scans, marks)]
        words = [tells(scan) for scan in scans]
        of_key: dict[str, set[str]] = defaultdict(set)
        for key, word in zip(keys, words):
            of_key[key].add(word)
        marks = [mark + word if len(of_key[key]) > 1 else mark for mark, word, key in zip(marks, words, keys)]
    files, used = [], set()
    for scan, mark in zip(scans, marks):
        assert scan.data_set is not None
        numbers = itertools.chain([""], map(str, itertools.count(2)))
        mark = next(m for number in numbers if _bids_key(scan, m := mark + number) not in used)
        used.add(_bids_key(scan, mark))
        place, name = bids.result_place(scan.data_set, scan.path, mark)
        files.append(ResultFiles(scan.path, folder / place, name, root=folder))
    return files


def _bids_key(scan: GivenScan, mark: str) -> str:
    """The same for results that some file systems take for one."""
    assert scan.data_set is not None
    place, name = bids.result_place(scan.data_set, scan.path, mark)
    return name_key((place / name).as_posix())


def _data_set_name(scan: GivenScan) -> str:
    return _label(os.path.basename(os.path.abspath(scan.data_set or "")))


def _label(text: str) -> str:
    """What of a text may stand in the name of a file of a BIDS data set."""
    return "".join(character for character in text if character.isascii() and character.isalnum())


def _mark(scan: GivenScan) -> str:
    """What a scan differs in from others of its path, as a part of the name of a file."""
    series = scan.series or ""
    parts = [
        series.rpartition(".")[2] if series.replace(".", "").isdigit() else series,
        Path(scan.model).name if scan.model else None,
        scan.region.name.partition(".")[0] if scan.region else None,
    ]
    return re.sub(r'[@/\\:*?"<>|\x00-\x1f]', "_", "".join(f"_{part}" for part in parts if part))
