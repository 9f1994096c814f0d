"""How far people's and models' points of the same cases lie apart: what `evaluate` writes, and what cards quote.

Two differences have a direction: the first less the second. Axes are those of LPS: L runs to the patient's left, P back
and S up; in a picture without orientation L runs to the right and P down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from H3DELandmarksLib.core.text import number, plain, plural
from H3DELandmarksLib.formats.reading import STRICT, Count, FormatError, OrNull, Text, build, to_plain

# Numbers that are not there are null in the file.
FLOOR = "human_floor"
Measured = Annotated[float, OrNull(math.nan)]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over patients; ends are NaN with fewer than two patients."""

    value: Measured
    low: Measured
    high: Measured
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class AxisAgreement:
    """Two sets of coordinates along one axis.

    Attributes:
        axis: "L", "P" or "S".
        bias_mm: mean difference.
        sd_mm: sample standard deviation of the differences.
        low_mm, high_mm: Bland and Altman's 95 % limits of agreement, bias -+ 1.96 SD.
        dahlberg_mm: Dahlberg's error, the root of the mean of half the squared differences.
        icc: intraclass correlation ICC(2,1) of Shrout and Fleiss (two-way random effects, absolute agreement, single
            reader) over cases; over all landmarks, the mean of the landmarks' values.
    """

    axis: Text
    bias_mm: Interval
    sd_mm: Interval
    low_mm: Interval
    high_mm: Interval
    dahlberg_mm: Interval
    icc: Interval
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class LandmarkAgreement:
    """A landmark, or all of them.

    Attributes:
        landmark: name; "all" for all.
        points: how many both have a position for.
        only_first, only_second: how many only one of them has, where the other says that it is absent.
        mre_mm: mean distance.
        sd_mm: population standard deviation of the distances, over points.
        dahlberg_mm: Dahlberg's error of the whole position, the root of the mean of half the squared distances.
        axes: along each axis in which positions differ at all.
    """

    landmark: Text
    points: Count
    only_first: Count
    only_second: Count
    mre_mm: Interval
    sd_mm: Interval
    dahlberg_mm: Interval
    axes: tuple[AxisAgreement, ...]
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class Agreement:
    """Two sets of points of the same cases.

    Attributes:
        first, second: what they are called, such as "model", "mean of readers", "senior" or "senior again".
        cases: how many both looked at; pairs of cases that show the same picture for a reader against himself.
        patients: how many those are of.
        total: over all landmarks.
        landmarks: each one.
    """

    first: Text
    second: Text
    cases: Count
    patients: Count
    total: LandmarkAgreement
    landmarks: tuple[LandmarkAgreement, ...]
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class AgreementReport:
    """The part "readers" of what `evaluate` writes.

    Attributes:
        readers: words for them.
        same_pictures: pairs of cases that show the same picture.
        models: the model against each reader and against their mean.
        between: reader against reader.
        within: each reader against himself.
    """

    readers: tuple[Text, ...]
    same_pictures: tuple[tuple[Text, Text], ...]
    models: tuple[Agreement, ...]
    between: tuple[Agreement, ...]
    within: tuple[Agreement, ...]
    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class HumanFloor:
    """What readers differ by among themselves, beside what a model differs from their mean by.

    Attributes:
        readers: how many there are.
        points: landmarks of cases that at least two of them placed.
        between_mm: mean distance of two readers' points.
        model_mm: mean distance of the model's points from the readers' mean; NaN where it found none.
    """

    readers: Count
    points: Count
    between_mm: Measured
    model_mm: Measured
    __pydantic_config__ = STRICT

    @property
    def difference(self) -> str:
        """``the two readers differ by 2.34 mm``."""
        who = "the two readers differ" if self.readers == 2 else f"the {self.readers} readers differ from each other"
        return f"{who} by {number(self.between_mm)} mm"

    def sentence(self, who: str = "It") -> str:
        """The model beside the readers, in one sentence.

        Args:
            who: what differs from the readers, such as "The new model".
        """
        counted = plural(self.points, "point")
        return f"{who} differs from the readers' mean by {number(self.model_mm)} mm; {self.difference} ({counted})."


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
