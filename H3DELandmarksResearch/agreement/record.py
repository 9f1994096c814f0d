"""The part "readers" of what `evaluate` writes: how far people's and models' points of the same cases lie apart.

Two differences have a direction: the first less the second. Axes are those of LPS: L runs to the patient's left, P back
and S up; in a picture without orientation L runs to the right and P down.
"""

from __future__ import annotations

from dataclasses import dataclass

from H3DELandmarksLib.formats.comparison import Measured
from H3DELandmarksLib.formats.reading import Count, Text

DIRECTIONS = "L to the patient's left, P back, S to the head; in a picture without orientation L right, P down"


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over patients; ends are NaN with fewer than five patients."""

    value: Measured
    low: Measured
    high: Measured


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
