"""One table of all scans, ``cohort.csv`` and ``cohort.parquet``: a row a scan and landmark, positions in LPS mm.

The column ``result`` (path of the point list without extension) tells series, models and boxes of one scan apart.
Lengths in pictures that do not state how large their pixels are stand in columns of their own, such as ``x_px``.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

from H3DELandmarksLib.core.errors import MissingDependencyError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.image_plane import LengthUnit, in_unit
from H3DELandmarksLib.core.text import csv_text, from_csv
from H3DELandmarksLib.formats.results import CohortScan
from H3DELandmarksLib.io.markups import EXTENSION
from H3DELandmarksLib.io.tables import POSITION_COLUMNS, read_rows, unit_of_columns

logger = logging.getLogger(__name__)
NAME, PARQUET = "cohort.csv", "cohort.parquet"
NUMBERS = ("x_mm", "y_mm", "z_mm", "presence", "confidence", "radius90_mm")
COLUMNS = ("scan", "result", "subject", "model", "landmark", "state", *NUMBERS, "cause")
# Columns of the table of one scan that have another name here.
_SOURCE = {"landmark": "name", **dict(zip(NUMBERS, POSITION_COLUMNS))}


def columns_in(units: Collection[LengthUnit]) -> list[str]:
    """The columns of a table that holds lengths in these units."""
    known = [unit for unit in get_args(LengthUnit) if unit in units] or ["mm"]
    return list(dict.fromkeys(in_unit(column, unit) for column in COLUMNS for unit in known))


def require_parquet() -> None:
    """Raises MissingDependencyError where Parquet cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet needs the Python package pyarrow: install it (pip install pyarrow)."
        ) from error


def write_tables(folder: Path, entries: Iterable[CohortScan], parquet: bool) -> None:
    """Write the table of all scans that have results; only that of one scan is in memory at a time.

    Args:
        folder: of the results.
        entries: lines of the log.
        parquet: whether ``cohort.parquet`` is written too.

    Raises:
        OutputError: it cannot be written.
        MissingDependencyError: pyarrow is not installed.
    """
    entries = [entry for entry in entries if entry.outputs is not None]
    columns = columns_in({unit for entry in entries if (unit := _unit(folder, entry))})
    with ExitStack() as stack:
        path = stack.enter_context(atomic_write(folder / NAME))
        writer = csv.writer(stack.enter_context(path.open("w", encoding="utf-8", newline="")))
        writer.writerow(columns)
        place = stack.enter_context(atomic_write(folder / PARQUET)) if parquet else None
        also = stack.enter_context(_Parquet(place, columns)) if place else None
        for entry in entries:
            rows = list(_rows(folder, entry))
            writer.writerows([row.get(column, "") for column in columns] for row in rows)
            if also is not None:
                also.add(rows)


def _unit(folder: Path, entry: CohortScan) -> LengthUnit | None:
    """The unit of a scan's own table; None where it cannot be read."""
    assert entry.outputs is not None
    try:
        return unit_of_columns(next(iter(read_rows(folder / entry.outputs.table)), ()))
    except (OSError, ValueError):
        return None


def _rows(folder: Path, entry: CohortScan) -> Iterator[dict[str, str]]:
    """The rows of a scan as cells; none where its own table is no more what detection has written."""
    assert entry.outputs is not None
    model = f"{entry.model.id}@{entry.model.version}" if entry.model else ""
    result = entry.outputs.markups.removesuffix(EXTENSION)
    told = {"scan": entry.scan, "result": result, "subject": entry.subject or "", "model": model}
    own = {column: csv_text(text) for column, text in told.items()}
    try:
        table = read_rows(folder / entry.outputs.table)
        unit = unit_of_columns(table[0] if table else ())
        source = {in_unit(c, unit): in_unit(_SOURCE.get(c, c), unit) for c in COLUMNS if c not in own}
        rows = [own | {column: row[name] or "" for column, name in source.items()} for row in table]
    except (OSError, KeyError, ValueError) as error:
        logger.warning("The table '%s' cannot be read (%s): detect again in this scan.", entry.outputs.table, error)
        return
    yield from (_with_numbers(row, entry.outputs.table) for row in rows)


def _with_numbers(row: dict[str, str], table: str) -> dict[str, str]:
    """The row without what stands where a number belongs and is none, which is told."""
    wrong = {column: cell for column, cell in row.items() if _is_number(column) and not _is_readable(cell)}
    for cell in wrong.values():
        logger.warning("The table '%s' holds '%s' where a number belongs: correct that cell.", table, cell)
    return row | dict.fromkeys(wrong, "")


def _is_readable(cell: str) -> bool:
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True


class _Parquet:
    """A file that is written by and by; a context."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        import pyarrow
        import pyarrow.parquet

        types = {True: pyarrow.float64(), False: pyarrow.string()}
        self._schema = pyarrow.schema([(column, types[_is_number(column)]) for column in columns])
        self._batch, self._rows = pyarrow.RecordBatch, 2**16
        self._waiting: list[dict[str, Any]] = []
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema)

    def __enter__(self) -> _Parquet:
        return self

    def add(self, rows: Iterable[dict[str, str]]) -> None:
        self._waiting += [{c: _value(c, cell) for c, cell in row.items()} for row in rows]
        if len(self._waiting) >= self._rows:
            self._write()

    def _write(self) -> None:
        self._writer.write_batch(self._batch.from_pylist(self._waiting, self._schema))
        self._waiting = []

    def __exit__(self, *error: object) -> None:
        if self._waiting:
            self._write()
        self._writer.close()


def _is_number(column: str) -> bool:
    return column in NUMBERS or column in [in_unit(name, "px") for name in NUMBERS]


def _value(column: str, cell: str) -> str | float | None:
    if _is_number(column):
        return float(cell) if cell else None
    return from_csv(cell) or None
