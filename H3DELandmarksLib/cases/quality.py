"""The check of cases before training: everything that a person should look at, one issue each.

Points are compared with their own scan (`scan_check`), with those of the other cases (`point_check`) and with each
other (`same_points`); pictures with each other (`same_picture`), and points with the pictures of other cases
(`exchanged_points`). What nobody has decided about is listed, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from H3DELandmarksLib.cases.exchanged_points import SmallPicture, exchanged_points, misplaced_points, small_picture
from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue, in_order
from H3DELandmarksLib.cases.point_check import check_shapes
from H3DELandmarksLib.cases.same_picture import fingerprint, repeated_pictures
from H3DELandmarksLib.cases.same_points import check_copies, check_same_places
from H3DELandmarksLib.cases.scan_check import PointsOnScan, check_on_scans, look_at_scan
from H3DELandmarksLib.cases.store import CaseProject
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.formats.case_record import Revision


@dataclass(frozen=True)
class CheckedCase:
    """What the checks of a set keep of a case; `picture` is its fingerprint."""

    on_scan: PointsOnScan
    picture: np.ndarray
    small: SmallPicture

    @staticmethod
    def of(case: str, volume: Volume, positions: np.ndarray) -> CheckedCase:
        """Look at a case.

        Args:
            case: id.
            volume: its scan.
            positions: (K, 3) LPS mm; NaN where there is none.
        """
        small = small_picture(volume, positions)
        return CheckedCase(look_at_scan(case, volume, positions), fingerprint(volume), small)

    @property
    def id(self) -> str:
        """Of the case."""
        return self.on_scan.case


def unreadable(case: str, error: InputError) -> QualityIssue:
    """A finding for a case that cannot be read."""
    return QualityIssue(case, IssueKind.UNREADABLE, None, " ".join(str(error).split()))


def check_set(
    cases: Sequence[CheckedCase], scheme: LandmarkScheme, subsets: Mapping[str, str]
) -> Iterator[QualityIssue]:
    """All findings about the points and pictures of a set.

    Args:
        cases: of the scheme.
        scheme: landmarks, and the pairs of both sides.
        subsets: the subset of each case, where there are any.
    """
    on_scans = [case.on_scan for case in cases]
    yield from check_on_scans(on_scans, scheme)
    yield from check_shapes(on_scans, scheme)
    yield from check_same_places(on_scans, scheme)
    yield from check_copies(on_scans)
    yield from _same_pictures(cases, subsets)
    yield from _on_pictures(cases)


def check_project(project: CaseProject, progress: Progress) -> list[QualityIssue]:
    """Check the newest review of every case.

    Args:
        project: what to check.
        progress: receives the fraction done and the id of the case at hand.

    Returns:
        Findings, case by case; the graver ones of a case first.
    """
    history, cases = project.history(), project.cases()
    read: list[CheckedCase] = []
    findings: list[QualityIssue] = []
    for number, case in enumerate(cases):
        progress(number / len(cases), case.id)
        try:
            revision = history.now(case.revision())
            read.append(CheckedCase.of(case.id, case.volume(), revision.positions(history.newest)))
        except InputError as error:
            findings.append(unreadable(case.id, error))
        else:
            findings += _unreviewed(case.id, revision)
    findings += check_set(read, history.newest, {})
    progress(1.0, "done")
    return in_order(findings)


def _same_pictures(cases: Sequence[CheckedCase], subsets: Mapping[str, str]) -> Iterator[QualityIssue]:
    """One finding for each pair of cases with one picture."""
    for repeat in repeated_pictures([case.picture for case in cases]):
        first, second = cases[repeat.first].id, cases[repeat.second].id
        image = "the mirror image of" if repeat.mirrored else "the same picture as"
        here, there = subsets.get(second), subsets.get(first)
        where = f" One is in '{there}', the other in '{here}'." if here and there and here != there else ""
        reason = (
            f"Its scan is {image} that of {first}, also if it was cut or its grey values changed.{where} "
            "Keep one of the two cases."
        )
        yield QualityIssue(second, IssueKind.SAME_IMAGE, None, reason, 100 * repeat.likeness, "%", other=first)


def _on_pictures(cases: Sequence[CheckedCase]) -> Iterator[QualityIssue]:
    """One finding for each pair of cases whose points fit better on each other's picture, and for others that do not
    fit their radiograph."""
    pictures, told = [case.small for case in cases], set()
    for one, other, gain in exchanged_points(pictures):
        told |= {one, other}
        first, second = cases[one].id, cases[other].id
        reason = (
            f"Its points fit the picture of {first} better than its own, and the other way round: "
            "look whether the two point lists, or the two scans, were exchanged."
        )
        yield QualityIssue(second, IssueKind.EXCHANGED, None, reason, 100 * gain, "%", other=first)
    for number, fit, usual in misplaced_points(pictures):
        if number not in told:
            reason = (
                f"What its picture shows around the points correlates by {fit:.2f} with that in the other cases, "
                f"usually by {usual:.2f}: look whether the points belong to this picture and neither was moved, turned "
                "or scaled."
            )
            yield QualityIssue(cases[number].id, IssueKind.OFF_ANATOMY, None, reason, 100 * fit, "%")


def _unreviewed(case: str, revision: Revision) -> Iterator[QualityIssue]:
    for landmark in revision.landmarks:
        if landmark.state.is_waiting:
            reason = f"Nobody has decided about '{landmark.name}': accept it, move it, or mark it as absent."
            yield QualityIssue(case, IssueKind.UNREVIEWED, landmark.name, reason, position=landmark.position)
