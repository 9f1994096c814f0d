"""Bringing cases in from other forms and handing them out: plain files (here), nnLandmark and MML (their own modules).

The plain form is a folder with a scan and a point list (.mrk.json) of the same name for each case; what a model had
proposed lies in the folder ``proposed`` in it, and what several people marked in ``readers`` (`case_folder`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from H3DELandmarksLib.cases.export import ExportSummary, OutgoingCase, export_sets
from H3DELandmarksLib.cases.point_forms import POINT_FORMS
from H3DELandmarksLib.cases.store import Added, CaseFiles, CaseProject
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet, review_state
from H3DELandmarksLib.formats.case_record import TIME_FORMAT, CaseLandmark, ModelName
from H3DELandmarksLib.formats.export import Coordinates, ExportedCase, ExportedLandmark
from H3DELandmarksLib.formats.measurements import measurements_of
from H3DELandmarksLib.formats.schemes import SchemeHistory
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import named_as_expected, read_markups, write_markups
from H3DELandmarksResearch.cases.case_folder import POINTS_SUFFIX, case_names, read_case, readers_of_case, write_readers
from H3DELandmarksResearch.cases.subjects import subjects_in, write_subjects

log = logging.getLogger(__name__)
PROPOSED = "proposed"
MOST_NAMED = 20

# Modules of this package with `sources(folder, scheme)` (a sequence of ExternalCase) and the class `Writer`, see
# `FormWriter`.
FORMS = {"folder": "cases.exchange", "mml": "converters.mml_form", "nnlandmark": "converters.nnlandmark"}


def _module(form: str) -> Any:
    return import_module(f"H3DELandmarksResearch.{FORMS[form]}")


@dataclass(frozen=True)
class ExternalCase:
    """A case in another form that has not been read yet.

    Attributes:
        name: how messages call it; never kept.
        read: gives the scan, the points as they lie now and what a model had proposed, where that is known (LPS mm).
        readers: gives what several people marked, by a word for each (LPS mm).
        subject: a word that scans of one subject share; never kept.
    """

    name: str
    read: Callable[[], tuple[Volume, LandmarkSet, LandmarkSet | None]]
    readers: Callable[[], Mapping[str, LandmarkSet]] = dict
    subject: str | None = None


@dataclass
class ImportSummary:
    """What an import did.

    Attributes:
        new: ids of cases that came in.
        revised: ids of cases that were there and have a new review.
        unchanged: ids of cases that were there and said the same.
        skipped: one sentence for each case that could not be read.
        left_out: points whose names are not in the scheme.
        unknown_names: their names, with the number of cases.
    """

    new: list[str] = field(default_factory=list)
    revised: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    left_out: int = 0
    unknown_names: Counter[str] = field(default_factory=Counter)

    def count(self, added: Added) -> None:
        """Count one case."""
        place = self.new if added.is_new_case else self.revised if added.is_new_revision else self.unchanged
        place.append(added.case)

    def text(self) -> str:
        """One line."""
        return (
            f"{len(self.new)} new cases, {len(self.revised)} reviewed again, {len(self.unchanged)} known already, "
            f"{len(self.skipped)} skipped"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "new": self.new,
            "revised": self.revised,
            "unchanged": self.unchanged,
            "skipped": self.skipped,
            "points_left_out": self.left_out,
        }


def import_cases(
    project: CaseProject,
    form: str,
    folder: Path,
    progress: Progress,
    reviewed: bool = True,
    model: ModelName | None = None,
) -> ImportSummary:
    """Bring in every case of a folder; a bad case is skipped with a sentence and does not stop the others.

    Args:
        project: takes the cases.
        form: a key of `FORMS`.
        folder: in that form.
        progress: receives the fraction done and the name of the case at hand.
        reviewed: whether a person has looked at the points.
        model: which model proposed them.

    Raises:
        InputError: the folder is not of this form.
    """
    history, summary = project.history(), ImportSummary()
    first: dict[str, str] = {}  # case of each subject
    cases = _module(form).sources(folder, history.newest)
    for number, case in enumerate(cases):
        progress(number / len(cases), case.name)
        try:
            subject = None if case.subject is None else first.get(case.subject)
            added = _import_case(project, history, case, reviewed, model, summary, subject)
            summary.count(added)
            if case.subject is not None:
                first.setdefault(case.subject, added.case)
        except InputError as error:
            summary.skipped.append(" ".join(str(error).split()))
            log.warning("%s", summary.skipped[-1])
    progress(1.0, "done")
    if summary.left_out:
        log.warning(
            "%d points were left out, because the scheme '%s' has no landmarks of their names: %s.",
            summary.left_out,
            history.newest.id,
            ", ".join(f"'{name}'" for name in sorted(summary.unknown_names)[:MOST_NAMED]),
        )
    return summary


def export_cases(
    project: CaseProject, form: str, target: Path, progress: Progress, overwrite: bool = False, is_ras: bool = False
) -> ExportSummary:
    """Hand out every case with its newest review; one that cannot be exported is left out with its reason.

    Everything is written aside and appears, with a record of it (`formats.export`), when it is complete. An export
    that had to leave out cases is replaced, so that it can be repeated when they are mended.

    Args:
        project: whose cases.
        form: a key of `FORMS` or `POINT_FORMS`.
        target: folder, which is empty or does not exist, or holds an earlier export.
        progress: receives the fraction done and the id of the case at hand.
        overwrite: whether a complete or changed earlier export may be replaced.
        is_ras: whether positions shall be RAS, in forms that have a choice.

    Raises:
        InputError: there is no case that can be exported, or something else is in the target already.
        OutputError: it cannot be written.
    """
    history, cases = project.history(), project.cases()
    if not cases:
        raise InputError(f"The project '{project.folder}' has no cases yet: add some first.")
    writer = POINT_FORMS[form] if form in POINT_FORMS else _module(form).Writer
    writer_of = partial(writer, history.newest.names, is_ras=is_ras)
    scheme = f"{history.newest.id}@{history.newest.version}"

    def outgoing() -> Iterator[tuple[str, Callable[[], OutgoingCase]]]:
        for number, case in enumerate(cases):
            progress(number / len(cases), case.id)
            yield case.id, partial(_outgoing, project, case, history)

    definitions = measurements_of(history.newest)
    summary = export_sets(outgoing(), writer_of, form, target, scheme, overwrite, definitions)
    progress(1.0, "done")
    return summary


def _outgoing(project: CaseProject, case: CaseFiles, history: SchemeHistory) -> OutgoingCase:
    """A case of a project with its newest review; raises InputError where it is damaged."""
    number = max(case.revision_numbers(), default=0)
    kept, content = case.revision(number), case.content()
    revision = history.now(kept)
    record = ExportedCase(
        case.id,
        tuple(ExportedLandmark.reviewed(landmark.name, landmark.state) for landmark in revision.landmarks),
        scan_sha256=content.digest,
        shape=content.grid.shape,
        spacing_mm=tuple(content.grid.spacing.tolist()),
        length_unit=ExportedCase.unit_of(content.grid.shape, content.grid.spacing),
        model=None if kept.model is None else str(kept.model),
        revision=number,
        reviewed=kept.time.strftime(TIME_FORMAT),
        software=kept.software,
    )
    scheme = history.newest
    corrected, proposed = revision.corrected(scheme), revision.proposed(scheme)
    subject = project.subject_of(case)
    return OutgoingCase(case.id, case.volume, corrected, proposed, record, revision.readers, subject)


def _import_case(
    project: CaseProject,
    history: SchemeHistory,
    case: ExternalCase,
    reviewed: bool,
    model: ModelName | None,
    summary: ImportSummary,
    subject: str | None,
) -> Added:
    scheme = history.newest
    volume, corrected, proposed = case.read()
    names = history.all_names
    corrected = history.renamed(named_as_expected(corrected, names, case.name))
    if proposed is not None:
        proposed = history.renamed(named_as_expected(proposed, names, case.name))
    if not set(corrected.names) & set(scheme.names):
        raise InputError(f"'{case.name}' has no point with a name of the scheme '{scheme.id}': rename its points.")
    landmarks, left_out = landmarks_from_sets(scheme, corrected, proposed, reviewed)
    summary.left_out += left_out
    summary.unknown_names.update(set(corrected.names) - set(scheme.names))
    said = case.readers().items()
    readers = {reader: history.renamed(named_as_expected(points, names, case.name)) for reader, points in said}
    return project.add(volume, landmarks, model, subject, readers=readers or None)


def landmarks_from_sets(
    scheme: LandmarkScheme, corrected: LandmarkSet, proposed: LandmarkSet | None = None, reviewed: bool = True
) -> tuple[tuple[CaseLandmark, ...], int]:
    """Landmarks with states, from two point lists.

    Args:
        scheme: landmarks of the project.
        corrected: where the points lie now, LPS mm; matched by name.
        proposed: what the model had said; None where a person placed everything.
        reviewed: whether a person has looked at the points that lie as proposed (without `proposed`: at all points).

    Returns:
        One landmark for each name of the scheme, and how many points belong to no name of it.
    """
    left_out = len(set(corrected.names) - set(scheme.names))
    now = corrected.ordered_as(scheme.names)
    if proposed is not None:
        said = proposed.ordered_as(scheme.names)
    else:
        said = corrected.ordered_as(()).ordered_as(scheme.names) if reviewed else now

    def landmark(row: int, name: str) -> CaseLandmark:
        state = review_state(
            now.positions[row] if now.present[row] else None,
            said.positions[row] if said.present[row] else None,
            unknown=bool(now.unknown[row]),
            proposed_absent=not said.present[row] and not said.unknown[row],
            accepted=reviewed,
        )
        return CaseLandmark.from_sets(name, state, now, said, row)

    return tuple(landmark(row, name) for row, name in enumerate(scheme.names)), left_out


def names_beyond(points: LandmarkSet, scheme: LandmarkScheme) -> str:
    """The names of points that are no landmarks of a scheme, for a message."""
    names = [name for name in points.names if name not in scheme.names]
    return ", ".join(f"'{name}'" for name in names[:MOST_NAMED])


def sources(folder: Path, scheme: LandmarkScheme) -> Sequence[ExternalCase]:
    """The cases of a folder with plain files."""
    names, readers = case_names(folder), partial(readers_of_case, folder)
    whose = subjects_in(folder, names)
    return [ExternalCase(n, partial(_read_plain, folder, n), partial(readers, n), whose.get(n)) for n in names]


class Writer:
    """Plain files; points that nobody has decided about are undefined."""

    coordinates: ClassVar[Coordinates] = "LPS"
    absent: ClassVar[str] = "positionStatus 'missing'; undecided: 'undefined'"

    def __init__(self, names: Sequence[str], target: Path, is_ras: bool = False) -> None:
        """Take the folder."""
        self.target = target
        self.subjects: dict[str, str] = {}

    def add(self, case: OutgoingCase) -> None:
        """Write scan and points."""
        self.subjects[case.id] = case.subject or case.id
        write_volume(self.target / f"{case.id}.nrrd", case.read())
        write_markups(self.target / f"{case.id}{POINTS_SUFFIX}", case.corrected, unit=case.record.unit)
        if not case.proposed.unknown.all():
            (self.target / PROPOSED).mkdir(exist_ok=True)
            write_markups(self.target / PROPOSED / f"{case.id}{POINTS_SUFFIX}", case.proposed, unit=case.record.unit)
        write_readers(self.target, case.id, case.readers)

    def close(self) -> None:
        """Write whose each scan is."""
        write_subjects(self.target, self.subjects)


def _read_plain(folder: Path, name: str) -> tuple[Volume, LandmarkSet, LandmarkSet | None]:
    volume, points = read_case(folder, name, None)
    beside = folder / PROPOSED / f"{name}{POINTS_SUFFIX}"
    return volume, points, read_markups(beside) if beside.is_file() else None
