"""Forms that hold landmarks alone, without scans: point lists, tables, and the arrays of morphometric programs.

What is absent or undecided has no coordinates; each form says so as its readers expect it:

==============  =============================================  ======================================================
form            read by                                        without coordinates
==============  =============================================  ======================================================
mrk.json, fcsv  Slicer, SlicerMorph                            status missing or undefined
table-long      R, spreadsheets                                NA; the column ``state`` says why
table-wide      R: ``geomorph::arrayspecs`` of the numbers      NA
tps             ``geomorph::readland.tps(specID = "ID")``      NA
nts             ``geomorph::readland.nts``, NTSYS              -9999, which the first line declares
morphologika    ``geomorph::read.morphologika``, SlicerMorph   NaN
morphoj         MorphoJ, as "row/column" file                   cases with gaps are left out: MorphoJ takes none
==============  =============================================  ======================================================

Landmarks do not slide: no form marks semi-landmarks of curves or surfaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.image_plane import LengthUnit, in_unit
from H3DELandmarksLib.core.text import csv_text, numbered
from H3DELandmarksLib.formats.export import Coordinates
from H3DELandmarksLib.io.fcsv import EXTENSION as FCSV
from H3DELandmarksLib.io.fcsv import fcsv_text
from H3DELandmarksLib.io.markups import EXTENSION as MARKUPS
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksLib.io.tables import AXES, write_rows

if TYPE_CHECKING:
    from H3DELandmarksLib.cases.export import OutgoingCase

NA, NTS_MISSING = "NA", "-9999"
DECIMALS = 6


class _PointWriter:
    """Takes the landmarks of one case after the other; see `exchange.FormWriter`."""

    absent: ClassVar[str] = NA
    file: ClassVar[str] = ""  # of the lines of all cases

    def __init__(self, names: Sequence[str], target: Path, is_ras: bool = False) -> None:
        """Take the names of the landmarks, in their order, the folder, and whether positions shall be RAS."""
        self.names, self.target, self.is_ras = tuple(names), target, is_ras
        self.coordinates: Coordinates = "RAS" if is_ras else "LPS"
        self.cases: list[OutgoingCase] = []

    def add(self, case: OutgoingCase) -> None:
        """Keep a case for the file of all."""
        self.cases.append(case)

    def close(self) -> None:
        """Write what belongs to all cases; nothing in forms with a file a case."""
        if self.file:
            with atomic_write(self.target / self.file) as temporary:
                temporary.write_text("\n".join(self.lines()) + "\n", encoding="utf-8", newline="\n")

    def lines(self) -> Iterator[str]:
        """The lines of `file`."""
        return iter(())

    def places(self, case: OutgoingCase) -> np.ndarray:
        """(K, 3) mm in the coordinates that were asked for; NaN where there is none."""
        positions = case.corrected.ordered_as(self.names).positions
        return positions * (-1.0, -1.0, 1.0) if self.is_ras else positions

    def words(self) -> list[str]:
        """What cases are called in forms whose names have no blanks; each differs from all others."""
        return numbered([_word(case.id) for case in self.cases])


class MarkupsWriter(_PointWriter):
    """A point list (.mrk.json) for each case."""

    absent = "positionStatus 'missing'; undecided: 'undefined'"

    def add(self, case: OutgoingCase) -> None:
        """Write a case."""
        landmarks = case.corrected.ordered_as(self.names)
        write_markups(self.target / f"{case.id}{MARKUPS}", landmarks, is_ras=self.is_ras, unit=case.record.unit)


class FcsvWriter(_PointWriter):
    """An older point list (.fcsv) for each case."""

    absent = "status 3 behind the columns; undecided: 0"

    def add(self, case: OutgoingCase) -> None:
        """Write a case."""
        text = fcsv_text(case.corrected.ordered_as(self.names), self.is_ras)
        with atomic_write(self.target / f"{case.id}{FCSV}") as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


class LongTableWriter(_PointWriter):
    """A table with a row for each landmark of each case; pixels of unknown size have columns of their own."""

    absent = "NA; the column 'state' tells what is absent from what nobody has decided"

    def close(self) -> None:
        """Write the table."""
        units = list(dict.fromkeys(case.record.unit for case in self.cases))
        rows = (
            (csv_text(case.id), csv_text(said.name), said.state, said.by or NA, *self._cells(case, place, units))
            for case in self.cases
            for said, place in zip(case.record.landmarks, self.places(case))
        )
        axes = [in_unit(axis, unit) for unit in units for axis in AXES[self.coordinates]]
        write_rows(self.target / "landmarks.csv", ("case", "name", "state", "by", *axes), rows)

    @staticmethod
    def _cells(case: OutgoingCase, place: np.ndarray, units: Sequence[LengthUnit]) -> Iterator[str]:
        """A place in the columns of its unit, and nothing in those of another one."""
        return (_number(value) if unit == case.record.unit else NA for unit in units for value in place)


class WideTableWriter(_PointWriter):
    """A table with a row for each case and three columns for each landmark."""

    def close(self) -> None:
        """Write the table."""
        columns = [csv_text(f"{name}.{axis}") for name in self.names for axis in "xyz"]
        rows = ((csv_text(case.id), *map(_number, self.places(case).ravel())) for case in self.cases)
        write_rows(self.target / "landmarks.csv", ("case", *columns), rows)


class TpsWriter(_PointWriter):
    """TPS with three-dimensional landmarks."""

    file = "landmarks.tps"

    def lines(self) -> Iterator[str]:
        """All of them."""
        for word, case in zip(self.words(), self.cases):
            yield f"LM3={len(self.names)}"
            yield from _rows(self.places(case))
            yield f"ID={word}"


class NtsWriter(_PointWriter):
    """NTSYS: one line of labels, then a row of all coordinates for each case."""

    absent = NTS_MISSING
    file = "landmarks.nts"

    def lines(self) -> Iterator[str]:
        """All of them."""
        places = [self.places(case).ravel() for case in self.cases]
        missing = f"1 {NTS_MISSING}" if any(np.isnan(row).any() for row in places) else "0"
        yield f"1 {len(places)}L {3 * len(self.names)} {missing} DIM=3"
        yield " ".join(self.words())
        for row in places:
            yield " ".join(_number(value, NTS_MISSING) for value in row)


class MorphologikaWriter(_PointWriter):
    """Morphologika: sections of names and raw points."""

    absent = "NaN"
    file = "landmarks.txt"

    def lines(self) -> Iterator[str]:
        """All of them."""
        names = self.words()
        yield from ("[individuals]", str(len(names)), "[landmarks]", str(len(self.names)), "[dimensions]", "3")
        yield from ("[names]", *names, "[rawpoints]")
        for name, case in zip(names, self.cases):
            yield f"'{name}"
            yield from _rows(self.places(case), "NaN")


class MorphojWriter(_PointWriter):
    """MorphoJ's row/column file: a line of names, which it passes over, then a line for each case."""

    absent = "cases that lack a landmark are left out"
    file = "landmarks.txt"

    def add(self, case: OutgoingCase) -> None:
        """Keep a case without gaps; raises InputError for others."""
        gaps = np.isnan(self.places(case)).any(axis=1)
        if gaps.any():
            names = ", ".join(f"'{name}'" for name, is_gap in zip(self.names, gaps) if is_gap)
            raise InputError(
                f"The case '{case.id}' lacks {names}, and MorphoJ takes no gaps: place them or leave them out."
            )
        super().add(case)

    def lines(self) -> Iterator[str]:
        """All of them."""
        yield "\t".join(["ID", *(f"{_column(name)}.{axis}" for name in self.names for axis in "xyz")])
        for column, case in zip(numbered([_column(case.id) for case in self.cases]), self.cases):
            yield "\t".join([column, *map(_number, self.places(case).ravel())])


POINT_FORMS: dict[str, type[_PointWriter]] = {
    "mrk.json": MarkupsWriter,
    "fcsv": FcsvWriter,
    "table-long": LongTableWriter,
    "table-wide": WideTableWriter,
    "tps": TpsWriter,
    "nts": NtsWriter,
    "morphologika": MorphologikaWriter,
    "morphoj": MorphojWriter,
}


def _number(value: float, missing: str = NA) -> str:
    return f"{value:.{DECIMALS}f}" if np.isfinite(value) else missing


def _rows(places: np.ndarray, missing: str = NA) -> Iterator[str]:
    return (" ".join(_number(value, missing) for value in place) for place in places)


def _column(text: str) -> str:
    """A name without what ends a column."""
    return "".join("_" if c in ",;\t\r\n" else c for c in text)


def _word(text: str) -> str:
    """A name without the characters that end or comment it out for readers of these forms."""
    return "".join("_" if c.isspace() or c in "'\"=" else c for c in text)
