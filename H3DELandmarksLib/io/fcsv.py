"""Slicer's older point lists (.fcsv): comments that describe the file, and one line of values per point.

Versions differ in their header: the coordinate system is a number (0 RAS, 1 LPS), a word or not stated, which means
RAS; columns are named or known; Slicer 5 adds the status of the position behind the named ones. Spreadsheet programs
put quotes around comments, commas or semicolons behind them, and semicolons between values.
"""

from __future__ import annotations

import csv
import io

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet

EXTENSION = ".fcsv"
COLUMNS = ("id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatedNodeID")
# Slicer 3 named its columns, or wrote no header at all.
SLICER_3_COLUMNS = ("label", "x", "y", "z", "sel", "vis")
STATUS = {"0": "undefined", "1": "preview", "2": "defined", "3": "missing"}


def parse_fcsv(text: str) -> dict:
    """The coordinate system and control points of a file, under the names that .mrk.json has for them.

    Raises:
        ValueError, LookupError, csv.Error: a line is not a point.
    """
    lines = list(io.StringIO(text, newline=""))
    header = dict(_comment(line) for line in lines if _is_comment(line))
    values = [line for line in lines if line.strip(" \t\r\n,;") and not _is_comment(line)]
    first = next((line for line in values if not line.lstrip().startswith(";")), "")
    delimiter = ";" if first.count(";") > first.count(",") else ","
    if delimiter == ",":  # lines that begin with a semicolon are remarks
        values = [line for line in values if not line.lstrip().startswith(";")]
    rows = list(csv.reader(values, delimiter=delimiter, strict=True))
    named = header.get("columns", "").replace(";", ",")
    columns = tuple(word.strip() for word in named.split(",")) if named else _usual_columns(rows)
    points = [_point(columns, row, delimiter) for row in rows]
    return {"coordinateSystem": header.get("coordinatesystem") or "RAS", "controlPoints": points}


def fcsv_text(landmarks: LandmarkSet, is_ras: bool = False) -> str:
    """A point list as Slicer 5 saves it; absent points are missing, unknown ones undefined, both without a place.

    Args:
        landmarks: positions in LPS mm.
        is_ras: whether the file is written in RAS.
    """
    out = io.StringIO(newline="")
    system = "RAS" if is_ras else "LPS"
    out.write(
        f"# Markups fiducial file version = 5.0\n# CoordinateSystem = {system}\n# columns = {','.join(COLUMNS)}\n"
    )
    table = csv.writer(out, lineterminator="\n")
    for k, name in enumerate(landmarks.names):
        status = "0" if landmarks.unknown[k] else "2" if landmarks.present[k] else "3"
        position = np.nan_to_num(landmarks.positions[k]) * ((-1, -1, 1) if is_ras else (1, 1, 1)) + 0.0
        definition = " ".join(landmarks.definitions[k].split())  # Slicer reads line by line
        places = map(repr, position.tolist())
        table.writerow([k + 1, *places, 0, 0, 0, 1, 1, 1, 0, name, definition, "", status, 0])
    return out.getvalue()


def _is_comment(line: str) -> bool:
    return line.lstrip(' "\t').startswith("#")


def _comment(line: str) -> tuple[str, str]:
    """Key, in lower case, and value of a comment."""
    key, _, value = line.strip(' "\t\r\n,;').lstrip("# ").partition("=")
    return key.strip().lower(), value.strip(' "\t,;')


def _usual_columns(rows: list[list[str]]) -> tuple[str, ...]:
    return COLUMNS if all(len(row) > COLUMNS.index("label") for row in rows) else SLICER_3_COLUMNS


def _point(columns: tuple[str, ...], row: list[str], delimiter: str) -> dict:
    entries = dict(zip(columns, row))
    code = row[len(COLUMNS)].strip() if columns == COLUMNS and len(row) > len(COLUMNS) else "2"
    status = STATUS[code or "2"]
    has_place = status not in ("undefined", "missing")
    return {
        "label": entries.get("label") or entries.get("id", ""),
        "description": entries.get("desc", ""),
        "position": [_number(entries.get(axis, ""), delimiter) for axis in "xyz"] if has_place else "",
        "positionStatus": status,
    }


def _number(text: str, delimiter: str) -> float:
    """A number; where semicolons stand between values, it may have a comma before its decimals."""
    if "_" in text:
        raise ValueError("no number")
    return float(text.replace(",", ".") if delimiter == ";" else text)
