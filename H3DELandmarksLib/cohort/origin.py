"""Where the points of a detection come from, and what people should know of its result first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.text import first_of, plain
from H3DELandmarksLib.formats.case_record import utc_now
from H3DELandmarksLib.formats.manifest import NOT_STATED, Manifest
from H3DELandmarksLib.formats.provenance import ModelOrigin, Provenance, RunSettings, ScanOrigin, proposed_points
from H3DELandmarksLib.formats.results import LandmarkResult, MiscountedResult, PlaceResult, RecognitionResult

if TYPE_CHECKING:
    from H3DELandmarksLib.detection import Detector
    from H3DELandmarksLib.models import ModelPackage


def provenance_of(
    detector: Detector,
    volume: Volume,
    file: str | None,
    landmarks: LandmarkSet,
    recognition: RecognitionResult | None = None,
    settings: RunSettings | None = None,
    miscounted: MiscountedResult | None = None,
) -> Provenance:
    """Where the points of a detection come from.

    Args:
        detector: that found them.
        volume: the whole scan.
        file: its name as the user gave it, without its path.
        landmarks: what was found, in LPS mm.
        recognition: of the scan.
        settings: of the run; those of the detector alone by default.
        miscounted: of the scan's structures.
    """
    return Provenance(
        software=__version__,
        time=utc_now(),
        model=model_origin(detector.package),
        scan=scan_origin(volume, file),
        settings=settings or run_settings(detector),
        recognition=recognition,
        miscounted=miscounted,
        points=proposed_points(landmarks),
    )


def scan_origin(volume: Volume, file: str | None = None) -> ScanOrigin:
    """A scan as results name it, and its file, where it has one."""
    from H3DELandmarksLib.cases.store import content_of

    content = content_of(volume)
    spacing = tuple(content.grid.spacing.tolist())
    return ScanOrigin(file=file, voxels_sha256=content.digest, shape=content.grid.shape, spacing_mm=spacing)


def model_origin(package: ModelPackage) -> ModelOrigin:
    """A model as results name it."""
    known = package.reference
    tolerance = package.manifest.calibration.confidence.tolerance_mm
    unit: Literal["px"] | None = "px" if package.manifest.length_unit == "px" else None
    return ModelOrigin(
        id=known.id, version=known.version, sha256=known.digest, confidence_within_mm=tolerance, length_unit=unit
    )


def run_settings(detector: Detector, **chosen: object) -> RunSettings:
    """How a detector runs; `chosen` are other entries of `RunSettings`."""
    engine = detector.engine
    return RunSettings(
        device=engine.device.type,
        backend=engine.backend,
        precision=engine.used_precision,
        **chosen,  # type: ignore[arg-type]
    )


def landmark_results(landmarks: LandmarkSet, candidates: Candidates | None = None) -> tuple[LandmarkResult, ...]:
    """Landmarks as programs read them.

    Args:
        landmarks: LPS mm.
        candidates: all places of the same landmarks; those of landmarks of which nothing is known are left out.
    """
    places = candidates.only_of(~landmarks.unknown).listed() if candidates else [[] for _ in landmarks.names]
    moved = landmarks.moved_mm
    return tuple(
        LandmarkResult(
            name=name,
            state=statement.value,
            cause=cause.value if cause else None,
            position_lps_mm=tuple(landmarks.positions[k].tolist()) if landmarks.present[k] else None,
            presence=plain(landmarks.presence[k]),
            confidence=plain(landmarks.confidence[k]),
            radius90_mm=plain(landmarks.radius[k]),
            networks_lps_mm=None if np.isnan(moved[k]) else tuple(landmarks.networks[k].tolist()),
            places=tuple(PlaceResult((x, y, z), share, spread) for x, y, z, share, spread in places[k]),
        )
        for k, (name, statement, cause) in enumerate(zip(landmarks.names, landmarks.statements, landmarks.causes))
    )


def describe(landmarks: LandmarkSet, manifest: Manifest, others: Sequence[str] = ()) -> str:
    """What people should know of a result first, in a sentence without a full stop.

    Args:
        landmarks: of the result.
        manifest: of the model.
        others: titles of models that may fit the scan better, the best first.
    """
    causes = set(landmarks.causes)
    if causes == {Cause.UNLIKE}:
        instead = f"another model, e.g. {others[0]}" if others else "another model, or a scan that shows more of it"
        return f"This does not look like {_what_it_knows(manifest)}, or shows too little of it: choose {instead}"
    if causes == {Cause.TOO_COARSE}:
        return (
            f"Nothing was examined, because the voxels are too coarse: the model '{manifest.title}' needs voxels of at "
            f"most {manifest.max_spacing_mm:g} mm"
        )
    text = found_in_words(landmarks)
    return f"{text}; the model {others[0]} recognises this scan" if others else text


def found_in_words(landmarks: LandmarkSet) -> str:
    """How many landmarks were found, and why others were not."""
    text = f"{int(landmarks.present.sum())} of {len(landmarks)} landmarks found"
    groups = {"absent": ~landmarks.present & ~landmarks.unknown}
    groups |= {cause.value: np.array([c is cause for c in landmarks.causes]) for cause in Cause}
    told = [f"{word}: {_named(landmarks.names, rows)}" for word, rows in groups.items() if rows.any()]
    if (moved := landmarks.moved_mm[np.isfinite(landmarks.moved_mm)]).size:
        told.append(f"{moved.size} placed on the bone surface, up to {moved.max():.1f} mm from the network's point")
    return f"{text} ({'; '.join(told)})" if told else text


def describe_count(miscounted: MiscountedResult | None) -> str:
    """What people should know of a doubtful count; empty where it is not doubtful."""
    if miscounted is None or not miscounted.doubtful:
        return ""
    return (
        f"structures may be counted one off as a whole (probability {miscounted.probability:.0%}), so that no radius "
        "is stated: check the first and the last one"
    )


def _what_it_knows(manifest: Manifest) -> str:
    """For example ``a micro-CT of the mouse skull``."""
    if {manifest.modality, manifest.anatomy} & {"", NOT_STATED}:
        return f"what the model '{manifest.title}' knows"
    return f"a {manifest.modality} of the {manifest.anatomy}"


def _named(names: Sequence[str], rows: np.ndarray) -> str:
    return first_of([name for name, is_chosen in zip(names, rows) if is_chosen])
