"""Points of scans in CSV tables: one table a scan, or one for all with a column that names the scan."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.text import from_csv

CASE_COLUMNS = ("case", "scan", "image", "file", "filename", "subject")
NAME_COLUMNS = ("name", "landmark", "label", "point")
# Columns of x, y, z, and what makes LPS of them; radiographs may give pixels.
LPS, RAS, PIXELS = (1.0, 1.0, 1.0), (-1.0, -1.0, 1.0), "pixels"
AXES: dict[tuple[str, ...], tuple[float, float, float] | str] = {
    ("left_mm", "posterior_mm", "superior_mm"): LPS,
    ("right_mm", "anterior_mm", "superior_mm"): RAS,
    ("l", "p", "s"): LPS,
    ("r", "a", "s"): RAS,
    ("x_px", "y_px"): PIXELS,
    ("x", "y", "z"): LPS,
    ("x", "y"): LPS,
}


@dataclass(frozen=True)
class TablePoints:
    """The points of one scan.

    Attributes:
        positions: (3,) by name; LPS mm, or pixels from 0 with z 0; NaN where the landmark is missing.
        in_pixels: whether they are pixels.
    """

    positions: Mapping[str, np.ndarray]
    in_pixels: bool


def read_tables(path: Path) -> dict[str, TablePoints]:
    """All scans' points in a table.

    Columns (in any order, names in any case): one of `CASE_COLUMNS` where the table serves several scans, one of
    `NAME_COLUMNS`, and one of the sets of `AXES`; x, y, z without more are LPS mm. An empty coordinate is a landmark
    that is missing in the patient.

    Args:
        path: .csv file with a header, separated by commas, semicolons or tabs.

    Returns:
        By scan, as the table names it without folder; of a table for one scan, by the file's own name.

    Raises:
        InputError: the table has other columns, no rows, or cells that are no numbers.
    """
    rows = _rows(path)
    columns = {name.strip().lower(): name for name in rows[0]}
    case, name = (_one_of(columns, wanted) for wanted in (CASE_COLUMNS, NAME_COLUMNS))
    axes = next((names for names in AXES if set(names) <= set(columns)), None)
    if name is None or axes is None:
        raise InputError(
            f"'{path}' has the columns {', '.join(rows[0])}: a table of points needs landmark and x, y, z (LPS mm), or "
            "x_px, y_px for pictures, and a column scan where it serves several."
        )
    points: dict[str, dict[str, np.ndarray]] = {}
    for number, row in enumerate(rows, start=2):
        found = points.setdefault(path.stem if case is None else from_csv(row[case] or "").strip(), {})
        label = from_csv(row[name] or "").strip()
        if label in found:
            raise InputError(f"'{path}', line {number}: the landmark '{label}' stands twice for one scan: remove one.")
        found[label] = _position(path, number, [row[columns[axis]] for axis in axes], AXES[axes])
    return {scan: TablePoints(found, AXES[axes] == PIXELS) for scan, found in points.items()}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        dialect = csv.Sniffer().sniff(text.partition("\n")[0], ",;\t")
        rows = list(csv.DictReader(text.splitlines(), dialect=dialect))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{path}' is no table of points: save it as CSV with a header.") from error
    if not rows or any(None in row for row in rows):
        raise InputError(f"'{path}' has no rows, or rows longer than its header: save it as CSV again.")
    return rows


def _one_of(columns: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    return next((columns[name] for name in wanted if name in columns), None)


def _position(
    path: Path, line: int, cells: Sequence[str | None], signs: tuple[float, float, float] | str
) -> np.ndarray:
    try:
        numbers = [float(cell) if (cell or "").strip() else np.nan for cell in cells]
    except ValueError as error:
        raise InputError(f"'{path}', line {line}: {', '.join(map(repr, cells))} are no coordinates.") from error
    if np.isnan(numbers).any():
        return np.full(3, np.nan)
    place = np.array([*numbers, 0.0][:3])
    return place if isinstance(signs, str) else place * signs
