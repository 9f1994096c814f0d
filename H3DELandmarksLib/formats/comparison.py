"""What comes out when a candidate is compared with its base: figures, text, a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import replaced_when_complete
from H3DELandmarksLib.evaluation.paired import Improvement
from H3DELandmarksLib.formats.lineage import ModelReference

LEAST_SUBJECTS = 5
SHARE_OF_TOLERANCE = 0.25


@dataclass(frozen=True)
class Rule:
    """What a candidate must show on held-out cases.

    Attributes:
        margin_mm: the interval of its improvement over all landmarks must lie above this.
        landmark_margin_mm: no landmark's interval may lie wholly beyond this much worse.
        presence_margin: how much smaller its share of right answers to "is it in the scan?" may be.
        least_subjects: fewer prove nothing.
    """

    margin_mm: float = 0.0
    landmark_margin_mm: float = 0.0
    presence_margin: float = 0.02
    least_subjects: int = LEAST_SUBJECTS

    @classmethod
    def usual(cls, tolerance_mm: float, **stated: float | int | None) -> Rule:
        """The usual rule for a tolerance, with what a user has stated; None is not stated.

        A landmark is clearly worse where it is so by a quarter of the tolerance: with many landmarks, some are worse by
        chance.
        """
        given = {name: value for name, value in stated.items() if value is not None}
        return cls(**{"landmark_margin_mm": SHARE_OF_TOLERANCE * tolerance_mm, **given})

    def __post_init__(self) -> None:
        if min(self.landmark_margin_mm, self.presence_margin) < 0 or self.least_subjects < 2:
            raise InputError("Margins must not be negative, and at least two subjects are needed: correct the rule.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rule:
        """Read the form written by `to_dict`; raises KeyError, TypeError or ValueError."""
        return cls(
            float(data["margin_mm"]),
            float(data["landmark_margin_mm"]),
            float(data["presence_margin"]),
            int(data["least_subjects"]),
        )


@dataclass(frozen=True)
class Decision:
    """Whether a candidate may take its base's place by the rule.

    Attributes:
        promote: the answer.
        reasons: sentences about what speaks against it; empty where nothing does.
    """

    promote: bool
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"promote": self.promote, "reasons": list(self.reasons)}

    def text(self) -> str:
        """For people."""
        if self.promote:
            return "By the rule it may be promoted."
        return "\n".join(["By the rule it is not promoted:", *(f"- {reason}" for reason in self.reasons)])


def decide(comparison: Comparison, rule: Rule) -> Decision:
    """Apply the rule."""
    gain, reasons = comparison.total.improvement, []
    if gain.subjects < rule.least_subjects:
        few = "1 held-out subject is" if gain.subjects == 1 else f"{gain.subjects} held-out subjects are"
        reasons.append(f"{few} too few to tell; the rule asks for {rule.least_subjects}.")
    if not gain.low > rule.margin_mm:
        begins = f": the interval of its improvement begins at {gain.low:.3f} mm" if gain.subjects > 1 else ""
        reasons.append(f"It is not shown to be better by more than {rule.margin_mm:g} mm{begins}.")
    for row in comparison.landmarks:
        if row.improvement.high < -rule.landmark_margin_mm:
            reasons.append(
                f"'{row.name}' is clearly worse: by {-row.improvement.high:.3f} mm or more, where "
                f"{rule.landmark_margin_mm:g} mm are allowed."
            )
    before, after = comparison.total.base.presence, comparison.total.candidate.presence
    if after < before - rule.presence_margin - 1e-12:
        reasons.append(
            f"It answers less often rightly whether a landmark is there: {100 * after:.1f} % instead of "
            f"{100 * before:.1f} %."
        )
    return Decision(not reasons, tuple(reasons))


FORMAT, FORMAT_VERSION = "h3delandmarks-comparison", 1
_INTERVAL = "95 % interval"


@dataclass(frozen=True)
class Figures:
    """How one model did on a part of the points.

    Attributes:
        mean_mm, median_mm: error of the points that it found; NaN without any.
        found: how many of the present points it found.
        missed: how many it did not find.
        success: share of the present points within the tolerance; a missed one is a failure.
        presence: share of right answers to "is it in the scan?".
    """

    mean_mm: float
    median_mm: float
    found: int
    missed: int
    success: float
    presence: float


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

    name: str
    points: int
    base: Figures
    candidate: Figures
    improvement: Improvement
    p_corrected: float


@dataclass(frozen=True)
class Comparison:
    """A candidate and its base on the same cases.

    Attributes:
        base, candidate: the models.
        cases: id and revision of each case that judged.
        subjects: how many they are of.
        tolerance_mm: distance that counts as right.
        miss_mm: what a missed point counts at least.
        total: over all common landmarks.
        landmarks: in the order of the project's scheme.
        only_base, only_candidate: landmarks that one model has alone, with its figures; they decide nothing.
        remarks: sentences that a reader must know.
        time: UTC.
    """

    base: ModelReference
    candidate: ModelReference
    cases: tuple[tuple[str, int], ...]
    subjects: int
    tolerance_mm: float
    miss_mm: float
    total: Row
    landmarks: tuple[Row, ...]
    only_base: Mapping[str, Figures]
    only_candidate: Mapping[str, Figures]
    remarks: tuple[str, ...]
    time: str

    def sentence(self) -> str:
        """The outcome in one sentence."""
        gain, where = self.total.improvement, self._where()
        if gain.subjects < 2:
            return f"Nothing can be said: {where} {'is' if len(self.cases) == 1 else 'are'} too few to compare on."
        interval = f"{_INTERVAL} {self._mm(gain.low)} to {self._mm(gain.high)}"
        if gain.low > 0:
            return f"The candidate is better by {self._mm(gain.mean)} mm ({interval}) on {where}."
        if gain.high < 0:
            worse = f"{_INTERVAL} {self._mm(-gain.high)} to {self._mm(-gain.low)}"
            return f"The candidate is worse by {self._mm(-gain.mean)} mm ({worse}) on {where}."
        return (
            f"No difference is shown: the candidate's errors are {self._mm(abs(gain.mean))} mm "
            f"{'smaller' if gain.mean >= 0 else 'larger'} (improvement, {interval}) on {where}."
        )

    def text(self) -> str:
        """The whole comparison as aligned plain text."""
        head = (
            "landmark",
            "points",
            "base mm",
            "candidate mm",
            "missed",
            "within",
            "presence",
            "improvement mm",
            "95 % interval",
            "p (Holm)",
        )
        rows = [head, *(self._cells(row) for row in (*self.landmarks, self.total))]
        widths = [max(map(len, column)) for column in zip(*rows)]
        table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        notes = [
            f"Base {self.base.name}, candidate {self.candidate.name}; two figures in a column are base > candidate.",
            f"'within' is within {self.tolerance_mm:g} mm. A missed point is a failure there, and counts as "
            f"{self.miss_mm:g} mm at least in the improvement.",
            *self.remarks,
            *self._alone("base", self.only_base),
            *self._alone("candidate", self.only_candidate),
        ]
        return "\n".join([self.sentence(), "", *notes, "", *table]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; NaN and infinite numbers are null."""
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, "sentence": self.sentence(), **asdict(self)}
        return _plain(content)

    @classmethod
    def from_dict(cls, data: Any) -> Comparison:
        """Read the form written by `to_dict`; raises ValueError where it is another."""
        try:
            if (data["format"], data["format_version"]) != (FORMAT, FORMAT_VERSION):
                raise ValueError("another format")
            return cls(
                ModelReference.from_dict(data["base"]),
                ModelReference.from_dict(data["candidate"]),
                tuple((str(case), int(revision)) for case, revision in data["cases"]),
                int(data["subjects"]),
                float(data["tolerance_mm"]),
                float(data["miss_mm"]),
                _row(data["total"]),
                tuple(map(_row, data["landmarks"])),
                *({name: _figures(f) for name, f in data[key].items()} for key in ("only_base", "only_candidate")),
                tuple(map(str, data["remarks"])),
                str(data["time"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("no comparison") from error

    def _where(self) -> str:
        cases, subjects = len(self.cases), self.total.improvement.subjects
        return f"{cases} held-out case{'s' * (cases != 1)} of {subjects} subject{'s' * (subjects != 1)}"

    def _mm(self, value: float) -> str:
        if not math.isfinite(value):
            return "-"
        return f"{value:.{2 if self.tolerance_mm >= 1 else 3}f}"

    def _cells(self, row: Row) -> tuple[str, ...]:
        base, candidate, gain = row.base, row.candidate, row.improvement
        return (
            row.name,
            str(row.points),
            self._mm(base.mean_mm),
            self._mm(candidate.mean_mm),
            f"{base.missed} > {candidate.missed}",
            f"{_percent(base.success)} > {_percent(candidate.success)}",
            f"{_percent(base.presence)} > {_percent(candidate.presence)}",
            self._mm(gain.mean),
            f"{self._mm(gain.low)} to {self._mm(gain.high)}",
            f"{row.p_corrected:.3f}",
        )

    def _alone(self, owner: str, landmarks: Mapping[str, Figures]) -> list[str]:
        """What is told of landmarks that one model has alone."""
        told = [
            f"{name} ({self._mm(f.mean_mm)} mm, {f.missed} of {f.found + f.missed} missed)"
            for name, f in landmarks.items()
        ]
        return [f"Only the {owner} has: {', '.join(told)}."] if told else []


def write_comparison(comparison: Comparison, path: Path, more: Mapping[str, Any]) -> None:
    """Write a comparison, and what else is decided about it, as JSON; the file takes its place when it is complete.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with replaced_when_complete(path) as temporary:
            text = json.dumps({**comparison.to_dict(), **_plain(more)}, indent=1, allow_nan=False, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror}): check the folder and its space.") from error


def read_comparison(path: Path) -> tuple[Comparison, dict[str, Any]]:
    """A comparison and everything else in its file.

    Raises:
        InputError: there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Comparison.from_dict(content), content
    except FileNotFoundError as error:
        raise InputError(f"There is no comparison '{path}': make one with 'models compare'.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' holds no comparison: make one with 'models compare'.") from error


def _row(data: Mapping[str, Any]) -> Row:
    gain = data["improvement"]
    improvement = Improvement(
        int(gain["subjects"]),
        _number(gain["mean"]),
        _number(gain["low"], -math.inf),
        _number(gain["high"], math.inf),
        float(gain["p"]),
    )
    figures = (_figures(data[key]) for key in ("base", "candidate"))
    return Row(str(data["name"]), int(data["points"]), *figures, improvement, float(data["p_corrected"]))


def _figures(data: Mapping[str, Any]) -> Figures:
    fractions = {name: _number(data[name]) for name in ("mean_mm", "median_mm", "success", "presence")}
    return Figures(found=int(data["found"]), missed=int(data["missed"]), **fractions)


def _number(value: Any, missing: float = math.nan) -> float:
    return missing if value is None else float(value)


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "-"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
