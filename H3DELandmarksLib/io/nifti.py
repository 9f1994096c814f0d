"""NIfTI files: the voxels, and one place in the patient out of the up to three that a header states.

Which statement counts is what ITK, and so Slicer, takes: the sform where only it is set (code above 0), or where its
code is 1 (scanner) and its axes are at right angles; the qform in all other cases where it is set; and where neither
is set the axes of the file with pixdim as voxel size. Contradictions are said or refused:

- an sform that counts and pixdim with different voxel sizes: refused, unless the user states which one is right;
- qform and sform at different places: a warning, how far apart they are; where they begin at one place and only turn
  or exchange axes, so that ITK takes now the one and now the other: refused;
- neither set, or a negative pixdim, which mirrors nothing: a warning;
- an sform that counts with axes up to one degree off a right angle: a warning, beyond it refused.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.checks import (
    LARGEST_SHEAR,
    RIGHT_ANGLE,
    Spacing,
    Voxels,
    check_scalar_volume,
    check_spacing,
    damaged,
    read_voxels,
    shear,
    times,
    warn,
)

_NUMBER_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLORS = {128: 3, 2304: 4}
_COMPLEX = (32, 1792, 2048)
_UNITS_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_SIZE = 0.005
_SAME_PLACE_MM = 0.05


@dataclass(frozen=True)
class NiftiHeader:
    """What reading needs of a NIfTI-1 header; affines are IJK -> RAS mm.

    Attributes:
        order: byte order, '<' or '>'.
        sizes: number of values along each axis.
        datatype: NIfTI's code of the number type.
        offset: where the voxels begin, in bytes.
        slope, intercept: value = slope * stored + intercept.
        pixdim: (3,) mm along the first three axes, as stated, signs included.
        qform, sform: (4, 4), None where the code says that it is not set.
        sform_code: 0 for not set, 1 for scanner.
    """

    order: str
    sizes: tuple[int, ...]
    datatype: int
    offset: int
    slope: float
    intercept: float
    pixdim: np.ndarray
    qform: np.ndarray | None
    sform: np.ndarray | None
    sform_code: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the three axes in space."""
        return (*self.sizes, 1, 1)[:3]

    @classmethod
    def parse(cls, path: Path, data: bytes, spacing: Spacing | None = None) -> NiftiHeader:
        """From the first 348 bytes; `spacing`, mm, takes the place of all lengths that are stated.

        Raises:
            InputError: they are no NIfTI-1 header of a file that holds its voxels.
        """
        order = "<" if data.startswith(struct.pack("<i", 348)) else ">"
        if len(data) < 348 or not data.startswith(struct.pack(f"{order}i", 348)) or data[344:347] != b"n+1":
            raise InputError(f"'{path}' is not a NIfTI-1 file: convert it to NIfTI-1 or NRRD.")

        def field(layout: str, offset: int) -> tuple:
            return struct.unpack_from(order + layout, data, offset)

        count, *sizes = field("8h", 40)
        offset, slope, intercept = field("3f", 108)
        if not 1 <= count <= 7 or not (math.isfinite(offset) and 0 <= offset < 2**31):
            raise damaged(path)
        mm = _UNITS_MM.get(data[123] & 7, 1.0)
        pixdim = np.array(field("3f", 80), float) * mm
        pixdim[count:] = 1.0
        qform_code, sform_code = field("2h", 252)
        sform = np.vstack([np.array(field("12f", 280), float).reshape(3, 4) * mm, (0, 0, 0, 1)])
        lengths = np.linalg.norm(sform[:3, :3], axis=0)
        is_sform_set = sform_code > 0 and lengths.all()
        if spacing is not None:
            pixdim = np.copysign(spacing, pixdim)
            sform[:3, :3] *= np.array(spacing) / lengths if is_sform_set else 1.0
        qform = _qform(field("6f", 256), field("f", 76)[0], pixdim, mm)
        is_scaled = slope != 0 and math.isfinite(slope) and math.isfinite(intercept)
        return cls(
            order=order,
            sizes=tuple(sizes[:count]),
            datatype=field("h", 70)[0],
            offset=max(352, int(offset)),
            slope=slope if is_scaled else 1.0,
            intercept=intercept if is_scaled else 0.0,
            pixdim=pixdim,
            qform=qform if qform_code > 0 else None,
            sform=sform if is_sform_set else None,
            sform_code=sform_code,
        )


def _qform(values: tuple[float, ...], handedness: float, pixdim: np.ndarray, mm: float) -> np.ndarray:
    """(4, 4) IJK -> RAS mm of quaternion and offset; lengths are those of pixdim without its signs."""
    b, c, d = values[:3]
    rest = 1 - (b * b + c * c + d * d)
    a = math.sqrt(rest) if rest > 1e-7 else 0.0
    if rest <= 1e-7:  # half a turn, whose numbers are rounded
        b, c, d = np.array([b, c, d]) / math.sqrt(1 - rest)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.abs(pixdim) * (1, 1, -1 if handedness < 0 else 1)
    affine[:3, 3] = np.array(values[3:]) * mm
    return affine


def read_nifti(path: Path, spacing: Spacing | None = None) -> Volume:
    """Read a .nii or .nii.gz file, plain or compressed whatever its name says.

    Args:
        path: file.
        spacing: three numbers, mm, that the user states where the header is wrong or contradicts itself.

    Raises:
        InputError: the file is damaged, no scalar scan, or its geometry is contradictory.
    """
    with path.open("rb") as file:
        start = file.read(65536)
        is_packed = start.startswith(b"\x1f\x8b")
        header = NiftiHeader.parse(path, _header_of(path, start) if is_packed else start, spacing)
    number_type = _number_type(path, header)
    check_spacing(path, np.abs(header.pixdim[: len(header.sizes)]))
    affine = _LPS_FROM_RAS @ _affine(path, header)
    voxels = Voxels(path, 0, 0, header.offset, "deflate" if is_packed else "raw", number_type)
    return Volume(_scaled(read_voxels(path, voxels, header.shape), header), affine)


def _header_of(path: Path, packed: bytes) -> bytes:
    """The header of a compressed file."""
    try:
        return zlib.decompressobj(47).decompress(packed, 348)
    except zlib.error as error:
        raise damaged(path) from error


def _number_type(path: Path, header: NiftiHeader) -> np.dtype:
    components = math.prod(header.sizes[4:]) * _COLORS.get(header.datatype, 1)
    check_scalar_volume(path, header.sizes[:4], components, header.datatype in _COMPLEX)
    if header.datatype not in _NUMBER_TYPES:
        raise InputError(f"'{path}' holds numbers of an unsupported type ({header.datatype}): save it as 16 bit.")
    return np.dtype(header.order + _NUMBER_TYPES[header.datatype])


def _scaled(array: np.ndarray, header: NiftiHeader) -> np.ndarray:
    if (header.slope, header.intercept) == (1.0, 0.0):
        return array
    wide = "f4" if array.dtype.itemsize <= 2 or array.dtype == np.float32 else "f8"
    scaled: np.ndarray = array.astype(wide)
    scaled *= header.slope
    scaled += header.intercept
    return scaled


def _affine(path: Path, header: NiftiHeader) -> np.ndarray:
    """(4, 4) IJK -> RAS mm that counts, see the module's description."""
    if any(form is not None and not np.isfinite(form).all() for form in (header.qform, header.sform)):
        raise InputError(f"'{path}' has a position that is not a number: correct the file's header.")
    if (header.pixdim < 0).any():
        warn(path, "states a negative voxel size (pixdim): its sign is ignored; check that left and right are right.")
    affine = _counting_form(path, header)
    if affine is None:
        warn(
            path,
            "does not state how it lies in the patient (qform and sform are not set): check that left and right are "
            "right.",
        )
        affine = _LPS_FROM_RAS @ np.diag([*np.abs(header.pixdim), 1.0])
    return affine


def _counting_form(path: Path, header: NiftiHeader) -> np.ndarray | None:
    """The sform or qform, whichever counts; None where neither is set."""
    qform, sform = header.qform, header.sform
    if sform is None or (qform is not None and header.sform_code != 1):
        if qform is not None and sform is not None:
            _compare_forms(path, header, qform, sform, "qform")
        return qform
    cosine = shear(sform[:3, :3])
    if cosine > LARGEST_SHEAR:
        raise InputError(
            f"'{path}' has a sheared orientation (sform), which programs place differently: "
            "resample it to a grid with right angles and load that."
        )
    if cosine > RIGHT_ANGLE:
        taken = "they are taken as stated" if qform is None else "the qform is taken, as Slicer does"
        degrees = math.degrees(math.asin(cosine))
        warn(path, f"has axes that are {degrees:.2f} degrees off a right angle (sform): {taken}.")
        if qform is not None:
            return qform
    lengths, used = np.linalg.norm(sform[:3, :3], axis=0), slice(0, min(len(header.sizes), 3))
    pixdim = np.abs(header.pixdim)
    if (np.abs(lengths / pixdim - 1)[used] > _SAME_SIZE).any():
        raise InputError(
            f"'{path}' states two voxel sizes, {times(lengths[used])} mm (sform) and {times(pixdim[used])} mm "
            "(pixdim): correct its header, or give the right size (command line: --spacing)."
        )
    if qform is not None:
        _compare_forms(path, header, qform, sform, "sform")
    return sform


def _compare_forms(path: Path, header: NiftiHeader, qform: np.ndarray, sform: np.ndarray, taken: str) -> None:
    corners = np.array(np.meshgrid(*([0, n - 1] for n in header.shape), [1], indexing="ij")).reshape(4, -1)
    apart = np.linalg.norm((qform - sform) @ corners, axis=0).max()
    if apart > _SAME_PLACE_MM + 1e-4 * np.linalg.norm(sform[:3] @ corners, axis=0).max():
        q_square, s_square = (form[:3, :3] @ form[:3, :3].T for form in (qform, sform))
        begin_alike = np.allclose(qform[:, 3], sform[:, 3], atol=1e-4)
        if taken == "qform" and begin_alike and np.allclose(q_square, s_square, rtol=1e-3, atol=1e-4):
            raise InputError(
                f"'{path}' states two directions for its axes (qform and sform), of which programs take either: load "
                "it in Slicer, check left and right, and save it as NRRD."
            )
        warn(
            path,
            f"states two positions up to {apart:.3g} mm apart (qform and sform): the {taken} is taken, as Slicer does.",
        )
