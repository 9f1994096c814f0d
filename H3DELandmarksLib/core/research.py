"""The research package beside the library: found where it is installed, and missed in one sentence where it is not.

The extension for Slicer comes without it: phantom, simulated radiographs, converters of published data sets, import of
published checkpoints and the training configurations of the bundled models.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from H3DELandmarksLib.core.errors import MissingDependencyError

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
    _research_package(purpose)
    return import_module(f"{PACKAGE}.{name}")


def module_of_either(full_name: str, purpose: str) -> ModuleType:
    """A module of the library, or of the research package, by its full name; see `research_module`."""
    package, _, name = full_name.partition(".")
    return research_module(name, purpose) if package == PACKAGE else import_module(full_name)


def research_configurations(purpose: str = "The training configurations") -> Path:
    """Folder of the training configurations of the bundled models.

    Args:
        purpose: what it is needed for, see `research_module`.

    Raises:
        MissingDependencyError: the research package, which brings them, is not installed.
    """
    return Path(str(_research_package(purpose).__file__)).parent / "configurations"


def _research_package(purpose: str) -> ModuleType:
    if not is_research_installed():
        raise MissingDependencyError(
            f"{purpose} needs the research package, which the extension for Slicer leaves out: "
            "install it with 'pip install slicer-h3delandmarks' or work in a checkout of the project."
        )
    return import_module(PACKAGE)
