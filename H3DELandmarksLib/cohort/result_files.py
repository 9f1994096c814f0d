"""Where the results of detection go: names that cannot collide, and nothing overwritten that a person made.

The files of a scan change together (`result_commit`). The point list carries a stamp with the digests of all: files
that it does not name were not written by detection, or were changed since.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.cohort.result_commit import FOLLOWING, PICTURE, Preparation
from H3DELandmarksLib.core.errors import InputError, OutputError
from H3DELandmarksLib.core.files import LONGEST_NAME, reason_of, shown, temporary_name
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.resources import research_module
from H3DELandmarksLib.core.text import name_key, numbered
from H3DELandmarksLib.formats.export import sha256_of
from H3DELandmarksLib.formats.provenance import EXTENSION as PROVENANCE_EXTENSION
from H3DELandmarksLib.formats.provenance import Provenance, write_provenance
from H3DELandmarksLib.formats.results import MeasurementResult
from H3DELandmarksLib.io.images import without_ending
from H3DELandmarksLib.io.markups import EXTENSION, read_stamp, write_markups

MEASUREMENTS_EXTENSION = ".measured.csv"
SCAN, MODEL = "scan", "model"  # entries of the stamp, beside the digests
HASHED_VOXELS = 2**19  # a moment
_taking_places = threading.Lock()


@dataclass(frozen=True)
class ResultFiles:
    """The files that belong to one scan.

    Attributes:
        scan: the scan's path as the user gave it.
        folder: where results go.
        name: file name of the results, without extension.
        root: folder of the results of all scans, where those of this one lie deeper.
    """

    scan: Path
    folder: Path
    name: str
    root: Path | None = None

    @property
    def folder_of_all(self) -> Path:
        """Folder of the results of all scans."""
        return self.root or self.folder

    @property
    def relative_name(self) -> str:
        """The name with the folders below that of all results."""
        return (self.folder.relative_to(self.folder_of_all) / self.name).as_posix()

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

    @property
    def measurements(self) -> Path:
        """What was measured on the points."""
        return self.folder / f"{self.name}{MEASUREMENTS_EXTENSION}"

    @property
    def others(self) -> tuple[Path, ...]:
        """The files beside the point list, in the order of `FOLLOWING`."""
        return self.table, self.provenance, self.picture, self.measurements

    def check_replaceable(self, overwrite: bool = False, picture: bool = False) -> None:
        """Refuse to replace the scan itself, and what detection did not write or a person has changed since.

        What a killed program has left of these results is completed or taken back first.

        Args:
            overwrite: whether such files may be replaced all the same.
            picture: whether a picture will be drawn.

        Raises:
            InputError: what stands in the way and what to do.
        """
        self._check_names()
        Preparation.recover(self)
        self._check_replaceable(overwrite, picture)

    def _check_replaceable(self, overwrite: bool, picture: bool) -> None:
        stamp = self._stamp()
        for path, is_own in (
            (self.markups, stamp is not None),
            *((path, self._is_own(path, entry, stamp)) for path, entry in zip(self.others, FOLLOWING)),
        ):
            if not os.path.lexists(path):
                continue
            if path.exists() and self.scan.exists() and os.path.samefile(path, self.scan):
                raise InputError(
                    f"The result '{shown(path)}' would replace the scan itself: choose another output folder."
                )
            if path.is_dir():
                raise InputError(f"'{shown(path)}' is a folder: choose another output folder.")
            if not (is_own or overwrite) and (picture or path != self.picture):
                raise InputError(
                    f"'{shown(path)}' was not written by detection, or was edited since, and is kept: add --overwrite "
                    "to replace it, or choose another output folder."
                )

    def check_same_scan(self, found: str, overwrite: bool = False) -> None:
        """Refuse to replace the results of another scan of the same name.

        Args:
            found: `fingerprint` of this scan.
            overwrite: whether they may be replaced all the same.

        Raises:
            InputError: the results that are there are of another scan.
        """
        stamp = self._stamp()
        if stamp is not None and stamp.get(SCAN, found) != found and not overwrite:
            raise InputError(
                f"'{shown(self.markups)}' is the result of another scan and is kept: choose another output folder, or "
                "add --overwrite to replace it."
            )

    def write(
        self,
        landmarks: LandmarkSet,
        origin: Mapping[str, str] | None = None,
        draw: Callable[[Path], None] | None = None,
        overwrite: bool = False,
        provenance: Provenance | None = None,
        measurements: Sequence[MeasurementResult] = (),
    ) -> None:
        """Write point list, table, provenance, picture and measurements; all take the place of older ones, or none.

        Where the picture cannot be drawn, the others are written all the same, and the error is raised then.

        Args:
            landmarks: what was found, LPS mm.
            origin: what the point list shall say beside: fingerprint of the scan (`SCAN`), and the model (`MODEL`).
            draw: writes the picture to a path.
            overwrite: as for `check_replaceable`, which is asked again, as is `check_same_scan`: somebody may have
                changed a file meanwhile, or written the results of another scan.
            provenance: where the landmarks come from.
            measurements: on the landmarks; without any there is no table of them.

        Raises:
            OutputError: they cannot be written.
            InputError: as for `check_replaceable` and `check_same_scan`.
        """
        told = origin or {}
        with Preparation(self) as prepared:
            not_drawn = prepared.fill(landmarks, told, draw, provenance, measurements)
            is_drawn = draw is not None and not_drawn is None
            with _taking_places:
                self._check_replaceable(overwrite, is_drawn)
                if SCAN in told:
                    self.check_same_scan(told[SCAN], overwrite)
                prepared.take_place(self._own(overwrite, is_drawn))
        if isinstance(not_drawn, OSError):
            reason = reason_of(not_drawn)
            raise OutputError(
                f"'{shown(self.picture)}' cannot be written: {reason}; point list and table are complete.", not_drawn
            ) from not_drawn
        if not_drawn is not None:
            raise not_drawn

    def _check_names(self) -> None:
        """Refuse names that no file can have."""
        if shown(self.markups) != str(self.markups):
            raise InputError(f"The name '{shown(self.markups)}' is not UTF-8: rename the file or folder.")
        if len(os.fsencode(self.provenance.name)) > LONGEST_NAME:  # the longest of all
            raise InputError(f"The name '{self.name}' is too long for results to be named after it: rename the scan.")

    def _stamp(self) -> dict[str, str] | None:
        return read_stamp(self.markups) if self.markups.is_file() else None

    def _is_own(self, path: Path, entry: str, stamp: dict[str, str] | None) -> bool:
        if stamp is None or not path.is_file():
            return False
        try:
            return sha256_of(path) == stamp.get(entry)
        except OSError:
            return False

    def _own(self, overwrite: bool, picture: bool) -> list[Path]:
        """The older files, as far as they may go: a picture that shows older points goes with them."""
        stamp = self._stamp()
        going = [path for path in (self.table, self.provenance, self.measurements) if os.path.lexists(path)]
        if os.path.lexists(self.picture) and (self._is_own(self.picture, PICTURE, stamp) or (overwrite and picture)):
            going.append(self.picture)
        return going

    def hand_over(self, landmarks: LandmarkSet, provenance: Provenance) -> None:
        """Write point list and provenance alone, for a program that reads them at once and removes them."""
        write_markups(self.markups, landmarks, durable=False)
        write_provenance(self.provenance, provenance, durable=False)


def fingerprint(volume: Volume) -> str:
    """SHA-256 of a part of a scan that no other scan has in common; the same for copies in other forms."""
    ordered = canonical(volume)
    step = math.ceil((ordered.array.size / HASHED_VOXELS) ** (1 / 3))
    part = content_of(Volume(ordered.array[::step, ::step, ::step], ordered.affine))
    return hashlib.sha256(f"{ordered.array.shape} {part.digest}".encode()).hexdigest()


def make_folder(folder: Path) -> Path:
    """Create an output folder, or take an existing one that can be written to.

    Raises:
        InputError: it is a file or cannot be written to.
    """
    if shown(folder) != str(folder):
        raise InputError(f"The name '{shown(folder)}' is not UTF-8: choose another folder for the results.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / temporary_name("probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"Results cannot be written to '{folder}': {reason_of(error)}.") from error
    return folder


def plan_results(scans: Sequence[str | Path], folder: Path) -> list[ResultFiles]:
    """Result files of several scans; a scan that is given twice is served once.

    They are named after what the user gave, and not after what a link leads to. Scans of the same name are told apart
    by the folders they lie in (``a/ct.nrrd`` and ``b/ct.nrrd`` give ``a_ct`` and ``b_ct``), in one folder by their
    extensions (``ct.nii`` and ``ct.nrrd`` give ``ct_nii`` and ``ct_nrrd``), and by number where neither differs but in
    case or the form of accents.
    """
    unique = list({_place(Path(scan)): Path(scan) for scan in scans}.values())
    return [ResultFiles(scan, folder, name) for scan, name in zip(unique, _unique_names(unique))]


def scan_name(scan: Path) -> str:
    """A scan's name without the extension of its format; folders and unknown extensions keep theirs."""
    name = _place(scan).name
    return name if os.path.isdir(scan) else without_ending(name)


def _place(scan: Path) -> Path:
    """Where a scan lies, through the links that the user named."""
    return Path(os.path.abspath(scan))


def _unique_names(scans: Sequence[Path]) -> list[str]:
    """Names that differ even where a file system ignores case; folders stand in them where these tell scans apart."""
    scans = [_place(scan) for scan in scans]
    places = Counter((scan.parent, name_key(scan_name(scan))) for scan in scans)
    bases = [
        scan_name(scan) if places[scan.parent, name_key(scan_name(scan))] == 1 else scan.name.replace(".", "_")
        for scan in scans
    ]
    parents = [[part for part in scan.parent.parts if part != scan.anchor] for scan in scans]
    depths = [0] * len(scans)
    while True:
        names = ["_".join([*p[len(p) - d :], base]) for base, p, d in zip(bases, parents, depths)]
        above: dict[str, set[tuple[str, ...]]] = defaultdict(set)  # folders that could tell scans of a name apart
        for name, p, d in zip(names, parents, depths):
            above[name_key(name)].add(tuple(p[: len(p) - d]))
        deeper = [
            d + 1 if len(above[name_key(name)]) > 1 and d < len(p) else d for name, p, d in zip(names, parents, depths)
        ]
        if deeper == depths:
            return numbered(names)
        depths = deeper


def drawing() -> ModuleType:
    """The module that draws results; raises MissingDependencyError where it is not installed."""
    return research_module("figures.detection", "A picture of the result")
