"""Versions: how they are ordered and counted up, and the history of which version of a model was current when.

The history of a model is a series of numbered folders with an entry each; nothing in it is ever changed.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.core.files import TEMPORARY_PREFIX, append_numbered, numbered_folders, remove_forgotten
from H3DELandmarksLib.core.text import plain
from H3DELandmarksLib.formats.case_record import utc_now
from H3DELandmarksLib.formats.comparison import Comparison, Decision
from H3DELandmarksLib.formats.comparison import upgraded as upgraded_comparison
from H3DELandmarksLib.formats.lineage import ModelReference
from H3DELandmarksLib.formats.reading import FormatError, Text, build, parse_json, refuse_newer, to_json, to_plain

log = logging.getLogger(__name__)
HISTORY, ENTRY, FORMAT_VERSION = "_history", "entry.json", 1
_CANDIDATE = re.compile(r"(\d+\.\d+\.\d+)-(.+)")


def version_order(version: str) -> list[tuple[int, int, str]]:
    """A key to sort versions by: numbers by their value, words by the alphabet, 1.0-rc.1 < 1.0 < 1.0.1."""
    release, candidate = version, ""
    if match := _CANDIDATE.fullmatch(version):
        release, candidate = match.groups()
    # The end of a version comes after words and before numbers; a candidate comes before the end.
    mark = [(0, 0, "")] if candidate else []
    return [*_parts(release), *mark, *_parts(candidate), (1, 0, "")]


def _parts(text: str) -> list[tuple[int, int, str]]:
    return [(2, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[A-Za-z]+", text)]


def next_version(version: str, part: Literal["minor", "last"] = "last") -> str:
    """The version after another.

    Args:
        version: of a model, such as 1.2.3 or 1.2.3-rc.1, or of a scheme, such as 4 or 2026-a.
        part: "minor" counts the second number up and gives 1.3.0; "last" counts the last number of the release up, and
            gives 1.2.4; where there is none, one is added.
    """
    if part == "minor":
        major, minor = version.split(".")[:2]
        return f"{major}.{int(minor) + 1}.0"
    candidate = _CANDIDATE.fullmatch(version)
    release = candidate[1] if candidate else version
    match = re.fullmatch(r"(.*?)(\d+)(\D*)", release)
    return f"{match[1]}{int(match[2]) + 1}{match[3]}" if match else f"{version}.1"


@dataclass(frozen=True, kw_only=True)
class EventDetails:
    """What was decided about a version.

    Attributes:
        base: the model that it was compared with, or made from.
        comparison: with that.
        decision: by the rule.
        override: why a person decided against the rule.
    """

    base: ModelReference | None = None
    comparison: Comparison | None = None
    decision: Decision | None = None
    override: str | None = None


@dataclass(frozen=True)
class HistoryEntry:
    """One thing that happened to the versions of a model. Who did it is not recorded.

    Attributes:
        event: "promote", "revert", "add", "install", or "start" for what was current when the history began.
        version: what it happened to.
        current: version that is current since then.
        previous: version that was current before; None where there was none.
        digest: of the version, see `models.package.package_digest`.
        details: of the event.
        time: UTC, as ``2026-11-23T08:00:00Z``.
    """

    event: Literal["start", "promote", "revert", "add", "install"]
    version: Text
    current: Text
    previous: str | None
    digest: str
    details: EventDetails = field(default_factory=EventDetails)
    time: str = field(default_factory=utc_now)
    format_version: Literal[1] = 1


def read_history(folder: Path, model_id: str) -> list[HistoryEntry]:
    """All entries, the oldest first; damaged ones are left out with a warning.

    Args:
        folder: the user's folder of models.
        model_id: whose history.
    """
    entries: list[HistoryEntry] = []
    try:
        places = numbered_folders(folder / HISTORY / model_id)
    except OSError as error:
        log.warning("The history of '%s' cannot be read (%s) and is left out.", model_id, error.strerror)
        return entries
    for path in places:
        try:
            entries.append(_entry(parse_json((path / ENTRY).read_bytes())))
        except (OSError, FormatError) as error:
            log.warning("The entry '%s' of the history of '%s' is damaged (%s) and left out.", path, model_id, error)
    return entries


def append_entry(
    folder: Path, model_id: str, make: Callable[[Sequence[HistoryEntry]], HistoryEntry | None]
) -> HistoryEntry | None:
    """Add an entry; it is there completely, or not at all.

    Args:
        folder: the user's folder of models.
        model_id: whose history.
        make: gives the entry that follows a history, or None for none; asked again where another program was faster.

    Raises:
        ModelPackageError: the folder cannot be written to.
    """
    series = folder / HISTORY / model_id
    made: HistoryEntry | None = None

    def prepare(staging: Path) -> bool:
        nonlocal made
        made = make(read_history(folder, model_id))
        if made is not None:
            (staging / ENTRY).write_bytes(to_json(plain(to_plain(made))))
        return made is not None

    staging = series / f"{TEMPORARY_PREFIX}{uuid4().hex}"
    try:
        series.mkdir(parents=True, exist_ok=True)
        remove_forgotten(series.glob(f"{TEMPORARY_PREFIX}*"))
        append_numbered(series, staging, prepare)
    except OSError as error:
        raise ModelPackageError(
            f"'{series}' cannot be written to ({error.strerror or type(error).__name__}): check the permission and the "
            "free space; the current version is unchanged."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return made


def _entry(content: Any) -> HistoryEntry:
    """An entry of any version as today's; details that cannot be read are left out: the event counts without them."""
    if not isinstance(content, dict):
        raise FormatError("it is no entry")
    refuse_newer(content, FORMAT_VERSION)
    details = content.pop("details", {})
    entry = build(HistoryEntry, content)
    try:
        if isinstance(details, dict) and details.get("comparison") is not None:
            details = {**details, "comparison": upgraded_comparison(details["comparison"])}
        return replace(entry, details=build(EventDetails, details))
    except FormatError as error:
        log.warning("What was decided about version %s cannot be read (%s).", entry.version, error)
        return entry


def current_version(history: Sequence[HistoryEntry], available: Collection[str]) -> str | None:
    """The version that is current; None where no entry names one that is there."""
    return next((version for version in reversed(succession(history)) if version in available), None)


def succession(history: Sequence[HistoryEntry]) -> list[str]:
    """The current version and those before it, the oldest first, without what was reverted."""
    versions: list[str] = []
    for entry in history:
        if not versions and entry.previous is not None:
            versions.append(entry.previous)
        if entry.event == "revert" and entry.current in versions:
            del versions[versions.index(entry.current) + 1 :]
        elif entry.current not in versions[-1:]:
            versions.append(entry.current)
    return versions
