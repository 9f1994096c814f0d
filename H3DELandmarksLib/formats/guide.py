"""``guides/CASE.json`` in a project of cases: what a model has found in a case that serves as an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.reading import Finite, Text

Point = tuple[Finite, Finite, Finite]


@dataclass(frozen=True)
class GuidePoint:
    """A point that a model has found."""

    name: Text
    position_lps_mm: Point


@dataclass(frozen=True, kw_only=True)
class GuideRecord:
    """Made again wherever it is missing, damaged or of other models.

    Attributes:
        asked: ``id@version`` of the models that could have looked at the scan.
        model: ``id@version`` of the one that guides; None where none recognises the scan.
        points: what it has found; none where it does not recognise the scan.
    """

    format: Literal["h3delandmarks-guide"] = "h3delandmarks-guide"
    format_version: Literal[1] = 1
    asked: tuple[Text, ...]
    model: Text | None
    points: tuple[GuidePoint, ...]

    @property
    def landmarks(self) -> LandmarkSet:
        """The points, LPS mm."""
        positions = np.array([p.position_lps_mm for p in self.points], dtype=float).reshape(-1, 3)
        return LandmarkSet(tuple(p.name for p in self.points), positions)

    @classmethod
    def of(cls, asked: tuple[str, ...], model: str | None, found: LandmarkSet | None) -> GuideRecord:
        """What a model has found, LPS mm."""
        rows = [] if found is None else [k for k in range(len(found)) if found.present[k]]
        points = tuple(GuidePoint(found.names[k], tuple(found.positions[k].tolist())) for k in rows) if found else ()
        return cls(asked=asked, model=model, points=points)
