"""Corrected cases as examples for landmarks that no model knows yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from H3DELandmarksLib.cases.store import CaseProject, open_project, read_index
from H3DELandmarksLib.core.errors import InputError, OutputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet, ReviewState
from H3DELandmarksLib.core.resources import research_module
from H3DELandmarksLib.formats.case_record import GuideRecord
from H3DELandmarksLib.formats.reading import read_record, to_json
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksLib.io.markups import read_markups

log = logging.getLogger(__name__)
# In place of a model's id, where points come from examples: no model may have it.
EXAMPLES = "examples"
MOST = 5  # from so many on, a model learns from the cases
GUIDES = "guides"
# Who accepts many at once has looked at none: those would echo in the next proposals.
LOOKED_AT = (ReviewState.ACCEPTED, ReviewState.MOVED, ReviewState.PLACED, ReviewState.ABSENT)
WITH_POINT = {state.value for state in LOOKED_AT if state.has_position}


@dataclass(frozen=True)
class MarkedCase:
    """A scan with points that a person has decided on.

    Attributes:
        name: of the case.
        volume: gives the scan.
        landmarks: LPS mm; unknown wherever nobody has looked.
        guide: file of what a model has found in the scan; None where it cannot be kept.
    """

    name: str
    volume: Callable[[], Volume]
    landmarks: LandmarkSet
    guide: Path | None = None

    def known_guide(self) -> GuideRecord | None:
        """What was found before; None where nothing usable says so."""
        try:
            return read_record(GuideRecord, self.guide, what="file of guides", advice="") if self.guide else None
        except InputError:
            return None

    def keep_guide(self, record: GuideRecord) -> None:
        """Keep what was found; a folder that cannot be written to is no reason to stop."""
        if self.guide is None:
            return
        try:
            self.guide.parent.mkdir(exist_ok=True)
            with atomic_write(self.guide) as temporary:
                temporary.write_bytes(to_json(record))
        except (OSError, OutputError) as error:
            log.info("What guides is not kept: %s", error)


@dataclass(frozen=True)
class ExampleSet:
    """Which cases of a project serve as examples.

    Attributes:
        folder: of the project.
        scheme: its newest.
        cases: ids, the newest review first.
        is_2d: whether the newest is a radiograph.
    """

    folder: Path
    scheme: LandmarkScheme
    cases: tuple[str, ...]
    is_2d: bool

    id = EXAMPLES

    @property
    def version(self) -> str:
        """How many there are: what says with ``id`` where points come from."""
        return str(len(self.cases))

    @classmethod
    def of(cls, project: CaseProject) -> ExampleSet | None:
        """The newest cases with points that somebody has looked at, `MOST` at most; None where there is none."""
        usable = [case for case in read_index(project) if WITH_POINT & set(case.states)]
        newest = sorted(usable, key=lambda case: case.time, reverse=True)[:MOST]
        if not newest:
            return None
        return cls(project.folder, project.scheme, tuple(case.id for case in newest), 1 in newest[0].shape)


def marked_cases(folder: Path, chosen: Sequence[str] | None = None) -> list[MarkedCase]:
    """The examples in a project of cases, or in a folder of scans that each have a point list of the same name.

    Args:
        folder: the project, or the folder.
        chosen: names of the cases to take; by default the newest of a project, and all of a folder.

    Raises:
        InputError: there is none, or one that is chosen is not there.
        MissingDependencyError: such a folder needs the research package, which is not installed.
    """
    if (folder / "schemes").is_dir():
        return list(_of_project(open_project(folder), chosen))
    folders = research_module("cases.case_folder", "A folder of scans and point lists as examples")
    names = folders.case_names(folder)
    for name in chosen or ():
        if name not in names:
            raise InputError(f"'{folder}' has no case '{name}': choose among {', '.join(names)}.")
    scans = {name: folders.scan_of_case(folder, name) for name in chosen or names}
    return [
        MarkedCase(name, partial(read_volume, scan), read_markups(folders.points_of_case(folder, name)))
        for name, scan in scans.items()
    ]


def _of_project(project: CaseProject, chosen: Sequence[str] | None) -> Iterator[MarkedCase]:
    found = ExampleSet.of(project)
    if not chosen and found is None:
        raise InputError(
            f"'{project.folder}' holds no case with a point that somebody has looked at: correct one case first."
        )
    for case_id in dict.fromkeys(chosen or found.cases):  # type: ignore[union-attr]
        case = project.case(case_id)
        revision = project.review(case)
        looked_at = tuple(p for p in revision.landmarks if p.state in LOOKED_AT)
        landmarks = replace(revision, landmarks=looked_at).corrected(project.scheme)
        yield MarkedCase(case_id, case.volume, landmarks, project.folder / GUIDES / f"{case_id}.json")
