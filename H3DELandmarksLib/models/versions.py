"""The versions of a model side by side: none is ever overwritten, one is current, and the way back is one step.

A version is a package in the user's folder. Which one is current follows from the history of the model
(`formats.versions`), or, where there is none, is the newest.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.core.files import TEMPORARY_PREFIX, atomic_move, remove_forgotten
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.versions import (
    EventDetails,
    HistoryEntry,
    append_entry,
    current_version,
    next_version,
    read_history,
    succession,
)
from H3DELandmarksLib.models import registry
from H3DELandmarksLib.models.package import ModelPackage, open_package, package_digest, write_package

Source = Literal["bundled", "installed", "extra"]


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
    source: Source
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
    return [_described(package, version == current, history) for version, package in packages.items()]


def revert(model_id: str, version: str | None = None) -> ModelVersion:
    """Make an earlier version current again.

    Args:
        model_id: whose versions.
        version: which one; by default the one that was current before the current one.

    Raises:
        ModelPackageError: there is no such version, or no earlier one; nothing has changed then.
    """
    packages = {known.package.version: known.package for known in versions_of(model_id)}
    known_versions = ", ".join(packages)

    def entry(history: Sequence[HistoryEntry]) -> HistoryEntry:
        current = _current(history, packages)
        wanted = version or _before(history, packages)
        if wanted is None:
            raise ModelPackageError(
                f"No version of '{model_id}' was current before {current}: name the one you want, of {known_versions}."
            )
        if wanted not in packages:
            raise ModelPackageError(
                f"The model '{model_id}' has no version '{wanted}': choose one of {known_versions}."
            )
        if wanted == current:
            raise ModelPackageError(f"Version {current} of '{model_id}' is the current one already: nothing to do.")
        return HistoryEntry("revert", wanted, wanted, current, package_digest(packages[wanted]))

    done = append_entry(registry.user_folder(), model_id, entry)
    # Another program may have made yet another version current since.
    return next(v for v in versions_of(model_id) if done and v.package.version == done.version)


def add_version(
    package: ModelPackage,
    manifest: Mapping[str, Any],
    model_card: str,
    event: Literal["promote", "add"],
    details: EventDetails | None = None,
) -> ModelPackage:
    """Keep a package as a version of its id, and record it.

    A version number that is taken by another model is counted up; the same model is not kept twice. A version that
    is promoted becomes current; one that is added does so only where it is the first of its id.

    Args:
        package: checked completely by the caller; its weights and pictures are copied.
        manifest: what to keep as its manifest; numbers as they are written in it, which the digest is made of.
        model_card: what to keep as its card.
        event: what happens.
        details: of the event.

    Returns:
        The package where it is kept.

    Raises:
        ModelPackageError: the user's folder cannot be written to.
    """
    _start_history(package.id)
    kept = _keep(package, manifest, model_card)

    def entry(history: Sequence[HistoryEntry]) -> HistoryEntry:
        versions = list(_packages(kept.id))
        others = [version for version in versions if version != kept.version]
        current = current_version(history, versions) or next(iter(others), None)
        chosen = kept.version if event == "promote" or current is None else current
        return HistoryEntry(event, kept.version, chosen, current, package_digest(kept), details or EventDetails())

    append_entry(registry.user_folder(), kept.id, entry)
    return kept


def _start_history(model_id: str) -> None:
    """Record which version is current, so that a copied one is not taken for it before that is decided."""
    newest = next(iter(_packages(model_id).values()), None)

    def entry(history: Sequence[HistoryEntry]) -> HistoryEntry | None:
        if history or newest is None:
            return None
        return HistoryEntry("start", newest.version, newest.version, None, package_digest(newest))

    append_entry(registry.user_folder(), model_id, entry)


def _keep(package: ModelPackage, manifest: Mapping[str, Any], model_card: str) -> ModelPackage:
    """Copy a package to the first version number, from its own on, that is free."""
    folder = registry.user_folder()
    staging = folder / f"{TEMPORARY_PREFIX}{uuid4().hex}"
    digest = package_digest(package)
    version = package.version
    weights = {name: package.read(name) for name in package.weight_files}
    pictures = {name: package.read(name) for name in package.picture_files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_forgotten(folder.glob(f"{TEMPORARY_PREFIX}*"))
        while True:
            known = _packages(package.id).get(version)
            target = folder / f"{package.id}-{version}"
            if known is not None and package_digest(known) == digest:
                return known
            if known is not None or target.exists():
                version = next_version(version)
                continue
            content = {**manifest, "version": version}
            write_package(staging, content, weights, model_card, pictures=pictures, replace=True).verify()
            if atomic_move(staging, target):
                return open_package(target)
    except OSError as error:
        raise ModelPackageError(
            f"'{folder}' cannot be written to ({error.strerror or type(error).__name__}): check the permission and the "
            "free space; nothing has changed."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _packages(model_id: str) -> dict[str, ModelPackage]:
    """All usable packages of a model by version, the newest first."""
    packages = (entry.package for entry in registry.available_models() if entry.package)
    return {package.version: package for package in packages if package.id == model_id}


def _current(history: Sequence[HistoryEntry], packages: Mapping[str, ModelPackage]) -> str | None:
    """The current version; the newest where the history names none."""
    return current_version(history, packages) or next(iter(packages), None)


def _before(history: Sequence[HistoryEntry], packages: Mapping[str, ModelPackage]) -> str | None:
    """The version that was current before the current one and is still there."""
    there = [version for version in succession(history) if version in packages]
    return there[-2] if len(there) > 1 else None


def _described(package: ModelPackage, is_current: bool, history: Sequence[HistoryEntry]) -> ModelVersion:
    lineage = lineage_of(package.manifest)
    kept = kept_entry(package, history)
    trained = package.manifest.training.get("date")
    comparison = kept.details.comparison if kept else None
    return ModelVersion(
        package=package,
        is_current=is_current,
        source=_source(package.path),
        date=kept.time if kept else trained if isinstance(trained, str) else None,
        base=lineage.base.name if lineage and lineage.base else None,
        cases=sum(case.subset == "train" for case in lineage.cases) if lineage else None,
        comparison=comparison.sentence() if comparison else None,
        override=kept.details.override if kept else None,
    )


def kept_entry(package: ModelPackage, history: Sequence[HistoryEntry]) -> HistoryEntry | None:
    """The last entry about keeping a package as a version; None where there is none."""
    digest = package_digest(package)
    kept = [entry for entry in history if entry.event in ("promote", "add", "install")]
    same = [entry for entry in kept if (entry.version, entry.digest) == (package.version, digest)]
    return same[-1] if same else None


def _source(path: Path) -> Source:
    sources: dict[Path, Source] = {registry.user_folder(): "installed", registry.bundled_folder(): "bundled"}
    return sources.get(path.parent, "extra")
