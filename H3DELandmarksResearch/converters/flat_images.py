"""Pictures of radiographs with points in pixels: pixel (x, y), counted from 0, lies at LPS (x * sx, y * sy, 0) mm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksLib.io.radiograph_files import PICTURE_EXTENSIONS

PixelSize = tuple[float, float]


def read_radiograph(path: Path, spacing: PixelSize) -> Volume:
    """Read a picture as gray values.

    Args:
        path: PNG, JPEG, BMP or TIFF, gray or color, with whole numbers of at most 16 bits.
        spacing: width and height of a pixel in mm.

    Returns:
        (X, Y, 1) uint8 or uint16, x to the right and y down.

    Raises:
        InputError: the file is missing, damaged or holds something else.
    """
    volume = read_volume(path, spacing)
    array = volume.array
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > np.iinfo(np.uint16).max:
        raise InputError(f"The image '{path}' holds values that are not whole numbers of 8 or 16 bits: convert it.")
    return Volume(array.astype(np.uint8 if array.dtype.itemsize == 1 else np.uint16, copy=False), volume.affine)


def points_on_image(path: Path, volume: Volume, names: tuple[str, ...], points: np.ndarray) -> LandmarkSet:
    """The landmarks of a picture.

    Args:
        path: the picture, for messages.
        volume: as `read_radiograph` gives it.
        names: K landmarks.
        points: (K, 2) pixel coordinates (x, y), whole numbers at pixel centers; NaN where missing.

    Raises:
        InputError: a point lies outside the picture.
    """
    edge = np.array(volume.array.shape[:2]) - 0.5
    inside = ((points >= -0.5) & (points <= edge)).all(axis=1)
    outside = [name for name, ok, p in zip(names, inside, points) if not ok and np.isfinite(p).all()]
    if outside:
        raise InputError(f"The points {', '.join(outside)} lie outside the image '{path}': check that both match.")
    index = np.column_stack([points, np.where(np.isnan(points).any(axis=1), np.nan, 0.0)])
    return LandmarkSet(names, volume.grid.lps_from_ijk(index))


def spacing_of(value: object, what: str) -> PixelSize:
    """Width and height of a pixel in mm from one number or two.

    Args:
        value: one number or a list of one or two, or a text such as 0.1 or 0.1x0.12.
        what: what states it, for the message.

    Raises:
        InputError: it is not one or two positive numbers.
    """
    try:
        parts = value.lower().split("x") if isinstance(value, str) else value
        numbers = np.atleast_1d(np.asarray(parts, dtype=float)).ravel()
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.size not in (1, 2) or not np.isfinite(numbers).all() or not (numbers > 0).all():
        raise InputError(f"{what} states the pixel size {value!r}: write it in mm, as 0.1 or 0.1x0.12.")
    return float(numbers[0]), float(numbers[-1])


def find_images(folder: Path) -> dict[str, list[Path]]:
    """All image files of a folder and its subfolders, by file name in lower case."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURE_EXTENSIONS and path.is_file():
            found.setdefault(path.name.lower(), []).append(path)
    return found
