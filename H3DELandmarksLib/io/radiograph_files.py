"""Radiographs in files for pictures (PNG, JPEG, BMP, TIFF), and what DICOM says of a radiograph's pixels.

Pictures seldom know how large their pixels are. What they state is often the resolution of a screen, which nobody has
measured: it is not believed. What they declare is compared with what they hold before anything decodes them: decoders
read cut files as noise, take memory for any declared size, and run for hours along a chain of pages that leads nowhere.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import InputError, UnknownPixelSize
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.checks import Spacing, check_unpacked_size, damaged, times, warn

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
    declared = check_picture(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise damaged(path) from error
    while image.GetDimension() > 2:  # a TIFF of one page
        image = image[..., 0]
    array = sitk.GetArrayFromImage(image)
    # Of fewer than eight bits a pixel, the decoder makes colors, and turns negatives itself.
    gray = _turned(array) if declared.is_negative and array.ndim == 2 else _gray(path, array)
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


def _turned(array: np.ndarray) -> np.ndarray:
    """The positive of a negative: the ends of what its pixels can hold change places, of fractions those they hold."""
    if array.dtype.kind in "iu":
        return ~array
    turned: np.ndarray = array.min() + array.max() - array
    return turned


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


Mapped = mmap.mmap | bytes
MAX_PIXELS = 2**27
"""More than twice what the largest detectors for radiographs have."""
_MAX_PAGES = 1000
_LARGEST_TILE = 4096
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # F7 is that of JPEG-LS
_MARKERS_ALONE = {0x01, *range(0xD0, 0xD9)}


@dataclass(frozen=True)
class PictureSize:
    """Pixels as declared; `bits` of one pixel with all its channels, `is_negative` where 0 means white."""

    width: int
    height: int
    bits: int
    pages: int = 1
    is_negative: bool = False


def check_picture(path: Path) -> PictureSize:
    """What a picture declares; one that is cut, has several pages, or declares more pixels than it can hold is refused.

    Raises:
        InputError: with the reason.
    """
    parsers = {b"\x89P": _png, b"\xff\xd8": jpeg_size, b"BM": _bmp, b"II": _tiff, b"MM": _tiff}
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            packed, parser = len(data), parsers.get(data[:2])
            size = parser(data) if parser else None
    except (struct.error, ValueError) as error:
        raise damaged(path) from error
    if size is None or min(size.width, size.height, size.bits) < 1:
        raise damaged(path)
    if size.pages > 1:
        raise InputError(f"'{path}' has {size.pages} pages: save one page and load that.")
    pixels = size.width * size.height
    if pixels > MAX_PIXELS:
        raise InputError(f"'{path}' has {size.width} x {size.height} pixels, more than any radiograph: scale it down.")
    check_unpacked_size(path, packed, pixels * size.bits // 8)
    return size


def _png(data: Mapped) -> PictureSize:
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    return PictureSize(width, height, bits * {2: 3, 4: 2, 6: 4}.get(color, 1))


def jpeg_size(data: Mapped) -> PictureSize | None:
    """None for a file without the marker that ends its pixels: inside them no marker can occur."""
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        return None
    position = 2
    while True:
        start, marker = struct.unpack_from("BB", data, position)
        if start != 0xFF:
            return None
        if marker == 0xFF or marker in _MARKERS_ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _FRAME_MARKERS:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, position + 4)
            return PictureSize(width, height, bits * channels)
        position += 2 + length


def _bmp(data: Mapped) -> PictureSize | None:
    """None for a file that ends before its pixels do."""
    offset, header = struct.unpack_from("<II", data, 10)
    width, height, _, bits = struct.unpack_from("<HHHH" if header == 12 else "<iiHH", data, 18)
    compression = 0 if header == 12 else struct.unpack_from("<I", data, 30)[0]
    row = (width * bits + 31) // 32 * 4
    if compression in (0, 3) and len(data) < offset + row * abs(height):
        return None
    return PictureSize(width, abs(height), bits)


# Tags of TIFF.
_WIDTH, _HEIGHT, _BITS, _MEANING, _CHANNELS, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 262, 277, 322, 323
_WHITE_IS_ZERO = 0


def _tiff(data: Mapped) -> PictureSize | None:
    """The first page and the number of pages; None where a page lies outside the file or is none."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    count_type, offset_type, entry_bytes = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    (place,) = struct.unpack_from(order + offset_type, data, 8 if is_big else 4)
    sizes: list[PictureSize] = []
    while place and len(sizes) < _MAX_PAGES:
        (count,) = struct.unpack_from(order + count_type, data, place)
        first = place + struct.calcsize(count_type)
        (place,) = struct.unpack_from(order + offset_type, data, first + count * entry_bytes)
        values: dict[int, int] = {}
        for entry in range(first, first + count * entry_bytes, entry_bytes):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            value_type = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind, "B")
            at = entry + entry_bytes - struct.calcsize(offset_type)
            (values[tag],) = struct.unpack_from(order + value_type, data, at)
        width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
        largest_tile = max(width, height, _LARGEST_TILE)
        if not (width and height) or max(values.get(_TILE_WIDTH, 0), values.get(_TILE_HEIGHT, 0)) > largest_tile:
            return None
        channels = values.get(_CHANNELS, 1)
        bits = channels * (values.get(_BITS, 1) if channels == 1 else 16)
        sizes.append(PictureSize(width, height, bits, is_negative=values.get(_MEANING) == _WHITE_IS_ZERO))
    return replace(sizes[0], pages=len(sizes)) if sizes else None
