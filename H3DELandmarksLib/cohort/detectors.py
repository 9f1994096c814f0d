"""Detectors by what they were made of; programs that run many commands keep the ones used last."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme

if TYPE_CHECKING:
    from H3DELandmarksLib.detection import Detector
    from H3DELandmarksLib.models import ModelPackage

# The one used last at the end; None where each command is a process of its own.
_kept: dict[tuple[object, ...], Detector] | None = None
MOST_KEPT = 2  # one that finds where to search, and one that searches there
_lock = threading.RLock()


def load_detector(
    model: str, device: str = "auto", backend: str = "auto", precision: str = "auto", landmarks: Sequence[str] = ()
) -> Detector:
    """The detector of a model given by id, id@version or path.

    Args:
        model: which one.
        device, backend, precision: as for `Detector`.
        landmarks: names that it must have.
    """
    from H3DELandmarksLib.models import find_model

    package = find_model(model)  # first: it fails within a moment, while PyTorch takes seconds to load
    check_names(landmarks, package.scheme)
    try:
        from H3DELandmarksLib.detection import Detector
    except ImportError:  # also where another thread could not import it meanwhile, which hides why
        from H3DELandmarksLib.detection.detector import Detector

    with _lock:
        if _kept is None:
            return Detector(package, device, backend, precision)
        key = (package.path, _state(package), device, backend, precision)
        detector = _kept.pop(key, None)
        if detector is None or detector.has_fallen_back:  # its GPU may have memory again
            detector = Detector(package, device, backend, precision)
        _kept[key] = detector
        while len(_kept) > MOST_KEPT:
            del _kept[next(iter(_kept))]
        return detector


def keep_detectors() -> None:
    """From now on keep the detectors that were used last in memory, for programs that run many commands."""
    global _kept
    _kept = {}


def _state(package: ModelPackage) -> tuple[tuple[int, int] | None, ...]:
    """Size and time of every file of a package: a detector stands for the files that it was made of."""
    folder = package.path if package.path.is_dir() else None
    paths = [folder / name for name in package.files] if folder else [package.path]
    return tuple((path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None for path in paths)


def check_names(chosen: Sequence[str] | None, scheme: LandmarkScheme) -> None:
    """Raises InputError where a model has no landmark of a name."""
    for name in chosen or ():
        if name not in scheme.names:
            names = ", ".join(scheme.names)
            raise InputError(f"The model has no landmark '{name}': choose among {names}.")
