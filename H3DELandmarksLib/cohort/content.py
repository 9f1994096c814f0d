"""What a scan's files hold, whatever they are called: by that a finished scan is known again."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_DETACHED = {".nhdr": rb"(?im)^data ?file *: *(.+?)\r?$", ".mhd": rb"(?im)^ElementDataFile *= *(.+?)\r?$"}
_HEADER_BYTES = 2**16


def content_digest(scan: Path) -> str | None:
    """SHA-256 of the bytes of all files of a scan, without regard to their names; None where they cannot be read.

    Args:
        scan: file, or folder with DICOM files.
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
    """Raises OSError where there is no plain file."""
    if scan.is_dir():
        for folder, _, names in os.walk(scan, followlinks=False):
            yield from (path for name in names if (path := Path(folder, name)).is_file())
        return
    if not scan.is_file():
        raise FileNotFoundError(scan)
    yield scan
    pattern = _DETACHED.get(scan.suffix.lower())
    if pattern is None:
        return
    with scan.open("rb") as file:
        named = re.search(pattern, file.read(_HEADER_BYTES))
    beside = scan.with_name(Path(os.fsdecode(named[1].strip())).name) if named else scan
    if beside != scan and beside.is_file():
        yield beside
