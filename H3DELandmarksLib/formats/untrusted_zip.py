"""Zip files that come from elsewhere: nothing in them is trusted before it is checked.

Every archive of this software has a manifest that says the size and SHA-256 of all its other files.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.case_record import Sha256
from H3DELandmarksLib.formats.reading import LARGEST_BYTES, FormatError, Limits, build, parse_json

MAX_FILES, MAX_FILE_BYTES = 100_000, 8 * 2**30
# How many times larger than in the archive a file may be, from this size on.
MAX_EXPANSION, HARMLESS_BYTES = 200, 2**20
# Others ask for memory as they please, or raise errors of their own.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What reading a damaged or hostile zip file raises; FormatError and UnicodeDecodeError are ValueErrors.
DAMAGED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    ValueError,
    NotImplementedError,
    EOFError,
    RuntimeError,
    zlib.error,
    struct.error,
)
_PIECE = 2**20


def checked_entries(
    path: Path, archive: zipfile.ZipFile, may_hold: Callable[[str], bool], needed: Collection[str], writer: str
) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by name, refused where a name, kind or size is not one that an export gives.

    Args:
        path: of the archive, for messages.
        archive: opened.
        may_hold: whether an export writes a file of this name.
        needed: names that must be there.
        writer: command that writes such archives.
    """
    entries = archive.infolist()
    if len(entries) > MAX_FILES:
        raise refused(path, "it holds too many files")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not may_hold(entry.filename):
            raise refused(path, "it holds a file that no export writes")
        if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            raise refused(path, "it holds a link or an encrypted file")
        if entry.compress_type not in COMPRESSIONS:
            raise refused(path, "it is packed in an unusual way")
        expansion = entry.file_size / max(entry.compress_size, 1)
        if entry.file_size > MAX_FILE_BYTES or (entry.file_size > HARMLESS_BYTES and expansion > MAX_EXPANSION):
            raise refused(path, "a file in it is far too large")
    by_name = {entry.filename: entry for entry in entries}
    if len(by_name) != len(entries):
        raise refused(path, "it holds a file twice")
    if not set(needed) <= set(by_name):
        raise refused(path, f"it was not written by '{writer}'")
    return by_name


@dataclass(frozen=True)
class PackedFile:
    """What a manifest says of a file of the archive."""

    size: Annotated[int, Limits(ge=0, le=MAX_FILE_BYTES)]
    sha256: Sha256

    @classmethod
    def of(cls, content: bytes) -> PackedFile:
        """What is to be said of a file."""
        return cls(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class ArchiveManifest:
    """What an archive says of itself.

    Attributes:
        format, format_version: of the archive.
        files: every other file by its name.
        digest: of a shared model; None for cases.
    """

    format: str
    format_version: int
    files: Mapping[str, PackedFile]
    digest: str | None = None


def read_manifest(
    path: Path, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], name: str, form: tuple[str, int]
) -> ArchiveManifest:
    """The manifest of an archive, which names every other file with its true size.

    Args:
        path: of the archive, for messages.
        archive: opened.
        entries: its files, checked.
        name: of the manifest.
        form: format and version that are expected.

    Raises:
        InputError: it is of another version, or its files are others.
        FormatError: it is damaged.
    """
    manifest = build(ArchiveManifest, parse_json(content_of_entry(archive, entries[name])))
    if (manifest.format, manifest.format_version) != form:
        raise refused(path, "it is of another version: update this software")
    if set(manifest.files) != set(entries) - {name}:
        raise refused(path, "its files are not those that its manifest names")
    for file, said in manifest.files.items():
        if said.size != entries[file].file_size:
            raise refused(path, "a file in it has another size than its manifest says")
    return manifest


def content_of_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of a small file; raises FormatError where it is none."""
    if entry.file_size > LARGEST_BYTES:
        raise FormatError("it is too large")
    return archive.read(entry)


def extract(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, said: PackedFile, target: Path) -> None:
    """Write one file aside; its checksum must be right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(entry) as source, target.open("wb") as file:
        while piece := source.read(_PIECE):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != said.sha256:
        raise refused(path, "a file in it was changed")


def refused(path: Path, reason: str) -> InputError:
    """The sentence about an archive that is not used."""
    return InputError(f"The archive '{path}' is refused, because {reason}: ask for a new export; nothing was added.")
