"""Points of scans in CSV tables: one table a scan, or one for all with a column that names the scan."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import ReviewState
from H3DELandmarksLib.core.text import from_csv
from H3DELandmarksLib.io.tables import read_rows

CASE_COLUMNS = ("case", "scan", "image", "file", "filename", "subject")
NAME_COLUMNS = ("name", "landmark", "label", "point")
STATE_COLUMN, ABSENT = "state", (ReviewState.ABSENT.value, ReviewState.ABSENT_IN_BULK.value)
MEASUREMENTS, MOST_OF_HEADER = {"measurement", "value", "unit"}, 10_000
NOTHING = ("", "na", "nan")  # cells without a coordinate
# Columns of x, y, z, and what makes LPS of them, or of pixels those that are counted from the first one.
LPS, RAS = (1.0, 1.0, 1.0), (-1.0, -1.0, 1.0)
AXES = {
    ("left_mm", "posterior_mm", "superior_mm"): LPS,
    ("right_mm", "anterior_mm", "superior_mm"): RAS,
    ("l", "p", "s"): LPS,
    ("r", "a", "s"): RAS,
    ("x", "y", "z"): LPS,
    ("x", "y"): LPS,
}
# Of pictures; the last two as `detect` and `export` write them.
PIXEL_AXES = {("x_px", "y_px"): LPS, ("left_px", "posterior_px"): LPS, ("right_px", "anterior_px"): RAS}


@dataclass(frozen=True)
class TablePoints:
    """The points of one scan.

    Attributes:
        path: of the table.
        positions: (3,) by name; LPS mm, or pixels from 0 with z 0; NaN where there is none.
        unknown: names without a position that the table does not call absent.
        in_pixels: whether positions are pixels.
        is_flat: whether the table has no third coordinate, as for radiographs.
    """

    path: Path
    positions: Mapping[str, np.ndarray]
    unknown: frozenset[str]
    in_pixels: bool
    is_flat: bool


def read_tables(path: Path) -> dict[str, TablePoints]:
    """All scans' points in a table.

    Columns (in any order, names in any case): one of `CASE_COLUMNS` where the table serves several scans, one of
    `NAME_COLUMNS`, and one of the sets of `AXES` or `PIXEL_AXES`, or of both, filled by the unit of the scan; x, y, z
    without more are LPS mm. An empty coordinate (or NA) is a landmark that is missing in the patient; where there is a
    column `STATE_COLUMN`, only if that says absent.

    Args:
        path: .csv file with a header, separated by commas, semicolons or tabs.

    Returns:
        By scan, as the table names it without folder; of a table for one scan, by the file's own name.

    Raises:
        InputError: the table has other columns, no rows, cells that are no numbers, or a place of what is absent.
    """
    rows = _rows(path)
    columns = {name.strip().lower(): name for name in rows[0]}
    case, name = (_one_of(columns, wanted) for wanted in (CASE_COLUMNS, NAME_COLUMNS))
    choices = [axes for known in (PIXEL_AXES, AXES) for axes in [a for a in known if set(a) <= set(columns)][:1]]
    if name is None or not choices:
        raise InputError(
            f"'{path}' has the columns {', '.join(rows[0])}: a table of points needs landmark and x, y, z (LPS mm), or "
            "x_px, y_px for pictures, and a column scan where it serves several."
        )
    points: dict[str, dict[str, np.ndarray]] = {}
    unknown: dict[str, set[str]] = {}
    axes_of: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(rows, start=2):
        scan = path.stem if case is None else from_csv(row[case] or "").strip()
        found = points.setdefault(scan, {})
        label = from_csv(row[name] or "").strip()
        if label in found:
            raise InputError(f"'{path}', line {number}: the landmark '{label}' stands twice for one scan: remove one.")
        filled = [axes for axes in choices if not any(_is_empty(row[columns[axis]]) for axis in axes)]
        axes = filled[0] if filled else axes_of.get(scan, choices[-1])
        if filled and axes_of.setdefault(scan, axes) != axes:
            raise InputError(f"'{path}', line {number}: '{scan}' has points in pixels and in mm: give all in one unit.")
        signs = PIXEL_AXES.get(axes) or AXES[axes]
        found[label] = _position(path, number, [row[columns[axis]] for axis in axes], signs)
        if STATE_COLUMN in columns and _is_unknown(path, number, label, found[label], row[columns[STATE_COLUMN]]):
            unknown.setdefault(scan, set()).add(label)
    return {
        scan: TablePoints(path, found, frozenset(unknown.get(scan, ())), axes in PIXEL_AXES, len(axes) == 2)
        for scan, found in points.items()
        for axes in [axes_of.get(scan, choices[-1])]
    }


def _is_unknown(path: Path, line: int, label: str, place: np.ndarray, state: str | None) -> bool:
    """Whether nobody knows of a landmark, which has no place and is not called absent."""
    is_absent, is_placed = (state or "").strip().lower() in ABSENT, bool(np.isfinite(place).all())
    if is_absent and is_placed:
        raise InputError(f"'{path}', line {line}: '{label}' is absent, but has a place: correct one of both.")
    return not is_absent and not is_placed


def holds_measurements(path: Path) -> bool:
    """Whether a table is one of measurements, as `detect` and `export` write them beside points."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(MOST_OF_HEADER)
    except OSError:
        return False
    names = {name.strip().strip('"').lower() for name in re.split(r"[,;\t]", header)}
    return names >= MEASUREMENTS and not names & set(NAME_COLUMNS)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        rows = read_rows(path)
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' is no table of points: save it as CSV (UTF-8) with a header.") from error
    if not rows or any(None in row for row in rows):
        raise InputError(f"'{path}' has no rows, or rows longer than its header: save it as CSV again.")
    return rows


def _one_of(columns: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    return next((columns[name] for name in wanted if name in columns), None)


def _position(path: Path, line: int, cells: Sequence[str | None], signs: tuple[float, float, float]) -> np.ndarray:
    try:
        numbers = [np.nan if _is_empty(cell) else float(cell or "") for cell in cells]
    except ValueError:
        numbers = [np.inf]
    if np.isinf(numbers).any():
        raise InputError(f"'{path}', line {line}: {', '.join(map(repr, cells))} are no coordinates.")
    if np.isnan(numbers).any():
        return np.full(3, np.nan)
    return np.array([*numbers, 0.0][:3]) * signs


def _is_empty(cell: str | None) -> bool:
    return (cell or "").strip().lower() in NOTHING
