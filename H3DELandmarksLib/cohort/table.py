"""One table of all scans, ``cohort.csv`` and ``cohort.parquet``: a row a scan and landmark, positions in LPS mm."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.errors import MissingDependencyError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.text import csv_text, from_csv
from H3DELandmarksLib.formats.cohort import CohortScan
from H3DELandmarksLib.io.tables import POSITION_COLUMNS

logger = logging.getLogger(__name__)
NAME, PARQUET = "cohort.csv", "cohort.parquet"
TEXTS = ("scan", "subject", "model", "landmark", "state", "cause")
NUMBERS = ("x_mm", "y_mm", "z_mm", "presence", "confidence", "radius90_mm")
COLUMNS = ("scan", "subject", "model", "landmark", "state", *NUMBERS, "cause")
# Columns of the table of one scan that have another name here.
_SOURCE = {"landmark": "name", **dict(zip(NUMBERS, POSITION_COLUMNS))}


def require_parquet() -> None:
    """Raises MissingDependencyError where Parquet cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet needs the Python package pyarrow: install it (pip install 'slicer-h3delandmarks[parquet]')."
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
    with ExitStack() as stack:
        path = stack.enter_context(atomic_write(folder / NAME))
        writer = csv.writer(stack.enter_context(path.open("w", encoding="utf-8", newline="")))
        writer.writerow(COLUMNS)
        also = stack.enter_context(_Parquet(stack.enter_context(atomic_write(folder / PARQUET)))) if parquet else None
        for entry in entries:
            rows = list(_rows(folder, entry))
            writer.writerows([row[column] for column in COLUMNS] for row in rows)
            if also is not None:
                also.add(rows)


def _rows(folder: Path, entry: CohortScan) -> Iterator[dict[str, str]]:
    """The rows of a scan as cells; none where its own table is no more what detection has written."""
    if entry.outputs is None:
        return
    model = f"{entry.model.id}@{entry.model.version}" if entry.model else ""
    own = {"scan": csv_text(entry.scan), "subject": csv_text(entry.subject or ""), "model": model}
    try:
        with (folder / entry.outputs.table).open(encoding="utf-8", newline="") as file:
            rows = [own | {c: row[_SOURCE.get(c, c)] for c in COLUMNS if c not in own} for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        logger.warning("The table '%s' cannot be read (%s): detect again in this scan.", entry.outputs.table, error)
        return
    yield from rows


class _Parquet:
    """A file that is written by and by; a context."""

    def __init__(self, path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        types = {**dict.fromkeys(TEXTS, pyarrow.string()), **dict.fromkeys(NUMBERS, pyarrow.float64())}
        self._schema = pyarrow.schema([(column, types[column]) for column in COLUMNS])
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


def _value(column: str, cell: str) -> str | float | None:
    if column in NUMBERS:
        return float(cell) if cell else None
    return from_csv(cell) or None
