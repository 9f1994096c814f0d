"""What PNG, JPEG, BMP and TIFF files declare, compared with what they hold before anything decodes them.

The decoders below read cut files as noise, take memory for any declared size, and run for hours along a chain of pages
that leads nowhere.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.checks import check_unpacked_size, damaged

MAX_PIXELS = 2**27
"""More than twice what the largest detectors for radiographs have."""
_MAX_PAGES = 1000
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_MARKERS_ALONE = {0x01, *range(0xD0, 0xD9)}


@dataclass(frozen=True)
class PictureSize:
    """Pixels as declared; `bits` of one pixel with all its channels."""

    width: int
    height: int
    bits: int
    pages: int = 1


def check_picture(path: Path) -> None:
    """Refuse a picture that is cut, has several pages, or declares more pixels than it can hold.

    Raises:
        InputError: with the reason.
    """
    data = path.read_bytes()
    parsers = {b"\x89PNG": _png, b"\xff\xd8": _jpeg, b"BM": _bmp, b"II": _tiff, b"MM": _tiff}
    parser = next((parser for start, parser in parsers.items() if data.startswith(start)), None)
    try:
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
    check_unpacked_size(path, len(data), pixels * size.bits // 8)


def _png(data: bytes) -> PictureSize:
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    return PictureSize(width, height, bits * {2: 3, 4: 2, 6: 4}.get(color, 1))


def _jpeg(data: bytes) -> PictureSize | None:
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


def _bmp(data: bytes) -> PictureSize | None:
    """None for a file that ends before its pixels do."""
    offset, header = struct.unpack_from("<II", data, 10)
    width, height, _, bits = struct.unpack_from("<HHHH" if header == 12 else "<iiHH", data, 18)
    compression = 0 if header == 12 else struct.unpack_from("<I", data, 30)[0]
    row = (width * bits + 31) // 32 * 4
    if compression in (0, 3) and len(data) < offset + row * abs(height):
        return None
    return PictureSize(width, abs(height), bits)


def _tiff(data: bytes) -> PictureSize | None:
    """The first page and the number of pages; None where a page lies outside the file or is none."""
    order = "<" if data.startswith(b"II") else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    count_type, offset_type, entry_bytes = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    (place,) = struct.unpack_from(order + offset_type, data, 8 if is_big else 4)
    sizes: list[PictureSize] = []
    while place and len(sizes) < _MAX_PAGES:
        (count,) = struct.unpack_from(order + count_type, data, place)
        first = place + struct.calcsize(count_type)
        (place,) = struct.unpack_from(order + offset_type, data, first + count * entry_bytes)
        values = {}
        for entry in range(first, first + count * entry_bytes, entry_bytes):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            value_type = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind, "B")
            values[tag] = struct.unpack_from(
                order + value_type, data, entry + entry_bytes - struct.calcsize(offset_type)
            )
        if 256 not in values or 257 not in values:
            return None
        bits = values.get(258, (1,))[0] if values.get(277, (1,))[0] == 1 else 16
        sizes.append(PictureSize(values[256][0], values[257][0], bits * values.get(277, (1,))[0]))
    return PictureSize(sizes[0].width, sizes[0].height, sizes[0].bits, len(sizes)) if sizes else None
