"""NIfTI files: the voxels, and one place in the patient out of the up to three that a header states.

Which statement counts is what ITK, and so Slicer, takes: the sform where only it is set (code above 0), or where its
code is 1 (scanner); the qform in all other cases where it is set; and where neither is set the axes of the file with
pixdim as voxel size. Unlike ITK, the sform's own lengths and angles are kept, a negative pixdim mirrors nothing, and
where statements contradict each other that is said or refused:

- sform and pixdim with different voxel sizes: refused, unless the user states which one is right;
- qform and sform at different places: a warning, how far apart they are;
- neither set, or a negative pixdim: a warning;
- axes up to one degree off a right angle: a warning; beyond it refused.
"""

from __future__ import annotations

import logging
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.checks import RIGHT_ANGLE, Spacing, check_scalar_volume, check_spacing, damaged, shear, unpack

log = logging.getLogger(__name__)

_NUMBER_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLORS = {128: 3, 2304: 4}
_COMPLEX = (32, 1792, 2048)
_UNITS_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LARGEST_SHEAR = math.sin(math.radians(1.0))
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

    @classmethod
    def parse(cls, path: Path, data: bytes) -> NiftiHeader:
        """From the first 348 bytes.

        Raises:
            InputError: they are no NIfTI-1 header.
        """
        order = "<" if data.startswith(struct.pack("<i", 348)) else ">"
        is_nifti = data.startswith(struct.pack(f"{order}i", 348)) and data[344:347] in (b"n+1", b"ni1")
        if len(data) < 348 or not is_nifti:
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
            sform=sform if sform_code > 0 and np.linalg.norm(sform[:3, :3], axis=0).all() else None,
            sform_code=sform_code,
        )


def _qform(values: tuple[float, ...], handedness: float, pixdim: np.ndarray, mm: float) -> np.ndarray:
    """(4, 4) IJK -> RAS mm of quaternion and offset; lengths are those of pixdim without its signs."""
    b, c, d = values[:3]
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d)) if all(map(math.isfinite, values)) else math.nan
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    lengths = np.abs(pixdim) * (1, 1, -1 if handedness < 0 else 1)
    affine = np.eye(4)
    affine[:3, :3] = rotation * lengths
    affine[:3, 3] = np.array(values[3:]) * mm
    return affine


def read_nifti(path: Path, spacing: Spacing | None = None) -> Volume:
    """Read a .nii or .nii.gz file, plain or compressed whatever its name says.

    Args:
        path: file.
        spacing: three numbers, mm, that the user states where the header contradicts itself.

    Raises:
        InputError: the file is damaged, no scalar scan, or its geometry is contradictory.
    """
    with path.open("rb") as file:
        start = file.read(65536)
    is_packed = start.startswith(b"\x1f\x8b")
    header = NiftiHeader.parse(path, _header_of(path, start) if is_packed else start[:348])
    number_type = _number_type(path, header)
    check_spacing(path, header.pixdim[: len(header.sizes)])
    affine = _LPS_FROM_RAS @ _affine(path, header, spacing)
    count = math.prod(header.sizes)
    size = header.offset + count * number_type.itemsize
    if not is_packed and path.stat().st_size < size:
        raise damaged(path)
    with path.open("rb") as file:
        data = unpack(path, file, size, "deflate") if is_packed else np.fromfile(file, np.uint8, size)
    shape = (*header.sizes, 1, 1)[:3]
    array = np.frombuffer(data, number_type, count, header.offset).reshape(shape, order="F")
    return Volume(_scaled(array, header), affine)


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
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if (header.slope, header.intercept) == (1.0, 0.0):
        return native
    wide = np.float32 if native.dtype.itemsize <= 2 or native.dtype == np.float32 else np.float64
    return native.astype(wide) * wide(header.slope) + wide(header.intercept)


def _affine(path: Path, header: NiftiHeader, spacing: Spacing | None) -> np.ndarray:
    """(4, 4) IJK -> RAS mm that counts, see the module's description."""
    qform, sform = header.qform, header.sform
    for form in (qform, sform):
        if form is not None and not np.isfinite(form).all():
            raise InputError(f"'{path}' has a position that is not a number: correct the file's header.")
    if (header.pixdim < 0).any():
        log.warning(
            "'%s' states a negative voxel size (pixdim): its sign is ignored; check that left and right are right.",
            path,
        )
    if qform is None and sform is None:
        log.warning(
            "'%s' does not state how it lies in the patient (qform and sform are not set): check that left and right "
            "are right.",
            path,
        )
        unplaced = np.diag([*np.abs(header.pixdim), 1.0])
        return _with_spacing(_LPS_FROM_RAS @ unplaced, spacing)
    if sform is not None:
        _check_angles(path, sform)
        sform = _with_agreed_size(path, header, spacing)
    if qform is not None and sform is not None:
        _compare_forms(path, header, qform, sform)
    takes_sform = qform is None or (sform is not None and header.sform_code == 1)
    return _with_spacing(sform if takes_sform else qform, spacing)


def _with_spacing(affine: np.ndarray, spacing: Spacing | None) -> np.ndarray:
    if spacing is None:
        return affine
    scaled = affine.copy()
    scaled[:3, :3] *= np.array(spacing) / np.linalg.norm(affine[:3, :3], axis=0)
    return scaled


def _check_angles(path: Path, sform: np.ndarray) -> None:
    cosine = shear(sform[:3, :3])
    if cosine > _LARGEST_SHEAR:
        raise InputError(
            f"'{path}' has a sheared orientation (sform), which programs place differently: "
            "resample it to a grid with right angles and load that."
        )
    if cosine > RIGHT_ANGLE:
        log.warning(
            "'%s' has axes that are %.2f degrees off a right angle (sform): they are taken as stated.",
            path,
            math.degrees(math.asin(cosine)),
        )


def _with_agreed_size(path: Path, header: NiftiHeader, spacing: Spacing | None) -> np.ndarray:
    """The sform, where its voxel size and pixdim agree or the user has said which is right."""
    lengths, pixdim = np.linalg.norm(header.sform[:3, :3], axis=0), np.abs(header.pixdim)
    used = slice(0, min(len(header.sizes), 3))
    if spacing is None and (np.abs(lengths / pixdim - 1)[used] > _SAME_SIZE).any():
        shown = [" x ".join(f"{edge:.4g}" for edge in edges[used]) for edges in (lengths, pixdim)]
        raise InputError(
            f"'{path}' states two voxel sizes, {shown[0]} mm (sform) and {shown[1]} mm (pixdim): correct its header, "
            "or give the right size (command line: --spacing)."
        )
    return header.sform


def _compare_forms(path: Path, header: NiftiHeader, qform: np.ndarray, sform: np.ndarray) -> None:
    shape = (*header.sizes, 1, 1)[:3]
    corners = np.array(np.meshgrid(*([0, n - 1] for n in shape), [1], indexing="ij")).reshape(4, -1)
    apart = np.linalg.norm((qform - sform) @ corners, axis=0).max()
    if apart > _SAME_PLACE_MM + 1e-4 * np.linalg.norm(sform[:3] @ corners, axis=0).max():
        taken = "sform" if header.sform_code == 1 else "qform"
        log.warning(
            "'%s' states two positions up to %.3g mm apart (qform and sform): the %s is taken, as Slicer does.",
            path,
            apart,
            taken,
        )
