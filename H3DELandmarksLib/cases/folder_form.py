"""Cases as plain files: a scan and a point list (.mrk.json) of the same name; what a model proposed in ``proposed``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from H3DELandmarksLib.cases.exchange import ForeignCase, OutgoingCase
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.io.case_folder import POINTS_SUFFIX, case_names, read_case
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups

PROPOSED = "proposed"


def sources(folder: Path, scheme: LandmarkScheme) -> Sequence[ForeignCase]:
    """The cases of a folder."""
    return [ForeignCase(name, partial(_read, folder, name)) for name in case_names(folder)]


def write(cases: Iterable[OutgoingCase], scheme: LandmarkScheme, target: Path) -> None:
    """Write cases; points that nobody has decided about are undefined."""
    for case in cases:
        write_volume(target / f"{case.id}.nrrd", case.read())
        write_markups(target / f"{case.id}{POINTS_SUFFIX}", case.corrected)
        if not case.proposed.unknown.all():
            (target / PROPOSED).mkdir(exist_ok=True)
            write_markups(target / PROPOSED / f"{case.id}{POINTS_SUFFIX}", case.proposed)


def _read(folder: Path, name: str) -> tuple[Volume, LandmarkSet, LandmarkSet | None]:
    points = read_markups(folder / f"{name}{POINTS_SUFFIX}")
    beside = folder / PROPOSED / f"{name}{POINTS_SUFFIX}"
    volume, _ = read_case(folder, name, points.names)
    return volume, points, read_markups(beside) if beside.is_file() else None
