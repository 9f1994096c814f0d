"""Bringing cases into a project from other forms, and handing them out; one module for each form."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from H3DELandmarksLib.cases.decisions import landmarks_from_sets
from H3DELandmarksLib.cases.store import Added, CaseProject
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.research import module_of_either
from H3DELandmarksLib.formats.case_record import ModelName
from H3DELandmarksLib.formats.schemes import SchemeHistory

log = logging.getLogger(__name__)
Progress = Callable[[float, str], None]

# Modules with `sources(folder, scheme)` (a sequence of ForeignCase) and `write(cases, scheme, target)`.
FORMS = {
    "folder": "H3DELandmarksLib.cases.folder_form",
    "mml": "H3DELandmarksResearch.converters.mml_form",
    "nnlandmark": "H3DELandmarksLib.cases.nnlandmark",
}


@dataclass(frozen=True)
class ForeignCase:
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
            corrected, proposed = (say(history.newest) for say in (revision.corrected, revision.proposed))
            yield OutgoingCase(case.id, case.volume, corrected, proposed)

    module_of_either(FORMS[form], f"The form '{form}'").write(outgoing(), history.newest, target)
    progress(1.0, "done")
    return len(cases)


def _import_case(
    project: CaseProject,
    history: SchemeHistory,
    case: ForeignCase,
    reviewed: bool,
    model: ModelName | None,
    summary: ImportSummary,
) -> Added:
    scheme = history.newest
    volume, *sets = case.read()
    corrected, proposed = (None if points is None else history.renamed(points) for points in sets)
    if not set(corrected.names) & set(scheme.names):
        raise InputError(f"'{case.name}' has no point with a name of the scheme '{scheme.id}': rename its points.")
    landmarks, left_out = landmarks_from_sets(scheme, corrected, proposed, reviewed)
    summary.left_out += left_out
    return project.add(volume, landmarks, model)
