"""The versions of a model side by side: none is ever overwritten, one is current, and the way back is one step."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.core.files import TEMPORARY_PREFIX, remove_forgotten, take_place
from H3DELandmarksLib.formats.lineage import lineage_of, package_digest
from H3DELandmarksLib.models import registry
from H3DELandmarksLib.models.package import ModelPackage, open_package, write_package

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
            del versions[versions.index(entry.current) + 1 :]
        elif entry.current not in versions[-1:]:
            versions.append(entry.current)
    return versions


def _places(folder: Path, model_id: str) -> list[Path]:
    try:
        return sorted(path for path in (folder / HISTORY / model_id).iterdir() if _NUMBERED.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


@dataclass(frozen=True)
class ModelVersion:
    """A version of a model that can be used.

    Attributes:
        package: the model.
        is_current: whether the id alone means this version.
        source: "bundled", "installed" or "extra" (the folder of the environment variable H3DE_MODELS).
        date: when it was promoted or added here, or else trained; None where nobody says.
        base: ``id@version`` that it was trained from; None where it started from nothing or nobody says.
        cases: how many corrected cases it was trained with; None where nobody says.
        comparison: how it compared with its base, in a line; None where it was not compared.
        override: why a person promoted it against the comparison; None where nobody did.
    """

    package: ModelPackage
    is_current: bool
    source: str
    date: str | None
    base: str | None
    cases: int | None
    comparison: str | None
    override: str | None


def versions_of(model_id: str) -> list[ModelVersion]:
    """All versions of a model, the newest first.

    Raises:
        ModelPackageError: there is no model of this id.
    """
    packages = _packages(model_id)
    if not packages:
        registry.find_model(model_id)  # says which models there are
        raise ModelPackageError(f"'{model_id}' is no id of a model: give the id alone, without version or path.")
    history = read_history(registry.user_folder(), model_id)
    current = _current(history, packages)
    return [_described(package, package.version == current, history) for package in packages]


def revert(model_id: str, version: str | None = None) -> ModelVersion:
    """Make an earlier version current again.

    Args:
        model_id: whose versions.
        version: which one; by default the one that was current before the current one.

    Raises:
        ModelPackageError: there is no such version, or no earlier one; nothing has changed then.
    """
    packages = {package.version: package for package in (v.package for v in versions_of(model_id))}

    def entry(history: Sequence[HistoryEntry]) -> HistoryEntry:
        current = _current(history, list(packages.values()))
        wanted = version or _before(history, packages)
        if wanted not in packages:
            known = ", ".join(packages)
            raise ModelPackageError(
                f"The model '{model_id}' has no version '{version}': choose one of {known}."
                if version
                else f"No version of '{model_id}' was current before {current}: name the one you want, of {known}."
            )
        if wanted == current:
            raise ModelPackageError(f"Version {current} of '{model_id}' is the current one already: nothing to do.")
        return HistoryEntry("revert", wanted, wanted, current, package_digest(packages[wanted]))

    done = append_entry(registry.user_folder(), model_id, entry)
    # Another program may have made yet another version current since.
    return next(v for v in versions_of(model_id) if v.package.version == done.version)


def add_version(
    package: ModelPackage, manifest: Mapping[str, Any], model_card: str, event: str, details: Mapping[str, Any]
) -> ModelPackage:
    """Keep a package as a version of its id, and record it.

    A version number that is taken by another model is counted up; the same model is not kept twice. A version that
    is promoted becomes current; one that is added does so only where it is the first of its id.

    Args:
        package: checked completely by the caller; its weights and pictures are copied.
        manifest: what to keep as its manifest.
        model_card: what to keep as its card.
        event: "promote" or "add".
        details: of the event; a comparison under "comparison" with its "sentence", and the reason of a person who
            decided against it under "override".

    Returns:
        The package where it is kept.

    Raises:
        ModelPackageError: the user's folder cannot be written to.
    """
    _start_history(package.id)
    kept = _keep(package, manifest, model_card)

    def entry(history: Sequence[HistoryEntry]) -> HistoryEntry:
        versions = [p.version for p in _packages(kept.id)]
        others = [version for version in versions if version != kept.version]
        current = current_version(history, versions) or next(iter(others), None)
        chosen = kept.version if event == "promote" or current is None else current
        return HistoryEntry(event, kept.version, chosen, current, package_digest(kept), dict(details))

    append_entry(registry.user_folder(), kept.id, entry)
    return kept


def _start_history(model_id: str) -> None:
    """Record which version is current, so that a copied one is not taken for it before that is decided."""
    packages = _packages(model_id)

    def entry(history: Sequence[HistoryEntry]) -> HistoryEntry | None:
        if history or not packages:
            return None
        newest = packages[0]
        return HistoryEntry("start", newest.version, newest.version, None, package_digest(newest))

    append_entry(registry.user_folder(), model_id, entry)


def _keep(package: ModelPackage, manifest: Mapping[str, Any], model_card: str) -> ModelPackage:
    """Copy a package to the first version number, from its own on, that is free."""
    folder = registry.user_folder()
    aside = folder / f"{TEMPORARY_PREFIX}{uuid4().hex}"
    manifest, digest = deepcopy(dict(manifest)), package_digest(package)
    weights = {name: package.read(name) for name in package.weight_files}
    pictures = {name: package.read(name) for name in package.picture_files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_forgotten(folder.glob(f"{TEMPORARY_PREFIX}*"))
        while True:
            known = {other.version: other for other in _packages(package.id)}
            version, target = manifest["version"], folder / f"{package.id}-{manifest['version']}"
            if version in known and package_digest(known[version]) == digest:
                return known[version]
            if version not in known and not target.exists():
                written = write_package(aside, manifest, weights, model_card, pictures=pictures, replace=True)
                written.verify()
                if take_place(aside, target):
                    return open_package(target)
            else:
                manifest["version"] = next_version(version)
    except OSError as error:
        raise ModelPackageError(
            f"'{folder}' cannot be written to ({error.strerror or type(error).__name__}): check the permission and the "
            "free space; nothing has changed."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def next_version(version: str) -> str:
    """The version with its last number counted up: 1.2.4 after 1.2.3 and after 1.2.3-rc.1."""
    major, minor, patch = re.match(r"(\d+)\.(\d+)\.(\d+)", version).groups()
    return f"{major}.{minor}.{int(patch) + 1}"


def _packages(model_id: str) -> list[ModelPackage]:
    """All usable versions, the newest first."""
    return [entry.package for entry in registry.available_models() if entry.package and entry.package.id == model_id]


def _current(history: Sequence[HistoryEntry], packages: Sequence[ModelPackage]) -> str | None:
    """The current version; the newest where the history names none."""
    versions = [package.version for package in packages]
    return current_version(history, versions) or next(iter(versions), None)


def _before(history: Sequence[HistoryEntry], packages: Mapping[str, ModelPackage]) -> str | None:
    """The version that was current before the current one and is still there."""
    there = [version for version in succession(history) if version in packages]
    return there[-2] if len(there) > 1 else None


def _described(package: ModelPackage, is_current: bool, history: Sequence[HistoryEntry]) -> ModelVersion:
    digest, lineage = package_digest(package), lineage_of(package.manifest)
    added = [
        entry
        for entry in history
        if (entry.version, entry.digest) == (package.version, digest) and entry.event not in ("start", "revert")
    ]
    details = added[-1].details if added else {}
    trained = package.manifest["training"].get("date")
    return ModelVersion(
        package,
        is_current,
        _source(package.path),
        added[-1].time if added else trained if isinstance(trained, str) else None,
        lineage.base.name if lineage and lineage.base else None,
        sum(case.subset == "train" for case in lineage.cases) if lineage else None,
        (details.get("comparison") or {}).get("sentence"),
        details.get("override"),
    )


def _source(path: Path) -> str:
    sources = {registry.user_folder(): "installed", registry.bundled_folder(): "bundled"}
    return sources.get(path.parent, "extra")
