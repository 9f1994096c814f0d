"""A model package: a folder or zip file with a manifest, weights and a model card that say all that inference needs.

The manifest is a `formats.manifest.Manifest`. Weights are safetensors files, named in the manifest with their SHA-256,
and are never used without comparing it. A zip file is read in place: nothing is extracted, and only files that the
manifest names are touched.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.core.anatomy import MAX_MM, Anatomy, Factors
from H3DELandmarksLib.core.errors import MissingDependencyError, ModelPackageError
from H3DELandmarksLib.core.files import atomic_write, reason_of
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.formats.lineage import ModelReference
from H3DELandmarksLib.formats.manifest import Manifest, Stage, upgraded
from H3DELandmarksLib.formats.reading import FormatError, build, can_validate, parse_json, to_plain
from H3DELandmarksLib.formats.untrusted_zip import COMPRESSIONS, DAMAGED, HARMLESS_BYTES

MANIFEST = "manifest.json"
MODEL_CARD = "model-card.md"
SHAPE_FILE = "shape.safetensors"

_MAX_TEXT_BYTES = 4 * 2**20
_MAX_WEIGHTS_BYTES = 2 * 2**30
_GET_AGAIN = "get the model package again from its source"
_TOLD = ("cases", "following")  # of the calibration; they change nothing of what a model finds
# Entries of a manifest that determine what a model finds.
_DETERMINES = (
    "intensity",
    "outside",
    "max_spacing_mm",
    "height_mm",
    "stages",
    "shape_model",
    "calibration",
    "bone_surface",
)


@dataclass(frozen=True)
class ModelPackage:
    """A model on disk whose manifest has been checked.

    Attributes:
        path: folder or zip file.
        manifest: what manifest.json says.
        content: manifest.json as it was written, for `package_digest`; everything else reads `manifest`.
    """

    path: Path
    manifest: Manifest
    content: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Identifier, for example ``mouse-skull``."""
        return self.manifest.id

    @property
    def version(self) -> str:
        """Version of the model, for example ``1.0.0``."""
        return self.manifest.version

    @property
    def scheme(self) -> LandmarkScheme:
        """The landmarks that the model finds."""
        return self.manifest.scheme

    @property
    def is_2d(self) -> bool:
        """Whether the model reads radiographs, and not volumes."""
        return self.manifest.is_2d

    @property
    def reference(self) -> ModelReference:
        """The model by what it is called and what it is."""
        return ModelReference(self.id, self.version, package_digest(self))

    @property
    def weight_files(self) -> dict[str, str]:
        """SHA-256 of every weights file, by file name."""
        return {entry.file: entry.sha256 for entry in self.manifest.weight_files}

    @property
    def picture_files(self) -> dict[str, str]:
        """SHA-256 of every picture of the model card, by file name."""
        return {entry.file: entry.sha256 for entry in self.manifest.pictures}

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
        data = _read_member(self.path, name, _MAX_WEIGHTS_BYTES if name in weights else _MAX_TEXT_BYTES)
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
        safetensors = _safetensors()
        try:
            weights: dict[str, np.ndarray] = safetensors.numpy.load(self.read(file))
            return weights
        except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ModelPackageError(f"'{file}' of the model '{self.id}' holds no weights: {_GET_AGAIN}.") from error

    def load_stage(self, stage: Stage, thorough: bool = False) -> dict[str, np.ndarray]:
        """The weights of a stage, as `load_weights`, where its network can run with them.

        Args:
            stage: of the manifest.
            thorough: whether the way of a crop through the network is tried in any case.

        Raises:
            ModelPackageError: they are missing, damaged, or not of that network.
            MissingDependencyError: safetensors or PyTorch is not installed.
        """
        weights = self.load_weights(stage.weights.file)
        try:
            from H3DELandmarksLib.networks.checking import check_stage
        except ImportError as error:
            raise MissingDependencyError("Checking a model needs PyTorch: install it (pip install torch).") from error
        try:
            check_stage(stage, weights, thorough)
        except ValueError as error:
            raise ModelPackageError(
                f"The stage '{stage.name}' of the model '{self.id}' cannot run, since {error}: {_GET_AGAIN}."
            ) from error
        return weights

    def load_shape(self) -> ShapeModel:
        """Mean shape (K, 3) LPS mm and its spread (K,) mm.

        Raises:
            ModelPackageError: the file is missing or damaged, or is not the shape of the scheme's landmarks.
        """
        stored = self.load_weights(self.manifest.shape_model.file)
        count = len(self.scheme)
        mean, spread = stored.get("mean"), stored.get("tolerance")
        if mean is None or spread is None or mean.shape != (count, 3) or spread.shape != (count,):
            raise ModelPackageError(f"The model '{self.id}' holds no shape of its {count} landmarks: {_GET_AGAIN}.")
        if not ((np.abs(mean) <= MAX_MM).all() and (spread > 0).all() and (spread <= MAX_MM).all()):
            raise ModelPackageError(f"The shape of the model '{self.id}' has values that cannot be: {_GET_AGAIN}.")
        return ShapeModel(mean.astype(float), spread.astype(float))

    def load_anatomy(self) -> Anatomy | None:
        """How the anatomy varies and how the networks err, with which points are placed together; None without it.

        Raises:
            ModelPackageError: the file is missing or damaged.
        """
        stored = self.load_weights(self.manifest.shape_model.file)
        tolerance = self.manifest.calibration.confidence.tolerance_mm
        try:
            return Anatomy.from_arrays(stored, len(self.scheme), tolerance)
        except ValueError as error:
            raise ModelPackageError(f"The anatomy of the model '{self.id}' {error}: {_GET_AGAIN}.") from error

    def model_card(self) -> str:
        """Text of the model card (Markdown)."""
        return self.read(MODEL_CARD).decode("utf-8", errors="replace")

    def verify(self) -> None:
        """Check the manifest as its format demands, every file against its SHA-256, and that each network can run.

        Raises:
            ModelPackageError: what is wrong and what to do.
            MissingDependencyError: pydantic or PyTorch is not installed.
        """
        if not can_validate():
            raise MissingDependencyError(
                "Checking a model package needs the Python package pydantic: install it (pip install pydantic)."
            )
        _manifest(self.content)
        self.model_card()
        self.load_shape()
        self.load_anatomy()
        for stage in self.manifest.stages:
            self.load_stage(stage, thorough=True)
        for name in self.picture_files:
            self.read(name)


def package_digest(package: ModelPackage) -> str:
    """SHA-256 of everything that determines what a model finds; weights by their SHA-256 in the manifest.

    Title, definitions, card, pictures, version, reports and names of files are left out, so that it stays the same when
    a package is described anew, promoted or shared.
    """
    content = {name: package.content[name] for name in _DETERMINES if name in package.content}
    content["scheme"] = {name: package.scheme.to_dict()[name] for name in ("pairs", "lateral")}
    content["landmarks"] = package.scheme.names
    content["calibration"] = {name: value for name, value in content["calibration"].items() if name not in _TOLD}
    content["stages"] = [{**stage, "weights": stage["weights"]["sha256"]} for stage in content["stages"]]
    content["shape_model"] = content["shape_model"]["sha256"]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
    try:
        content = upgraded(parse_json(_read_member(path, MANIFEST, _MAX_TEXT_BYTES)))
        manifest = build(Manifest, content)
    except FormatError as error:
        raise ModelPackageError(
            f"The {MANIFEST} of the model package '{path}' cannot be used, {error}; correct it or {_GET_AGAIN}."
        ) from error
    package = ModelPackage(path, manifest, content)
    for name in package.files:
        if not _has_member(path, name):
            raise ModelPackageError(f"The model package '{path}' lacks its file '{name}': {_GET_AGAIN}.")
    return package


def write_package(
    folder: str | Path,
    manifest: Manifest | Mapping[str, Any],
    weights: Mapping[str, Mapping[str, Any] | bytes],
    model_card: str,
    *,
    pictures: Mapping[str, bytes] | None = None,
    replace: bool = False,
) -> ModelPackage:
    """Write a model package; the folder appears only when it is complete.

    Args:
        folder: where to write; its parent exists.
        manifest: a record, or an object of the same entries in which the SHA-256 of weights may be left out: they and
            the pictures are filled in here.
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
    save = _safetensors().numpy.save
    contents = {
        name: group if isinstance(group, bytes) else save({key: _as_array(value) for key, value in group.items()})
        for name, group in weights.items()
    }
    content = _with_checksums(to_plain(manifest), contents)
    content.pop("pictures", None)
    if pictures:
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in pictures.items()}
        content["pictures"] = [{"file": name, "sha256": digest} for name, digest in sums.items()]
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelPackageError(f"{MANIFEST} cannot hold every value ({error}): use plain finite ones.") from error
    _manifest(content)
    contents |= {MANIFEST: f"{text}\n".encode(), MODEL_CARD: model_card.encode(), **(pictures or {})}
    write_files(folder, contents)
    return open_package(folder)


def _manifest(content: Any) -> Manifest:
    """The record of a manifest's content.

    Raises:
        ModelPackageError: what is wrong with it.
    """
    try:
        return build(Manifest, upgraded(content))
    except FormatError as error:
        raise ModelPackageError(f"{MANIFEST} cannot be used, {error}; correct it or {_GET_AGAIN}.") from error


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a new folder that takes the place of `folder` when all are written.

    Raises:
        ModelPackageError: the place cannot be written to.
    """
    try:
        with atomic_write(folder) as temporary:
            temporary.mkdir()
            for name, data in contents.items():
                (temporary / name).write_bytes(data)
    except OSError as error:
        raise ModelPackageError(f"'{folder}' cannot be written: {reason_of(error)}.") from error


def _with_checksums(manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> dict[str, Any]:
    """A copy of a manifest with the SHA-256 of the files as they are."""
    copy = deepcopy(dict(manifest))
    try:
        entries = [*(stage["weights"] for stage in copy["stages"]), copy["shape_model"]]
        named = {entry["file"] for entry in entries}
    except (KeyError, TypeError) as error:
        raise ModelPackageError(f"{MANIFEST} does not say which weights its stages use: name them.") from error
    if named != set(contents):
        differing = ", ".join(sorted(named ^ set(contents)))
        raise ModelPackageError(f"{MANIFEST} and the given weights must name the same files, unlike {differing}.")
    for entry in entries:
        entry["sha256"] = hashlib.sha256(contents[entry["file"]]).hexdigest()
    return copy


def _as_array(tensor: Any) -> np.ndarray:
    """A numpy array from an array or a torch tensor on any device."""
    if hasattr(tensor, "detach"):
        # Not tensor.numpy(): PyTorch 2.2, the last for Intel Macs, has none beside numpy 2.
        tensor = np.from_dlpack(tensor.detach().cpu().contiguous())
    return np.ascontiguousarray(tensor)


def _safetensors() -> Any:
    """The package safetensors; MissingDependencyError where it is not installed."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingDependencyError(
            "Model weights need the Python package safetensors: install it (pip install safetensors)."
        ) from error
    return safetensors


# How much larger than in a zip file weights may be; random numbers hardly shrink.
MAX_GROWTH = 20
_DAMAGED = (OSError, *DAMAGED)


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
            file = path / name
            if not file.is_file():  # nor a device or pipe
                raise FileNotFoundError(name)
            if file.is_symlink() and limit == _MAX_TEXT_BYTES:
                raise ModelPackageError(
                    f"'{name}' in '{path}' is a link to another place: do not use this model package."
                )
            _check_size(path, name, file.stat().st_size, limit)
            return file.read_bytes()
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(_zip_folder(archive) + name)
            if member.compress_type not in COMPRESSIONS:
                raise ValueError("it is packed in an unusual way")
            _check_size(path, name, member.file_size, min(limit, HARMLESS_BYTES + MAX_GROWTH * member.compress_size))
            return archive.read(member)
    except (FileNotFoundError, KeyError) as error:
        raise ModelPackageError(f"'{path}' lacks {name}, so it is no model package: choose another.") from error
    except _DAMAGED as error:
        raise ModelPackageError(f"'{name}' in the model package '{path}' cannot be read: {_GET_AGAIN}.") from error


def _check_size(path: Path, name: str, size: int, limit: int) -> None:
    if size > limit:
        raise ModelPackageError(f"'{name}' in '{path}' is far too large: do not use this model package.")


def _has_member(path: Path, name: str) -> bool:
    if path.is_dir():
        return (path / name).is_file()
    try:
        with zipfile.ZipFile(path) as archive:
            return _zip_folder(archive) + name in archive.namelist()
    except _DAMAGED:
        return False


def _zip_folder(archive: zipfile.ZipFile) -> str:
    """'' or 'folder/': where the manifest lies, because many programs zip the folder and not its content."""
    found = [name for name in archive.namelist() if name == MANIFEST or name.endswith(f"/{MANIFEST}")]
    shallow = [name for name in found if name.count("/") <= 1]
    return shallow[0].removesuffix(MANIFEST) if len(shallow) == 1 else ""


# Radius that holds 90 % of points, in standard deviations of a coordinate, in a plane and in space.
NINETY_PERCENT = {2: 2.146, 3: 2.5}
# Where nobody has measured what following is worth, a point is moved only if it is by far better off.
CAUTION = 4.0


def anatomy_of(package: ModelPackage) -> Anatomy:
    """What a model was packaged with to place its points together, with what calibration has taught of corrections.

    Without the former, the mean shape of the training cases with the spread of each landmark, and points err each on
    its own. (The variation that recognition knows is that of few calibration cases: it takes ordinary points of others
    for errors.)

    Raises:
        ModelPackageError: the package's shape is missing or damaged.
    """
    calibration, anatomy = package.manifest.calibration, package.load_anatomy()
    if anatomy is None:
        shape, axes = package.load_shape(), 2 if package.is_2d else 3
        nothing, tolerance = np.zeros((0, *shape.mean.shape)), calibration.confidence.tolerance_mm
        known = Factors(nothing, np.maximum(shape.tolerance, 1e-3) / np.sqrt(axes))
        radius = np.array(calibration.radius90_mm)
        usual = float(np.median(radius[radius > 0])) if (radius > 0).any() else tolerance
        errors = Factors(nothing, np.where(radius > 0, radius, usual) / NINETY_PERCENT[axes])
        anatomy = Anatomy(shape.mean * (1, 1, axes == 3), known, errors, tolerance)
    measured = calibration.following
    if measured is None:
        return replace(anatomy, caution=CAUTION)
    return replace(anatomy, caution=np.inf if measured.caution is None else measured.caution, scales=measured.scales)
