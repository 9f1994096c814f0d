"""Zip files that come from elsewhere: nothing in them is trusted before it is checked.

Every archive of this software has a manifest that says the size and SHA-256 of all its other files.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats import strict_json as strict

MOST_FILES, LARGEST_FILE = 100_000, 8 * 2**30
MOST_EXPANSION, HARMLESS = 200, 2**20
# What reading a damaged or hostile zip file raises.
DAMAGED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    strict.Malformed,
    NotImplementedError,
    EOFError,
    RuntimeError,
    zlib.error,
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
    if len(entries) > MOST_FILES:
        raise refused(path, "it holds too many files")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not may_hold(entry.filename):
            raise refused(path, "it holds a file that no export writes")
        if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            raise refused(path, "it holds a link or an encrypted file")
        expansion = entry.file_size / max(entry.compress_size, 1)
        if entry.file_size > LARGEST_FILE or (entry.file_size > HARMLESS and expansion > MOST_EXPANSION):
            raise refused(path, "a file in it is far too large")
    by_name = {entry.filename: entry for entry in entries}
    if len(by_name) != len(entries):
        raise refused(path, "it holds a file twice")
    if not set(needed) <= set(by_name):
        raise refused(path, f"it was not written by '{writer}'")
    return by_name


def said_of_files(
    path: Path,
    archive: zipfile.ZipFile,
    entries: Mapping[str, zipfile.ZipInfo],
    manifest: str,
    form: tuple[str, int],
    more: Collection[str] = (),
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What the manifest says: size and checksum of every other file, and the fields in `more`.

    Args:
        path: of the archive, for messages.
        archive: opened.
        entries: its files, checked.
        manifest: name of the manifest.
        form: format and version that are expected.
        more: further fields that it must have.
    """
    names = ("format", "format_version", "files", *more)
    content = strict.fields(strict.parse(content_of_entry(archive, entries[manifest])), names)
    if (content["format"], content["format_version"]) != form:
        raise refused(path, "it is of another version: update this software")
    files = content["files"]
    if not isinstance(files, dict) or set(files) != set(entries) - {manifest}:
        raise refused(path, "its files are not those that its manifest names")
    for name, entry in files.items():
        fields = strict.fields(entry, ("size", "sha256"))
        if strict.whole(fields["size"], 0, LARGEST_FILE) != entries[name].file_size:
            raise refused(path, "a file in it has another size than its manifest says")
    return files, {name: content[name] for name in more}


def content_of_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of a small file; raises Malformed where it is none."""
    if entry.file_size > strict.LARGEST:
        raise strict.Malformed("too large")
    return archive.read(entry)


def extract(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, said: dict[str, Any], target: Path) -> None:
    """Write one file aside; its checksum must be right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(entry) as source, target.open("wb") as file:
        while piece := source.read(_PIECE):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != said["sha256"]:
        raise refused(path, "a file in it was changed")


def refused(path: Path, reason: str) -> InputError:
    """The sentence about an archive that is not used."""
    return InputError(f"The archive '{path}' is refused, because {reason}: ask for a new export; nothing was added.")
