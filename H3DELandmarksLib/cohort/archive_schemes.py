"""The scheme in an archive of cases, and the versions that it has had, which older reviews follow."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from H3DELandmarksLib.cohort.case_files import numbered
from H3DELandmarksLib.cohort.project import MIGRATION, SCHEME, SCHEMES
from H3DELandmarksLib.cohort.scheme_file import read_scheme_bytes, scheme_bytes
from H3DELandmarksLib.cohort.scheme_history import SchemeHistory, SchemeStep
from H3DELandmarksLib.cohort.untrusted_zip import content_of_entry, refused

SCHEME_FILE = re.compile(r"schemes/([0-9]{6})/(?:scheme|migration)\.json")


def scheme_files(history: SchemeHistory) -> dict[str, bytes]:
    """What an archive holds of a scheme: the newest version, and where it has changed also how it became that."""
    files = {SCHEME: scheme_bytes(history.newest)}
    if history.steps:
        for number, scheme in enumerate(history.schemes, 1):
            files[f"{SCHEMES}/{numbered(number)}/{SCHEME}"] = scheme_bytes(scheme)
        for number, step in enumerate(history.steps, 2):
            files[f"{SCHEMES}/{numbered(number)}/{MIGRATION}"] = step.to_bytes()
    return files


def read_schemes(
    path: Path, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], files: Mapping[str, dict[str, Any]]
) -> SchemeHistory:
    """The scheme of an archive with the versions that it has had.

    Args:
        path: of the archive, for messages.
        archive: opened.
        entries: its files, checked.
        files: what its manifest says of them.

    Raises:
        InputError, Malformed: a version is missing, was changed or is damaged.
    """
    def content(name: str) -> bytes:
        if name not in entries:
            raise refused(path, "the versions of its scheme are not complete")
        found = content_of_entry(archive, entries[name])
        if hashlib.sha256(found).hexdigest() != files[name]["sha256"]:
            raise refused(path, "a file in it was changed")
        return found

    newest = read_scheme_bytes(content(SCHEME))
    places = sorted({f"{SCHEMES}/{match[1]}" for name in files if (match := SCHEME_FILE.fullmatch(name))})
    schemes = tuple(read_scheme_bytes(content(f"{place}/{SCHEME}")) for place in places) or (newest,)
    if schemes[-1] != newest:
        raise refused(path, "the versions of its scheme are not complete")
    return SchemeHistory(schemes, tuple(SchemeStep.from_bytes(content(f"{p}/{MIGRATION}")) for p in places[1:]))
