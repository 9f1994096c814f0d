"""Options that say which landmarks are looked for, and in which part of a scan."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from H3DELandmarksLib.errors import InputError

if TYPE_CHECKING:
    from H3DELandmarksLib.detection import Detector
    from H3DELandmarksLib.geometry import Volume
    from H3DELandmarksLib.landmarks import LandmarkScheme, LandmarkSet


def add_selection(parser: argparse.ArgumentParser) -> None:
    """``--landmarks`` and ``--roi``."""
    parser.add_argument(
        "--landmarks", nargs="+", metavar="NAME", help="landmarks to report (default: all landmarks of the model)"
    )
    parser.add_argument(
        "--roi", metavar="FILE",
        help="search only in this box, a region of interest saved from Slicer (.mrk.json); others stay unknown",
    )


def check_selection(options: argparse.Namespace, scheme: LandmarkScheme) -> None:
    """Refuse names that a model does not have.

    Raises:
        InputError: which name it is, and which there are.
    """
    for name in options.landmarks or ():
        if name not in scheme.names:
            names = ", ".join(scheme.names)
            raise InputError(f"The model has no landmark '{name}': choose among {names}.")


def detect_selected(
    detector: Detector, volume: Volume, options: argparse.Namespace, progress: Callable[[float, str], None]
) -> LandmarkSet:
    """Find the landmarks that the options ask for, in the order of the model.

    Args:
        detector: of the model.
        volume: the whole scan.
        options: with ``landmarks`` and ``roi``, None where not given.
        progress: receives the fraction done and what is being done.

    Raises:
        InputError: the region cannot be read, or lies outside the scan.
    """
    from H3DELandmarksLib.region import read_region

    region = read_region(options.roi) if options.roi else None
    landmarks = detector.detect(region.crop(volume) if region else volume, progress=progress)
    if region:
        landmarks = region.limit(landmarks)
    if options.landmarks:
        landmarks = landmarks.ordered_as(tuple(name for name in landmarks.names if name in options.landmarks))
    return landmarks
