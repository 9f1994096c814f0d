"""Tables of landmarks as tests read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.lengths import in_unit
from H3DELandmarksLib.core.text import from_csv
from H3DELandmarksLib.io.tables import POSITION_COLUMNS, read_rows, unit_of_columns


def read_table_positions(path: str | Path) -> dict[str, np.ndarray]:
    """(3,) LPS mm, or pixels where the table has such, by name; NaN where it has none."""
    rows = read_rows(Path(path))
    columns = [in_unit(column, unit_of_columns(rows[0])) for column in POSITION_COLUMNS]
    return {from_csv(row["name"]): np.array([float(row[c] or "nan") for c in columns]) for row in rows}
