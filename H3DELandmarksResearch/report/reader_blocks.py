"""What an evaluation says of readers, as its document holds it: pairs of point sets with agreement along each axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from H3DELandmarksLib.core.image_plane import named_in_mm
from H3DELandmarksResearch.agreement.record import DIRECTIONS
from H3DELandmarksResearch.report.page import Cell, Fact, Table, interval_cell, number_cell, text_cell

FIGURES = ("mean distance", "SD", "Dahlberg's error")
GROUPS = {"models": "model and readers", "between": "between readers", "within": "a reader with himself"}
Plain = Mapping[str, Any]


def reader_blocks(document: Plain) -> list[Any]:
    """Facts and tables of the entries ``human_floor`` and ``readers``; none where there are none."""
    unit = document.get("unit", "mm")
    document = named_in_mm({name: document.get(name) for name in ("human_floor", "readers")})
    floor, readers = document.get("human_floor"), document.get("readers")
    blocks: list[Any] = []
    if floor:
        blocks.append(
            [
                Fact(
                    "readers",
                    str(floor["readers"]),
                    f"{floor['points']} points that two or more placed and the model found",
                ),
                Fact("between readers", _length(floor["between_mm"], unit), "mean distance of two readers' points"),
                Fact("model from the readers' mean", _length(floor["model_mm"], unit), "mean distance"),
            ]
        )
    if readers:
        pairs = [(words, pair) for group, words in GROUPS.items() for pair in readers.get(group) or ()]
        blocks += [_total_table(pairs, unit), _landmark_table(pairs, unit)]
    return blocks


def _total_table(pairs: list[tuple[str, Plain]], unit: str) -> Table:
    axes = list(dict.fromkeys(axis["axis"] for _, pair in pairs for axis in pair["total"]["axes"]))
    rows = []
    for words, pair in pairs:
        total = pair["total"]
        along = {axis["axis"]: axis for axis in total["axes"]}
        rows.append(
            [
                text_cell(words),
                text_cell(pair["first"]),
                text_cell(pair["second"]),
                number_cell(pair["cases"], 0),
                number_cell(pair["patients"], 0),
                *(interval(total[key]) for key in ("mre_mm", "sd_mm", "dahlberg_mm")),
                *(interval(along[axis]["bias_mm"] if axis in along else None, signed=True) for axis in axes),
                *(interval(along[axis]["icc"] if axis in along else None, 3) for axis in axes),
            ]
        )
    columns = ["", "first", "second", "cases", "patients", *(f"{figure}, {unit}" for figure in FIGURES)]
    columns += [f"bias {axis}, {unit}" for axis in axes] + [f"ICC(2,1) {axis}" for axis in axes]
    note = f"95 % intervals over patients. Bias: the first less the second; {DIRECTIONS}."
    return Table("Agreement over all landmarks", columns, rows, note)


def _landmark_table(pairs: list[tuple[str, Plain]], unit: str) -> Table:
    rows = [
        [
            text_cell(f"{pair['first']} \N{EN DASH} {pair['second']}"),
            text_cell(landmark["landmark"]),
            number_cell(landmark["points"], 0),
            interval(landmark["mre_mm"]),
            interval(landmark["sd_mm"]),
            interval(landmark["dahlberg_mm"]),
            number_cell(landmark["only_first"] + landmark["only_second"], 0),
        ]
        for _, pair in pairs
        for landmark in pair["landmarks"]
    ]
    columns = ("pair", "landmark", "points", *(f"{figure}, {unit}" for figure in FIGURES), "in one only")
    return Table("Agreement of each landmark", columns, rows)


def interval(figure: Plain | None, decimals: int = 2, signed: bool = False) -> Cell:
    """A value with its interval, whose ends may be null."""
    value, low, high = (np.nan if v is None else v for v in ((figure or {}).get(k) for k in ("value", "low", "high")))
    return interval_cell(value, low, high, decimals, signed)


def _length(value: float | None, unit: str) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.2f} {unit}"
