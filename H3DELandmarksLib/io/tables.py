"""Landmark sets as tables (.csv) for spreadsheets and statistics programs.

One row per landmark. Positions are millimeters in the patient's LPS frame, as in .mrk.json: ``left_mm`` grows toward
the patient's left, ``posterior_mm`` toward the back, ``superior_mm`` toward the head. What nobody states is left empty.
``placed_mm`` says how far a point that was placed on the surface of bone lies from the network's own.
The last columns, where a table has them, say who stated it, with which model, of which scan and when. Columns of
lengths in a picture that does not state how large its pixels are end in ``_px``: ``left_px``, ``radius90_px``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.image_plane import LengthUnit, in_unit
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import csv_text
from H3DELandmarksLib.formats.provenance import Provenance
from H3DELandmarksLib.formats.results import MeasurementResult

POSITION_COLUMNS = ("left_mm", "posterior_mm", "superior_mm")
AXES = {"LPS": POSITION_COLUMNS, "RAS": ("right_mm", "anterior_mm", "superior_mm")}
ORIGIN_COLUMNS = ("model", "model_sha256", "confidence_within_mm", "scan", "scan_sha256", "time", "software", "device")
COLUMNS = (
    *("name", "state", *POSITION_COLUMNS, "presence", "confidence", "radius90_mm", "definition"),
    *("cause", "placed_mm", "review", "stated_by", *ORIGIN_COLUMNS),
)
MEASUREMENT_COLUMNS = (
    *("case", "measurement", "value", "unit", "low90", "high90", "reason", "z", "within_norm", "category"),
    *("norm_mean", "norm_sd", "norm_source", "title"),
)
DECIMALS = 4


def write_table(path: str | Path, landmarks: LandmarkSet, provenance: Provenance | None = None) -> None:
    """Write a table; a file of that name is replaced only when the new one is complete.

    Args:
        path: .csv file.
        landmarks: positions in LPS mm.
        provenance: where they come from, with a point of each name; without it the last columns are empty.
    """
    origin, points = (provenance.cells(), provenance.by_name()) if provenance else ({}, {})
    unit = provenance.unit if provenance else "mm"
    within = provenance.model.unit if provenance and provenance.model else unit
    origin_columns = [in_unit(column, within) for column in ORIGIN_COLUMNS]
    rows = []
    for k, name in enumerate(landmarks.names):
        values = (*landmarks.positions[k], landmarks.presence[k], landmarks.confidence[k], landmarks.radius[k])
        cause = landmarks.causes[k]
        stated = (points[name].state, points[name].by or "") if points else ("", "")
        row = [csv_text(name), landmarks.statements[k].value, *map(_cell, values), csv_text(landmarks.definitions[k])]
        row += [cause.value if cause else "", _cell(landmarks.moved_mm[k]), *stated]
        rows.append([*row, *(csv_text(origin.get(column, "")) for column in origin_columns)])
    own = (in_unit(column, unit) for column in COLUMNS[: -len(ORIGIN_COLUMNS)])
    write_rows(path, (*own, *origin_columns), rows)


def write_measurements(path: str | Path, cases: Mapping[str, Sequence[MeasurementResult]]) -> None:
    """Write a table of measurements, one a row; a file of that name is replaced only when the new one is complete.

    Args:
        path: .csv file.
        cases: what was measured, by the name of the case.
    """
    rows = []
    for case, results in cases.items():
        for result in results:
            numbers = (result.value, result.low90, result.high90, result.z)
            value, low, high, z = (_number(x) for x in numbers)
            norm = result.norm
            known = (_number(norm.mean), _number(norm.sd), csv_text(norm.source)) if norm else ("", "", "")
            within = "" if result.within_norm is None else str(result.within_norm).lower()
            texts = (csv_text(result.category or ""), *known, csv_text(result.title))
            rows.append([csv_text(case), csv_text(result.name), value, result.unit, low, high])
            rows[-1] += [csv_text(result.reason or ""), z, within, *texts]
    write_rows(path, MEASUREMENT_COLUMNS, rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")


def write_rows(path: str | Path, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write any table; a file of that name is replaced only when the new one is complete.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_write(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _cell(value: float) -> str:
    return f"{value:.{DECIMALS}f}" if np.isfinite(value) else ""


def unit_of_columns(columns: Iterable[str]) -> LengthUnit:
    """The unit of the positions in a table, from the names of its columns."""
    return "px" if in_unit(POSITION_COLUMNS[0], "px") in columns else "mm"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of any table by its columns, which commas, semicolons or tabs separate, as its first line has it.

    Cells that a row lacks are None; those that it has too much are a list under None.

    Raises:
        OSError, ValueError: it cannot be read, or is no table in UTF-8.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        try:
            return list(csv.DictReader(file, delimiter=max(",;\t", key=head.count)))
        except csv.Error as error:
            raise ValueError(str(error)) from error
