"""What is found in one scan, and all that its results say; done in this program or on another machine."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from H3DELandmarksLib.cohort.detectors import load_detector
from H3DELandmarksLib.cohort.origin import describe, describe_count, provenance_of, run_settings
from H3DELandmarksLib.cohort.result_files import drawing, fingerprint
from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress, part_of
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import LengthUnit, length_unit
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.region import Region, region_around
from H3DELandmarksLib.formats.case_record import ModelName
from H3DELandmarksLib.formats.provenance import Provenance, RunSettings
from H3DELandmarksLib.formats.results import MeasurementResult, MiscountedResult, RecognitionResult

if TYPE_CHECKING:
    from H3DELandmarksLib.detection import Detector
    from H3DELandmarksLib.detection.predictions import Detection
    from H3DELandmarksLib.models import ModelPackage

logger = logging.getLogger(__name__)
SEARCH_SHARE = 0.5  # of the work, where another model finds first where to search
PIXELS = "; lengths are pixels, since the picture does not state how large these are"
Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Search:
    """How scans are searched; holds nothing of any scan.

    Attributes:
        model: id, id@version or path.
        landmarks: names to report; None for all of the model.
        region: box to search, LPS mm.
        around, around_points, margin_mm: model whose points say where to search, which of them, and how far around.
        spacing: stated by the user, as for `io.images.read_volume`.
        show_doubtful: whether points are wanted where the scan is not recognised.
        picture: whether the result is drawn.
        ask_others: whether other models look at a scan in which this one sees nothing.
        decided: points of all landmarks that a person has decided, LPS mm; only crops around where these place the
            anatomy are searched then, for a second look.
        device, backend, precision: as for `Detector`.
    """

    model: str
    landmarks: tuple[str, ...] | None = None
    region: Region | None = None
    around: str | None = None
    around_points: tuple[str, ...] | None = None
    margin_mm: float = 20.0
    spacing: tuple[float, ...] | None = None
    show_doubtful: bool = False
    picture: bool = False
    ask_others: bool = True
    decided: LandmarkSet | None = None
    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class Detectors:
    """The loaded models of a `Search`."""

    main: Detector
    region: Detector | None

    @classmethod
    def load(cls, search: Search) -> Detectors:
        """Load them.

        Raises:
            ModelPackageError: one is not there or damaged.
            InputError: one has not the landmarks that are asked for.
        """
        how = (search.device, search.backend, search.precision)
        main = load_detector(search.model, *how, landmarks=search.landmarks or ())
        around = load_detector(search.around, *how, landmarks=search.around_points or ()) if search.around else None
        return cls(main, around)

    @property
    def scans_at_once(self) -> int | None:
        """How many scans they may look at at the same time; None for any number."""
        engine = self.main.engine
        return 1 if engine.backend == "openvino" or engine.device.type != "cpu" else None


@dataclass(frozen=True)
class Finding:
    """What was found in a scan.

    Attributes:
        landmarks: all of the model, LPS mm.
        origin: where they come from; the scan's name is left open.
        fingerprint: of the scan, see `result_files.fingerprint`.
        recognition: of the scan.
        miscounted: how likely its structures are counted one off.
        others: models that recognise it where this one does not.
        summary: what people should know first, without a full stop.
        measurements: on the landmarks that were asked for, where their scheme defines any.
        unit: of positions and radii, see `ScanResult`.
        picture: PNG, or why there is none; None where none was asked for.
        candidates: all places where the landmarks may lie; None where the model's decoder gives none.
    """

    landmarks: LandmarkSet
    origin: Provenance
    fingerprint: str
    recognition: RecognitionResult | None
    miscounted: MiscountedResult | None
    others: tuple[ModelName, ...]
    summary: str
    measurements: tuple[MeasurementResult, ...] = ()
    unit: LengthUnit = "mm"
    picture: bytes | Exception | None = None
    candidates: Candidates | None = None

    def doubt(self, names: Sequence[str] | None) -> float | None:
        """How likely anything that was asked for is said wrongly, see `CohortScan`."""
        if self.recognition is not None and not self.recognition.recognised:
            return 1.0
        known = [doubt for doubt in asked_for(self.landmarks, names).doubts.tolist() if math.isfinite(doubt)]
        return max(known, default=None)

    def named(self, file: str) -> Finding:
        """The same, of a scan of that name."""
        assert self.origin.scan is not None
        return replace(self, origin=replace(self.origin, scan=replace(self.origin.scan, file=file)))


def examine(
    detectors: Detectors,
    volume: Volume,
    search: Search,
    progress: Progress,
    cancelled: Cancelled | None = None,
    modality: Callable[[], str] = str,
    title: str = "",
) -> Finding:
    """Find the landmarks of a scan.

    Args:
        detectors: of the search.
        volume: the scan.
        search: what is wanted.
        progress: receives the fraction done and what is being done.
        cancelled: asked between steps; True ends the work.
        modality: gives DICOM's code, where it is known.
        title: of the picture.

    Raises:
        Cancelled: `cancelled` said so.
        InputError: the model reads scans of another kind, or the region lies outside the scan.
    """
    detector = detectors.main
    landmarks, examined, is_part = _landmarks(detectors, volume, search, progress, cancelled)
    recognition, miscounted = examined.recognition, examined.miscounted
    settings = _settings(detectors, search, is_part)
    origin = provenance_of(detector, volume, None, landmarks, recognition, settings, miscounted)
    wanted = asked_for(landmarks, search.landmarks)
    unit = length_unit(volume.array.shape, volume.grid.spacing, is_stated=search.spacing is not None)
    pixels = unit == "px"
    picture = _draw(volume, landmarks, search, origin, title) if search.picture else None
    is_seen = landmarks.present.any() if recognition is None else recognition.recognised
    others = [] if is_seen or not search.ask_others else _other_models(detector, volume, search, progress, modality)
    return Finding(
        landmarks,
        origin,
        fingerprint(volume),
        recognition,
        miscounted,
        tuple(ModelName(package.id, package.version) for package in others),
        _summary(wanted, examined, detector, [package.manifest.title for package in others]) + PIXELS * pixels,
        measured_on(detector, wanted, volume, pixels),
        unit,
        picture,
        examined.candidates,
    )


def _landmarks(
    detectors: Detectors, volume: Volume, search: Search, progress: Progress, cancelled: Cancelled | None
) -> tuple[LandmarkSet, Detection, bool]:
    """All landmarks of the model, as far as asked for, what is said of the scan, and whether a part was searched."""
    if search.decided is not None:
        return *_second_look(detectors.main, volume, search.decided, cancelled), False
    part = search.region.crop(volume) if search.region else volume
    if detectors.region:
        begun = part_of(progress, 0.0, SEARCH_SHARE)
        part = _found_part(detectors.region, volume, search, begun, cancelled)
        progress = part_of(progress, SEARCH_SHARE, 1 - SEARCH_SHARE)
    beyond = Cause.OUTSIDE_SCAN if part is volume else Cause.OUTSIDE_REGION
    examined = detectors.main.examine(part, progress=progress, cancelled=cancelled, beyond=beyond)
    landmarks = examined.on_request if search.show_doubtful else examined.landmarks
    if examined.expected is not None:
        landmarks = _beyond_the_scan(landmarks, ~volume.grid.contains(examined.expected))
    if search.region:
        landmarks = search.region.limit(landmarks, examined.expected)
    wanted = search.landmarks or landmarks.names
    others = [name not in wanted for name in landmarks.names]
    return landmarks.unknown_where(others, Cause.NOT_ASKED_FOR), examined, part is not volume


def _beyond_the_scan(landmarks: LandmarkSet, beyond: np.ndarray) -> LandmarkSet:
    """The same set; landmarks outside the region that are expected beyond the whole scan lie outside of that."""
    causes = (
        Cause.OUTSIDE_SCAN if cause is Cause.OUTSIDE_REGION and is_beyond else cause
        for cause, is_beyond in zip(landmarks.causes, beyond)
    )
    return replace(landmarks, causes=tuple(causes))


def _second_look(
    detector: Detector, volume: Volume, decided: LandmarkSet, cancelled: Cancelled | None
) -> tuple[LandmarkSet, Detection]:
    """What closer stages see around where decided points place the anatomy; of other landmarks nothing is known."""
    from H3DELandmarksLib.core.revision import Decisions
    from H3DELandmarksLib.detection.second_look import look_again

    points = decided.ordered_as(detector.scheme.names)
    absent = (points.presence < 0.5) & ~points.unknown
    decisions = Decisions(points.positions, np.zeros(len(points), dtype=bool), absent)
    seen = look_again(detector, volume, None, decisions, cancelled)
    unseen = ~np.isfinite(seen.doubtful.positions).all(axis=1)
    return seen.doubtful.unknown_where(unseen, Cause.NOT_ASKED_FOR), seen


def _found_part(
    detector: Detector, volume: Volume, search: Search, progress: Progress, cancelled: Cancelled | None
) -> Volume:
    """The part of a scan around the places where a model sees or expects its points; else the whole, with a warning."""
    places = detector.likely_places(volume, progress, cancelled)
    if places is not None:
        wanted = places.ordered_as(search.around_points or places.names)
        try:
            region = region_around(wanted, search.margin_mm, fewest=1)
            return volume if region is None else region.crop(volume)
        except InputError:
            logger.info("All places lie beyond the scan.")
    logger.warning("The model '%s' finds too few points here: the whole scan is searched.", detector.package.id)
    return volume


def measured_on(
    detector: Detector, landmarks: LandmarkSet, volume: Volume, pixels: bool
) -> tuple[MeasurementResult, ...]:
    """What the model's scheme measures on its landmarks, LPS mm; nothing where it defines nothing.

    Lengths in a picture whose pixels nobody has measured are told in pixels.
    """
    from H3DELandmarksLib.evaluation.measures import measure
    from H3DELandmarksLib.formats.measurements import measurements_of

    definitions = measurements_of(detector.scheme)
    if definitions is None:
        return ()
    middle = volume.grid.center if detector.is_2d else None
    return measure(
        landmarks, definitions, flat=detector.is_2d, middle=middle, pixels=pixels, reaches=detector.calibration.reaches
    )


def asked_for(landmarks: LandmarkSet, chosen: Sequence[str] | None) -> LandmarkSet:
    """The landmarks of these names, in their own order; all without names."""
    return landmarks.ordered_as(tuple(name for name in landmarks.names if not chosen or name in chosen))


def _settings(detectors: Detectors, search: Search, is_part: bool) -> RunSettings:
    """How the scan was searched, as its results tell."""
    region = "a box" if search.region else None
    if detectors.region and is_part:
        package = detectors.region.package
        region = f"{search.margin_mm:g} mm around points of {package.id}@{package.version}"
    return run_settings(
        detectors.main,
        landmarks=search.landmarks,
        region=region,
        spacing_mm=search.spacing,
        show_doubtful=search.show_doubtful,
    )


def _draw(volume: Volume, landmarks: LandmarkSet, search: Search, origin: Provenance, title: str) -> bytes | Exception:
    shown = asked_for(landmarks, search.landmarks)
    model = origin.cells()["model"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        try:
            drawing().draw_detection(
                volume,
                shown,
                path,
                title=f"{title}: {model}" if title else model,
                origin=origin.line(),
                unit=origin.unit,
                warning=describe_count(origin.miscounted) if shown.present.any() else "",
            )
            return path.read_bytes()
        except Exception as error:  # the points are written all the same
            return error


def _other_models(
    detector: Detector, volume: Volume, search: Search, progress: Progress, modality: Callable[[], str]
) -> list[ModelPackage]:
    """Models that recognise a scan in which this one sees nothing that it knows."""
    from H3DELandmarksLib.detection.other_models import models_that_recognise

    progress(1.0, "Asking other models")

    def load(package: ModelPackage) -> Detector:
        return load_detector(str(package.path), search.device, search.backend, search.precision)

    return models_that_recognise(volume, detector.package.id, load, modality())


def _summary(landmarks: LandmarkSet, examined: Detection, detector: Detector, others: Sequence[str]) -> str:
    """What people should know first, without a full stop."""
    manifest, recognition = detector.package.manifest, examined.recognition
    text = describe(landmarks, manifest, others)
    if landmarks.present.any() and (doubt := describe_count(examined.miscounted)):
        text += f"; {doubt}"
    if recognition is None or recognition.recognised or not landmarks.present.any():
        return text
    unlike = landmarks.unknown_where(landmarks.presence >= 0, Cause.UNLIKE)
    return f"{describe(unlike, manifest, others)}. All the same, {text}"
