"""How far readers lie apart, and a model from them: what a model's accuracy and a comparison quote."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.core.text import number, plain, plural
from H3DELandmarksLib.formats.reading import STRICT, Count, FormatError, OrNull, build, to_plain

# Numbers that are not there are null in the file.
FLOOR = "human_floor"
Measured = Annotated[float, OrNull(math.nan)]


@dataclass(frozen=True)
class HumanFloor:
    """What readers differ by among themselves, beside what a model differs from their mean by.

    Attributes:
        readers: how many there are.
        points: landmarks of cases that at least two of them placed and the model found; on these alone:
        between_mm: mean distance of two readers' points.
        model_mm: mean distance of the model's points from the readers' mean; NaN where a model of an earlier version
            found none.
    """

    readers: Count
    points: Count
    between_mm: Measured
    model_mm: Measured
    __pydantic_config__ = STRICT

    def difference(self, unit: LengthUnit = "mm") -> str:
        """``the two readers differ by 2.34 mm``."""
        who = "the two readers differ" if self.readers == 2 else f"the {self.readers} readers differ from each other"
        return f"{who} by {number(self.between_mm)} {unit}"

    def sentence(self, who: str = "It", unit: LengthUnit = "mm") -> str:
        """The model beside the readers, in one sentence.

        Args:
            who: what differs from the readers, such as "The new model".
            unit: of the lengths.
        """
        counted = plural(self.points, "point")
        apart = f"{number(self.model_mm)} {unit}; {self.difference(unit)}"
        return f"{who} differs from the readers' mean by {apart} ({counted})."


def floor_entry(floor: HumanFloor | None) -> dict[str, Any]:
    """What a manifest's accuracy of one subset of cases says of it; nothing where there is none."""
    return {} if floor is None else {FLOOR: plain(to_plain(floor))}


def floor_of(accuracy: Any) -> HumanFloor | None:
    """The human floor in a manifest's accuracy of one subset of cases; None where none is stated, or not rightly."""
    stated = accuracy.get(FLOOR) if isinstance(accuracy, Mapping) else None
    try:
        return None if stated is None else build(HumanFloor, stated)
    except FormatError:
        return None
