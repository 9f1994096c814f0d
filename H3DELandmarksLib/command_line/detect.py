"""``detect``: landmarks of one or many scans, with one model that is loaded once."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from H3DELandmarksLib.command_line.console import Console
from H3DELandmarksLib.command_line.options import add_engine, add_json, add_progress
from H3DELandmarksLib.command_line.selection import (
    add_selection,
    check_selection,
    detect_selected,
    load_region_detector,
)

if TYPE_CHECKING:
    from H3DELandmarksLib.command_line.result_files import ResultFiles
    from H3DELandmarksLib.detection import Detector
    from H3DELandmarksLib.landmarks import LandmarkSet


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "detect", help="find landmarks in scans",
        description="Writes NAME.mrk.json (Slicer point list), NAME.csv (table) and on request NAME.png for each scan.",
    )
    parser.add_argument("scans", metavar="SCAN", nargs="+", help="NRRD, NIfTI, MetaImage, picture, DICOM or folder")
    parser.add_argument("--model", required=True, metavar="ID", help="id, id@version or path of a model package")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--spacing", type=pixel_size, metavar="MM",
        help="width and height of a pixel in mm, as 0.1 or 0.1x0.12, where the radiographs' files do not state it",
    )
    parser.add_argument("--picture", action="store_true", help="also draw each result")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace point lists even where a person has edited them"
    )
    add_selection(parser)
    add_engine(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


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


def run(options: argparse.Namespace, console: Console) -> bool:
    """Detect; returns whether every scan succeeded."""
    from H3DELandmarksLib.command_line.result_files import make_folder, plan_results

    console.log_folder = folder = make_folder(Path(options.output))
    detector = load_detector(options.model, options.device, options.backend, options.precision)
    check_selection(options, detector.scheme)
    region = load_region_detector(options)
    reports = [serve(detector, files, options, console, region) for files in plan_results(options.scans, folder)]
    succeeded = all(report["ok"] for report in reports)
    package = detector.package
    console.document({"ok": succeeded, "model": {"id": package.id, "version": package.version}, "scans": reports})
    return succeeded


def load_detector(model: str, device: str, backend: str = "auto", precision: str = "auto") -> Detector:
    """The detector of a model given by id, id@version or path."""
    from H3DELandmarksLib.models import find_model

    package = find_model(model)  # first: it fails within a moment, while PyTorch takes seconds to load
    from H3DELandmarksLib.detection import Detector

    return Detector(package, device, backend, precision)


def serve(
    detector: Detector,
    files: ResultFiles,
    options: argparse.Namespace,
    console: Console,
    region_detector: Detector | None = None,
) -> dict[str, Any]:
    """Detect in one scan and write its results; an error is told and ends this scan only.

    Returns:
        The scan's entry in the JSON document.
    """
    from H3DELandmarksLib.volume_io import read_volume

    start = time.monotonic()
    report: dict[str, Any] = {"scan": str(files.scan), "ok": False}
    try:
        with console.task(files.name) as progress:
            files.check_replaceable(options.overwrite, options.picture)
            volume = read_volume(files.scan, options.spacing)
            landmarks = detect_selected(detector, volume, options, progress, region_detector)
            files.write(landmarks)
            report |= {"markups": files.markups, "table": files.table}
            if options.picture:
                files.draw(volume, landmarks, f"{files.name}: {detector.package.id} {detector.package.version}")
                report["picture"] = files.picture
    except BrokenPipeError:
        raise
    except Exception as error:
        return report | {"error": console.failure(error, str(files.scan))}
    seconds = time.monotonic() - start
    console.say(f"{files.scan}: {describe(landmarks)} in {seconds:.1f} s, written to {files.markups}")
    return report | {"ok": True, "seconds": round(seconds, 2), "landmarks": landmark_entries(landmarks)}


def describe(landmarks: LandmarkSet) -> str:
    """How many landmarks were found, and which were not."""
    absent = [name for name, present in zip(landmarks.names, landmarks.present) if not present]
    text = f"{len(landmarks) - len(absent)} of {len(landmarks)} landmarks found"
    return f"{text} (absent: {', '.join(absent)})" if absent else text


def landmark_entries(landmarks: LandmarkSet) -> list[dict[str, Any]]:
    """JSON entries of landmarks; positions are LPS mm, null where absent."""
    from H3DELandmarksLib.landmark_table import landmark_state

    return [
        {
            "name": name,
            "state": landmark_state(landmarks, k),
            "position_lps_mm": landmarks.positions[k] if landmarks.present[k] else None,
            "presence": landmarks.presence[k],
            "confidence": landmarks.confidence[k],
            "radius90_mm": landmarks.radius[k],
        }
        for k, name in enumerate(landmarks.names)
    ]
