"""The summary of a project: what every case is, in one file that is made again wherever it does not fit the cases."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from H3DELandmarksLib.cases.store import CaseFiles, CaseProject, write_file
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.formats import strict_json as strict
from H3DELandmarksLib.formats.case_record import TIME_FORMAT
from H3DELandmarksLib.formats.schemes import SchemeHistory

log = logging.getLogger(__name__)
INDEX, FORMAT_VERSION = "index.json", 2


@dataclass(frozen=True)
class CaseSummary:
    """A line of the index.

    Attributes:
        id: of the case.
        revision: number of the newest review.
        subject: id of the case that stands for the subject.
        time: of the newest review, UTC.
        model: ID@VERSION, or None.
        scheme: ID@VERSION of the scheme that the newest review follows.
        shape: voxels along the axes of the scan, in the order closest to L, P, S.
        spacing_mm: along the same axes.
        states: how many landmarks of the newest scheme there are of each state.
    """

    id: str
    revision: int
    subject: str
    time: str
    model: str | None
    scheme: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    states: dict[str, int]


def read_index(project: CaseProject, rebuild: bool = False) -> list[CaseSummary]:
    """The index, brought up to date with the cases; damaged cases are left out with a warning.

    Args:
        project: whose cases are summed up.
        rebuild: read every case again, whatever the index says.
    """
    history = project.history()
    kept = {} if rebuild else {summary.id: summary for summary in _read(project, history.newest)}
    summaries = []
    for case in project.cases():
        try:
            newest = max(case.revision_numbers(), default=0)
            known = kept.get(case.id)
            summaries.append(known if known and known.revision == newest else _summary(case, history))
        except InputError as error:
            log.warning("%s", error)
    if rebuild or summaries != list(kept.values()):
        _write(project, history.newest, summaries)
    return summaries


def _summary(case: CaseFiles, history: SchemeHistory) -> CaseSummary:
    number = max(case.revision_numbers(), default=0)
    revision, grid = case.revision(number), case.content().grid
    model = None if revision.model is None else f"{revision.model.id}@{revision.model.version}"
    spacing = tuple(round(float(x), 6) for x in grid.spacing)
    return CaseSummary(
        case.id,
        number,
        revision.subject or case.id,
        revision.time.strftime(TIME_FORMAT),
        model,
        "@".join(revision.scheme),
        grid.shape,
        spacing,
        history.now(revision).counts(),
    )


def _read(project: CaseProject, scheme: LandmarkScheme) -> list[CaseSummary]:
    """What the file says; nothing where it is missing, cannot be used, or is of an older scheme."""
    try:
        content: Any = strict.load(project.folder / INDEX)
        if content["format_version"] != FORMAT_VERSION or content["scheme"] != f"{scheme.id}@{scheme.version}":
            return []
        cases = [CaseSummary(**entry) for entry in content["cases"]]
    except (OSError, strict.Malformed, KeyError, TypeError):
        return []
    return [
        CaseSummary(**{**asdict(case), "shape": tuple(case.shape), "spacing_mm": tuple(case.spacing_mm)})
        for case in cases
    ]


def _write(project: CaseProject, scheme: LandmarkScheme, summaries: list[CaseSummary]) -> None:
    content = {
        "format_version": FORMAT_VERSION,
        "scheme": f"{scheme.id}@{scheme.version}",
        "cases": [asdict(summary) for summary in summaries],
    }
    try:
        write_file(project.folder / INDEX, strict.dump(content))
    except OSError as error:
        log.warning(
            "The index of '%s' cannot be written (%s); the cases themselves are complete.",
            project.folder,
            error.strerror,
        )
