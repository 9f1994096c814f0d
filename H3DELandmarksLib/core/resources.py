"""Where the models and sample data lie that come with the software."""

from __future__ import annotations

from pathlib import Path

import H3DELandmarksLib


def resource_folder(name: str) -> Path:
    """A folder of what comes with the software, such as ``Models``; it need not exist.

    It lies inside the library where Slicer or pip has installed it, since other extensions may have a folder of the
    same name beside it, and beside the library in a checkout.
    """
    library = Path(H3DELandmarksLib.__file__).resolve().parent
    inside = library / "Resources" / name
    return inside if inside.is_dir() else library.parent / "Resources" / name
