"""A model as one zip file for another site: package, card, lineage, checksums, and nothing else.

    share_model:  package  ->  shared_manifest (only what may leave)  ->  weights and card written anew  ->  zip file
    add_shared:   zip file  ->  checked completely  ->  reduced in the same way  ->  a version of its model

The file is also a model package as every other command reads it. One that comes from elsewhere is trusted in nothing.
Title, description, intended use, limits, licenses and definitions go along as their author wrote them; whatever else
could hold a word of a person is left out.
"""

from __future__ import annotations

import math
import re
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.errors import InputError, ModelPackageError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.formats.comparison import Comparison
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.manifest import Manifest
from H3DELandmarksLib.formats.reading import build, to_json, to_plain
from H3DELandmarksLib.formats.training import Augmentation, Training
from H3DELandmarksLib.formats.untrusted_zip import (
    DAMAGED,
    ArchiveManifest,
    PackedFile,
    checked_entries,
    extract,
    read_manifest,
    refused,
)
from H3DELandmarksLib.formats.versions import read_history
from H3DELandmarksLib.models import ModelPackage, available_models, find_model, open_package, registry, write_package
from H3DELandmarksLib.models.card import model_card
from H3DELandmarksLib.models.package import MANIFEST, MODEL_CARD, SHAPE_FILE, package_digest
from H3DELandmarksLib.models.versions import add_version

SHARE = "share.json"
FORMAT, FORMAT_VERSION = "h3delandmarks-model", 1
MAX_BYTES = 4 * 2**30
# What may be said of the accuracy on each subset of cases.
SUBSETS = ("test", "held-out")
FIGURES = frozenset({"cases", "n", "missed", "mre_mm", "sd_mm", "mean_mm", "median_mm", "p90_mm", "max_mm", "coverage"})
PRESENCE = frozenset({"accuracy", "precision", "recall", "f1"})
_RATE = re.compile(r"sdr_[0-9.]{1,8}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SOFTWARE = re.compile(r"H3DELandmarksLib [0-9][0-9A-Za-z.+-]{0,31}")
_WEIGHTS = re.compile(r"(?:stage-[0-9]{1,3}|shape)\.safetensors")


@dataclass(frozen=True)
class Added:
    """What adding a shared model did.

    Attributes:
        package: where it is kept.
        shared_version: its version where it comes from.
        is_new: whether no version here was the same model.
        is_current: whether its id alone means it.
    """

    package: ModelPackage
    shared_version: str
    is_new: bool
    is_current: bool


def share_model(model: str, path: str | Path) -> ModelPackage:
    """Write a model as a file that another site can add; returns the package that was shared.

    Args:
        model: id, or id@version.
        path: new zip file.

    Raises:
        InputError: the file is there already or cannot be written, or the model cannot be shared.
        ModelPackageError: there is no such model, or it is damaged.
    """
    path, package = Path(path), find_model(model)
    if path.exists():
        raise InputError(f"'{path}' is there already: choose another name.")
    package.verify()
    with tempfile.TemporaryDirectory() as folder:
        content = _reduced(package, Path(folder) / "package", _comparison_of(package))
        files = {name: content.read(name) for name in content.files}
    packed = {name: PackedFile.of(data) for name, data in files.items()}
    files[SHARE] = to_json(ArchiveManifest(FORMAT, FORMAT_VERSION, packed, package_digest(content)))
    _write_zip(path, files)
    return package


def add_shared(path: str | Path) -> Added:
    """Add a shared model as a version of its id; nothing is written where anything is wrong with it.

    It becomes current only where there was no model of its id.

    Raises:
        InputError: the file cannot be used.
        ModelPackageError: the user's folder cannot be written to.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        try:
            package = _checked(path, Path(folder) / "shared")
            reduced = _reduced(package, Path(folder) / "reduced", None)
        except DAMAGED as error:
            raise refused(path, f"it is damaged or was changed ({type(error).__name__})") from error
        except FileNotFoundError as error:
            raise InputError(f"'{path}' does not exist: check the path.") from error
        except (OSError, ModelPackageError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise refused(path, f"its content is no usable model ({reason})") from error
        digest = package_digest(reduced)
        known = [entry.package for entry in available_models() if entry.package and entry.id == reduced.id]
        is_new = all(package_digest(other) != digest for other in known)
        kept = add_version(reduced, reduced.content, package.model_card(), "add")
    current = find_model(kept.id)
    return Added(kept, package.version, is_new, current.version == kept.version)


def shared_manifest(package: ModelPackage) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of the manifest to share, and the package's name of each of its weights files.

    Numbers that determine what the model finds stay as they are written, so that its digest stays the same.

    Raises:
        InputError: a stage has a name that could be a sentence.
    """
    manifest = package.manifest
    names = {manifest.shape_model.file: SHAPE_FILE}
    for number, stage in enumerate(manifest.stages, 1):
        if not _NAME.fullmatch(stage.name):
            raise InputError("A stage of the model has a name that cannot be shared: use letters, digits and hyphens.")
        names.setdefault(stage.weights.file, f"stage-{number}.safetensors")
    content = deepcopy(dict(package.content))
    content.pop("pictures", None)
    content["calibration"].pop("cases", None)
    for entry in (*(stage["weights"] for stage in content["stages"]), content["shape_model"]):
        entry["file"] = names[entry["file"]]
    content["training"] = _shared_training(manifest)
    content["accuracy"] = _shared_accuracy(manifest.accuracy, manifest.scheme.names)
    return content, {new: old for old, new in names.items()}


def _shared_training(manifest: Manifest) -> dict[str, Any]:
    """Date, software, settings and lineage."""
    training, kept = manifest.training, {}
    for name, form in (("date", _DATE), ("software", _SOFTWARE)):
        if isinstance(training.get(name), str) and form.fullmatch(training[name]):
            kept[name] = training[name]
    if stages := _mapping(training, "stages"):
        settings = {"training": _field_names(Training), "augmentation": _field_names(Augmentation)}
        kept["stages"] = {
            stage: {part: _numbers(_mapping(parts, part), names) for part, names in settings.items()}
            for stage, parts in stages.items()
            if _NAME.fullmatch(stage)
        }
    if lineage := lineage_of(manifest):
        kept["lineage"] = to_plain(lineage.by_hash_alone())
    return kept


def _field_names(record: type) -> frozenset[str]:
    return frozenset(field.name for field in fields(record))


def _shared_accuracy(accuracy: Mapping[str, Any], landmarks: Collection[str]) -> dict[str, Any]:
    """Figures over all cases and of each landmark."""
    kept = {}
    for subset in SUBSETS:
        measured = _mapping(accuracy, subset)
        rows = [row for row in measured.get("per_landmark") or () if isinstance(row, Mapping)]
        if figures := _numbers(measured, FIGURES):
            kept[subset] = {
                **figures,
                "presence": _numbers(_mapping(measured, "presence"), PRESENCE),
                "per_landmark": [
                    {"landmark": row["landmark"], **_numbers(row, FIGURES)}
                    for row in rows
                    if row.get("landmark") in landmarks
                ],
            }
    return kept


def _mapping(data: Any, name: str) -> Mapping[str, Any]:
    """An object in an object; an empty one where it is none."""
    found = data.get(name) if isinstance(data, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _numbers(data: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The numbers, and lists of numbers, of known names."""
    known = (name for name in data if name in names or _RATE.fullmatch(name))
    return {name: data[name] for name in known if _is_number(data[name])}


def _is_number(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_number, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _reduced(package: ModelPackage, folder: Path, comparison: Comparison | None) -> ModelPackage:
    """The package with nothing but what may be shared; tensors are written anew, without remarks in their files."""
    manifest, names = shared_manifest(package)
    weights = {new: package.load_weights(old) for new, old in names.items()}
    card = model_card(build(Manifest, manifest), comparison=comparison.text() if comparison else None)
    reduced = write_package(folder, manifest, weights, card)
    reduced.verify()
    return reduced


def _comparison_of(package: ModelPackage) -> Comparison | None:
    """How the version compared when it was promoted here."""
    digest = package_digest(package)
    for entry in reversed(read_history(registry.user_folder(), package.id)):
        if entry.event == "promote" and entry.digest == digest and entry.details.comparison:
            return entry.details.comparison
    return None


def _write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    with atomic_write(path, may_replace=lambda old: False) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # a fixed date
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)


def _checked(path: Path, folder: Path) -> ModelPackage:
    """The package of a shared file, extracted into a folder and checked."""
    with zipfile.ZipFile(path) as archive:
        entries = checked_entries(path, archive, _may_hold, {SHARE, MANIFEST, MODEL_CARD}, "models share")
        if sum(entry.file_size for entry in entries.values()) > MAX_BYTES:
            raise refused(path, "it is far too large")
        said = read_manifest(path, archive, entries, SHARE, (FORMAT, FORMAT_VERSION))
        for name, file in said.files.items():
            extract(path, archive, entries[name], file, folder / name)
    package = open_package(folder)
    package.verify()
    if set(package.files) != set(said.files) or package_digest(package) != said.digest:
        raise refused(path, "it is not the model that it says it is")
    return package


def _may_hold(name: str) -> bool:
    return name in (SHARE, MANIFEST, MODEL_CARD) or _WEIGHTS.fullmatch(name) is not None
