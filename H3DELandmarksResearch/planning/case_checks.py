"""What spoils a folder before it is planned with: lists of other scans, pictures that stand there twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue, in_order
from H3DELandmarksLib.cases.quality import CheckedCase, check_set
from H3DELandmarksLib.cases.scan_check import MAX_OFF_SHARE, check_on_scans
from H3DELandmarksLib.core.landmarks import LandmarkScheme


@dataclass(frozen=True)
class FolderCheck:
    """What was found.

    Attributes:
        misplaced: cases of which most points lie beside what they lie on in the other cases, or outside the scan.
        findings: about the other cases.
    """

    misplaced: tuple[str, ...]
    findings: tuple[QualityIssue, ...]

    def subjects(self, stated: Mapping[str, str]) -> dict[str, str]:
        """The subject of each case whose points lie in its scan; those with one picture are of one subject."""
        subjects = {case: subject for case, subject in stated.items() if case not in self.misplaced}
        for finding in self.findings:
            if finding.kind in (IssueKind.SAME_IMAGE, IssueKind.SAME_POINTS) and finding.other is not None:
                one, other = subjects[finding.other], subjects[finding.case]
                subjects = {case: one if subject == other else subject for case, subject in subjects.items()}
        return subjects


def check_cases(cases: Sequence[CheckedCase], scheme: LandmarkScheme) -> FolderCheck:
    """Look for what would spoil a model: misplaced lists first, as they would hide what else is wrong."""
    misplaced = {
        finding.case
        for finding in check_on_scans([case.on_scan for case in cases], scheme)
        if finding.kind is IssueKind.OFF_ANATOMY and (finding.value or 0.0) > 100 * MAX_OFF_SHARE
    }
    findings = in_order(check_set([case for case in cases if case.id not in misplaced], scheme, {}))
    return FolderCheck(tuple(case.id for case in cases if case.id in misplaced), tuple(findings))
