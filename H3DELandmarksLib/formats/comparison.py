"""``comparison.json``: how a candidate did beside its base on held-out cases, the rule that judges, and the answer.

How far readers lie apart, and a model from them, is quoted by comparisons and by the accuracy that manifests state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.core.text import aligned, number, percent, plain, plural
from H3DELandmarksLib.formats.lineage import ModelReference
from H3DELandmarksLib.formats.reading import (
    Count,
    Finite,
    FormatError,
    Limits,
    NotNegative,
    OrNull,
    Positive,
    Text,
    build,
    read_record,
    refuse_newer,
    to_json,
    to_plain,
)

FORMAT_VERSION = 2
FLOOR = "human_floor"  # in the accuracy that a manifest states
# Numbers that are not there are null in the file.
Measured = Annotated[float, OrNull(math.nan)]
LowEnd = Annotated[float, OrNull(-math.inf)]
HighEnd = Annotated[float, OrNull(math.inf)]


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


@dataclass(frozen=True)
class Rule:
    """What a candidate must show on held-out cases.

    Attributes:
        margin_mm: the interval of its improvement over all landmarks must lie above this.
        landmark_margin_mm: no landmark's interval may lie wholly beyond this much worse.
        presence_margin: how much smaller its share of right answers to "is it in the scan?" may be.
        least_subjects: fewer prove nothing.
    """

    margin_mm: Finite = 0.0
    landmark_margin_mm: NotNegative = 0.0
    presence_margin: NotNegative = 0.02
    least_subjects: Annotated[int, Limits(ge=2)] = 5

    def __post_init__(self) -> None:
        stated = self.landmark_margin_mm >= 0 and self.presence_margin >= 0 and not math.isnan(self.margin_mm)
        if not stated or self.least_subjects < 2:
            raise InputError(
                "Margins must be numbers, no negative ones, and at least two subjects are needed: correct the rule."
            )


@dataclass(frozen=True)
class Decision:
    """Whether a candidate may take its base's place by the rule.

    Attributes:
        promote: the answer.
        reasons: sentences about what speaks against it; empty where nothing does.
    """

    promote: bool
    reasons: tuple[str, ...] = ()

    def text(self) -> str:
        """For people."""
        if self.promote:
            return "By the rule it may be used."
        return "\n".join(["By the rule it is not to be used:", *(f"- {reason}" for reason in self.reasons)])


@dataclass(frozen=True)
class Improvement:
    """How much better the candidate is, over subjects: the base's error less the candidate's, in mm.

    Attributes:
        subjects: how many there are.
        mean: of the subjects' improvements; NaN without any.
        low, high: ends of the 95 % interval; infinite with fewer than two subjects, of which nothing follows.
        p: of the signed-rank test that there is no difference, two-sided; 1 without any.
    """

    subjects: Count
    mean: Measured
    low: LowEnd
    high: HighEnd
    p: Finite


@dataclass(frozen=True)
class Figures:
    """How one model did on a part of the points.

    Attributes:
        mean_mm, median_mm: error of the points that it found; NaN without any.
        found, missed: how many of the present points it found, and how many it did not.
        success: share of the present points within the tolerance; a missed one is a failure.
        presence: share of right answers to "is it in the scan?".
    """

    mean_mm: Measured
    median_mm: Measured
    found: Count
    missed: Count
    success: Measured
    presence: Measured


@dataclass(frozen=True)
class Row:
    """A landmark, or all of them, in the comparison.

    Attributes:
        name: of the landmark; "all" for all of them.
        points: how many are present in the reference.
        base, candidate: how they did.
        improvement: of the candidate over subjects, in mm, misses counted.
        p_corrected: p of the improvement, corrected for the number of landmarks (Holm).
    """

    name: Text
    points: Count
    base: Figures
    candidate: Figures
    improvement: Improvement
    p_corrected: Finite


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A candidate and its base on the same cases.

    Attributes:
        base, candidate: the models.
        cases: id and revision of each case that judged.
        subjects: how many they are of.
        tolerance_mm: distance that counts as right.
        miss_mm: what a missed point counts at least.
        total: over all common landmarks.
        landmarks: in the order of the scheme of the cases.
        only_base, only_candidate: landmarks that one model has alone, with its figures; they decide nothing.
        remarks: sentences that a reader must know.
        base_floor, candidate_floor: both beside the readers, where the cases hold several readers' points; such a file
            has version 2.
        time: UTC.
        length_unit: "px" where lengths are shares of a picture's height, of which no mm is known; None for mm.
        rule, decision: by what it is judged, and the answer; None until that is done.
    """

    format: Literal["h3delandmarks-comparison"] = "h3delandmarks-comparison"
    format_version: Literal[1, 2] = 1
    base: ModelReference
    candidate: ModelReference
    cases: tuple[tuple[str, int], ...]
    subjects: Count
    tolerance_mm: Positive
    miss_mm: Positive
    total: Row
    landmarks: tuple[Row, ...]
    only_base: dict[str, Figures] = field(default_factory=dict)
    only_candidate: dict[str, Figures] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    time: Text
    rule: Rule | None = None
    decision: Decision | None = None
    base_floor: HumanFloor | None = None
    candidate_floor: HumanFloor | None = None
    length_unit: Literal["px"] | None = None

    @property
    def unit(self) -> LengthUnit:
        """Of all lengths."""
        return self.length_unit or "mm"

    def beside_readers(self) -> str:
        """Both models beside the readers in one sentence; empty where each case had one reader."""
        base, candidate = self.base_floor, self.candidate_floor
        if base is None or candidate is None:
            return ""
        apart = [f"{self._mm(floor.model_mm)} {self.unit}" for floor in (candidate, base)]
        return (
            f"The new model differs from the readers' mean by {apart[0]}, the old one by {apart[1]}; "
            f"{candidate.difference(self.unit)}."
        )

    def sentence(self) -> str:
        """The outcome in one sentence."""
        gain = self.total.improvement
        where = f"{plural(len(self.cases), 'held-out case')} of {plural(gain.subjects, 'subject')}"
        if gain.subjects < 2:
            return f"Nothing can be said: {where} {'is' if len(self.cases) == 1 else 'are'} too few to compare on."
        interval = f"95 % interval {self._mm(gain.low)} to {self._mm(gain.high)}"
        if gain.low > 0:
            return f"The new model is better by {self._mm(gain.mean)} {self.unit} ({interval}) on {where}."
        if gain.high < 0:
            worse = f"95 % interval {self._mm(-gain.high)} to {self._mm(-gain.low)}"
            return f"The new model is worse by {self._mm(-gain.mean)} {self.unit} ({worse}) on {where}."
        return (
            f"No difference is shown: the new model's errors are {self._mm(abs(gain.mean))} {self.unit} "
            f"{'smaller' if gain.mean >= 0 else 'larger'} (improvement, {interval}) on {where}."
        )

    def text(self) -> str:
        """The whole comparison as aligned plain text."""
        units = f"landmark|points|old {self.unit}|new {self.unit}|missed|within|presence|improvement {self.unit}"
        head = f"{units}|95 % interval|p (Holm)".split("|")
        table = aligned([head, *(self._cells(row) for row in (*self.landmarks, self.total))], right=True)
        notes = [
            f"Old model {self.base.name}, new model {self.candidate.name}; two figures in a column are old > new.",
            f"'within' is within {self.tolerance_mm:g} {self.unit}. A missed point is a failure there, and counts as "
            f"{self.miss_mm:g} {self.unit} at least in the improvement.",
            *filter(None, [self.beside_readers()]),
            *self.remarks,
            *self._alone("old model", self.only_base),
            *self._alone("new model", self.only_candidate),
        ]
        return "\n".join([self.sentence(), "", *notes, "", *table]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form with the sentence; NaN and infinite numbers are null."""
        return {**plain(to_plain(self)), "sentence": self.sentence()}

    def _mm(self, value: float) -> str:
        return number(value, 2 if self.tolerance_mm >= 1 else 3)

    def _cells(self, row: Row) -> Sequence[str]:
        base, candidate, gain = row.base, row.candidate, row.improvement
        return (
            row.name,
            str(row.points),
            self._mm(base.mean_mm),
            self._mm(candidate.mean_mm),
            f"{base.missed} > {candidate.missed}",
            f"{percent(base.success, 0)} > {percent(candidate.success, 0)}",
            f"{percent(base.presence, 0)} > {percent(candidate.presence, 0)}",
            self._mm(gain.mean),
            f"{self._mm(gain.low)} to {self._mm(gain.high)}",
            number(row.p_corrected, 3),
        )

    def _alone(self, owner: str, landmarks: Mapping[str, Figures]) -> list[str]:
        """What is told of landmarks that one model has alone."""
        told = [
            f"{name} ({self._mm(f.mean_mm)} {self.unit}, {f.missed} of {f.found + f.missed} missed)"
            for name, f in landmarks.items()
        ]
        return [f"Only the {owner} has: {', '.join(told)}."] if told else []


def upgraded(content: Any) -> Any:
    """A comparison of any version as today's, without the sentence, which follows from the figures.

    Raises:
        FormatError: its version is newer than this software.
    """
    if not isinstance(content, dict):
        return content
    refuse_newer(content, FORMAT_VERSION)
    if "format" not in content:
        raise FormatError("it is missing", "format")
    return {name: value for name, value in content.items() if name != "sentence"}


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write a comparison; the file takes its place when it is complete.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(to_json(comparison.to_dict()))


def read_comparison(path: Path) -> Comparison:
    """The comparison in a file.

    Raises:
        InputError: there is none.
    """
    advice = "make one with 'models compare'"
    if not Path(path).exists():
        raise InputError(f"There is no comparison '{path}': {advice}.")
    return read_record(Comparison, path, what="comparison", advice=advice, upgrade=upgraded)


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
