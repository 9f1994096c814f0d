"""The check of a project before training: everything that a person should look at, one finding each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.image_check import Finding, FindingKind, PointsOnScan, check_on_scans, look_at_scan
from H3DELandmarksLib.cases.shape_check import CheckedPoints, check_copies, check_shapes
from H3DELandmarksLib.cases.store import CaseFiles, CaseProject, ImageContent
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.formats.case_record import CASE_ID, Revision
from H3DELandmarksLib.formats.schemes import SchemeHistory

Progress = Callable[[float, str], None]
SAME_PLACE = 0.5  # of the smallest voxel edge
USUALLY_APART = 4.0  # as many times as that


@dataclass(frozen=True)
class _Read:
    """A case that could be read, with the points that it has, reviewed or not."""

    id: str
    revision: Revision
    content: ImageContent
    on_scan: PointsOnScan

    @property
    def points(self) -> CheckedPoints:
        """For the comparison of shapes."""
        return CheckedPoints(self.id, self.on_scan.positions)


def check_project(project: CaseProject, progress: Progress) -> list[Finding]:
    """Check the newest review of every case.

    Args:
        project: what to check.
        progress: receives the fraction done and the id of the case at hand.

    Returns:
        Findings, case by case; the graver ones of a case first.
    """
    history, cases = project.history(), project.cases()
    scheme = history.newest
    read: list[_Read] = []
    findings: list[Finding] = []
    for number, case in enumerate(cases):
        progress(number / len(cases), case.id)
        try:
            read.append(_read(case, history))
        except InputError as error:
            findings.append(Finding(case.id, FindingKind.UNREADABLE, None, " ".join(str(error).split())))
    findings += check_on_scans([case.on_scan for case in read], scheme)
    points = [case.points for case in read]
    findings += check_shapes(points, scheme) + check_copies(points)
    findings += _same_images(read) + _same_places(read, scheme)
    findings += [finding for case in read for finding in _unreviewed(case)]
    progress(1.0, "done")
    order = list(FindingKind)
    return sorted(findings, key=lambda f: (f.case, order.index(f.kind)))


def draw_findings(project: CaseProject, findings: Sequence[Finding], folder: Path, progress: Progress) -> list[Finding]:
    """Draw a picture for every finding that has a place; gives the findings with their pictures.

    Args:
        project: whose findings.
        findings: as `check_project` gives them.
        folder: exists; pictures are named after case, kind and landmark number.
        progress: receives the fraction done and the id of the case at hand.
    """
    from H3DELandmarksLib.cases.finding_picture import draw_finding

    history = project.history()
    scheme = history.newest
    result: list[Finding] = []
    shown, volume, points = None, None, None
    for number, finding in enumerate(findings):
        progress(number / max(len(findings), 1), finding.case)
        if finding.kind is not FindingKind.UNREADABLE and CASE_ID.fullmatch(finding.case):
            if shown != finding.case:
                shown, case = finding.case, project.case(finding.case)
                volume, points = case.volume(), _positions(history.now(case.revision()), scheme)
            landmark = "" if finding.landmark is None else f"-{scheme.names.index(finding.landmark) + 1:03d}"
            path = folder / f"{finding.case}-{finding.kind.value.replace(' ', '-')}{landmark}.png"
            draw_finding(volume, points, scheme.names, finding, path)
            finding = replace(finding, picture=path)
        result.append(finding)
    progress(1.0, "done")
    return result


def _read(case: CaseFiles, history: SchemeHistory) -> _Read:
    revision = history.now(case.revision())
    positions = _positions(revision, history.newest)
    return _Read(case.id, revision, case.content(), look_at_scan(case.id, case.volume(), positions))


def _positions(revision: Revision, scheme: LandmarkScheme) -> np.ndarray:
    """(K, 3) LPS mm of all points, reviewed or not, in the order of the scheme; NaN where there is none."""
    by_name = {p.name: p.position for p in revision.landmarks if p.position is not None}
    return np.array([by_name.get(name, np.full(3, np.nan)) for name in scheme.names])


def _same_images(cases: Sequence[_Read]) -> list[Finding]:
    first: dict[str, str] = {}
    findings = []
    for case in cases:
        other = first.setdefault(case.content.digest, case.id)
        if other != case.id:
            reason = f"Its scan has the same voxels as that of {other}, at another place: keep one of the two cases."
            findings.append(Finding(case.id, FindingKind.SAME_IMAGE, None, reason))
    return findings


def _same_places(cases: Sequence[_Read], scheme: LandmarkScheme) -> list[Finding]:
    """Two landmarks of a case at one place, which usually lie apart."""
    positions = np.stack([case.on_scan.positions for case in cases]) if cases else np.empty((0, len(scheme), 3))
    findings = []
    for number, case in enumerate(cases):
        limit = SAME_PLACE * float(case.content.grid.spacing.min())
        apart = np.linalg.norm(positions[number][:, None] - positions[number][None], axis=2)
        for k, m in zip(*np.where(np.triu(apart <= limit, 1))):
            elsewhere = np.delete(np.linalg.norm(positions[:, k] - positions[:, m], axis=1), number)
            elsewhere = elsewhere[np.isfinite(elsewhere)]
            if elsewhere.size and np.median(elsewhere) < USUALLY_APART * limit:
                continue
            first, second = scheme.names[k], scheme.names[m]
            reason = f"'{first}' and '{second}' lie at one place: place one of them again."
            findings.append(
                Finding(case.id, FindingKind.SAME_PLACE, second, reason, float(apart[k, m]), "mm", positions[number][m])
            )
    return findings


def _unreviewed(case: _Read) -> list[Finding]:
    findings = []
    for landmark in case.revision.landmarks:
        if not landmark.state.is_decided:
            reason = f"Nobody has decided about '{landmark.name}': accept it, move it, or mark it as absent."
            findings.append(Finding(case.id, FindingKind.UNREVIEWED, landmark.name, reason, position=landmark.position))
    return findings
