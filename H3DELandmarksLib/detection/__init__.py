"""From a volume to a landmark set: search of the whole field of view, refinement in crops, decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from H3DELandmarksLib.detection.detector import Detector

__all__ = ["Detector"]


def __getattr__(name: str) -> Any:
    if name == "Detector":
        from H3DELandmarksLib.detection.detector import Detector

        return Detector
    raise AttributeError(name)
