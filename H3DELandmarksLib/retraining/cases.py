"""The cases of a project as training sees them: the newest review of each, and in it only what a person decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from H3DELandmarksLib.cases import CaseProject
from H3DELandmarksLib.cases.same_picture import fingerprint, repeated_pictures
from H3DELandmarksLib.cases.store import MIN_TRAINING_CASES, CaseFiles
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.run import RunCase
from H3DELandmarksLib.formats.schemes import SchemeHistory
from H3DELandmarksLib.training.cases import Case


@dataclass(frozen=True)
class ReviewedCase:
    """A case with one of its reviews.

    Attributes:
        files: where scan and reviews lie.
        revision: number of the review.
        sha256: of the scan's voxels.
        subject: id of the case that stands for the subject.
    """

    files: CaseFiles
    revision: int
    sha256: str
    subject: str


AnyCase = TypeVar("AnyCase", bound=ReviewedCase)


@dataclass(frozen=True)
class CorrectedCase(ReviewedCase):
    """One review that can teach.

    Attributes:
        since: when the case was reviewed first.
        landmarks: LPS mm; what nobody has decided is unknown.
        readers: what several people marked, by a word for each, LPS mm.
    """

    since: datetime
    landmarks: LandmarkSet
    readers: Mapping[str, LandmarkSet] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Of the case."""
        return self.files.id

    def load(self) -> Case:
        """Scan and landmarks; radiographs come on their sheets."""
        return Case(self.id, self.files.volume(), self.landmarks, self.readers).laid_flat()


def newest_cases(project: CaseProject, canonical_pose: bool) -> tuple[list[CorrectedCase], dict[str, str]]:
    """All cases that can teach, by id, and for each other one the reason why it cannot.

    Args:
        project: whose cases.
        canonical_pose: whether a pose must follow from the points, which takes three.
    """
    history, usable, left_out = project.history(), [], {}
    for files in project.cases():
        try:
            case = _case(project, files, max(files.revision_numbers(), default=0), history)
        except InputError as error:
            left_out[files.id] = " ".join(str(error).split())
            continue
        if case.landmarks.unknown.all():
            left_out[files.id] = "nobody has reviewed a point"
        elif canonical_pose and 0 < case.landmarks.present.sum() < 3:
            left_out[files.id] = "fewer than three points are placed, which tell nothing about the pose"
        else:
            usable.append(case)
    return usable, left_out


def joined_by_picture(cases: Sequence[AnyCase]) -> tuple[list[AnyCase], tuple[str, ...]]:
    """The same cases, those with one picture being of one subject, so that no two subsets share it.

    Pictures are compared as `audit` does: also cut, rescaled, mirrored or with other grey values.

    Args:
        cases: in any order.

    Returns:
        The cases in the same order, and a sentence for each pair whose subjects were different.
    """
    joined, notes = list(cases), []
    for repeat in repeated_pictures([fingerprint(case.files.volume()) for case in cases]):
        one, other = joined[repeat.first], joined[repeat.second]
        if one.subject == other.subject or one.sha256 == other.sha256:
            continue
        joined = [replace(c, subject=one.subject) if c.subject == other.subject else c for c in joined]
        ids = f"'{one.files.id}' and '{other.files.id}'"
        notes.append(f"The cases {ids} show the same picture: both are in one subset.")
    return joined, tuple(notes)


def recorded_cases(project: CaseProject, scheme: LandmarkScheme, entries: Sequence[RunCase]) -> list[CorrectedCase]:
    """The reviews that a run was started with, whatever came after.

    Args:
        project: whose cases.
        scheme: which was the newest when the run was started.
        entries: id, revision and sha256 of each.

    Raises:
        InputError: a case or the scheme is not there any more, or the scan is another one.
    """
    history, cases = _history_until(project.history(), scheme), []
    for entry in entries:
        case = _case(project, project.case(entry.id), entry.revision, history)
        if case.sha256 != entry.sha256:
            raise InputError(f"The scan of the case '{case.id}' is not the one that this run began with: start anew.")
        cases.append(case)
    return cases


def check_enough(cases: Sequence[CorrectedCase], project: CaseProject) -> None:
    """Refuse to learn from too few cases."""
    missing = MIN_TRAINING_CASES - len(cases)
    if missing > 0:
        raise InputError(
            f"Training needs at least {MIN_TRAINING_CASES} corrected cases, but only {len(cases)} in "
            f"'{project.folder}' can be used: correct {missing} more."
        )


def _case(project: CaseProject, files: CaseFiles, number: int, history: SchemeHistory) -> CorrectedCase:
    revision = history.now(files.revision(number))
    first = files.revision(min(files.revision_numbers()))
    return CorrectedCase(
        files,
        number,
        files.content().digest,
        project.subject_of(files),
        first.time,
        revision.corrected(history.newest),
        revision.readers,
    )


def _history_until(history: SchemeHistory, scheme: LandmarkScheme) -> SchemeHistory:
    if scheme not in history.schemes:
        raise InputError(
            f"The project no longer has the scheme '{scheme.id}' {scheme.version} that this run began "
            "with: start a new run."
        )
    number = history.schemes.index(scheme)
    return SchemeHistory(history.schemes[: number + 1], history.steps[:number])
