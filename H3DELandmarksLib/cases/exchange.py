"""Bringing cases in from other forms and handing them out: plain files (here), nnLandmark and MML (their own modules).

The plain form is a folder with a scan and a point list (.mrk.json) of the same name for each case; what a model had
proposed lies in the folder ``proposed`` in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from H3DELandmarksLib.cases.store import Added, CaseProject
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet, review_state
from H3DELandmarksLib.core.research import module_of_either
from H3DELandmarksLib.formats.case_record import CaseLandmark, ModelName
from H3DELandmarksLib.formats.schemes import SchemeHistory
from H3DELandmarksLib.io.case_folder import POINTS_SUFFIX, case_names, read_case
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups

log = logging.getLogger(__name__)
PROPOSED = "proposed"

# Modules with `sources(folder, scheme)` (a sequence of ExternalCase) and `write(cases, scheme, target)`.
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
    """

    name: str
    read: Callable[[], tuple[Volume, LandmarkSet, LandmarkSet | None]]


@dataclass(frozen=True)
class OutgoingCase:
    """A case to hand out.

    Attributes:
        id: of the case.
        read: gives the scan.
        corrected: what people decided, unknown where nobody has; LPS mm, in the order of the scheme.
        proposed: what a model had said.
    """

    id: str
    read: Callable[[], Volume]
    corrected: LandmarkSet
    proposed: LandmarkSet


@dataclass
class ImportSummary:
    """What an import did.

    Attributes:
        new: ids of cases that came in.
        revised: ids of cases that were there and have a new review.
        unchanged: ids of cases that were there and said the same.
        skipped: one sentence for each case that could not be read.
        left_out: points whose names are not in the scheme.
    """

    new: list[str] = field(default_factory=list)
    revised: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    left_out: int = 0

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
    cases = module_of_either(FORMS[form], f"The form '{form}'").sources(folder, history.newest)
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
            "%d points were left out, because the scheme '%s' has no landmarks of their names.",
            summary.left_out,
            history.newest.id,
        )
    return summary


def export_cases(project: CaseProject, form: str, target: Path, progress: Progress) -> int:
    """Hand out every case with its newest review; returns how many.

    Args:
        project: whose cases.
        form: a key of `FORMS`.
        target: folder, which is empty or does not exist.
        progress: receives the fraction done and the id of the case at hand.

    Raises:
        InputError: there is no case, something is in the target already, or a case cannot be written in this form.
    """
    history, cases = project.history(), project.cases()
    if not cases:
        raise InputError(f"The project '{project.folder}' has no cases yet: add some first.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"'{target}' is there and not an empty folder: choose another target.")
    target.mkdir(parents=True, exist_ok=True)

    def outgoing() -> Iterable[OutgoingCase]:
        for number, case in enumerate(cases):
            progress(number / len(cases), case.id)
            revision = history.now(case.revision())
            scheme = history.newest
            yield OutgoingCase(case.id, case.volume, revision.corrected(scheme), revision.proposed(scheme))

    module_of_either(FORMS[form], f"The form '{form}'").write(outgoing(), history.newest, target)
    progress(1.0, "done")
    return len(cases)


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
    corrected = history.renamed(corrected)
    proposed = None if proposed is None else history.renamed(proposed)
    if not set(corrected.names) & set(scheme.names):
        raise InputError(f"'{case.name}' has no point with a name of the scheme '{scheme.id}': rename its points.")
    landmarks, left_out = landmarks_from_sets(scheme, corrected, proposed, reviewed)
    summary.left_out += left_out
    return project.add(volume, landmarks, model)


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


def sources(folder: Path, scheme: LandmarkScheme) -> Sequence[ExternalCase]:
    """The cases of a folder with plain files."""
    return [ExternalCase(name, partial(_read_plain, folder, name)) for name in case_names(folder)]


def write(cases: Iterable[OutgoingCase], scheme: LandmarkScheme, target: Path) -> None:
    """Write cases as plain files; points that nobody has decided about are undefined."""
    for case in cases:
        write_volume(target / f"{case.id}.nrrd", case.read())
        write_markups(target / f"{case.id}{POINTS_SUFFIX}", case.corrected)
        if not case.proposed.unknown.all():
            (target / PROPOSED).mkdir(exist_ok=True)
            write_markups(target / PROPOSED / f"{case.id}{POINTS_SUFFIX}", case.proposed)


def _read_plain(folder: Path, name: str) -> tuple[Volume, LandmarkSet, LandmarkSet | None]:
    points = read_markups(folder / f"{name}{POINTS_SUFFIX}")
    beside = folder / PROPOSED / f"{name}{POINTS_SUFFIX}"
    volume, _ = read_case(folder, name, points.names)
    return volume, points, read_markups(beside) if beside.is_file() else None
