"""Options that say which landmarks are looked for, and in which part of a scan."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from H3DELandmarksLib.errors import InputError

if TYPE_CHECKING:
    from H3DELandmarksLib.detection import Detector
    from H3DELandmarksLib.geometry import Volume
    from H3DELandmarksLib.landmarks import LandmarkScheme, LandmarkSet

logger = logging.getLogger(__name__)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """``--landmarks``, and ``--roi`` or ``--roi-from`` with what belongs to it."""
    parser.add_argument(
        "--landmarks", nargs="+", metavar="NAME", help="landmarks to report (default: all landmarks of the model)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--roi", metavar="FILE",
        help="search only in this box, a region of interest saved from Slicer (.mrk.json); others stay unknown",
    )
    where.add_argument(
        "--roi-from", metavar="ID",
        help="search only where this model sees or expects its points, such as head-neck-ct for models of the jaw",
    )
    parser.add_argument(
        "--roi-points", nargs="+", metavar="NAME", help="with --roi-from: only around these of its points"
    )
    parser.add_argument(
        "--roi-margin", type=_margin, default=20.0, metavar="MM",
        help="with --roi-from: how far around the points (default: %(default)g)",
    )


def _margin(text: str) -> float:
    try:
        margin = float(text)
    except ValueError:
        margin = -1.0
    if not 0 < margin < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no distance in mm: write a number above 0")
    return margin


def load_region_detector(options: argparse.Namespace) -> Detector | None:
    """The detector of the model that finds where to search; None without ``--roi-from``.

    Raises:
        InputError: there is no such model, it has no such points, or points are named without a model.
    """
    if not options.roi_from:
        if options.roi_points:
            raise InputError("--roi-points belongs to --roi-from: say which model finds them.")
        return None
    from H3DELandmarksLib.models import find_model

    package = find_model(options.roi_from)
    _check_names(options.roi_points, package.scheme)
    from H3DELandmarksLib.detection import Detector

    return Detector(package, options.device, options.backend, options.precision)


def check_selection(options: argparse.Namespace, scheme: LandmarkScheme) -> None:
    """Refuse names that a model does not have.

    Raises:
        InputError: which name it is, and which there are.
    """
    _check_names(options.landmarks, scheme)


def _check_names(chosen: list[str] | None, scheme: LandmarkScheme) -> None:
    for name in chosen or ():
        if name not in scheme.names:
            names = ", ".join(scheme.names)
            raise InputError(f"The model has no landmark '{name}': choose among {names}.")


def detect_selected(
    detector: Detector,
    volume: Volume,
    options: argparse.Namespace,
    progress: Callable[[float, str], None],
    region_detector: Detector | None = None,
) -> LandmarkSet:
    """Find the landmarks that the options ask for, in the order of the model.

    Args:
        detector: of the model.
        volume: the whole scan.
        options: as of `add_selection`.
        progress: receives the fraction done and what is being done.
        region_detector: finds where to search, see `load_region_detector`. Where it finds too little, a warning says
            so, and the whole scan is searched.

    Raises:
        InputError: the region cannot be read, or lies outside the scan.
    """
    from H3DELandmarksLib.region import read_region

    region = read_region(options.roi) if options.roi else None
    part = region.crop(volume) if region else volume
    if region_detector:
        part = _found_part(region_detector, volume, options, lambda share, text: progress(0.5 * share, text))
        progress = _second_half(progress)
    landmarks = detector.detect(part, progress=progress)
    if region:
        landmarks = region.limit(landmarks)
    if options.landmarks:
        landmarks = landmarks.ordered_as(tuple(name for name in landmarks.names if name in options.landmarks))
    return landmarks


def _second_half(progress: Callable[[float, str], None]) -> Callable[[float, str], None]:
    return lambda share, text: progress(0.5 + 0.5 * share, text)


def _found_part(
    detector: Detector, volume: Volume, options: argparse.Namespace, progress: Callable[[float, str], None]
) -> Volume:
    """The part of a scan around the places where a model sees or expects its points."""
    from H3DELandmarksLib.region import region_around

    places = detector.likely_places(volume, progress=progress)
    if places is not None:
        wanted = places.ordered_as(tuple(options.roi_points or places.names))
        try:
            return region_around(wanted, options.roi_margin, fewest=1).crop(volume)
        except InputError:
            logger.info("All places lie beyond the scan.")
    logger.warning("The model '%s' finds too few points here: the whole scan is searched.", detector.package.id)
    return volume
