"""Where model packages are found: bundled with the software, in a folder of the user's choice, and installed ones."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.core.files import TEMPORARY_PREFIX, restore_interrupted
from H3DELandmarksLib.core.resources import resource_folder
from H3DELandmarksLib.formats.versions import current_version, read_history, version_order
from H3DELandmarksLib.models.package import ModelPackage, open_package

FOLDER_VARIABLE = "H3DE_MODELS"


@dataclass(frozen=True)
class ModelEntry:
    """A place where a model package lies, usable or not.

    Attributes:
        path: folder or zip file.
        package: the opened package, None where it cannot be used.
        problem: why it cannot be used and what to do, None where it can.
    """

    path: Path
    package: ModelPackage | None
    problem: str | None = None

    @property
    def id(self) -> str:
        """The model's identifier; for a package that cannot be opened, the name of its folder or file."""
        return self.package.id if self.package else self.path.name.removesuffix(".zip")


def bundled_folder() -> Path:
    """The models that come with the software."""
    return resource_folder("Models")


def user_folder() -> Path:
    """The folder of installed models, by the custom of the operating system; it need not exist."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "H3DELandmarks" / "models"


def available_models() -> list[ModelEntry]:
    """Every model package in the user's, the extra (environment variable H3DE_MODELS) and the bundled folder.

    Packages that cannot be used are listed with their problem, as is an extra folder that cannot be read. Of several
    with the same id and version the first one counts, in that order of folders. Weights are not read.

    Returns:
        Entries sorted by id, newest version first; those with a problem at the end.
    """
    extra = os.environ.get(FOLDER_VARIABLE)
    folders = [user_folder(), *([Path(extra)] if extra else []), bundled_folder()]
    entries: dict[object, ModelEntry] = {}
    for folder in folders:
        for path in _package_paths(folder):
            entry = _entry(path)
            key = (entry.package.id, entry.package.version) if entry.package else path
            entries.setdefault(key, entry)
    if extra and not (os.path.isdir(extra) and os.access(extra, os.R_OK)):
        problem = f"'{extra}' (environment variable {FOLDER_VARIABLE}) cannot be read: its models are left out."
        entries[extra] = ModelEntry(Path(extra), None, problem)
    newest_first = sorted(
        entries.values(), key=lambda entry: version_order(entry.package.version if entry.package else ""), reverse=True
    )
    return sorted(newest_first, key=lambda entry: (entry.package is None, entry.id))


def find_model(id_or_path: str | Path) -> ModelPackage:
    """Find a model.

    Args:
        id_or_path: an id (its current version, which is the newest one where nobody has chosen), an id and version
            (``mouse-skull@1.0.0``), or a folder or zip file.

    Raises:
        ModelPackageError: no such model, with the available ids, or the package cannot be used.
    """
    wanted = str(id_or_path)
    entries = available_models()
    versions = {entry.package.version: entry.package for entry in entries if entry.package and entry.id == wanted}
    if versions:
        current = current_version(read_history(user_folder(), wanted), versions)
        return versions[current or next(iter(versions))]
    for entry in entries:
        if entry.package and wanted == f"{entry.package.id}@{entry.package.version}":
            return entry.package
    if Path(wanted).exists():
        return open_package(wanted)
    for entry in entries:
        if entry.problem and wanted == entry.id:
            raise ModelPackageError(entry.problem)
    raise ModelPackageError(_not_found(wanted, [entry.package.id for entry in entries if entry.package]))


def _package_paths(folder: Path) -> list[Path]:
    """Folders and zip files in a folder of models, without hidden ones and unfinished installations."""
    try:
        restore_interrupted(folder)
        visible = [path for path in folder.iterdir() if not path.name.startswith((".", "_", TEMPORARY_PREFIX))]
        return sorted(path for path in visible if path.is_dir() or path.suffix.lower() == ".zip")
    except OSError:
        return []


def _entry(path: Path) -> ModelEntry:
    try:
        return ModelEntry(path, open_package(path))
    except ModelPackageError as error:
        return ModelEntry(path, None, str(error))
    except Exception as error:  # whatever one package is, the others are listed
        return ModelEntry(path, None, f"'{path}' cannot be read as a model ({type(error).__name__}): move it away.")


def _not_found(wanted: str, ids: list[str]) -> str:
    known = sorted(set(ids))
    if not known:
        return f"There is no model '{wanted}', nor any other: install a model package, or give the path of one."
    close = get_close_matches(wanted, known, n=1)
    advice = f"did you mean '{close[0]}'?" if close else "choose one of them, or give the path of a model package."
    return f"There is no model '{wanted}' among {', '.join(known)}: {advice}"
