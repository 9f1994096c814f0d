"""Where the results of detection go: names that cannot collide, and nothing overwritten that a person made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.research import research_module
from H3DELandmarksLib.formats.provenance import EXTENSION as PROVENANCE_EXTENSION
from H3DELandmarksLib.formats.provenance import Provenance, write_provenance
from H3DELandmarksLib.io.images import READABLE_EXTENSIONS
from H3DELandmarksLib.io.markups import EXTENSION, read_markups, write_markups
from H3DELandmarksLib.io.tables import DECIMALS, read_table_positions, write_table


@dataclass(frozen=True)
class ResultFiles:
    """The files that belong to one scan.

    Attributes:
        scan: the scan's path as the user gave it.
        folder: where results go.
        name: file name of the results, without extension.
    """

    scan: Path
    folder: Path
    name: str

    @property
    def markups(self) -> Path:
        """The point list."""
        return self.folder / f"{self.name}{EXTENSION}"

    @property
    def table(self) -> Path:
        """The table."""
        return self.folder / f"{self.name}.csv"

    @property
    def provenance(self) -> Path:
        """Where the points come from."""
        return self.folder / f"{self.name}{PROVENANCE_EXTENSION}"

    @property
    def picture(self) -> Path:
        """The picture."""
        return self.folder / f"{self.name}.png"

    def check_replaceable(self, overwrite: bool = False, picture: bool = False) -> None:
        """Refuse to replace the scan itself, or what a person has made: points that were placed or moved since they
        were detected, and images, of which another radiograph may be one.

        Args:
            overwrite: whether such points may be replaced all the same.
            picture: whether a picture will be drawn.

        Raises:
            InputError: what stands in the way and what to do.
        """
        for path in (self.markups, self.table, self.provenance, self.picture):
            if path.exists() and path.resolve() == self.scan.resolve():
                raise InputError(f"The result '{path}' would replace the scan itself: choose another output folder.")
        if picture and self.picture.exists() and not _drawing().is_drawing(self.picture):
            raise InputError(
                f"The image '{self.picture}' was not drawn by detection and is kept: choose another output folder."
            )
        if self.markups.exists() and not overwrite and not self._is_as_detected():
            raise InputError(
                f"'{self.markups}' was not written by detection, or was edited since, and is kept: "
                "choose another output folder, or move that file."
            )

    def _is_as_detected(self) -> bool:
        """Whether the point list still says what the table beside it says."""
        try:
            markups, table = read_markups(self.markups), read_table_positions(self.table)
        except InputError:
            return False
        if list(table) != list(markups.names):
            return False
        rounding = 0.51 * 10.0**-DECIMALS
        return np.allclose(list(table.values()), markups.positions, rtol=0, atol=rounding, equal_nan=True)

    def write(self, landmarks: LandmarkSet, origin: Provenance) -> None:
        """Write the point list, the table and where they come from, each replaced only when complete."""
        write_table(self.table, landmarks, origin)
        write_provenance(self.provenance, origin)
        write_markups(self.markups, landmarks)

    def draw(
        self, volume: Volume, landmarks: LandmarkSet, origin: Provenance, reference: LandmarkSet | None = None
    ) -> None:
        """Draw the picture."""
        cells = origin.cells()
        title, remark = f"{self.name}: {cells['model']}", origin.line()
        _drawing().draw_detection(volume, landmarks, self.picture, reference=reference, title=title, origin=remark)


def make_folder(folder: Path) -> Path:
    """Create an output folder, or take an existing one that can be written to.

    Raises:
        InputError: it is a file or cannot be written to.
    """
    probe = folder / ".h3de-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"Results cannot be written to '{folder}' ({reason}): choose another folder.") from error
    return folder


def plan_results(scans: Sequence[str | Path], folder: Path) -> list[ResultFiles]:
    """Result files of several scans; a scan that is given twice is served once.

    Scans of the same name are told apart by the folders they lie in (``a/ct.nrrd`` and ``b/ct.nrrd`` give ``a_ct`` and
    ``b_ct``), in one folder by their extensions (``ct.nii`` and ``ct.nrrd`` give ``ct_nii`` and ``ct_nrrd``).
    """
    unique = list({Path(scan).resolve(): Path(scan) for scan in scans}.values())
    return [ResultFiles(scan, folder, name) for scan, name in zip(unique, _unique_names(unique))]


def scan_name(scan: Path) -> str:
    """A scan's name without the extension of its format; folders and unknown extensions keep theirs."""
    name = scan.resolve().name
    lower = name.lower()
    suffix = max((e for e in READABLE_EXTENSIONS if lower.endswith(e)), key=len, default="")
    return name if scan.is_dir() or lower == suffix else name[: len(name) - len(suffix)]


def _unique_names(scans: Sequence[Path]) -> list[str]:
    """Names that differ even where a file system ignores case."""
    scans = [scan.resolve() for scan in scans]
    places = Counter((scan.parent, scan_name(scan).casefold()) for scan in scans)
    bases = [
        scan_name(scan) if places[scan.parent, scan_name(scan).casefold()] == 1 else scan.name.replace(".", "_")
        for scan in scans
    ]
    parents = [[part for part in scan.parent.parts if part != scan.anchor] for scan in scans]
    depths = [0] * len(scans)
    while True:
        names = ["_".join([*p[len(p) - d :], base]) for base, p, d in zip(bases, parents, depths)]
        counts = Counter(name.casefold() for name in names)
        deeper = [
            d + 1 if counts[name.casefold()] > 1 and d < len(p) else d for name, p, d in zip(names, parents, depths)
        ]
        if deeper == depths:
            return _numbered(names)
        depths = deeper


def _numbered(names: Sequence[str]) -> list[str]:
    """The same names, with a number added from the second use on."""
    used: set[str] = set()
    result = []
    for name in names:
        number, candidate = 1, name
        while candidate.casefold() in used:
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate.casefold())
        result.append(candidate)
    return result


def _drawing() -> ModuleType:
    return research_module("figures.detection", "A picture of the result")
