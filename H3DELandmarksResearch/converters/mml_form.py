"""Cases in the form of the MML set: 14 points of lower molars in voxels; see `converters.mml` for what is known of it.

The form has no place for directions, so that a scan is written with its axes closest to L, P, S, and it cannot tell
absent landmarks from those that nobody has decided about: both are -1000.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from H3DELandmarksLib.cases.export import OutgoingCase
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.export import Coordinates
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksResearch.cases.exchange import ExternalCase
from H3DELandmarksResearch.cases.exchange import sources as folder_sources
from H3DELandmarksResearch.converters.mml import LABEL, SPACING, VOLUME, convert
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME

MISSING = -1000.0
SKEWED = 1e-3  # cosine between axes


def sources(folder: Path, scheme: LandmarkScheme) -> Sequence[ExternalCase]:
    """The cases of an MML folder, converted as ``convert mml`` does."""
    _check_names(scheme.names)
    aside = tempfile.TemporaryDirectory(prefix="h3de-mml-")
    convert(folder, Path(aside.name), {"axes": "auto"}, lambda fraction, name: None)
    cases = folder_sources(Path(aside.name), scheme)
    return [ExternalCase(case.name, partial(_read, case, aside)) for case in cases]


class Writer:
    """Writes cases into the folder ``train``."""

    coordinates: ClassVar[Coordinates] = "voxels"
    absent: ClassVar[str] = f"{MISSING:g} in all coordinates; undecided: the same"

    def __init__(self, names: Sequence[str], target: Path, is_ras: bool = False) -> None:
        """Make the folder; raises InputError where the landmarks are not those of the molars."""
        _check_names(names)
        self.folder = target / "train"
        self.folder.mkdir()

    def add(self, case: OutgoingCase) -> None:
        """Write scan, points and spacing; raises InputError for a sheared scan."""
        volume = canonical(case.read())
        axes = volume.affine[:3, :3] / volume.spacing
        if np.abs(axes.T @ axes - np.eye(3)).max() > SKEWED:
            raise InputError(f"The scan of '{case.id}' is sheared, which MML cannot express: choose another form.")
        points = volume.grid.ijk_from_lps(case.corrected.ordered_as(MOLAR_SCHEME.names).positions)
        write_volume(self.folder / f"{case.id}{VOLUME}", volume)
        _save(self.folder / f"{case.id}{LABEL}", np.where(np.isfinite(points), points, MISSING))
        _save(self.folder / f"{case.id}{SPACING}", volume.spacing)

    def close(self) -> None:
        """Nothing belongs to all cases."""


def _read(case: ExternalCase, keeps_folder: tempfile.TemporaryDirectory) -> tuple[Volume, LandmarkSet, None]:
    """Read a converted case; absent means unknown here. The folder lives as long as its cases."""
    volume, points, _ = case.read()
    present = points.present
    return volume, LandmarkSet(points.names, points.positions, np.where(present, 1.0, np.nan)), None


def _check_names(names: Sequence[str]) -> None:
    if set(names) != set(MOLAR_SCHEME.names):
        raise InputError(
            f"MML has {len(MOLAR_SCHEME)} points of the lower molars, which these landmarks are not: choose another "
            "form."
        )


def _save(path: Path, values: np.ndarray) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
