"""From a volume to a landmark set: search of the whole field of view, refinement in crops, decoding."""

from __future__ import annotations

__all__ = ["Detector"]


def __getattr__(name: str):
    if name == "Detector":
        from H3DELandmarksLib.detection.detector import Detector

        return Detector
    raise AttributeError(name)
