"""``detect``: landmarks of one or many scans, with one model that is loaded once."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cli.console import Console, add_command, add_engine, add_json, add_model, add_progress
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress, part_of
from H3DELandmarksLib.core.files import shown

if TYPE_CHECKING:
    from H3DELandmarksLib.cli.result_files import ResultFiles
    from H3DELandmarksLib.core.geometry import Volume
    from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
    from H3DELandmarksLib.core.statements import Recognition
    from H3DELandmarksLib.detection import Detector
    from H3DELandmarksLib.formats.provenance import Provenance, RunSettings
    from H3DELandmarksLib.formats.results import MeasurementResult, PassedOver, ScanResult
    from H3DELandmarksLib.io.scan_folders import FoundScans
    from H3DELandmarksLib.models import ModelPackage

logger = logging.getLogger(__name__)
MOST_NAMED = 10
# Detectors by what they were made of, the one used last at the end; None where each command is a process of its own.
_kept: dict[tuple[object, ...], Detector] | None = None
MOST_KEPT = 2  # one that finds where to search, and one that searches there
SEARCH_SHARE = 0.5  # of the work, where another model finds first where to search


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "detect",
        help="find landmarks in scans",
        description="Writes for each scan NAME.mrk.json (Slicer point list), NAME.csv (table), NAME.provenance.json "
        "(where the points come from), NAME.measured.csv where the landmarks define measurements, and on request "
        "NAME.png.",
        example="scan.nrrd --model mouse-skull --output results",
    )
    parser.add_argument(
        "scans", metavar="SCAN", nargs="+", help="NRRD, NIfTI, MetaImage, picture or DICOM file, or a folder of such"
    )
    add_model(parser, "--model", required=True)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    add_reading(parser)
    parser.add_argument("--picture", action="store_true", help="also draw each result")
    parser.add_argument(
        "--show-doubtful",
        action="store_true",
        help="show points even where the scan does not look like what the model knows; they are most likely wrong",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files of these names even where a person has made or edited them",
    )
    # For a program that reads the point list at once and removes it: without a table, and not kept through a power cut.
    parser.add_argument("--hand-over", action="store_true", help=argparse.SUPPRESS)
    _add_selection(parser)
    add_engine(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """``--spacing`` and ``--series``: what reading scans needs to be told."""
    parser.add_argument(
        "--spacing",
        type=spacing_mm,
        metavar="MM",
        help="where files state it wrongly or not at all: width and height of a pixel in mm, as 0.1 or 0.1x0.12, and "
        "for scans the distance of slices, as 0.4x0.4x0.8",
    )
    parser.add_argument(
        "--series", metavar="UID", help="UID, number or description of the series to read, where a folder holds several"
    )


def pixel_size(text: str) -> tuple[float, float]:
    """Width and height of a pixel from a text such as 0.1 or 0.1x0.12.

    Raises:
        argparse.ArgumentTypeError: it holds something else.
    """
    try:
        sizes = [float(word) for word in text.lower().split("x")]
    except ValueError:
        sizes = []
    if len(sizes) not in (1, 2) or not all(0 < size < math.inf for size in sizes):
        raise argparse.ArgumentTypeError(f"'{text}' is no pixel size in mm: write 0.1 or 0.1x0.12")
    return sizes[0], sizes[-1]


def spacing_mm(text: str) -> tuple[float, ...]:
    """Pixel size as for `pixel_size`, or with a third number the distance of slices too, such as 0.4x0.4x0.8.

    Raises:
        argparse.ArgumentTypeError: it holds something else.
    """
    in_plane, _, distance = text.lower().rpartition("x")
    if "x" not in in_plane:  # one or two numbers
        return pixel_size(text)
    return *pixel_size(in_plane), pixel_size(distance)[0]


def _add_selection(parser: argparse.ArgumentParser) -> None:
    """``--landmarks``, and ``--roi`` or ``--roi-from`` with what belongs to it."""
    parser.add_argument(
        "--landmarks", nargs="+", metavar="NAME", help="landmarks to report (default: all landmarks of the model)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--roi",
        metavar="FILE",
        help="search only in this box, a region of interest saved from Slicer (.mrk.json); others stay unknown",
    )
    where.add_argument(
        "--roi-from",
        metavar="ID",
        help="search only where this model sees or expects its points, such as head-neck-ct for models of the jaw",
    )
    parser.add_argument(
        "--roi-points", nargs="+", metavar="NAME", help="with --roi-from: only around these of its points"
    )
    parser.add_argument(
        "--roi-margin",
        type=_margin,
        default=20.0,
        metavar="MM",
        help="with --roi-from: how far around the points (default: %(default)g)",
    )


def _margin(text: str) -> float:
    try:
        margin = float(text)
    except ValueError:
        margin = -1.0
    if not 0 < margin < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no distance in mm: write a number above 0")
    return margin


def run(options: argparse.Namespace, console: Console) -> bool:
    """Detect; returns whether every scan succeeded."""
    from H3DELandmarksLib.cli.result_files import make_folder, plan_results
    from H3DELandmarksLib.formats.reading import to_plain
    from H3DELandmarksLib.formats.results import DetectionResult, ModelName
    from H3DELandmarksLib.io.isolated import start_reader

    console.log_folder = folder = make_folder(Path(options.output))
    start_reader()  # it is ready once PyTorch is
    detector = load_detector(options.model, options.device, options.backend, options.precision)
    _check_names(options.landmarks, detector.scheme)
    measured = detector.package.manifest.measured
    if measured and measured.caution():
        console.warn(measured.caution())
    region_detector = _load_region_detector(options)
    given = _Given()
    for path in map(Path, options.scans):
        given.add(path, detector.is_2d, options.series, console)
    scans = tuple(
        _detect_scan(detector, files, given.series.get(files.scan), options, console, region_detector)
        for files in plan_results(list(given.series), folder)
    )
    package = detector.package
    result = DetectionResult(
        ok=not given.failed and all(scan.ok for scan in scans),
        software=__version__,
        model=ModelName(package.id, package.version),
        confidence_within_mm=package.manifest.calibration.confidence.tolerance_mm,
        scans=(*scans, *given.failed),
        passed_over=tuple(given.passed_over),
    )
    console.document(to_plain(result))
    return result.ok


@dataclass
class _Given:
    """What the user gave, with the scans of folders in place of them.

    Attributes:
        series: of each scan, by its path; None where the folder has but one, or reading chooses.
        failed: folders that cannot be looked into or hold no scan.
        passed_over: what else lies in folders.
    """

    series: dict[Path, str | None] = field(default_factory=dict)
    failed: list[ScanResult] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)

    def add(self, path: Path, radiographs: bool, series: str | None, console: Console) -> None:
        """Add a file or folder; what is wrong with a folder is told."""
        from H3DELandmarksLib.formats.results import ScanResult

        if not _is_folder(path):
            self.series[path] = series
            return
        try:
            found = scans_of_folder(path, radiographs, series, console)
        except Exception as error:
            self.failed.append(ScanResult(scan=shown(path), ok=False, error=console.failure(error, shown(path))))
            return
        self.series.update((scan.path, scan.series or series) for scan in found.scans)
        self.passed_over += passed_over(found)
        for folder, reason in found.unreadable:
            locked = InputError(f"'{shown(folder)}' {reason}: check the permission to read it.")
            self.failed.append(ScanResult(scan=shown(folder), ok=False, error=console.failure(locked)))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # reading tells
        return False


def scans_of_folder(folder: Path, radiographs: bool, series: str | None, console: Console) -> FoundScans:
    """The scans of a folder; what was passed over is told.

    Args:
        folder: where to look.
        radiographs, series: as for `io.scan_folders.find_scans`.
        console: for the listing.

    Raises:
        InputError: it cannot be looked into, or nothing in it can be a scan.
    """
    from H3DELandmarksLib.io.isolated import find_scans
    from H3DELandmarksLib.io.scan_folders import NO_SCAN

    found = find_scans(folder, radiographs, series)
    unknown = [path.name for path, reason in found.passed_over if reason == NO_SCAN]
    for path, reason in found.passed_over:
        if reason != NO_SCAN:
            console.warn(f"'{shown(path)}' was passed over: {reason}.")
    if unknown:
        names = ", ".join(unknown[:MOST_NAMED]) + (" ..." if len(unknown) > MOST_NAMED else "")
        console.warn(shown(f"'{folder}' holds {len(unknown)} files that are no scans by their names: {names}."))
    if not (found.scans or found.unreadable):
        raise InputError(
            f"'{shown(folder)}' holds no scans: give the folder with the files, or with one folder for each DICOM scan."
        )
    return found


def passed_over(found: FoundScans) -> list[PassedOver]:
    """What was passed over, as programs read it."""
    from H3DELandmarksLib.formats.results import PassedOver

    return [PassedOver(shown(path), reason) for path, reason in found.passed_over]


def load_detector(
    model: str, device: str, backend: str = "auto", precision: str = "auto", landmarks: Sequence[str] | None = None
) -> Detector:
    """The detector of a model given by id, id@version or path.

    Args:
        model: which one.
        device, backend, precision: as for `Detector`.
        landmarks: names that it must have.
    """
    from H3DELandmarksLib.models import find_model

    package = find_model(model)  # first: it fails within a moment, while PyTorch takes seconds to load
    _check_names(landmarks, package.scheme)
    from H3DELandmarksLib.detection import Detector

    if _kept is None:
        return Detector(package, device, backend, precision)
    key = (package.path, _state(package), device, backend, precision)
    detector = _kept.pop(key, None)
    if detector is None or detector.has_fallen_back:  # its GPU may have memory again
        detector = Detector(package, device, backend, precision)
    _kept[key] = detector
    while len(_kept) > MOST_KEPT:
        del _kept[next(iter(_kept))]
    return detector


def keep_detectors() -> None:
    """From now on keep the detectors that were used last in memory, for programs that run many commands."""
    global _kept
    _kept = {}


def _state(package: ModelPackage) -> tuple[tuple[int, int] | None, ...]:
    """Size and time of every file of a package: a detector stands for the files that it was made of."""
    folder = package.path if package.path.is_dir() else None
    paths = [folder / name for name in package.files] if folder else [package.path]
    return tuple((path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None for path in paths)


def _load_region_detector(options: argparse.Namespace) -> Detector | None:
    """The detector of the model that finds where to search; None without ``--roi-from``.

    Raises:
        InputError: there is no such model, it has no such points, or points are named without a model.
    """
    if options.roi_from:
        return load_detector(options.roi_from, options.device, options.backend, options.precision, options.roi_points)
    if options.roi_points:
        raise InputError("--roi-points belongs to --roi-from: say which model finds them.")
    return None


def _check_names(chosen: Sequence[str] | None, scheme: LandmarkScheme) -> None:
    for name in chosen or ():
        if name not in scheme.names:
            names = ", ".join(scheme.names)
            raise InputError(f"The model has no landmark '{name}': choose among {names}.")


def _detect_scan(
    detector: Detector,
    files: ResultFiles,
    series: str | None,
    options: argparse.Namespace,
    console: Console,
    region_detector: Detector | None,
) -> ScanResult:
    """Detect in one scan and write its results; an error is told and ends this scan only."""
    from H3DELandmarksLib.cli.origin import landmark_results, provenance_of, recognition_result
    from H3DELandmarksLib.cli.result_files import MODEL, SCAN
    from H3DELandmarksLib.formats.results import ModelName, ScanResult
    from H3DELandmarksLib.io.isolated import read_volume

    start = time.monotonic()
    result = ScanResult(scan=shown(files.scan), ok=False)
    try:
        with console.task(files.name) as progress:
            files.check_replaceable(options.overwrite, options.picture)
            volume = read_volume(files.scan, options.spacing, series)
            digest = files.check_same_scan(volume, options.overwrite)
            everything, recognition = _examine(detector, volume, options, progress, region_detector)
            landmarks = everything.ordered_as(_asked_for(everything.names, options))
            settings = _settings(detector, options, region_detector)
            origin = provenance_of(detector, volume, files.scan.name, everything, recognition, settings)
            told = result_paths(files)
            measured = measured_on(detector, landmarks, volume, options.spacing is not None)
            if options.hand_over:
                files.hand_over(landmarks, origin)
                del told["table"]
            else:
                draw = _picture_of(volume, landmarks, files, origin) if options.picture else None
                stamp = {SCAN: digest, MODEL: f"{detector.package.id}@{detector.package.version}"}
                files.write(landmarks, stamp, draw, options.overwrite, origin, measured)
                told |= {"picture": str(files.picture)} if draw else {}
                told |= {"measurement_table": str(files.measurements)} if measured else {}
            is_seen = everything.present.any() if recognition is None else recognition.recognised
            others = [] if is_seen else _other_models(detector, volume, files.scan, options, progress)
    except BrokenPipeError:
        raise
    except Exception as error:
        return replace(result, error=console.failure(error, shown(files.scan)))
    seconds = time.monotonic() - start
    summary = _summary(landmarks, recognition, detector, [package.manifest.title for package in others])
    console.say(f"{files.scan}: {summary} in {seconds:.1f} s, written to {files.markups}")
    return replace(
        result,
        ok=True,
        seconds=round(seconds, 2),
        summary=f"{summary}.",
        recognition=recognition_result(recognition),
        recognised_by=tuple(ModelName(package.id, package.version) for package in others),
        landmarks=landmark_results(everything),
        measurements=measured or None,
        **told,
    )


def measured_on(
    detector: Detector, landmarks: LandmarkSet, volume: Volume, is_size_given: bool
) -> tuple[MeasurementResult, ...]:
    """What the model's scheme measures on its landmarks, LPS mm; nothing where it defines nothing.

    Lengths in a picture whose pixels nobody has measured, see `has_unknown_pixels`, are told in pixels.
    """
    from H3DELandmarksLib.core.image_plane import has_unknown_pixels
    from H3DELandmarksLib.evaluation.measures import measure
    from H3DELandmarksLib.formats.measurements import measurements_of

    definitions = measurements_of(detector.scheme)
    if definitions is None:
        return ()
    middle = volume.grid.center if detector.is_2d else None
    pixels = not is_size_given and has_unknown_pixels(volume.array.shape, volume.grid.spacing)
    return measure(landmarks, definitions, flat=detector.is_2d, middle=middle, pixels=pixels)


def result_paths(files: ResultFiles) -> dict[str, Any]:
    """The files that every result has, as `ScanResult` names them."""
    return {"markups": str(files.markups), "table": str(files.table), "provenance": str(files.provenance)}


def _picture_of(
    volume: Volume, landmarks: LandmarkSet, files: ResultFiles, origin: Provenance
) -> Callable[[Path], None]:
    """What draws the picture of a result."""
    from H3DELandmarksLib.cli.result_files import drawing

    title, line = f"{files.name}: {origin.cells()['model']}", origin.line()
    return lambda path: drawing().draw_detection(volume, landmarks, path, title=title, origin=line)


def _asked_for(names: Sequence[str], options: argparse.Namespace) -> tuple[str, ...]:
    return tuple(name for name in names if not options.landmarks or name in options.landmarks)


def _other_models(
    detector: Detector, volume: Volume, scan: Path, options: argparse.Namespace, progress: Progress
) -> list[ModelPackage]:
    """Models that recognise a scan in which this one sees nothing that it knows."""
    from H3DELandmarksLib.detection.other_models import models_that_recognise
    from H3DELandmarksLib.io.dicom import modality

    progress(1.0, "Asking other models")

    def load(package: ModelPackage) -> Detector:
        return load_detector(str(package.path), options.device, options.backend, options.precision)

    return models_that_recognise(volume, detector.package.id, load, modality(scan))


def _summary(landmarks: LandmarkSet, recognition: Recognition | None, detector: Detector, others: Sequence[str]) -> str:
    """What people should know first, without a full stop."""
    from H3DELandmarksLib.cli.origin import describe
    from H3DELandmarksLib.core.statements import Cause

    manifest = detector.package.manifest
    text = describe(landmarks, manifest, others)
    if recognition is None or recognition.recognised or not landmarks.present.any():
        return text
    unlike = landmarks.unknown_where(landmarks.presence >= 0, Cause.UNLIKE)
    return f"{describe(unlike, manifest, others)}. All the same, {text}"


def _settings(detector: Detector, options: argparse.Namespace, region_detector: Detector | None) -> RunSettings:
    """How the scan was searched, as its results tell."""
    from H3DELandmarksLib.cli.origin import run_settings

    region = "a box" if options.roi else None
    if region_detector:
        package = region_detector.package
        region = f"{options.roi_margin:g} mm around points of {package.id}@{package.version}"
    return run_settings(
        detector,
        landmarks=tuple(options.landmarks) if options.landmarks else None,
        region=region,
        spacing_mm=tuple(options.spacing) if options.spacing else None,
        show_doubtful=options.show_doubtful,
    )


def _examine(
    detector: Detector,
    volume: Volume,
    options: argparse.Namespace,
    progress: Progress,
    region_detector: Detector | None,
) -> tuple[LandmarkSet, Recognition | None]:
    """All landmarks of the model, as far as the options ask for them, and whether the scan is recognised.

    Raises:
        InputError: the region cannot be read, or lies outside the scan.
    """
    from H3DELandmarksLib.core.statements import Cause
    from H3DELandmarksLib.io.markups import read_region

    region = read_region(options.roi) if options.roi else None
    part = region.crop(volume) if region else volume
    if region_detector:
        part = _found_part(region_detector, volume, options, part_of(progress, 0.0, SEARCH_SHARE))
        progress = part_of(progress, SEARCH_SHARE, 1 - SEARCH_SHARE)
    beyond = Cause.OUTSIDE_SCAN if part is volume else Cause.OUTSIDE_REGION
    examined = detector.examine(part, progress=progress, beyond=beyond)
    landmarks = examined.doubtful if options.show_doubtful else examined.landmarks
    if region:
        landmarks = region.limit(landmarks)
    asked_for = _asked_for(landmarks.names, options)
    others = [name not in asked_for for name in landmarks.names]
    return landmarks.unknown_where(others, Cause.NOT_ASKED_FOR), examined.recognition


def _found_part(detector: Detector, volume: Volume, options: argparse.Namespace, progress: Progress) -> Volume:
    """The part of a scan around the places where a model sees or expects its points; else the whole, with a warning."""
    from H3DELandmarksLib.core.region import region_around

    places = detector.likely_places(volume, progress=progress)
    if places is not None:
        wanted = places.ordered_as(tuple(options.roi_points or places.names))
        try:
            region = region_around(wanted, options.roi_margin, fewest=1)
            return volume if region is None else region.crop(volume)
        except InputError:
            logger.info("All places lie beyond the scan.")
    logger.warning("The model '%s' finds too few points here: the whole scan is searched.", detector.package.id)
    return volume
