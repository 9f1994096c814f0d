"""When a candidate takes its base's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.promotion.comparison import Comparison

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
        return cls(float(data["margin_mm"]), float(data["landmark_margin_mm"]), float(data["presence_margin"]),
                   int(data["least_subjects"]))


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
            reasons.append(f"'{row.name}' is clearly worse: by {-row.improvement.high:.3f} mm or more, where "
                           f"{rule.landmark_margin_mm:g} mm are allowed.")
    before, after = comparison.total.base.presence, comparison.total.candidate.presence
    if after < before - rule.presence_margin - 1e-12:
        reasons.append(f"It answers less often rightly whether a landmark is there: {100 * after:.1f} % instead of "
                       f"{100 * before:.1f} %.")
    return Decision(not reasons, tuple(reasons))
