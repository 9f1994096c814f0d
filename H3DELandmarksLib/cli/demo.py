"""``demo``: the bundled sample through the bundled model, with the error against the sample's known truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib.cli.console import Console, add_device, add_json, add_progress
from H3DELandmarksLib.cli.detect import describe, landmark_entries, load_detector
from H3DELandmarksLib.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from H3DELandmarksLib.core.landmarks import LandmarkSet

MODEL = "mandibular-molar-phantom"
LIBRARY = Path(__file__).resolve().parents[1]
# Beside the library in a checkout and in Slicer, inside it where pip installed it.
SAMPLES = [
    folder / "Resources" / "SampleData" / "mandibular-molar-phantom.nrrd" for folder in (LIBRARY.parent, LIBRARY)
]
SAMPLE = next(filter(Path.is_file, SAMPLES), SAMPLES[0])


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser("demo", help="find the landmarks of the bundled sample and compare with its truth")
    parser.add_argument("--output", default="demo-output", metavar="DIR", help="result folder (default: %(default)s)")
    parser.add_argument("--sample", default=SAMPLE, metavar="SCAN", help="a scan with its true NAME.mrk.json beside it")
    parser.add_argument("--model", default=MODEL, metavar="ID", help="id or path of a model (default: %(default)s)")
    add_device(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Detect in the sample, write all results and print the errors."""
    from H3DELandmarksLib.cli.result_files import ResultFiles, make_folder, scan_name
    from H3DELandmarksLib.io.images import read_volume

    sample = Path(options.sample)
    truth = _truth(sample.with_name(scan_name(sample) + ".mrk.json"))
    console.log_folder = folder = make_folder(Path(options.output))
    detector = load_detector(options.model, options.device)
    files = ResultFiles(sample, folder, scan_name(sample))
    files.check_replaceable()
    with console.task(files.name) as progress:
        volume = read_volume(sample)
        landmarks = detector.detect(volume, progress=progress)
    files.write(landmarks)
    truth = truth.ordered_as(landmarks.names)
    files.draw(volume, landmarks, f"{files.name}: {detector.package.id} {detector.package.version}", reference=truth)
    errors = _errors(landmarks, truth)
    console.say("\n".join(_lines(landmarks, truth, errors)))
    console.say(f"Written: {files.markups}, {files.table}, {files.picture}")
    entries = [{**entry, "error_mm": error} for entry, error in zip(landmark_entries(landmarks), errors)]
    console.document(
        {
            "ok": True,
            "scan": sample,
            "markups": files.markups,
            "table": files.table,
            "picture": files.picture,
            "landmarks": entries,
        }
    )
    return True


def _truth(path: Path) -> LandmarkSet:
    from H3DELandmarksLib.io.markups import read_markups

    if not path.exists():
        raise InputError(f"The sample's true landmarks '{path}' are missing: get a complete copy of the project.")
    return read_markups(path)


def _errors(landmarks: LandmarkSet, truth: LandmarkSet) -> np.ndarray:
    """(K,) mm, NaN where a landmark is absent in either."""
    import numpy as np

    return np.linalg.norm(landmarks.positions - truth.positions, axis=1)


def _lines(landmarks: LandmarkSet, truth: LandmarkSet, errors: np.ndarray) -> list[str]:
    """What is printed: one line per landmark, then the summary."""
    import numpy as np

    width = max(map(len, landmarks.names))
    lines = []
    for k, name in enumerate(landmarks.names):
        if np.isfinite(errors[k]):
            verdict = f"{errors[k]:5.2f} mm from the truth, confidence {landmarks.confidence[k]:.2f}"
        elif landmarks.present[k]:
            verdict = "found, but not in the truth"
        else:
            verdict = "missed" if truth.present[k] else "absent, as in the truth"
        lines.append(f"{name.ljust(width)}  {verdict}")
    if np.isfinite(errors).any():
        summary = f"mean error {np.nanmean(errors):.2f} mm, largest {np.nanmax(errors):.2f} mm"
        lines.append(f"{describe(landmarks)}; {summary}")
    return lines
