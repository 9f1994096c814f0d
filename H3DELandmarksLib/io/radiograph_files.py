"""Radiographs in files for pictures (PNG, JPEG, BMP, TIFF), and what DICOM says of a radiograph's pixels.

Pictures seldom know how large their pixels are. What they state is often the resolution of a screen, which nobody has
measured: it is not believed. What they declare is compared with what they hold before anything decodes them: decoders
read cut files as noise, take memory for any declared size, and run for hours along a chain of pages that leads nowhere.
"""

from __future__ import annotations

import math
import mmap
import struct
import tempfile
import zlib
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
    image = _decoded_with_transparency(path) if declared.is_transparent else _decoded(path)
    while image.GetDimension() > 2:  # a TIFF of one page
        image = image[..., 0]
    if spacing is None and not declared.is_square:
        raise InputError(
            f"'{path}' does not state how large its pixels are, but that they are not square: give their size in mm "
            "(command line: --spacing)."
        )
    width, height = _believed(path, declared.pixel or image.GetSpacing()) if spacing is None else spacing[:2]
    array = sitk.GetArrayFromImage(image)
    if declared.is_fine and array.dtype.itemsize == 1:
        raise InputError(
            f"'{path}' holds gray values of more than 8 bits in tiles, or turned, of which 8 bits would be left: save "
            "it as PNG."
        )
    if declared.orientation != 1:
        warn(
            path,
            f"says that it is stored turned or mirrored (orientation {declared.orientation}), and is read as stored, "
            "as in Slicer: if it is not upright so, turn it and save it again.",
        )
    # Of fewer than eight bits a pixel, the decoder makes colors, and turns negatives itself.
    gray = _turned(array) if declared.is_negative and array.ndim == 2 else _gray(path, array)
    return Volume(gray.T[:, :, np.newaxis], np.diag([width, height, 1.0, 1.0]))


def _decoded(path: Path) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _not_decoded(path) from error


def _not_decoded(path: Path) -> InputError:
    return InputError(
        f"'{path}' is damaged, or stored in a way that is not read here (compression, bits of a pixel): export it "
        "again, or save it as PNG."
    )


def _decoded_with_transparency(path: Path) -> sitk.Image:
    """The gray values of a PNG that has transparency beside them, which SimpleITK cannot hold.

    A copy says that a pixel's bytes are those of another kind: 8 + 8 bits one number of 16, 16 + 16 bits four of 8.
    Where one gray value counts as transparent, the part that says so becomes one that nobody knows.
    """
    data = bytearray(path.read_bytes())
    if not data.startswith(_PNG):
        raise InputError(f"'{path}' holds several values for each pixel beside its gray: save it as gray alone.")
    bits, is_beside = data[24], data[25] == _GRAY_ALPHA
    if is_beside:
        data[24:26] = (16, 0) if bits == 8 else (8, 6)  # bits, and gray or red, green, blue and transparency
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    else:
        place, length = _png_parts(data)[b"tRNS"]
        data[place : place + 4] = b"trNS"
        struct.pack_into(">I", data, place + 4 + length, zlib.crc32(data[place : place + 4 + length]))
    with tempfile.TemporaryDirectory(prefix="h3de-") as folder:
        copy = Path(folder, "gray.png")
        copy.write_bytes(data)
        try:
            image = sitk.ReadImage(str(copy))
        except RuntimeError as error:
            raise _not_decoded(path) from error
    if not is_beside:
        return image
    array = sitk.GetArrayFromImage(image)
    if bits == 8:
        return sitk.GetImageFromArray((array >> 8).astype(np.uint8))
    return sitk.GetImageFromArray(array[..., 0].astype(np.uint16) << 8 | array[..., 1])


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
_PNG, _GRAY_ALPHA = b"\x89PNG\r\n\x1a\n", 4
_MARKERS_ALONE = {0x01, *range(0xD0, 0xD9)}
_APP0, _APP1 = 0xE0, 0xE1


@dataclass(frozen=True)
class PictureSize:
    """Pixels as declared.

    Attributes:
        width, height: how many.
        bits: of one pixel with all its channels.
        pages: how many.
        is_negative: whether 0 means white.
        is_transparent: whether transparency, or another value, stands beside gray values.
        is_fine: whether its gray values have more than 8 bits.
        is_lying: whether it is stored on its side, so that the decoder would mirror it.
        orientation: EXIF's number of how it is to be turned or mirrored, which the decoder does not do; 1 for not at
            all.
        pixel: width and height of one in mm, where the decoder does not tell what the file states.
        is_square: whether width and height are the same, where the file states nothing but that.
    """

    width: int
    height: int
    bits: int
    pages: int = 1
    is_negative: bool = False
    is_transparent: bool = False
    is_fine: bool = False
    is_lying: bool = False
    orientation: int = 1
    pixel: tuple[float, float] | None = None
    is_square: bool = True


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
    if size.is_lying:
        raise InputError(f"'{path}' is stored on its side and would be mirrored: turn it upright and save it again.")
    pixels = size.width * size.height
    if pixels > MAX_PIXELS:
        raise InputError(f"'{path}' has {size.width} x {size.height} pixels, more than any radiograph: scale it down.")
    check_unpacked_size(path, packed, pixels * size.bits // 8)
    return size


def _png(data: Mapped) -> PictureSize:
    width, height, bits, color, *_ = struct.unpack_from(">IIBBBBBI", data, 16)  # as far as the checksum
    parts = _png_parts(data)
    is_transparent = (color == _GRAY_ALPHA and bits in (8, 16)) or (color == 0 and b"tRNS" in parts)
    bits *= {2: 3, _GRAY_ALPHA: 2, 6: 4}.get(color, 1)
    across, down, unit = struct.unpack_from(">IIB", data, parts[b"pHYs"][0] + 4) if b"pHYs" in parts else (0, 0, 0)
    pixel, is_square = _of_a_meter(across, down) if unit == 1 else None, unit == 1 or across == down
    place, length = parts.get(b"eXIf", (0, 0))
    orientation = _orientation(data[place + 4 : place + 4 + length])
    return PictureSize(
        *(width, height, bits), is_transparent=is_transparent, orientation=orientation, pixel=pixel, is_square=is_square
    )


def _orientation(exif: bytes) -> int:
    """EXIF's number of how a picture is to be turned or mirrored; 1, not at all, where it is not stated."""
    try:
        order = "<" if exif[:2] == b"II" else ">"
        values, _ = _tags(exif, order, struct.unpack_from(f"{order}I", exif, 4)[0], is_big=False)
    except struct.error:
        return 1
    number = values.get(_ORIENTATION, 1)
    return number if 1 <= number <= 8 else 1


def _png_parts(data: Mapped | bytearray) -> dict[bytes, tuple[int, int]]:
    """Place of the name and length of the content of all whole parts before the pixels."""
    parts: dict[bytes, tuple[int, int]] = {}
    place = len(_PNG)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT" or place + 12 + length > len(data):
            break
        parts.setdefault(kind, (place + 4, length))
        place += 12 + length
    return parts


def _of_a_meter(across: int, down: int) -> tuple[float, float] | None:
    """Width and height of pixels in mm, of which so many make a meter."""
    return (1000 / across, 1000 / down) if min(across, down) > 0 else None


def jpeg_size(data: Mapped) -> PictureSize | None:
    """None for a file without the marker that ends its pixels: inside them no marker can occur."""
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        return None
    position, orientation, is_square = 2, 1, True
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
            return PictureSize(width, height, bits * channels, orientation=orientation, is_square=is_square)
        if marker == _APP0 and data[position + 4 : position + 9] == b"JFIF\0":
            unit, across, down = struct.unpack_from(">BHH", data, position + 11)
            is_square = unit != 0 or across == down
        if marker == _APP1 and data[position + 4 : position + 10] == b"Exif\0\0":
            orientation = _orientation(data[position + 10 : position + 2 + length])
        position += 2 + length


def _bmp(data: Mapped) -> PictureSize | None:
    """None for a file that ends before its pixels do."""
    offset, header = struct.unpack_from("<II", data, 10)
    width, height, _, bits = struct.unpack_from("<HHHH" if header == 12 else "<iiHH", data, 18)
    compression = 0 if header == 12 else struct.unpack_from("<I", data, 30)[0]
    row = (width * bits + 31) // 32 * 4
    if compression in (0, 3) and len(data) < offset + row * abs(height):
        return None
    pixel = _of_a_meter(*struct.unpack_from("<ii", data, 38)) if header >= 40 else None
    return PictureSize(width, abs(height), bits, pixel=pixel)


# Tags of TIFF.
_WIDTH, _HEIGHT, _BITS, _MEANING, _CHANNELS, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 262, 277, 322, 323
_ORIENTATION, _LAST_UPRIGHT, _NUMBERS, _FRACTIONS = 274, 4, 339, 3
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_ACROSS, _DOWN, _UNIT, _LENGTHS = 282, 283, 296, (2, 3)


def _tiff(data: Mapped) -> PictureSize | None:
    """The first page and the number of pages; None where a page lies outside the file or is none."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    (place,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, 8 if is_big else 4)
    sizes: list[PictureSize] = []
    while place and len(sizes) < _MAX_PAGES:
        values, place = _tags(data, order, place, is_big)
        width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
        largest_tile = max(width, height, _LARGEST_TILE)
        if not (width and height) or max(values.get(_TILE_WIDTH, 0), values.get(_TILE_HEIGHT, 0)) > largest_tile:
            return None
        if values.get(_NUMBERS) == _FRACTIONS and values.get(_BITS) == 16:
            return None  # the decoder takes their bits for whole numbers
        channels = values.get(_CHANNELS, 1)
        bits = channels * (values.get(_BITS, 1) if channels == 1 else 16)
        is_negative = values.get(_MEANING) == _WHITE_IS_ZERO
        is_gray = channels == 2 or values.get(_MEANING, _BLACK_IS_ZERO) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
        sizes.append(
            PictureSize(
                *(width, height, bits),
                is_negative=is_negative,
                is_transparent=is_gray and channels > 1,
                is_fine=is_gray and channels == 1 and bits > 8,
                is_lying=values.get(_ORIENTATION, 1) > _LAST_UPRIGHT,
                is_square=_has_squares(data, order, values, is_big),
            )
        )
    return replace(sizes[0], pages=len(sizes)) if sizes else None


def _has_squares(data: Mapped, order: str, values: dict[int, int], is_big: bool) -> bool:
    """False where a page states two different resolutions without a unit: proportions, and no size."""
    if values.get(_UNIT) in _LENGTHS or not {_ACROSS, _DOWN} <= set(values):
        return True
    stored = [
        struct.pack(f"{order}Q", values[tag]) if is_big else data[values[tag] : values[tag] + 8]
        for tag in (_ACROSS, _DOWN)
    ]
    (across, across_by), (down, down_by) = (struct.unpack(f"{order}II", fraction) for fraction in stored)
    return bool(across * down_by == down * across_by)


def _tags(data: Mapped, order: str, place: int, is_big: bool) -> tuple[dict[int, int], int]:
    """Values, the first of each tag, of a directory of tags, and where the next one is.

    Of fractions it is what stands in place of the value: their place, in a big file themselves.
    """
    count_type, offset_type, entry_bytes = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    (count,) = struct.unpack_from(order + count_type, data, place)
    first = place + struct.calcsize(count_type)
    (following,) = struct.unpack_from(order + offset_type, data, first + count * entry_bytes)
    values: dict[int, int] = {}
    for entry in range(first, first + count * entry_bytes, entry_bytes):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        value_type = {1: "B", 3: "H", 4: "I", 5: offset_type, 16: "Q"}.get(kind, "B")
        (values[tag],) = struct.unpack_from(
            order + value_type, data, entry + entry_bytes - struct.calcsize(offset_type)
        )
    return values, following
