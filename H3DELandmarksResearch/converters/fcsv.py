"""Slicer's older point lists (.fcsv): text with a header of comments and one line per point."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet

COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
FLIP = np.array([-1.0, -1.0, 1.0])


def read_fcsv(path: Path) -> LandmarkSet:
    """Read a point list; a file that names no coordinate system is RAS, as in Slicer before 4.11.

    Args:
        path: .fcsv file.

    Returns:
        Landmarks in LPS mm.

    Raises:
        InputError: the file is missing, damaged or uses a label twice.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as a point list: check the path.") from error
    header = {
        key.strip().lower(): value.strip()
        for key, _, value in (line.lstrip("# ").partition("=") for line in lines if line.startswith("#"))
    }
    columns = [column.strip() for column in (header.get("columns") or COLUMNS).split(",")]
    try:
        rows = [dict(zip(columns, row)) for row in csv.reader(line for line in lines if not line.startswith("#"))]
        names = tuple(row.get("label") or row["id"] for row in rows)
        positions = np.array([[float(row[axis]) for axis in "xyz"] for row in rows]).reshape(-1, 3)
    except (KeyError, ValueError, csv.Error) as error:
        raise InputError(f"'{path}' is not a complete point list (.fcsv): save it again in Slicer.") from error
    if not names or len(set(names)) != len(names):
        raise InputError(f"'{path}' holds no points, or uses a label more than once: save it again in Slicer.")
    system = header.get("coordinatesystem", "RAS").upper()
    if system not in ("LPS", "1", "RAS", "0"):
        raise InputError(f"'{path}' uses the unknown coordinate system '{system}': save it again in Slicer.")
    return LandmarkSet(names, positions if system in ("LPS", "1") else positions * FLIP)
