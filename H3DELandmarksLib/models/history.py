"""What happened to the versions of a model on this computer; entries are only ever added.

A history is a folder with one folder for each entry::

    _history/<model id>/000001/entry.json    when, what, and which version is current since then

The last entry says which version is current, so that no other file can contradict it. An entry is made aside and takes
its number in one step: a killed program leaves no half of one, and of two programs one has to look again.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

from H3DELandmarksLib.errors import ModelPackageError
from H3DELandmarksLib.files import TEMPORARY_PREFIX, remove_forgotten, take_place

log = logging.getLogger(__name__)
HISTORY, ENTRY, FORMAT_VERSION = "_history", "entry.json", 1
EVENTS = ("start", "promote", "revert", "add", "install")
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_NUMBERED = re.compile(r"[0-9]{6}")


@dataclass(frozen=True)
class HistoryEntry:
    """One thing that happened. Who did it is not recorded.

    Attributes:
        event: "promote", "revert", "add", "install", or "start" for what was current when the history began.
        version: what it happened to.
        current: version that is current since then.
        previous: version that was current before; None where there was none.
        digest: of the version, see `lineage.package_digest`.
        details: of the event, JSON-ready.
        time: UTC, as ``2026-11-23T08:00:00Z``.
    """

    event: str
    version: str
    current: str
    previous: str | None
    digest: str
    details: dict[str, Any] = field(default_factory=dict)
    time: str = field(default_factory=lambda: datetime.now(timezone.utc).strftime(TIME_FORMAT))


def read_history(folder: Path, model_id: str) -> list[HistoryEntry]:
    """All entries, the oldest first; damaged ones are left out with a warning.

    Args:
        folder: the user's folder of models.
        model_id: whose history.
    """
    entries = []
    for path in _places(folder, model_id):
        try:
            content = json.loads((path / ENTRY).read_text(encoding="utf-8"))
            if content.pop("format_version") != FORMAT_VERSION or content["event"] not in EVENTS:
                raise ValueError("another format")
            entries.append(HistoryEntry(**content))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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
    place = folder / HISTORY / model_id
    aside = place / f"{TEMPORARY_PREFIX}{uuid4().hex}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        remove_forgotten(place.glob(f"{TEMPORARY_PREFIX}*"))
        while True:
            number = max((int(path.name) for path in _places(folder, model_id)), default=0) + 1
            entry = make(read_history(folder, model_id))
            if entry is None:
                return None
            content = {"format_version": FORMAT_VERSION, **asdict(entry)}
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            (aside / ENTRY).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            if take_place(aside, place / f"{number:06d}"):
                return entry
    except OSError as error:
        raise ModelPackageError(
            f"'{place}' cannot be written to ({error.strerror or type(error).__name__}): check the permission and the "
            "free space; the current version is unchanged."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
            del versions[versions.index(entry.current) + 1:]
        elif entry.current not in versions[-1:]:
            versions.append(entry.current)
    return versions


def _places(folder: Path, model_id: str) -> list[Path]:
    try:
        return sorted(path for path in (folder / HISTORY / model_id).iterdir() if _NUMBERED.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
