"""NRRD and MetaImage files: a header of text, voxels behind it or in a file beside it.

Lengths are converted to mm where the header names another unit. A spacing that is not stated is refused unless the user
states it; where the axes' directions are not stated, those of the patient (LPS) are taken, with a warning. Voxels of
.nhdr and .mhd files are read from a plain file in the same folder only, since a header of a stranger could name any
file of the user.
"""

from __future__ import annotations

import math
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.checks import (
    Spacing,
    Voxels,
    check_scalar_volume,
    check_spacing,
    damaged,
    numbers,
    read_voxels,
    warn,
)

_HEADER_BYTES = 2**20
_MOST_AXES = 10
_UNITS = {
    1.0: "mm millimeter",
    1e-3: "um µm μm micron micrometer",
    1e-6: "nm nanometer",
    10.0: "cm centimeter",
    1000.0: "m meter",
}


Key = TypeVar("Key", float, str)


@dataclass(frozen=True)
class _Geometry:
    """Where voxels lie, as stated: mm, LPS.

    Attributes:
        spacing: of the spatial axes, None where it is not stated.
        directions: (D, D) whose columns are unit vectors of the axes, None where they are not stated.
        origin: (D,) center of the first voxel.
    """

    spacing: np.ndarray | None
    directions: np.ndarray | None
    origin: np.ndarray


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES)


def _add_field(path: Path, fields: dict[str, str], name: str, value: str) -> None:
    """Keep a field by its lower-case name; refuse it where it stands there with another value, but for comments."""
    key, value = name.strip().lower(), value.strip()
    if fields.setdefault(key, value) != value and key != "comment":
        raise InputError(f"'{path}' states '{name.strip()[:40]}' twice: correct the file's header.")


def _key_of(names: dict[Key, str], word: str) -> Key | None:
    """The key whose names hold a word."""
    return next((key for key, words in names.items() if word in words.split()), None)


def _unit_mm(path: Path, unit: str) -> float:
    """How many mm a unit of length is; an empty one is taken for mm."""
    word = unit.strip().lower().replace("metre", "meter").removesuffix("s")
    if not word:
        return 1.0
    mm = _key_of(_UNITS, word)
    if mm is None:
        raise InputError(f"'{path}' states lengths in the unknown unit '{unit[:20]}': convert it to mm.")
    return mm


def _beside(path: Path, name: str, detached_extension: str) -> Path:
    """The file of voxels that a header names.

    Raises:
        InputError: it is no plain file in the folder of the header, or the header's own extension does not allow one.
    """
    if path.suffix.lower() != detached_extension:
        raise InputError(
            f"'{path}' names another file for its voxels, as only {detached_extension} files may: export it again."
        )
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise InputError(f"'{path}' names several files for its voxels: save it as one file.")
    name = name.removeprefix("./")  # as Teem names files beside a header
    beside = path.with_name(Path(name).name) if Path(name).name and "\0" not in name else path
    if Path(name).name != name or "\\" in name or beside == path:
        raise InputError(f"'{path}' names voxels in another folder ('{name[:60]}'): put both files into one folder.")
    try:
        is_plain = stat.S_ISREG(beside.stat().st_mode)
        is_inside = beside.resolve().parent == path.resolve().parent or not beside.is_symlink()
    except FileNotFoundError as error:
        raise InputError(
            f"'{path}' names voxels that are not there ('{name[:60]}'): put both files into one folder."
        ) from error
    except (OSError, ValueError) as error:
        raise damaged(path) from error
    if not (is_plain and is_inside):
        raise InputError(f"'{path}' names voxels that are no plain file ('{name[:60]}'): copy the scan again.")
    return beside


def _affine(path: Path, geometry: _Geometry, spacing: Spacing | None) -> np.ndarray:
    """(4, 4) IJK -> LPS mm of what is stated, by the file or by the user."""
    dimension = len(geometry.origin)
    stated = geometry.spacing if spacing is None else np.array(spacing)
    if stated is None:
        raise InputError(
            f"'{path}' does not state its voxel spacing: give it in mm (command line: --spacing 0.3x0.3x0.5)."
        )
    lengths = stated[:dimension]
    check_spacing(path, lengths)
    if geometry.directions is None and dimension == 3:
        warn(path, "does not state the directions of its axes: they are taken for left, posterior and superior.")
    affine = np.eye(4)
    directions = np.eye(dimension) if geometry.directions is None else geometry.directions
    with np.errstate(all="ignore"):
        affine[:dimension, :dimension] = directions * lengths
    affine[:dimension, 3] = geometry.origin
    if not np.isfinite(affine).all() or np.abs(affine).max() > 1e9:
        raise InputError(f"'{path}' has a position that is not a usable number: correct the file's header.")
    return affine


def _unsupported_type(path: Path, name: str) -> InputError:
    return InputError(f"'{path}' holds numbers of an unsupported type ('{name[:20]}'): save it as 16 bit.")


def _integers(path: Path, text: str | None, count: int) -> list[int]:
    """`count` whole numbers."""
    words = (text or "").replace(",", " ").split()
    if len(words) != count or not all(re.fullmatch(r"-?\d{1,9}", word) for word in words):
        raise damaged(path)
    return [int(word) for word in words]


def _optional_integer(path: Path, text: str | None) -> int:
    return _integers(path, text, 1)[0] if text is not None else 0


# NRRD

_NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_NRRD_ENCODINGS = {"raw": "raw", "text": "txt text ascii", "hex": "hex", "deflate": "gz gzip", "bzip2": "bz2 bzip2"}
_VECTOR_KINDS = ("vector", "color", "list", "matrix", "complex", "normal", "gradient", "quaternion", "point", "scalar")
# Signs that turn world coordinates into LPS; spaces without a relation to the patient are taken as LPS.
_NRRD_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}


def read_nrrd(path: Path, spacing: Spacing | None = None) -> Volume:
    """Read a .nrrd or .nhdr file.

    Args:
        path: file.
        spacing: three numbers in mm that overrule the file's.

    Raises:
        InputError: the file is damaged, no scalar scan, or does not state its spacing.
    """
    fields, offset = _nrrd_fields(path)
    dimension = _optional_integer(path, fields.get("dimension"))
    if not 1 <= dimension <= _MOST_AXES:
        raise damaged(path)
    sizes = _integers(path, fields.get("sizes"), dimension)
    spatial = _spatial_axes(path, fields, sizes)
    geometry = _nrrd_geometry(path, fields, spatial, dimension)
    voxels = _nrrd_voxels(path, fields, offset)
    affine = _affine(path, geometry, spacing)
    return Volume(read_voxels(path, voxels, [sizes[axis] for axis in spatial]), affine)


def _nrrd_fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header by lower-case name, and where it ends."""
    head = _head(path)
    if not head.startswith(b"NRRD000"):
        raise damaged(path)
    fields: dict[str, str] = {}
    position = head.find(b"\n") + 1
    while position:
        end = head.find(b"\n", position)
        line = head[position : end if end >= 0 else None].rstrip(b"\r").decode("utf-8", "replace")
        position = end + 1
        if not line.strip():
            break
        name, separator, value = line.partition(":")
        if not line.startswith("#") and separator and not value.startswith("="):
            _add_field(path, fields, name, value)
    if not position and len(head) == _HEADER_BYTES:
        raise InputError(f"'{path}' has a header of more than {_HEADER_BYTES} bytes: save it again with Slicer.")
    return fields, position or len(head)


def _spatial_axes(path: Path, fields: dict[str, str], sizes: list[int]) -> list[int]:
    """Indices of the up to three axes in space; the others must hold one value."""
    dimension = len(sizes)
    kinds = (fields.get("kinds", "").lower().split() + ["domain"] * dimension)[:dimension]
    vectors = _vectors(fields.get("space directions", ""))
    others = [k for k in range(dimension) if len(vectors) == dimension and vectors[k] is None]
    others += [k for k in range(dimension) if k not in others and kinds[k].endswith(_VECTOR_KINDS)]
    spatial = [k for k in range(dimension) if k not in others]
    others, spatial = sorted(others + spatial[3:]), spatial[:3]
    listed = [k for k in others if kinds[k] in ("list", "domain", "time", "none", "???")]
    is_complex = any(kinds[k] == "complex" and sizes[k] == 2 for k in others)
    components = math.prod(sizes[k] for k in others if k not in listed or k < min(spatial, default=0))
    frames = [sizes[k] for k in others if k in listed and k > min(spatial, default=0)]
    inner = (*[sizes[k] for k in spatial], 1, 1)[:3] if spatial else ()
    check_scalar_volume(path, (*inner, *frames), components, is_complex)
    return spatial


def _vectors(text: str) -> list[list[float] | None]:
    """Vectors such as ``none (1,0,0) (0,1,0)``."""
    return [None if word == "none" else numbers(word[1:-1]) for word in re.findall(r"none|\([^()]*\)", text)]


def _nrrd_geometry(path: Path, fields: dict[str, str], spatial: list[int], dimension: int) -> _Geometry:
    count = len(spatial)
    space = fields.get("space", "").lower().removesuffix("-time")
    vectors = _vectors(fields.get("space directions", ""))
    if len(vectors) == dimension:
        axes = [axis[:3] for k in spatial if (axis := vectors[k]) is not None and len(axis) >= count]
        if len(axes) < count or len({len(axis) for axis in axes}) > 1:
            raise damaged(path)
        if count == 2 and len(axes[0]) == 3:  # a slice in space
            normal = np.cross(axes[0], axes[1])
            axes, count = [*axes, list(normal / (np.linalg.norm(normal) or 1.0))], 3
        rows = np.array(axes)
        signs = np.array(_NRRD_SPACES.get(space, (1, 1, 1)), float)[:count]
        units = _quoted(fields.get("space units", ""))
        mm = np.array([_unit_mm(path, unit) for unit in (units + [""] * count)[:count]])
        columns = (rows * signs * mm).T
        with np.errstate(all="ignore"):
            lengths = np.linalg.norm(columns, axis=0)
        check_spacing(path, lengths)
        origin = (_vectors(fields.get("space origin", "")) or [[0.0] * count])[0]
        if origin is None or len(origin) < count:
            raise damaged(path)
        if space not in _NRRD_SPACES and count == 3:
            warn(
                path, "does not state how its axes lie in the patient: they are taken for left, posterior and superior."
            )
        return _Geometry(lengths, columns / lengths, np.array(origin[:count]) * signs * mm)
    if any(name in fields for name in ("axis mins", "axismins", "space origin")):
        raise InputError(
            f"'{path}' states its position without the directions of its axes, so that programs place it differently: "
            "save it again with Slicer."
        )
    stated = numbers(fields.get("spacings", ""))
    units = _quoted(fields.get("units", ""))
    mm = np.array([_unit_mm(path, (units + [""] * dimension)[k]) for k in spatial])
    lengths = np.array([stated[k] for k in spatial]) * mm if len(stated) == dimension else None
    if lengths is not None and np.isnan(lengths).all():
        lengths = None
    return _Geometry(lengths, None, np.zeros(count))


def _quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text) or text.split()


def _nrrd_voxels(path: Path, fields: dict[str, str], offset: int) -> Voxels:
    encoding = _key_of(_NRRD_ENCODINGS, fields.get("encoding", "").lower())
    number_type = next((code for code, names in _NRRD_TYPES.items() if fields.get("type", "").lower() in names), None)
    endian = {"little": "<", "big": ">"}.get(fields.get("endian", "little").lower())
    if "encoding" in fields and encoding is None:
        how = fields["encoding"][:20]
        raise InputError(f"'{path}' is encoded in a way that is not read here ('{how}'): save it again with Slicer.")
    if "type" in fields and number_type is None:
        raise _unsupported_type(path, fields["type"])
    if encoding is None or number_type is None or endian is None:
        raise damaged(path)
    file, name = path, fields.get("data file", fields.get("datafile"))
    if name is not None:
        file, offset = _beside(path, name, ".nhdr"), 0
    lines = _optional_integer(path, fields.get("line skip", fields.get("lineskip")))
    skipped = _optional_integer(path, fields.get("byte skip", fields.get("byteskip")))
    if lines < 0 or lines > 10_000 or skipped < (-1 if encoding == "raw" else 0):
        raise damaged(path)
    return Voxels(file, offset, lines, skipped, encoding, np.dtype(endian + number_type))


# MetaImage

_META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_UNIT_LENGTH = 0.01


def read_metaimage(path: Path, spacing: Spacing | None = None) -> Volume:
    """Read a .mha or .mhd file.

    Args:
        path: file.
        spacing: three numbers in mm that overrule the file's.

    Raises:
        InputError: the file is damaged, no scalar scan, or does not state its spacing.
    """
    fields, offset = _meta_fields(path)
    dimension = _optional_integer(path, fields.get("ndims"))
    if not 1 <= dimension <= _MOST_AXES:
        raise damaged(path)
    sizes = _integers(path, fields.get("dimsize"), dimension)
    components = _optional_integer(path, fields.get("elementnumberofchannels", "1"))
    check_scalar_volume(path, sizes, components)
    affine = _affine(path, _meta_geometry(path, fields, dimension), spacing)
    return Volume(read_voxels(path, _meta_voxels(path, fields, offset), sizes), affine)


def _meta_fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header by lower-case name, and where it ends."""
    head = _head(path)
    fields: dict[str, str] = {}
    position = 0
    while "elementdatafile" not in fields:
        end = head.find(b"\n", position)
        name, separator, value = head[position : max(end, 0) or None].decode("utf-8", "replace").partition("=")
        if not separator or (end < 0 and position == 0):
            raise damaged(path)
        _add_field(path, fields, name, value)
        position = end + 1 if end >= 0 else len(head)
    return fields, position


def _meta_geometry(path: Path, fields: dict[str, str], dimension: int) -> _Geometry:
    count = min(dimension, 3)
    mm = _unit_mm(path, fields.get("distanceunits", "").replace("?", ""))

    def stated(length: int, *names: str) -> np.ndarray | None:
        text = next((fields[name] for name in names if name in fields), None)
        values = np.array(numbers(text or ""))
        if text is not None and len(values) != length:
            raise damaged(path)
        return None if text is None else values

    spacing = stated(dimension, "elementspacing", "elementsize")
    origin = stated(dimension, "offset", "position", "origin")
    matrix = stated(dimension**2, "transformmatrix", "rotation", "orientation")
    directions = None
    if matrix is not None:
        directions = matrix.reshape(dimension, dimension)[:count, :count].T
        with np.errstate(all="ignore"):
            lengths = np.linalg.norm(directions, axis=0)
        if not (np.abs(lengths - 1) < _UNIT_LENGTH).all():
            raise InputError(
                f"'{path}' has axes that are not of length 1 (TransformMatrix): correct the file's header."
            )
    origin = np.zeros(dimension) if origin is None else origin
    return _Geometry(None if spacing is None else spacing[:count] * mm, directions, origin[:count] * mm)


def _meta_voxels(path: Path, fields: dict[str, str], offset: int) -> Voxels:
    code = _META_TYPES.get(fields.get("elementtype", "").upper())
    if code is None:
        raise _unsupported_type(path, fields["elementtype"]) if "elementtype" in fields else damaged(path)

    def is_true(*names: str) -> bool:
        return any(fields.get(name, "").lower()[:1] in ("t", "1") for name in names)

    order = ">" if is_true("binarydatabyteordermsb", "elementbyteordermsb") else "<"
    encoding = "raw" if is_true("binarydata") or "binarydata" not in fields else "text"
    if is_true("compresseddata"):
        encoding = "deflate"
    file, name = path, fields["elementdatafile"]
    if name.upper() != "LOCAL":
        file, offset = _beside(path, name, ".mhd"), 0
    skipped = _optional_integer(path, fields.get("headersize"))
    if skipped < (-1 if encoding == "raw" else 0):
        raise damaged(path)
    return Voxels(file, offset + max(skipped, 0), 0, min(skipped, 0), encoding, np.dtype(order + code))
