"""A model package: a folder or zip file with a manifest, weights and a model card that say all that inference needs.

The manifest is described by ``manifest.schema.json``. Weights are safetensors files, named in the manifest with their
SHA-256, and are never used without comparing it. A zip file is read in place: nothing is extracted, and only files that
the manifest names are touched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.core.errors import InputError, MissingDependencyError, ModelPackageError
from H3DELandmarksLib.core.files import replaced_when_complete
from H3DELandmarksLib.core.landmarks import LandmarkScheme

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MODEL_CARD = "model-card.md"
SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")

_LARGEST_TEXT = 4 * 2**20
_LARGEST_WEIGHTS = 2 * 2**30
_GET_AGAIN = "get the model package again from its source"


@dataclass(frozen=True)
class ModelPackage:
    """A model on disk whose manifest has been checked.

    Attributes:
        path: folder or zip file.
        manifest: content of manifest.json, valid by the schema; to be read, not changed.
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def id(self) -> str:
        """Identifier, for example ``mouse-skull``."""
        return self.manifest["id"]

    @property
    def version(self) -> str:
        """Version of the model, for example ``1.0.0``."""
        return self.manifest["version"]

    @cached_property
    def scheme(self) -> LandmarkScheme:
        """The landmarks that the model finds."""
        return LandmarkScheme.from_dict(self.manifest["scheme"])

    @property
    def reads_radiographs(self) -> bool:
        """Whether the model reads radiographs (crops of one slice), and not volumes."""
        return self.manifest["stages"][0]["shape"][2] == 1

    @property
    def weight_files(self) -> dict[str, str]:
        """SHA-256 of every weights file, by file name."""
        return {entry["file"]: entry["sha256"] for entry in _weight_entries(self.manifest)}

    @property
    def picture_files(self) -> dict[str, str]:
        """SHA-256 of every picture of the model card, by file name."""
        return {entry["file"]: entry["sha256"] for entry in self.manifest.get("pictures", ())}

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files of the package."""
        return (MANIFEST, MODEL_CARD, *self.weight_files, *self.picture_files)

    def read(self, name: str) -> bytes:
        """The bytes of one file of the package, weights and pictures compared with their SHA-256.

        Raises:
            ModelPackageError: the file is missing, too large or not the one that the manifest describes.
        """
        weights = self.weight_files
        expected = (self.picture_files | weights).get(name)
        data = _read_member(self.path, name, _LARGEST_WEIGHTS if name in weights else _LARGEST_TEXT)
        if expected is not None and hashlib.sha256(data).hexdigest() != expected:
            raise ModelPackageError(
                f"The file '{name}' of the model '{self.id}' was changed or damaged (SHA-256 differs): {_GET_AGAIN}."
            )
        return data

    def load_weights(self, file: str) -> dict[str, np.ndarray]:
        """Tensors of a weights file by name, in their stored precision (float16 stays float16).

        Args:
            file: name as in the manifest.

        Raises:
            ModelPackageError: the manifest does not name the file, or it is missing, changed or no safetensors file.
            MissingDependencyError: the Python package safetensors is not installed.
        """
        if file not in self.weight_files:
            raise ModelPackageError(f"The model '{self.id}' names no weights file '{file}': {_GET_AGAIN}.")
        load, _, SafetensorError = _safetensors()
        try:
            return load(self.read(file))
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelPackageError(f"'{file}' of the model '{self.id}' holds no weights: {_GET_AGAIN}.") from error

    def model_card(self) -> str:
        """Text of the model card (Markdown)."""
        return self.read(MODEL_CARD).decode("utf-8", errors="replace")

    def verify(self) -> None:
        """Check the manifest against the schema, and every weights file and picture against its SHA-256.

        Raises:
            ModelPackageError: what is wrong and what to do.
            MissingDependencyError: the Python package jsonschema is not installed.
        """
        check_manifest(self.manifest)
        self.model_card()
        for name in self.weight_files | self.picture_files:
            self.read(name)


def open_package(path: str | Path) -> ModelPackage:
    """Open a model package without reading its weights.

    Args:
        path: folder, or zip file with the package at its top or in its only folder.

    Raises:
        ModelPackageError: no package there, its manifest is not valid, or a file that it names is missing.
    """
    path = Path(path)
    if not path.exists():
        raise ModelPackageError(f"The model package '{path}' does not exist: check the path.")
    manifest = _parse_manifest(path, _read_member(path, MANIFEST, _LARGEST_TEXT))
    try:
        check_manifest(manifest)
    except MissingDependencyError:
        log.info("jsonschema is not installed: the manifest of '%s' is checked in its main points only.", path)
    except ModelPackageError as error:
        raise ModelPackageError(f"The model package '{path}' cannot be used: {error}") from error
    package = ModelPackage(path, manifest)
    for name in package.files:
        if not _has_member(path, name):
            raise ModelPackageError(f"The model package '{path}' lacks its file '{name}': {_GET_AGAIN}.")
    return package


def write_package(
    folder: str | Path,
    manifest: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, Any] | bytes],
    model_card: str,
    *,
    pictures: Mapping[str, bytes] | None = None,
    replace: bool = False,
) -> ModelPackage:
    """Write a model package; the folder appears only when it is complete.

    Args:
        folder: where to write; its parent exists.
        manifest: as the schema asks, but the SHA-256 of weights may be left out: they are filled in here.
        weights: tensors (numpy arrays or torch tensors, float16 allowed) by name, or the file's bytes, by file name.
        model_card: Markdown text.
        pictures: PNG or JPEG files that the model card shows, by file name; they are the manifest's pictures.
        replace: whether an existing folder may be replaced.

    Raises:
        ModelPackageError: the manifest is not valid, weights and manifest name different files, or the folder exists.
    """
    folder = Path(folder)
    if folder.exists() and not replace:
        raise ModelPackageError(f"'{folder}' exists: choose another folder, or allow it to be replaced.")
    _, save, _ = _safetensors()
    contents = {
        name: group if isinstance(group, bytes) else save({key: _as_array(value) for key, value in group.items()})
        for name, group in weights.items()
    }
    manifest = _with_checksums(manifest, contents)
    manifest.pop("pictures", None)
    if pictures:
        manifest["pictures"] = _checksums(pictures)
    check_manifest(manifest)
    try:
        text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelPackageError(f"{MANIFEST} cannot hold every value ({error}): use plain finite ones.") from error
    contents |= {MANIFEST: f"{text}\n".encode(), MODEL_CARD: model_card.encode(), **(pictures or {})}
    write_files(folder, contents)
    return open_package(folder)


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a new folder that takes the place of `folder` when all are written.

    Raises:
        ModelPackageError: the place cannot be written to.
    """
    try:
        with replaced_when_complete(folder) as temporary:
            temporary.mkdir()
            for name, data in contents.items():
                (temporary / name).write_bytes(data)
    except OSError as error:
        raise ModelPackageError(f"'{folder}' cannot be written: check the permission and the free space.") from error


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Check a manifest against the schema, and what the schema cannot say.

    Raises:
        ModelPackageError: the sentence names the field and the reason.
        MissingDependencyError: jsonschema is not installed; everything else was checked.
    """
    version = manifest.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ModelPackageError(
            f"field 'schema_version': {version} is newer than this software, which reads {SCHEMA_VERSION}: "
            "update the H3DELandmarks extension."
        )
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import best_match
    except ImportError as error:
        _check_relations(manifest)
        raise MissingDependencyError(
            "Checking a model package needs the Python package jsonschema: install it (pip install jsonschema)."
        ) from error
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    violation = best_match(Draft202012Validator(schema).iter_errors(manifest))
    if violation is not None:
        reason = violation.message if len(violation.message) <= 200 else violation.message[:200] + "..."
        raise ModelPackageError(f"{_field(violation.json_path)}: {reason}; correct {MANIFEST} or {_GET_AGAIN}.")
    _check_relations(manifest)


def _field(json_path: str) -> str:
    return MANIFEST if json_path == "$" else f"field '{json_path.removeprefix('$.')}'"


def _check_relations(manifest: Mapping[str, Any]) -> None:
    """What one field of a manifest demands of another."""
    try:
        problem = next(_broken_relations(manifest), None)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"{MANIFEST} is not complete ({type(error).__name__}: {error})"
    except InputError as error:
        problem = f"field 'scheme': {str(error).rstrip('.')}"
    if problem is not None:
        raise ModelPackageError(f"{problem}; correct {MANIFEST} or {_GET_AGAIN}.")


def _broken_relations(manifest: Mapping[str, Any]) -> Iterator[str]:
    names = LandmarkScheme.from_dict(manifest["scheme"]).names
    if len({stage["shape"][2] == 1 for stage in manifest["stages"]}) > 1:
        yield "field 'stages': some have crops of one slice, for radiographs, and others have more"
    for s, stage in enumerate(manifest["stages"]):
        for g, group in enumerate(stage["groups"]):
            for name in sorted(set(group["landmarks"]) - set(names)):
                yield f"field 'stages[{s}].groups[{g}].landmarks': '{name}' is not a landmark of the scheme"
    radii = manifest["calibration"]["radius90_mm"]
    if len(radii) != len(names):
        yield f"field 'calibration.radius90_mm': {len(radii)} radii for {len(names)} landmarks"
    if not manifest["intensity"]["low"] < manifest["intensity"]["high"]:
        yield "field 'intensity': low must be less than high"
    checksums: dict[str, str] = {}
    for entry in _weight_entries(manifest):
        if checksums.setdefault(entry["file"], entry["sha256"]) != entry["sha256"]:
            yield f"the weights file '{entry['file']}' is named with different SHA-256"


def _weight_entries(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every place of a manifest that names a weights file."""
    entries = [stage["weights"] for stage in manifest["stages"]]
    return entries + ([manifest["shape_model"]] if "shape_model" in manifest else [])


def _with_checksums(manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> dict[str, Any]:
    """A copy of a manifest with the SHA-256 of the files as they are."""
    manifest = deepcopy(dict(manifest))
    try:
        entries = _weight_entries(manifest)
        named = {entry["file"] for entry in entries}
    except (KeyError, TypeError) as error:
        raise ModelPackageError(f"{MANIFEST} does not say which weights its stages use: name them.") from error
    if named != set(contents):
        differing = ", ".join(sorted(named ^ set(contents)))
        raise ModelPackageError(f"{MANIFEST} and the given weights must name the same files, unlike {differing}.")
    for entry in entries:
        entry["sha256"] = hashlib.sha256(contents[entry["file"]]).hexdigest()
    return manifest


def _checksums(files: Mapping[str, bytes]) -> list[dict[str, str]]:
    return [{"file": name, "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()]


def _parse_manifest(path: Path, data: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        manifest = json.loads(data.decode("utf-8-sig"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ModelPackageError(f"The {MANIFEST} of '{path}' is damaged: {_GET_AGAIN}.") from error
    if not isinstance(manifest, dict):
        raise ModelPackageError(f"The {MANIFEST} of '{path}' is not a manifest: {_GET_AGAIN}.")
    return manifest


def _as_array(tensor: Any) -> np.ndarray:
    """A numpy array from an array or a torch tensor on any device."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().numpy()
    return np.ascontiguousarray(tensor)


def _safetensors() -> tuple[Callable, Callable, type[Exception]]:
    """safetensors' load and save for numpy, and its exception."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load, save
    except ImportError as error:
        raise MissingDependencyError(
            "Model weights need the Python package safetensors: install it (pip install safetensors)."
        ) from error
    return load, save, SafetensorError


def _read_member(path: Path, name: str, limit: int) -> bytes:
    """The bytes of a file in a package folder or zip file.

    Args:
        path: folder or zip file.
        name: bare file name; anything with a folder in it is refused.
        limit: most bytes that the file may have, unpacked.
    """
    if Path(name).name != name:
        raise ModelPackageError(f"The model package '{path}' names the file '{name}' outside itself: do not use it.")
    try:
        if path.is_dir():
            _check_size(path, name, (path / name).stat().st_size, limit)
            return (path / name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(_zip_folder(archive) + name)
            _check_size(path, name, member.file_size, limit)
            return archive.read(member)
    except (FileNotFoundError, KeyError) as error:
        raise ModelPackageError(f"'{path}' lacks {name}, so it is no model package: choose another.") from error
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise ModelPackageError(f"'{name}' in the model package '{path}' cannot be read: {_GET_AGAIN}.") from error


def _check_size(path: Path, name: str, size: int, limit: int) -> None:
    if size > limit:
        raise ModelPackageError(f"'{name}' in '{path}' is larger than {limit >> 20} MB: do not use this model package.")


def _has_member(path: Path, name: str) -> bool:
    if path.is_dir():
        return (path / name).is_file()
    with zipfile.ZipFile(path) as archive:
        return _zip_folder(archive) + name in archive.namelist()


def _zip_folder(archive: zipfile.ZipFile) -> str:
    """'' or 'folder/': where the manifest lies, because many programs zip the folder and not its content."""
    found = [name for name in archive.namelist() if name == MANIFEST or name.endswith(f"/{MANIFEST}")]
    shallow = [name for name in found if name.count("/") <= 1]
    return shallow[0].removesuffix(MANIFEST) if len(shallow) == 1 else ""
