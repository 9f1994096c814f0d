"""Checks of image files that ITK would silently repair.

ITK replaces a spacing of zero by 1 mm, ignores a sheared NIfTI orientation, and puts zeros for the missing end of a
NIfTI file and of its voxels that are not numbers. The headers are read here, so that nothing is wrong without a word.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from H3DELandmarksLib.core.errors import InputError

DAMAGED = "is incomplete, damaged or not what its extension says: export or copy it again"
RIGHT_ANGLE = 1e-4
"""Largest cosine between two axes that ITK takes for a right angle in NIfTI."""

_FLOATS = {16: "f4", 64: "f8"}
_CHUNK = 2**24


def check_spacing(path: Path, spacing: Sequence[float]) -> None:
    """Refuse spacings (mm, as a header states them) of zero or that are not numbers."""
    if not all(math.isfinite(value) and value != 0 for value in spacing):
        shown = " x ".join(f"{value:g}" for value in spacing)
        raise InputError(f"'{path}' has a voxel spacing of {shown} mm: correct the spacing in the file's header.")


def check_finite(path: Path, not_finite: int) -> None:
    """Refuse an image with a count of voxels that are NaN or infinite."""
    if not_finite:
        raise InputError(
            f"'{path}' contains {not_finite} voxels that are not numbers (NaN or infinite): "
            "replace them with the value of air and save the scan again."
        )


def count_not_finite(array: np.ndarray) -> int:
    """Number of NaN and infinite values."""
    return array.size - int(np.count_nonzero(np.isfinite(array))) if array.dtype.kind == "f" else 0


def shear(axes: np.ndarray) -> float:
    """Largest cosine between two of three axes, the columns of a (3, 3) matrix; 0 for right angles."""
    directions = axes / np.linalg.norm(axes, axis=0)
    return float(np.abs(directions.T @ directions - np.eye(3)).max())


def numbers(text: str) -> list[float]:
    """Numbers separated by blanks, commas or backslashes; a word that is none becomes NaN."""

    def number(word: str) -> float:
        try:
            return float(word)
        except ValueError:
            return math.nan

    return [number(word) for word in text.replace(",", " ").replace("\\", " ").split()]


def text_header_spacing(path: Path) -> list[float]:
    """Spacings in mm as an NRRD or MetaImage header states them, empty where it does not."""
    with path.open("rb") as file:
        head = file.read(65536).decode("latin-1")
    for line in head.splitlines():
        key, _, value = line.partition("=" if line.startswith("Element") else ":")
        key = key.strip().lower()
        if key in ("elementspacing", "spacings"):
            return numbers(value)
        if key == "space directions":
            vectors = value.replace("none", "").replace("(", "").split(")")
            return [float(np.linalg.norm(numbers(vector))) for vector in vectors if vector.strip()]
        if key == "elementdatafile" or not line:
            break
    return []


@dataclass(frozen=True)
class NiftiHeader:
    """What the checks need of a NIfTI-1 header.

    Attributes:
        order: byte order, '<' or '>'.
        sizes: number of values along each axis.
        datatype, bits: NIfTI's code of the number type, and its size.
        offset: where the voxels begin, in bytes.
        spacing: mm along the first three axes.
        sform: (3, 3) axes in mm, None where the header says that it is not set.
    """

    order: str
    sizes: tuple[int, ...]
    datatype: int
    bits: int
    offset: int
    spacing: tuple[float, ...]
    sform: np.ndarray | None

    @classmethod
    def read(cls, path: Path) -> NiftiHeader:
        """Read the header of a plain or compressed file.

        Raises:
            InputError: the file is damaged or no NIfTI-1 file.
        """
        try:
            with _open_nifti(path) as file:
                data = file.read(348)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"'{path}' {DAMAGED}.") from error
        order = "<" if data.startswith(struct.pack("<i", 348)) else ">"
        if len(data) < 348 or not data.startswith(struct.pack(f"{order}i", 348)):
            raise InputError(f"'{path}' is not a NIfTI-1 file: convert it to NIfTI-1 or NRRD.")

        def field(layout: str, offset: int) -> tuple:
            return struct.unpack_from(order + layout, data, offset)

        dimensions, *sizes = field("8h", 40)
        sform = np.array(field("12f", 280)).reshape(3, 4)[:, :3]
        is_set = field("h", 254)[0] > 0 and np.linalg.norm(sform, axis=0).all()
        return cls(
            order=order,
            sizes=tuple(sizes[:dimensions]),
            datatype=field("h", 70)[0],
            bits=field("h", 72)[0],
            offset=int(field("f", 108)[0]),
            spacing=field("7f", 80)[: min(dimensions, 3)],
            sform=sform if is_set else None,
        )


def check_nifti(path: Path, header: NiftiHeader, right_angle: float) -> None:
    """Refuse a NIfTI file that ends early, has a sheared orientation, or holds values that are not numbers.

    Args:
        path: .nii or .nii.gz file.
        header: as read from it.
        right_angle: largest cosine between the axes of the sform.
    """
    size = math.prod(header.sizes) * header.bits // 8
    if not _holds_bytes(path, header.offset + size):
        raise InputError(f"'{path}' {DAMAGED}.")
    if header.sform is not None and shear(header.sform) > right_angle:
        raise InputError(
            f"'{path}' has a sheared orientation (sform), which programs place differently: "
            "resample it to a grid with right angles and load that."
        )
    if header.datatype in _FLOATS:
        check_finite(path, _count_not_finite_in_nifti(path, header, size))


def _open_nifti(path: Path) -> BinaryIO:
    """The uncompressed bytes, whatever the name says."""
    return cast(BinaryIO, gzip.open(path, "rb") if _is_compressed(path) else path.open("rb"))


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _holds_bytes(path: Path, count: int) -> bool:
    """Whether a NIfTI file holds so many bytes, uncompressed.

    A gzip file ends with its uncompressed size, which spares unpacking it twice; only where that differs (a cut file,
    or one of several members) it is unpacked to count.
    """
    if not _is_compressed(path):
        return path.stat().st_size >= count
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        if struct.unpack("<I", file.read(4))[0] == count % 2**32:
            return True
    try:
        with gzip.open(path, "rb") as unpacked:
            unpacked.seek(count)
            unpacked.read(1)  # fails where the end is cut off
            return unpacked.tell() >= count
    except (OSError, EOFError, zlib.error):
        return False


def _count_not_finite_in_nifti(path: Path, header: NiftiHeader, size: int) -> int:
    count = 0
    try:
        with _open_nifti(path) as file:
            file.seek(header.offset)
            for start in range(0, size, _CHUNK):
                data = file.read(min(_CHUNK, size - start))
                count += count_not_finite(np.frombuffer(data, header.order + _FLOATS[header.datatype]))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"'{path}' {DAMAGED}.") from error
    return count
