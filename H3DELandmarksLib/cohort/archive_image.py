"""Scans of archives: NRRD files whose header says nothing but what a scan of a project needs."""

from __future__ import annotations

import math
from pathlib import Path

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.geometry import Volume
from H3DELandmarksLib.volume_io import read_volume

LONGEST_HEADER = 4096
MOST_BYTES = 4 * 2**30
FIELDS = {
    "type", "dimension", "space", "sizes", "space directions", "kinds", "endian", "encoding", "space origin",
}  # fmt: skip
BYTES_PER_VOXEL = 8  # at most


def read_foreign_nrrd(path: Path, shape: tuple[int, ...]) -> Volume:
    """Read a scan that another site wrote.

    Args:
        path: NRRD file.
        shape: voxels along its axes, in any order, as its record says.

    Raises:
        InputError: its header names other files, keys or sizes, or it is damaged.
    """
    header = _header(path)
    try:
        sizes = [int(size) for size in header["sizes"].split()]
    except (KeyError, ValueError) as error:
        raise InputError(f"'{path}' has a header without sizes: export it again.") from error
    if sorted(sizes) != sorted(shape) or math.prod(sizes) * BYTES_PER_VOXEL > 2 * MOST_BYTES:
        raise InputError(f"'{path}' has another size than its record says, or is too large: export it again.")
    return read_volume(path)


def _header(path: Path) -> dict[str, str]:
    """The fields of the header; keys of its own, comments with words and other files are refused."""
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER)
    text, end, _ = start.partition(b"\n\n")
    lines = text.decode("ascii", errors="replace").splitlines()
    if not end or not lines or not lines[0].startswith("NRRD000"):
        raise InputError(f"'{path}' has no header of an exported scan: export it again.")
    fields = {}
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        name, colon, value = line.partition(": ")
        if not colon or name not in FIELDS or name in fields:
            raise InputError(f"'{path}' has a header with other fields than an exported scan: export it again.")
        fields[name] = value
    return fields
