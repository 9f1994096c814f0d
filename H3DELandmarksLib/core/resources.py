"""What comes with the software or lies beside it: models, sample data, and the research package.

The extension for Slicer comes without the research package: what only the command line and laboratories need.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import H3DELandmarksLib
from H3DELandmarksLib.core.errors import MissingDependencyError


def resource_folder(name: str) -> Path:
    """A folder of what comes with the software, such as ``Models``; it need not exist.

    It lies inside the library where Slicer or pip has installed it, since other extensions may have a folder of the
    same name beside it, and beside the library in a checkout.
    """
    library = Path(H3DELandmarksLib.__file__).resolve().parent
    inside = library / "Resources" / name
    return inside if inside.is_dir() else library.parent / "Resources" / name


PACKAGE = "H3DELandmarksResearch"


def is_research_installed() -> bool:
    """Whether the research package can be imported here."""
    return find_spec(PACKAGE) is not None


def research_module(name: str, purpose: str) -> ModuleType:
    """A module of the research package.

    Args:
        name: dotted name below the package, for example ``phantom``.
        purpose: what it is needed for, to begin the sentence with, for example "The phantom".

    Raises:
        MissingDependencyError: the package is not installed.
    """
    if not is_research_installed():
        raise MissingDependencyError(
            f"{purpose} needs the research package, which the extension for Slicer leaves out: "
            "run 'pip install .' in a copy of the project, or work there."
        )
    return import_module(f"{PACKAGE}.{name}")
