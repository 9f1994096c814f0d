"""Where points come from: ``NAME.provenance.json`` beside a point list, and the last columns of a table.

A point list of Slicer has no place for it. Nothing of the patient is kept: scans are named by the file that the user
gave, by their content and by their geometry, and no path, tag of DICOM or name of a node is ever written. Lengths in a
picture that does not state how large its pixels are have the names ``..._px`` in place of ``..._mm``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.image_plane import LengthUnit, in_unit, length_unit
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet, ReviewState
from H3DELandmarksLib.core.text import plural
from H3DELandmarksLib.formats.case_record import CauseName, Sha256, StateName, Time, Token
from H3DELandmarksLib.formats.reading import (
    Finite,
    NotNegative,
    Positive,
    PositiveCount,
    Share,
    Text,
    read_record,
    to_json,
)
from H3DELandmarksLib.formats.results import MiscountedResult, RecognitionResult

EXTENSION = ".provenance.json"
Point = tuple[Finite, Finite, Finite]
By = Literal["program", "person"]


@dataclass(frozen=True, kw_only=True)
class ModelOrigin:
    """The model that proposed the points.

    Attributes:
        sha256: of everything that determines what it finds, see `models.package.package_digest`.
        confidence_within_mm: the confidence of a point is the probability that it lies within this distance of the
            right place.
        length_unit: of that distance: None for mm, "px" for models that read lengths as shares of a picture's height,
            see `Manifest.length_note`.
    """

    id: Text
    version: Text
    sha256: Sha256
    confidence_within_mm: Positive
    length_unit: Literal["px"] | None = None
    __lengths__ = "unit"

    @property
    def unit(self) -> LengthUnit:
        """Of the distance that confidences mean."""
        return self.length_unit or "mm"


@dataclass(frozen=True, kw_only=True)
class ScanOrigin:
    """The scan.

    Attributes:
        file: name of the file or folder as the user gave it, without its path; None where it had none.
        voxels_sha256: of shape and values, whatever format and axis order they were stored in; cases have the same.
        shape: voxels along the axes, in the order closest to L, P, S.
        spacing_mm: along the same axes.
    """

    file: str | None
    voxels_sha256: Sha256
    shape: tuple[PositiveCount, PositiveCount, PositiveCount]
    spacing_mm: tuple[Positive, Positive, Positive]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How the model was run.

    Attributes:
        device, backend, precision: what it ran on.
        landmarks: which were asked for; None for all.
        region: what the search was restricted to; None for the whole scan.
        spacing_mm: stated by the user in place of the file's.
        show_doubtful: whether points of a scan that was not recognised were asked for.
    """

    device: Text
    backend: Text
    precision: Text
    landmarks: tuple[Text, ...] | None = None
    region: Text | None = None
    spacing_mm: tuple[Positive, ...] | None = None
    show_doubtful: bool = False


@dataclass(frozen=True, kw_only=True)
class ExamplesOrigin:
    """The corrected cases that the points were proposed from, where no model knows them.

    Attributes:
        cases: their names.
        guide: ``id@version`` of the model whose own points led from them to the scan; None where none did.
        correlation: of the neighborhoods of the points in the scan and in the case that it is most like.
    """

    cases: tuple[Text, ...]
    guide: Text | None
    correlation: Finite

    @property
    def key(self) -> str:
        """In the place of a model's ``id@version``."""
        return f"examples@{len(self.cases)}"

    def line(self) -> str:
        """For people."""
        return f"from {plural(len(self.cases), 'example')}: {', '.join(self.cases)}"


@dataclass(frozen=True, kw_only=True)
class PointOrigin:
    """What is stated about a landmark, and by whom.

    Attributes:
        state: see `core.landmarks.ReviewState`.
        by: who states it; None where nobody does.
        cause: why nothing is known.
        position_lps_mm: where it lies.
        proposed_lps_mm: where the model saw it: a moved point was moved from there.
        moved_mm: how far.
        presence: probability that it is in the scan, as the model said.
        confidence: probability that the proposed position is right within the model's tolerance.
        radius90_mm: around the proposed position, holds the right place in 90 % of scans.
        networks_lps_mm: where the model's networks see a landmark whose proposed position is on the surface of bone
            near by; None for all others.
        revised_by: what has changed the model's proposal: the correction of the landmark of this name, or the remedy
            of a systematic error.
    """

    name: Text
    state: StateName
    by: By | None
    cause: CauseName | None = None
    position_lps_mm: Point | None = None
    proposed_lps_mm: Point | None = None
    moved_mm: NotNegative | None = None
    presence: Share | None = None
    confidence: Share | None = None
    radius90_mm: NotNegative | None = None
    revised_by: Text | None = None
    networks_lps_mm: Point | None = None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """``NAME.provenance.json``.

    Attributes:
        software: version of H3DELandmarks.
        time: when the points were found or the review was kept, UTC.
        model: None for points that a person placed from the beginning, or that come from examples.
        examples: None for points that do not.
        scan: None where only the points are known.
        settings, recognition, miscounted: of the run; None where no model ran, or cannot tell.
        points: in the order of the point list.
    """

    format: Literal["h3delandmarks-provenance"] = "h3delandmarks-provenance"
    format_version: Literal[1] = 1
    software: Token
    time: Time
    model: ModelOrigin | None
    scan: ScanOrigin | None
    settings: RunSettings | None = None
    recognition: RecognitionResult | None = None
    examples: ExamplesOrigin | None = None
    miscounted: MiscountedResult | None = None
    points: tuple[PointOrigin, ...] = ()
    __lengths__ = "unit"

    @property
    def unit(self) -> LengthUnit:
        """Of positions and radii."""
        is_stated = self.settings is not None and self.settings.spacing_mm is not None
        return length_unit(self.scan.shape, self.scan.spacing_mm, is_stated) if self.scan else "mm"

    def by_name(self) -> dict[str, PointOrigin]:
        """The points by name."""
        return {point.name: point for point in self.points}

    def cells(self) -> dict[str, str]:
        """What every row of a table says, by column; empty where it is not known."""
        model, scan, settings = self.model, self.scan, self.settings
        return {
            "model": f"{model.id}@{model.version}" if model else self.examples.key if self.examples else "",
            "model_sha256": model.sha256 if model else "",
            in_unit("confidence_within_mm", model.unit if model else "mm"): (
                f"{model.confidence_within_mm:g}" if model else ""
            ),
            "scan": (scan.file or "") if scan else "",
            "scan_sha256": scan.voxels_sha256 if scan else "",
            "time": self.time,
            "software": f"H3DELandmarks {self.software}",
            "device": " ".join((settings.device, settings.backend, settings.precision)) if settings else "",
        }

    def line(self) -> str:
        """One line for people, below a picture or with a node: everything but the points."""
        cells = self.cells()
        parts = [
            f"model {cells['model']} (SHA-256 {cells['model_sha256'][:12]})" if self.model else "",
            self.examples.line() if self.examples else "",
            f"scan SHA-256 {cells['scan_sha256'][:12]}" if self.scan else "",
            cells["time"],
            cells["software"],
            cells["device"],
        ]
        return ", ".join(part for part in parts if part)


def stated_by(state: ReviewState) -> By | None:
    """Who states what a state says; None where nobody does."""
    if state is ReviewState.UNKNOWN:
        return None
    return "person" if state.is_decided else "program"


def proposed_points(landmarks: LandmarkSet) -> tuple[PointOrigin, ...]:
    """What a model says of each landmark; nobody has looked at it."""
    return tuple(_proposed(landmarks, k) for k in range(len(landmarks)))


def _proposed(landmarks: LandmarkSet, k: int) -> PointOrigin:
    def stated(values: np.ndarray) -> float | None:
        return float(values[k]) if np.isfinite(values[k]) else None

    cause = landmarks.causes[k]
    if landmarks.unknown[k]:
        state = ReviewState(cause.statement.value) if cause else ReviewState.UNKNOWN
    else:
        state = ReviewState.PROPOSED if landmarks.present[k] else ReviewState.PROPOSED_ABSENT
    x, y, z = landmarks.positions[k].tolist()
    place = (x, y, z) if landmarks.present[k] else None
    return PointOrigin(
        name=landmarks.names[k],
        state=state.value,
        by=stated_by(state),
        cause=cause.value if cause else None,
        position_lps_mm=place,
        proposed_lps_mm=place,
        presence=stated(landmarks.presence),
        confidence=stated(landmarks.confidence),
        radius90_mm=stated(landmarks.radius),
        networks_lps_mm=None if np.isnan(landmarks.moved_mm[k]) else tuple(landmarks.networks[k].tolist()),
    )


def with_causes(landmarks: LandmarkSet, provenance: Provenance) -> LandmarkSet:
    """Landmarks of a point list with what their file has no place for: why nothing is known of some, and placements."""
    points = provenance.by_name()
    causes = (points[name].cause if name in points else None for name in landmarks.names)
    places = (points[name].networks_lps_mm if name in points else None for name in landmarks.names)
    return replace(
        landmarks,
        causes=tuple(Cause(cause) if cause else None for cause in causes),
        networks=np.array([place or (np.nan,) * 3 for place in places]),
    )


def written_points(provenance: Provenance) -> LandmarkSet:
    """Where the points lay when they were written, LPS mm; a person may have moved those of the point list since."""
    places = [point.position_lps_mm or (np.nan,) * 3 for point in provenance.points]
    return LandmarkSet(tuple(provenance.by_name()), np.array(places).reshape(-1, 3))


def write_provenance(path: Path, provenance: Provenance, durable: bool = True) -> None:
    """Write the file; one of that name is replaced only when the new one is complete.

    Args:
        path: of the file.
        provenance: what it says.
        durable: whether it is to survive a loss of power.
    """
    with atomic_write(path, durable=durable) as temporary:
        temporary.write_bytes(to_json(provenance))


def read_provenance(path: Path) -> Provenance:
    """Read the file.

    Raises:
        InputError: it is missing or damaged.
    """
    return read_record(Provenance, path, what="file of origins", advice="detect again")
