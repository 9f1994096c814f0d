"""``audit.json``: what in a set of cases should be looked at before anything is learnt from it or measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from H3DELandmarksLib.formats.reading import Count, Finite, Limits, Text

FORMAT_VERSION = 1


@dataclass(frozen=True)
class AuditFinding:
    """One thing that a person should look at.

    Attributes:
        case: name of the case.
        kind: what is suspected, as `cases check` names it.
        reason: one sentence with what to do.
        landmark: its name; None for a finding about the whole case.
        other: the second case of a finding about two.
        value: how large it is, in `unit`; None where there is nothing to measure.
        unit: "mm", "px" (lengths in a picture that does not state how large its pixels are), "%" or empty.
        position_lps_mm: where to look.
        expected_lps_mm: where the other cases would have the point.
    """

    case: Text
    kind: Text
    reason: Text
    landmark: Text | None = None
    other: Text | None = None
    value: Finite | None = None
    unit: str = ""
    position_lps_mm: tuple[Finite, Finite, Finite] | None = None
    expected_lps_mm: tuple[Finite, Finite, Finite] | None = None


@dataclass(frozen=True)
class AuditRecord:
    """The whole file.

    Attributes:
        format_version: of this file.
        cases: how many could be read.
        findings: case by case, the graver ones of a case first.
    """

    format_version: Annotated[int, Limits(ge=1, le=FORMAT_VERSION)]
    cases: Count
    findings: tuple[AuditFinding, ...]
