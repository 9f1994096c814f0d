"""What a check of cases found: one issue for everything that a person should look at."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from H3DELandmarksLib.core.text import plain


class IssueKind(enum.Enum):
    """Why a case or landmark deserves a look; the order is that in which findings are told."""

    UNREADABLE = "unreadable"
    SIDES = "sides"
    SWAP = "swap"
    OUTSIDE = "outside"
    AIR = "air"
    OFF_ANATOMY = "off anatomy"
    OUTLIER = "outlier"
    READERS = "readers differ"
    SAME_PLACE = "same place"
    SAME_IMAGE = "same image"
    SAME_POINTS = "same points"
    EXCHANGED = "exchanged cases"
    UNREVIEWED = "unreviewed"


@dataclass(frozen=True)
class QualityIssue:
    """One thing that a person should look at.

    Attributes:
        case: id.
        kind: what it is.
        landmark: name; None for a finding about the case.
        reason: one sentence with what to do.
        value: how large it is, in `unit`; None where there is nothing to measure.
        unit: of the value: "mm", "px", "%" or "points"; lengths are pixels in pictures that do not state their size.
        position: (3,) LPS mm where to look; None without a place.
        expected: (3,) LPS mm where the point would be by the other cases; None where they do not say.
        picture: PNG file, where one was drawn.
        other: the second case of a finding about two.
    """

    case: str
    kind: IssueKind
    landmark: str | None
    reason: str
    value: float | None = None
    unit: str = ""
    position: np.ndarray | None = None
    expected: np.ndarray | None = None
    picture: Path | None = None
    other: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**plain(vars(self)), "kind": self.kind.value}


def in_order(findings: Iterable[QualityIssue]) -> list[QualityIssue]:
    """Case by case, the graver ones of a case first."""
    order = list(IssueKind)
    return sorted(findings, key=lambda finding: (finding.case, order.index(finding.kind)))
