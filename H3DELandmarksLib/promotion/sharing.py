"""A model as one zip file for another site: package, card, lineage, checksums, and nothing else.

The file is also a model package as every other command reads it. One that comes from elsewhere is trusted in nothing:
it is checked completely, reduced to what a share may hold, and written anew before it takes its place.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from H3DELandmarksLib.cohort import strict_json as strict
from H3DELandmarksLib.cohort.untrusted_zip import DAMAGED, checked_entries, extract, refused, said_of_files
from H3DELandmarksLib.errors import InputError, ModelPackageError
from H3DELandmarksLib.files import replaced_when_complete
from H3DELandmarksLib.models import ModelPackage, available_models, find_model, open_package, registry, write_package
from H3DELandmarksLib.models.history import read_history
from H3DELandmarksLib.models.lineage import package_digest
from H3DELandmarksLib.models.package import MANIFEST, MODEL_CARD
from H3DELandmarksLib.models.versions import add_version
from H3DELandmarksLib.promotion.comparison import Comparison
from H3DELandmarksLib.promotion.shared_card import shared_card
from H3DELandmarksLib.promotion.shared_manifest import shared_manifest

SHARE = "share.json"
FORMAT, FORMAT_VERSION = "h3delandmarks-model", 1
_WEIGHTS = re.compile(r"(?:stage-[0-9]{1,3}|shape)\.safetensors")
_MOST_BYTES = 4 * 2**30


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
        content = _reduced(package, Path(folder) / "package", _comparison(package))
        files = {name: content.read(name) for name in content.files}
        said = {
            "format": FORMAT, "format_version": FORMAT_VERSION, "digest": package_digest(content),
            "files": {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                      for name, data in files.items()},
        }  # fmt: skip
        _write_zip(path, {**files, SHARE: strict.dump(said)})
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
            package = _checked(path, Path(folder))
            reduced = _reduced(package, Path(folder) / "reduced", None)
        except DAMAGED as error:
            raise refused(path, f"it is damaged or was changed ({type(error).__name__})") from error
        except FileNotFoundError as error:
            raise InputError(f"'{path}' does not exist: check the path.") from error
        except (OSError, ModelPackageError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise refused(path, f"its content is no usable model ({reason})") from error
        digest = package_digest(reduced)
        known = [e.package for e in available_models() if e.package and e.id == reduced.id]
        is_new = all(package_digest(other) != digest for other in known)
        kept = add_version(reduced, reduced.manifest, package.model_card(), "add", {})
    current = find_model(kept.id)
    return Added(kept, package.version, is_new, current.version == kept.version)


def _reduced(package: ModelPackage, folder: Path, comparison: Comparison | None) -> ModelPackage:
    """The package with nothing but what may be shared; tensors are written anew, without remarks in their files."""
    manifest, names = shared_manifest(package)
    weights = {new: package.load_weights(old) for new, old in names.items()}
    reduced = write_package(folder, manifest, weights, shared_card(manifest, comparison))
    reduced.verify()
    return reduced


def _comparison(package: ModelPackage) -> Comparison | None:
    """How the version compared when it was promoted here."""
    digest = package_digest(package)
    for entry in reversed(read_history(registry.user_folder(), package.id)):
        if entry.event == "promote" and entry.digest == digest and entry.details.get("comparison"):
            try:
                return Comparison.from_dict(entry.details["comparison"])
            except ValueError:
                return None
    return None


def _write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    try:
        with replaced_when_complete(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, data in files.items():
                entry = zipfile.ZipInfo(name)  # a fixed date
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror}): check the folder and its space.") from error


def _checked(path: Path, folder: Path) -> ModelPackage:
    """The package of a shared file, extracted aside and checked."""
    with zipfile.ZipFile(path) as archive:
        entries = checked_entries(path, archive, _may_hold, {SHARE, MANIFEST, MODEL_CARD}, "models share")
        if sum(entry.file_size for entry in entries.values()) > _MOST_BYTES:
            raise refused(path, "it is far too large")
        files, more = said_of_files(path, archive, entries, SHARE, (FORMAT, FORMAT_VERSION), ("digest",))
        for name, said in files.items():
            extract(path, archive, entries[name], said, folder / "shared" / name)
    package = open_package(folder / "shared")
    package.verify()
    if set(package.files) != set(files) or package_digest(package) != more["digest"]:
        raise refused(path, "it is not the model that it says it is")
    return package


def _may_hold(name: str) -> bool:
    return name in (SHARE, MANIFEST, MODEL_CARD) or _WEIGHTS.fullmatch(name) is not None


