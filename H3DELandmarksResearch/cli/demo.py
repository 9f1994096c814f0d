"""``demo``: the bundled sample through the bundled model, with the error against the sample's known truth."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console, add_command, add_device, add_json, add_model, add_progress
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.resources import resource_folder

if TYPE_CHECKING:
    import numpy as np

    from H3DELandmarksLib.core.landmarks import LandmarkSet

MODEL = "mandibular-molar-phantom"
SAMPLE = resource_folder("SampleData") / "mandibular-molar-phantom.nrrd"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "demo",
        help="find the landmarks of the bundled sample and compare with its truth",
        example="--output demo-output",
    )
    parser.add_argument("--output", default="demo-output", metavar="DIR", help="result folder (default: %(default)s)")
    parser.add_argument("--sample", default=SAMPLE, metavar="SCAN", help="a scan with its true NAME.mrk.json beside it")
    add_model(parser, "--model", default=MODEL, help="id or path of a model (default: %(default)s)")
    add_device(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Detect in the sample, write all results and print the errors."""
    from H3DELandmarksLib.cohort.detectors import load_detector
    from H3DELandmarksLib.cohort.origin import describe, landmark_results, provenance_of
    from H3DELandmarksLib.cohort.result_files import ResultFiles, make_folder, scan_name
    from H3DELandmarksLib.core.text import plain
    from H3DELandmarksLib.evaluation.metrics import radial_errors
    from H3DELandmarksLib.formats.reading import to_plain
    from H3DELandmarksLib.formats.results import ScanResult
    from H3DELandmarksLib.io.images import read_volume
    from H3DELandmarksResearch.figures.detection import draw_detection

    sample = Path(options.sample)
    name = scan_name(sample)
    truth = _truth(ResultFiles(sample, sample.parent, name).markups)
    console.log_folder = folder = make_folder(Path(options.output))
    detector = load_detector(options.model, options.device)
    files = ResultFiles(sample, folder, name)
    files.check_replaceable(picture=True)
    with console.task(name) as progress:
        volume = read_volume(sample)
        examined = detector.examine(volume, progress=progress)
    landmarks = examined.landmarks
    truth = truth.ordered_as(landmarks.names)
    origin = provenance_of(detector, volume, sample.name, landmarks, examined.recognition)
    drawn = {"reference": truth, "title": f"{name}: {origin.cells()['model']}", "origin": origin.line()}
    files.write(landmarks, draw=partial(draw_detection, volume, landmarks, **drawn), provenance=origin)
    errors = radial_errors(landmarks.positions, truth.positions)
    summary = describe(landmarks, detector.package.manifest)
    console.say("\n".join(_lines(landmarks, truth, errors, summary)))
    console.say(f"Written: {files.markups}, {files.table}, {files.picture}")
    result = ScanResult(
        scan=str(sample),
        ok=True,
        summary=f"{summary}.",
        recognition=examined.recognition,
        markups=str(files.markups),
        table=str(files.table),
        provenance=str(files.provenance),
        picture=str(files.picture),
        landmarks=landmark_results(landmarks),
    )
    document = to_plain(result)
    for told, error in zip(document["landmarks"], errors):
        told["error_mm"] = plain(error)
    console.document(document)
    return True


def _truth(path: Path) -> LandmarkSet:
    from H3DELandmarksLib.io.markups import read_markups

    if not path.exists():
        raise InputError(f"The sample's true landmarks '{path}' are missing: get a complete copy of the project.")
    return read_markups(path)


def _lines(landmarks: LandmarkSet, truth: LandmarkSet, errors: np.ndarray, summary: str) -> list[str]:
    """What is printed: one line per landmark, then the summary.

    Args:
        landmarks, truth: (K) in the same order.
        errors: (K,) mm, NaN where a landmark is absent in either.
        summary: of `describe`.
    """
    import numpy as np

    from H3DELandmarksLib.core.landmarks import Statement

    width = max(map(len, landmarks.names))
    lines = []
    for k, name in enumerate(landmarks.names):
        if np.isfinite(errors[k]):
            outcome = f"{errors[k]:5.2f} mm from the truth, confidence {landmarks.confidence[k]:.2f}"
        elif landmarks.present[k]:
            outcome = "found, but not in the truth"
        else:
            stated = landmarks.statements[k]
            missed = "missed" if stated is Statement.ABSENT else stated.value
            outcome = missed if truth.present[k] else f"{stated.value}, as in the truth"
        lines.append(f"{name.ljust(width)}  {outcome}")
    if np.isfinite(errors).any():
        summary += f"; mean error {np.nanmean(errors):.2f} mm, largest {np.nanmax(errors):.2f} mm"
    return [*lines, summary]
