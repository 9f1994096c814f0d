"""``export.json``: what lies in an exported folder, where it comes from and who has touched which point.

It holds no names, paths or dates of scans. The digests of the files tell whether anybody has changed them since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from H3DELandmarksLib.core.image_plane import LengthUnit, length_unit
from H3DELandmarksLib.core.landmarks import ReviewState
from H3DELandmarksLib.formats.case_record import LandmarkName, Sha256, Time
from H3DELandmarksLib.formats.reading import Finite, FormatError, Limits, PositiveCount, Text, build, parse_json

EXPORT = "export.json"
Coordinates = Literal["LPS", "RAS", "voxels"]
FORMAT: Literal["h3delandmarks-export"] = "h3delandmarks-export"


@dataclass(frozen=True)
class ExportedLandmark:
    """A landmark of an exported case.

    Attributes:
        name: of the scheme.
        state: as in reviews; "found" or "absent" for what a program said and no review is known of.
        by: who decided that; None where nobody has.
    """

    name: LandmarkName
    state: Text
    by: Literal["person", "program"] | None

    @classmethod
    def reviewed(cls, name: str, state: ReviewState) -> ExportedLandmark:
        """A landmark of a review."""
        if state is ReviewState.UNKNOWN:
            return cls(name, state.value, None)
        return cls(name, state.value, "person" if state.is_decided else "program")


@dataclass(frozen=True)
class ExportedCase:
    """An exported case.

    Attributes:
        id: names its files and rows.
        landmarks: in the order of the scheme.
        scan_sha256: of the values of the scan; None where the scan is not known.
        shape, spacing_mm: (3,) of the scan.
        model: that proposed the points, as id@version.
        revision, reviewed: number and time, UTC, of the review.
        software: version that kept the review.
        length_unit: of the positions: None for mm, "px" where the picture does not state how large its pixels are.
    """

    id: Text
    landmarks: tuple[ExportedLandmark, ...]
    scan_sha256: Sha256 | None = None
    shape: tuple[PositiveCount, PositiveCount, PositiveCount] | None = None
    spacing_mm: tuple[Finite, Finite, Finite] | None = None
    model: str | None = None
    revision: PositiveCount | None = None
    reviewed: Time | None = None
    software: str | None = None
    length_unit: Literal["px"] | None = None

    @classmethod
    def unit_of(cls, shape: Sequence[int], spacing: Sequence[float] | np.ndarray) -> Literal["px"] | None:
        """`length_unit` of points in a scan."""
        return "px" if length_unit(shape, spacing) == "px" else None

    @property
    def unit(self) -> LengthUnit:
        """Of the positions."""
        return self.length_unit or "mm"


@dataclass(frozen=True)
class ExportRecord:
    """The whole file.

    Attributes:
        software: version that exported.
        time: UTC.
        form: of the files.
        coordinates: of the positions: LPS or RAS mm, or voxels of the exported scans.
        absent: how the files tell that a landmark is absent, or that nobody has decided about it.
        scheme: id@version of the landmarks; None where they follow none.
        cases: that were exported.
        skipped: reasons by id of cases that could not be exported.
        files: SHA-256 by path in the folder.
    """

    software: Text
    time: Time
    form: Text
    coordinates: Coordinates
    absent: str
    scheme: str | None
    cases: tuple[ExportedCase, ...]
    skipped: dict[str, str]
    files: dict[str, Sha256]
    format: Annotated[str, Limits(pattern=f"^{FORMAT}$")] = FORMAT
    format_version: Literal[1] = 1


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder but the record, by path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / EXPORT)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(2**20), b""):
            digest.update(part)
    return digest.hexdigest()


def recorded_bytes(folder: Path) -> bytes | None:
    """The record of an exported folder as it was written; None where the folder is none."""
    try:
        return (folder / EXPORT).read_bytes()
    except OSError:
        return None


def is_incomplete(folder: Path) -> bool:
    """Whether an export had to leave out cases, and nobody has changed it since."""
    content = recorded_bytes(folder)
    try:
        record = None if content is None else build(ExportRecord, parse_json(content))
        return record is not None and bool(record.skipped) and record.files == digests(folder)
    except (FormatError, OSError):
        return False
