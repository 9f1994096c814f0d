"""Bringing cases in from other forms and handing them out: plain files (here), nnLandmark and MML (their own modules).

The plain form is a folder with a scan and a point list (.mrk.json) of the same name for each case; what a model had
proposed lies in the folder ``proposed`` in it, and what several people marked in ``readers`` (`io.case_folder`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cases.point_forms import POINT_FORMS
from H3DELandmarksLib.cases.store import Added, CaseFiles, CaseProject
from H3DELandmarksLib.core.errors import InputError, OutputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.files import (
    TEMPORARY_PREFIX,
    atomic_write,
    cannot_write,
    remove_forgotten,
    restore_interrupted,
    shown,
)
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet, review_state
from H3DELandmarksLib.core.measurements import Measurements
from H3DELandmarksLib.core.research import module_of_either
from H3DELandmarksLib.evaluation.measures import measure, without_moved_radii
from H3DELandmarksLib.formats.case_record import TIME_FORMAT, CaseLandmark, ModelName
from H3DELandmarksLib.formats.export import (
    EXPORT,
    Coordinates,
    ExportedCase,
    ExportedLandmark,
    ExportRecord,
    digests,
    is_incomplete,
    recorded_bytes,
)
from H3DELandmarksLib.formats.measurements import measurements_of, measurements_of_names
from H3DELandmarksLib.formats.reading import to_json
from H3DELandmarksLib.formats.schemes import SchemeHistory
from H3DELandmarksLib.io.case_folder import POINTS_SUFFIX, case_names, read_case, readers_of_case, write_readers
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import named_as_expected, read_markups, write_markups
from H3DELandmarksLib.io.tables import write_measurements

log = logging.getLogger(__name__)
PROPOSED, MEASUREMENT_TABLE = "proposed", "measurements.csv"
MOST_NAMED = 20

# Modules with `sources(folder, scheme)` (a sequence of ExternalCase) and the class `Writer`, see `FormWriter`.
FORMS = {
    "folder": "H3DELandmarksLib.cases.exchange",
    "mml": "H3DELandmarksResearch.converters.mml_form",
    "nnlandmark": "H3DELandmarksResearch.converters.nnlandmark",
}


@dataclass(frozen=True)
class ExternalCase:
    """A case in another form that has not been read yet.

    Attributes:
        name: how messages call it; never kept.
        read: gives the scan, the points as they lie now and what a model had proposed, where that is known (LPS mm).
        readers: gives what several people marked, by a word for each (LPS mm).
    """

    name: str
    read: Callable[[], tuple[Volume, LandmarkSet, LandmarkSet | None]]
    readers: Callable[[], Mapping[str, LandmarkSet]] = dict


@dataclass(frozen=True)
class OutgoingCase:
    """A case to hand out.

    Attributes:
        id: names its files.
        read: gives the scan.
        corrected: what people decided, unknown where nobody has; LPS mm, in the order of the scheme.
        proposed: what a model had said.
        record: where it comes from.
        readers: what several people marked, by a word for each, LPS mm.
    """

    id: str
    read: Callable[[], Volume]
    corrected: LandmarkSet
    proposed: LandmarkSet
    record: ExportedCase
    readers: Mapping[str, LandmarkSet] = field(default_factory=dict)


class FormWriter(Protocol):
    """Writes cases in a form into a new folder, one after the other.

    It is made from the names of the landmarks, in their order, the folder, and whether positions shall be RAS.
    """

    @property
    def coordinates(self) -> Coordinates:
        """Of what it writes."""

    @property
    def absent(self) -> str:
        """How it writes that a landmark is absent or undecided."""

    def add(self, case: OutgoingCase) -> None:
        """Write a case, or raise InputError before anything of it is written."""

    def close(self) -> None:
        """Write what belongs to all cases."""


@dataclass
class ExportSummary:
    """What an export did.

    Attributes:
        target: folder or file.
        written: ids of the cases.
        skipped: reasons by id of the cases that could not be exported.
    """

    target: Path
    written: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """One line."""
        left_out = f", {len(self.skipped)} left out" if self.skipped else ""
        return f"{len(self.written)} cases written{left_out}: {shown(self.target)}"

    def skip(self, case: str, error: InputError) -> None:
        """Note that a case cannot be exported, with a warning."""
        self.skipped[case] = " ".join(str(error).split())
        log.warning("%s: left out. %s", case, self.skipped[case])

    def check(self) -> None:
        """Refuse an export without any case; raises InputError."""
        if not self.written:
            reason = next(iter(self.skipped.values()), "There are none.")
            raise InputError(f"No case can be exported. {reason}")


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
    cases = _module(form).sources(folder, history.newest)
    for number, case in enumerate(cases):
        progress(number / len(cases), case.name)
        try:
            summary.count(_import_case(project, history, case, reviewed, model, summary))
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
    writer_of = _writer_of(form, history.newest.names, is_ras)
    scheme = f"{history.newest.id}@{history.newest.version}"

    def outgoing() -> Iterator[tuple[str, Callable[[], OutgoingCase]]]:
        for number, case in enumerate(cases):
            progress(number / len(cases), case.id)
            yield case.id, partial(_outgoing, case, history)

    definitions = measurements_of(history.newest)
    summary = export_sets(outgoing(), writer_of, form, target, scheme, overwrite, definitions)
    progress(1.0, "done")
    return summary


def export_points(
    cases: Sequence[OutgoingCase],
    names: Sequence[str],
    form: str,
    target: Path,
    scheme: str | None = None,
    overwrite: bool = False,
    is_ras: bool = False,
) -> ExportSummary:
    """Hand out landmarks that are in memory, such as those of a scene; see `export_cases`.

    What is measured on them follows from their names.

    Args:
        cases: with ids that can be names of files.
        names: of the landmarks, in the order of the files.
        form: a key of `POINT_FORMS`.
        target, overwrite, is_ras: as for `export_cases`.
        scheme: id@version of the landmarks, where they follow one.

    Raises:
        InputError, OutputError: as for `export_cases`.
    """
    given = ((case.id, partial(_given, case)) for case in cases)
    definitions = measurements_of_names(names)
    return export_sets(given, _writer_of(form, names, is_ras), form, target, scheme, overwrite, definitions)


def _given(case: OutgoingCase) -> OutgoingCase:
    return case


def _writer_of(form: str, names: Sequence[str], is_ras: bool) -> Callable[[Path], FormWriter]:
    """What makes the writer of a form for a folder."""
    writer = POINT_FORMS[form] if form in POINT_FORMS else _module(form).Writer
    return partial(writer, names, is_ras=is_ras)


def export_sets(
    cases: Iterator[tuple[str, Callable[[], OutgoingCase]]],
    writer_of: Callable[[Path], FormWriter],
    form: str,
    target: Path,
    scheme: str | None,
    overwrite: bool = False,
    definitions: Measurements | None = None,
) -> ExportSummary:
    """Hand out cases that are made one at a time.

    Args:
        cases: ids, and what makes each case or raises InputError.
        writer_of: makes the writer for a folder.
        form: of the writer, for the record.
        target, overwrite: as for `export_cases`.
        scheme: id@version of the landmarks, where they follow one.
        definitions: what is measured on them, into a table beside.

    Raises:
        InputError, OutputError: as for `export_cases`.
    """
    summary, records, measured = ExportSummary(target), [], {}
    with _new_export(target, overwrite) as folder:
        writer = writer_of(folder)
        for name, make in cases:
            try:
                case = make()
                writer.add(case)
            except OutputError:
                raise
            except InputError as error:
                summary.skip(name, error)
            else:
                summary.written.append(name)
                records.append(case.record)
                if definitions:
                    measured[name] = measure(without_moved_radii(case.corrected, case.proposed), definitions)
        summary.check()
        writer.close()
        if measured:
            write_measurements(folder / MEASUREMENT_TABLE, measured)
        record = ExportRecord(
            __version__,
            datetime.now(timezone.utc).strftime(TIME_FORMAT),
            form,
            writer.coordinates,
            writer.absent,
            scheme,
            tuple(records),
            summary.skipped,
            digests(folder),
        )
        (folder / EXPORT).write_bytes(to_json(record))
    return summary


@contextmanager
def _new_export(target: Path, overwrite: bool) -> Iterator[Path]:
    """A new folder that takes the place of `target` when it is complete; of several at once, one is the first.

    Raises:
        InputError: something is there that no export has left so.
        OutputError: it cannot be written.
    """
    restore_interrupted(target.parent)  # what a killed export has left aside
    before = recorded_bytes(target)

    def may_replace(old: Path) -> bool:
        if old.is_dir() and not any(old.iterdir()):
            return True
        return before is not None and recorded_bytes(old) == before and (overwrite or is_incomplete(old))

    try:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise InputError(f"'{shown(target)}' is there and no folder: choose another target.")
        if before is None and target.exists() and any(target.iterdir()):
            raise InputError(f"'{shown(target)}' is there and not an empty folder: choose another target.")
        if target.exists() and not may_replace(target):
            raise InputError(
                f"'{shown(target)}' holds an earlier export, or what somebody has made of it, and is kept: add "
                "--overwrite to replace it, or choose another target."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_forgotten(path for path in target.parent.glob(f"{TEMPORARY_PREFIX}*") if path.name.endswith(target.name))
    except OSError as error:
        raise error if isinstance(error, InputError) else cannot_write(target, error) from error
    with atomic_write(target, may_replace=may_replace) as folder:
        folder.mkdir()
        yield folder


def _outgoing(case: CaseFiles, history: SchemeHistory) -> OutgoingCase:
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
        model=None if kept.model is None else str(kept.model),
        revision=number,
        reviewed=kept.time.strftime(TIME_FORMAT),
        software=kept.software,
    )
    scheme = history.newest
    corrected, proposed = revision.corrected(scheme), revision.proposed(scheme)
    return OutgoingCase(case.id, case.volume, corrected, proposed, record, revision.readers)


def _module(form: str) -> Any:
    return module_of_either(FORMS[form], f"The form '{form}'")


def _import_case(
    project: CaseProject,
    history: SchemeHistory,
    case: ExternalCase,
    reviewed: bool,
    model: ModelName | None,
    summary: ImportSummary,
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
    return project.add(volume, landmarks, model, readers=readers or None)


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
    readers = partial(readers_of_case, folder)
    return [ExternalCase(n, partial(_read_plain, folder, n), partial(readers, n)) for n in case_names(folder)]


class Writer:
    """Plain files; points that nobody has decided about are undefined."""

    coordinates: ClassVar[Coordinates] = "LPS"
    absent: ClassVar[str] = "positionStatus 'missing'; undecided: 'undefined'"

    def __init__(self, names: Sequence[str], target: Path, is_ras: bool = False) -> None:
        """Take the folder."""
        self.target = target

    def add(self, case: OutgoingCase) -> None:
        """Write scan and points."""
        write_volume(self.target / f"{case.id}.nrrd", case.read())
        write_markups(self.target / f"{case.id}{POINTS_SUFFIX}", case.corrected)
        if not case.proposed.unknown.all():
            (self.target / PROPOSED).mkdir(exist_ok=True)
            write_markups(self.target / PROPOSED / f"{case.id}{POINTS_SUFFIX}", case.proposed)
        write_readers(self.target, case.id, case.readers)

    def close(self) -> None:
        """Nothing belongs to all cases."""


def _read_plain(folder: Path, name: str) -> tuple[Volume, LandmarkSet, LandmarkSet | None]:
    volume, points = read_case(folder, name, None)
    beside = folder / PROPOSED / f"{name}{POINTS_SUFFIX}"
    return volume, points, read_markups(beside) if beside.is_file() else None
