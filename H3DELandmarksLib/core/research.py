"""The research package beside the library: found where it is installed, and missed in one sentence where it is not.

The extension for Slicer comes without it: what only the command line and laboratories need.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
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
    if not is_research_installed():
        raise MissingDependencyError(
            f"{purpose} needs the research package, which the extension for Slicer leaves out: "
            "run 'pip install .' in a copy of the project, or work there."
        )
    return import_module(f"{PACKAGE}.{name}")
