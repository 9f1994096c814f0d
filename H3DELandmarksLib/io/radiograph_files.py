"""Radiographs in files for pictures (PNG, JPEG, BMP, TIFF), and what DICOM says of a radiograph's pixels.

Pictures seldom know how large their pixels are. What they state is often the resolution of a screen, which nobody has
measured: it is not believed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import UnknownPixelSize
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.checks import Spacing, damaged, times, warn
from H3DELandmarksLib.io.picture_headers import check_picture

PICTURE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, of red, green and blue
_SCREENS = (72, 96)
"""Dots per inch that programs write where they know nothing."""


def read_picture(path: Path, spacing: Spacing | None) -> Volume:
    """Read the gray values of a picture as one slice, i to the right and j down.

    Args:
        path: PNG, JPEG, BMP or TIFF file.
        spacing: width and height of a pixel in mm; None takes what the file states.

    Raises:
        InputError: the file is damaged or holds several pages.
        UnknownPixelSize: it does not state the size of its pixels.
    """
    check_picture(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise damaged(path) from error
    while image.GetDimension() > 2:  # a TIFF of one page
        image = image[..., 0]
    gray = _gray(path, sitk.GetArrayFromImage(image))
    width, height = _believed(path, image.GetSpacing()) if spacing is None else spacing[:2]
    return Volume(gray.T[:, :, np.newaxis], np.diag([width, height, 1.0, 1.0]))


def _gray(path: Path, array: np.ndarray) -> np.ndarray:
    """(rows, columns) of a picture with or without color and transparency."""
    if array.ndim == 2:
        return array
    if array.shape[2] < 3 or (array[..., :3] == array[..., :1]).all():
        return np.ascontiguousarray(array[..., 0])
    warn(path, "is a color picture: its brightness is used.")
    return np.rint(array[..., :3] @ np.array(LUMINANCE)).astype(array.dtype)


def _believed(path: Path, stated: Sequence[float]) -> Spacing:
    width, height = stated
    is_size = min(stated) > 0 and max(stated) < math.inf and (width, height) != (1, 1)
    if not is_size or any(abs(25.4 / edge - dots) < 0.5 for dots in _SCREENS for edge in stated):
        raise UnknownPixelSize(
            f"'{path}' does not state how large its pixels are: load the original DICOM file, or give "
            "their size in mm (command line: --spacing)."
        )
    warn(path, f"states pixels of {times(stated)} mm: if that is wrong, give their size (command line: --spacing).")
    return width, height
