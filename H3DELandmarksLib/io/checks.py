"""What every reader of scans shares: how users are warned, how voxels are read, and checks of what files state.

Sizes are compared with the file before memory is taken, so that a small file cannot ask for gigabytes.
"""

from __future__ import annotations

import bz2
import logging
import math
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from H3DELandmarksLib.core.errors import InputError

log = logging.getLogger("H3DELandmarksLib.io")

RIGHT_ANGLE = 1e-4
"""Largest cosine between two axes that counts as a right angle."""
LARGEST_SHEAR = math.sin(math.radians(1.0))
"""Largest cosine between two axes that are taken for a right angle written down badly."""

Spacing = tuple[float, ...]
"""Stated by the user: width and height of a pixel in mm, and where three numbers are given the distance of slices."""

_SMALL_BYTES = 2**28
_LARGEST_RATIO = 200
"""Scans shrink to a half or, with much air, to a twentieth; what shrinks more and is large is made to fill memory."""
_MOST_SURPLUS = 0.01  # of the voxels' bytes: what may follow them without a word
_DEFLATE_STEP, _BZIP2_STEP = 2**16, 2**11  # packed bytes at once, whose values stay in the cache


def warn(path: Path, text: str) -> None:
    """Tell the user something about a scan that is read all the same; `text` goes on from the file's name."""
    log.warning("'%s' %s", path, text)


def damaged(path: Path) -> InputError:
    """The error of a file that cannot be what it claims."""
    return InputError(f"'{path}' is incomplete, damaged or not what its extension says: export or copy it again.")


def times(lengths: Iterable[float]) -> str:
    """Lengths for people, such as 0.5 x 0.5 x 2."""
    return " x ".join(f"{length:.4g}" for length in lengths)


def check_spacing(path: Path, spacing: Iterable[float]) -> None:
    """Refuse spacings (mm, as a header states them) that are not above zero, or no numbers."""
    lengths = list(spacing)
    if not all(math.isfinite(length) and length > 0 for length in lengths):
        raise InputError(f"'{path}' has a voxel spacing of {times(lengths)} mm: correct it in the file's header.")


def check_finite(path: Path, array: np.ndarray) -> None:
    """Refuse voxels that are NaN or infinite."""
    if array.dtype.kind == "f":
        not_finite = array.size - int(np.count_nonzero(np.isfinite(array)))
        if not_finite:
            raise InputError(
                f"'{path}' contains {not_finite} voxels that are not numbers (NaN or infinite): "
                "replace them with the value of air and save the scan again."
            )


def check_scalar_volume(path: Path, sizes: Sequence[int], components: int = 1, is_complex: bool = False) -> None:
    """Refuse sequences, vectors and complex numbers before their voxels are read.

    Args:
        path: for the message.
        sizes: number of values along each axis; all behind the third are frames.
        components: values per voxel.
        is_complex: whether they are complex numbers.
    """
    if is_complex:
        raise InputError(f"'{path}' holds complex numbers, not one scan: save its magnitude and load that.")
    if components != 1:
        raise InputError(
            f"'{path}' has {components} values per voxel (color, vector or sequence): save one of them as a scan."
        )
    if not sizes or min(sizes) < 1:
        raise InputError(f"'{path}' holds no voxels: export or copy it again.")
    frames = math.prod(sizes[3:])
    if frames > 1:
        raise InputError(f"'{path}' is a sequence of {frames} frames, not one scan: save one frame and load that.")


def check_unpacked_size(path: Path, packed: int, unpacked: int) -> None:
    """Refuse a file whose header claims far more bytes than compression of a scan explains."""
    if unpacked > max(_SMALL_BYTES, packed * _LARGEST_RATIO):
        raise InputError(
            f"'{path}' claims to hold {unpacked / 2**30:.1f} GB of voxels in a file of {packed} bytes, as no scan "
            "does: export or copy it again."
        )


def _unpack(path: Path, file: BinaryIO, size: int, encoding: str) -> np.ndarray:
    """Decompress voxels; their number and the checksum of the stream must be right.

    Args:
        path: for messages.
        file: where a gzip (also of several members), zlib or bzip2 stream begins; what follows it is ignored.
        size: bytes that the header announces.
        encoding: "deflate" for gzip or zlib, "bzip2".

    Returns:
        (size,) bytes.
    """
    check_unpacked_size(path, os.fstat(file.fileno()).st_size, size)
    start: Callable = bz2.BZ2Decompressor if encoding == "bzip2" else lambda: zlib.decompressobj(47)
    step = _BZIP2_STEP if encoding == "bzip2" else _DEFLATE_STEP
    result = np.empty(size, np.uint8)
    view = result.data
    filled, surplus = 0, 0
    stream = start()
    try:
        while filled < size or not stream.eof:  # to the end of the stream, where its checksum is compared
            packed = stream.unused_data or file.read(step)
            if not packed or surplus > _SMALL_BYTES:
                raise damaged(path)
            stream = start() if stream.eof else stream
            data = stream.decompress(packed)
            used = min(len(data), size - filled)
            view[filled : filled + used] = data[:used]
            filled += used
            surplus += len(data) - used
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise damaged(path) from error
    return result


@dataclass(frozen=True)
class Voxels:
    """How voxels are stored.

    Attributes:
        file: where they are.
        offset: bytes before them.
        lines: lines before them, behind `offset`.
        skipped: bytes before them, once unpacked; -1 where they end the file.
        encoding: "raw", "deflate", "bzip2", "text" or "hex".
        number_type: with byte order.
    """

    file: Path
    offset: int
    lines: int
    skipped: int
    encoding: str
    number_type: np.dtype


def read_voxels(path: Path, voxels: Voxels, sizes: Sequence[int]) -> np.ndarray:
    """Values of three axes, the first index fastest; the sizes may be fewer, or more than three where they are 1."""
    shape = (*sizes, 1, 1)[:3]
    count = math.prod(shape)
    size, length = count * voxels.number_type.itemsize, voxels.file.stat().st_size
    if voxels.encoding in ("text", "hex") and length - voxels.offset < count:
        raise damaged(path)
    with voxels.file.open("rb") as file:
        file.seek(voxels.offset)
        for _ in range(voxels.lines):
            file.readline()
        if voxels.encoding == "raw":
            begin = length - size if voxels.skipped < 0 else file.tell() + voxels.skipped
            surplus = length - size - begin
            if min(begin, surplus) < 0:
                raise damaged(path)
            if surplus > _MOST_SURPLUS * size:
                why = "check that its sizes and type of numbers are right"
                warn(path, f"has {surplus} bytes more than its header describes: {why}.")
            file.seek(begin)
            array = np.fromfile(file, voxels.number_type, count)
        elif voxels.encoding == "text":
            array = _of_text(path, file.read(), count).astype(voxels.number_type)
        else:
            is_hex = voxels.encoding == "hex"
            size += voxels.skipped
            data = _of_hex(path, file.read(), size) if is_hex else _unpack(path, file, size, voxels.encoding)
            array = np.frombuffer(data, voxels.number_type, count, voxels.skipped)
    return array.astype(voxels.number_type.newbyteorder("="), copy=False).reshape(shape, order="F")


def _of_hex(path: Path, text: bytes, size: int) -> bytes:
    """At least `size` bytes."""
    try:
        data = bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise damaged(path) from error
    if len(data) < size:
        raise damaged(path)
    return data


def _of_text(path: Path, data: bytes, count: int) -> np.ndarray:
    """`count` numbers of a text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # NumPy's word for text that is no number
            values = np.fromstring(data.replace(b",", b" "), np.float64, count, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise damaged(path) from error
    if len(values) < count:
        raise damaged(path)
    return values


def shear(axes: np.ndarray) -> float:
    """Largest cosine between two of three axes, the columns of a (3, 3) matrix; 0 for right angles."""
    directions = axes / np.linalg.norm(axes, axis=0)
    cosines = directions.T @ directions
    return float(np.abs(cosines - np.diag(np.diag(cosines))).max())


def numbers(text: str) -> list[float]:
    """Numbers separated by blanks or commas; a word that is none becomes NaN."""

    def number(word: str) -> float:
        try:
            return float(word)
        except ValueError:
            return math.nan

    return [number(word) for word in text.replace(",", " ").split()]


PADDING_BELOW = -1500
"""No Hounsfield unit lies below it; scanners write such values where they measured nothing."""
_GAP = 300
_LEAST_PADDED = 0.002
_SAMPLES = 2**21


def air_of(array: np.ndarray, is_padding: np.ndarray) -> float:
    """What to put where nothing was measured: a value that only one percent of the measured ones are below.

    Args:
        array: values.
        is_padding: of the same shape; where they were not measured.
    """
    step = max(1, array.size // _SAMPLES)
    sample = array.ravel(order="K")[::step][~is_padding.ravel(order="K")[::step]]
    return np.percentile(sample, 1, method="lower") if sample.size else array[~is_padding].min()


def padding_to_air(array: np.ndarray) -> np.ndarray:
    """Give a constant outside the field of view, such as -32768 around a round one, the value of air.

    Only where it is certain: the lowest value lies below any Hounsfield unit, fills a corner of the volume, and hardly
    any other value is near it. Everything else comes back as it is.

    Args:
        array: (I, J, K) values.
    """
    lowest = array.min()
    if not lowest < PADDING_BELOW or not (array[[0, 0, -1, -1], [0, -1, 0, -1]] == lowest).any():
        return array
    near = array < float(lowest) + _GAP
    padded = np.count_nonzero(array == lowest)
    if padded < _LEAST_PADDED * array.size or np.count_nonzero(near) > 1.05 * padded or near.all():
        return array
    return np.where(near, array.dtype.type(air_of(array, near)), array)
