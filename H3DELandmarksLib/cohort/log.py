"""The log of all scans whose results lie in a folder, by which a later run goes on where an earlier one ended.

A finished scan is known again by what its files hold, whatever they are called.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import TEMPORARY_PREFIX, atomic_write, cannot_write, held, shown, walked
from H3DELandmarksLib.formats.case_record import utc_now
from H3DELandmarksLib.formats.export import sha256_of
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json, to_plain
from H3DELandmarksLib.formats.results import CohortScan
from H3DELandmarksLib.io.scan_folders import EVERY

NAME = "cohort.jsonl"
LOCK = f"{TEMPORARY_PREFIX}cohort.lock"
_DETACHED = {".nhdr": rb"(?im)^data ?file *: *(.+?)\r?$", ".mhd": rb"(?im)^ElementDataFile *= *(.+?)\r?$"}
_INSIDE = "LOCAL"
_HEADER_BYTES = 2**16
_MARKUPS = ".mrk.json"
_Key = tuple[str | None, ...]  # of a line, see CohortScan


class CohortLog:
    """``cohort.jsonl`` of a folder; lines are added by any thread, and are on the disk before anything goes on.

    Attributes:
        path: of the file.
    """

    def __init__(self, folder: Path) -> None:
        """Read what earlier runs have written; lines that a killed program has not finished do not count."""
        self.folder = folder
        self.path = folder / NAME
        self._lock = threading.Lock()
        self._entries: dict[_Key, CohortScan] = {}
        self._keys: dict[tuple[str, str], set[_Key]] = {}  # by what only one line may tell of, see `_places`
        self._read = (0, 0)  # which file was read, and how many bytes of it
        self.follow()

    def follow(self) -> bool:
        """Take note of what another program has written since; returns whether that was anything.

        Raises:
            InputError: the log cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                is_same = status.st_ino == self._read[0] and status.st_size >= self._read[1]
                file.seek(self._read[1] if is_same else 0)
                text = file.read()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise InputError(
                f"'{shown(self.path)}' cannot be read ({error.strerror}): check the permission, or choose another "
                "folder."
            ) from error
        finished = text.rfind(b"\n") + 1
        self._read = (status.st_ino, (self._read[1] if is_same else 0) + finished)
        for line in filter(None, text.split(b"\n")):
            with contextlib.suppress(FormatError):
                entry = build(CohortScan, parse_json(line))
                self._keep(replace(entry, series=None) if entry.series == EVERY else entry)  # as once said of files
        return bool(text)

    @contextlib.contextmanager
    def open(self) -> Iterator[CohortLog]:
        """Keep the folder for this run alone; at the end every scan has one line.

        Raises:
            InputError: another run writes here.
        """
        lock = self.folder / LOCK
        with held(lock) as is_ours:
            if not is_ours:
                raise InputError(f"Another detection writes to '{self.folder}': wait for it, or choose another folder.")
            try:
                self._rewrite()
                yield self
            finally:
                self._rewrite()
                with contextlib.suppress(OSError):  # Windows removes no open file
                    lock.unlink()

    @property
    def entries(self) -> list[CohortScan]:
        """What is known of each scan, in the order of their paths."""
        return sorted(self._entries.values(), key=lambda entry: tuple(part or "" for part in entry.key))

    def add(self, entry: CohortScan, instead_of: CohortScan | None = None) -> None:
        """Add a line, which takes the place of older ones about the scan and of those whose results it has replaced.

        Args:
            entry: what became of the scan.
            instead_of: an older line that holds no more.

        Raises:
            OutputError: it cannot be written.
        """
        line = json.dumps(to_plain(entry), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._lock:
            if instead_of is not None:
                self._entries.pop(instead_of.key, None)
            self._keep(entry)
            try:
                with self.path.open("ab") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise cannot_write(self.path, error) from error

    def add_unusable(self, looked_at: Iterable[Path], failed: Sequence[tuple[Path, str]]) -> None:
        """Add what folders and lists hold that could not be taken for a scan; earlier such lines hold no more.

        Args:
            looked_at: what was given, and the scans in it.
            failed: places, with the reason.

        Raises:
            OutputError: it cannot be written.
        """
        places = [Path(os.path.abspath(path)) for path in looked_at]
        for key, entry in list(self._entries.items()):
            is_unusable = entry.status == "failed" and entry.model is None and entry.content is None
            at = Path(entry.scan)
            if is_unusable and any(at.is_relative_to(place) or place.is_relative_to(at) for place in places):
                del self._entries[key]
        for path, reason in failed:
            scan, name, settings = shown(os.path.abspath(path)), shown(path.name) or ".", settings_digest()
            self.add(
                CohortScan(
                    scan=scan, name=name, settings=settings, status="failed", reason=reason, seconds=0.0, time=utc_now()
                )
            )

    def known(self, wanted: CohortScan, picture: bool) -> CohortScan | None:
        """What an earlier run has finished of the same content, with the same model and settings; else None.

        Where the scan has no line of its own, a result of another name is taken if nothing of this name is there, which
        would be of another scan.

        Args:
            wanted: what is known of the scan before the work.
            picture: whether there must be one.
        """
        with self._lock:
            same = [e for e in self._entries.values() if e.status == "found" and self._is_same(e, wanted, picture)]
        same.sort(key=lambda entry: entry.key != wanted.key)  # its own line first
        markups = f"{wanted.name}{_MARKUPS}"
        own = [e for e in same if e.key == wanted.key or (e.outputs and e.outputs.markups == markups)]
        if own or os.path.exists(self.folder / markups):  # also of a name that is too long for a file
            return own[0] if own else None
        return same[0] if same else None

    def failed_before(self, wanted: CohortScan) -> CohortScan | None:
        """The failure of an earlier run with the same content, or path where that cannot be read; else None."""
        with self._lock:
            entry = self._entries.get(wanted.key)
        if entry is None or entry.status != "failed" or entry.content != wanted.content:
            return None
        return entry if entry.settings == wanted.settings and entry.model == wanted.model else None

    def is_replaced(self, entry: CohortScan) -> bool:
        """Whether files of the names of a result are of another detection; lines of earlier versions cannot tell."""
        outputs = entry.outputs
        if outputs is None or outputs.provenance_sha256 is None:
            return False
        try:
            return sha256_of(self.folder / outputs.provenance) != outputs.provenance_sha256
        except OSError:  # it is not there
            return False

    def _is_same(self, entry: CohortScan, wanted: CohortScan, picture: bool) -> bool:
        what = entry.content, entry.series, entry.model, entry.settings
        if wanted.content is None or what != (wanted.content, wanted.series, wanted.model, wanted.settings):
            return False
        outputs = entry.outputs
        if outputs is None or (picture and outputs.picture is None) or self.is_replaced(entry):
            return False
        files = (outputs.markups, outputs.table, outputs.provenance, outputs.picture)
        return all((self.folder / file).is_file() for file in files if file)

    def _keep(self, entry: CohortScan) -> None:
        for place in _places(entry):
            keys = self._keys.setdefault(place, set())
            for key in [key for key in keys if key != entry.key]:
                if key in self._entries and _gives_way(self._entries[key], entry):
                    del self._entries[key]
                    keys.discard(key)
            keys.add(entry.key)
        self._entries[entry.key] = entry

    def _rewrite(self) -> None:
        if not (self._entries or self.path.exists()):
            return
        with atomic_write(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            for entry in self.entries:
                file.write(json.dumps(to_plain(entry), ensure_ascii=False, allow_nan=False) + "\n")


def _places(entry: CohortScan) -> list[tuple[str, str]]:
    """What older lines may tell of that a line tells of: results for the scan, and the files of its results."""
    return [(entry.scan, entry.name), *([("", entry.outputs.markups)] if entry.outputs else [])]


def _gives_way(old: CohortScan, new: CohortScan) -> bool:
    """Whether a line of another scan, series, model or region holds no more.

    A failure has replaced nothing. Copies of a scan share the files of one result.
    """
    if old.outputs is None:
        return (old.scan, old.name) == (new.scan, new.name)
    if new.outputs is None or new.outputs.markups != old.outputs.markups:
        return False
    return (old.outputs, old.content, old.model, old.settings) != (new.outputs, new.content, new.model, new.settings)


def settings_digest(**settings: object) -> str:
    """SHA-256 of what was asked for."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def content_digest(scan: Path) -> str | None:
    """SHA-256 of the bytes of all images of a scan, without regard to their names; None where they cannot be read.

    Args:
        scan: file, or folder with DICOM files, links included.
    """
    try:
        digests = sorted(_digest(path) for path in _files(scan))
    except (OSError, ValueError):
        return None
    if len(digests) == 1:
        return digests[0].hex()
    return hashlib.sha256(b"".join(digests)).hexdigest() if digests else None


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(2**20))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.digest()


def _files(scan: Path) -> Iterator[Path]:
    """Raises OSError where there is no plain file, or none with voxels."""
    if scan.is_dir():
        yield from _files_in(scan)
        return
    if not scan.is_file():
        raise FileNotFoundError(scan)
    yield scan
    pattern = _DETACHED.get(scan.suffix.lower())
    if pattern is None:
        return
    with scan.open("rb") as file:
        named = re.search(pattern, file.read(_HEADER_BYTES))
    name = os.fsdecode(named[1].strip()) if named else _INSIDE
    if name.upper() != _INSIDE:
        yield scan.with_name(Path(name).name)


def _files_in(folder: Path) -> list[Path]:
    """All DICOM files, also behind links, as reading follows them; what else lies there, as results may, is no scan.

    Raises:
        OSError: there are none.
    """
    from H3DELandmarksLib.io.dicom import is_dicom

    files = (place / name for place, _, names in walked(folder) for name in names)
    images = [path for path in files if path.is_file() and is_dicom(path)]
    if not images:
        raise FileNotFoundError(folder)
    return images
