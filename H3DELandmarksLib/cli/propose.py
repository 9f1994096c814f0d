"""``propose``: landmarks that no model knows, from one to a few cases in which somebody has marked them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cli.console import Console, add_command, add_device, add_json, add_progress
from H3DELandmarksLib.cli.detect import add_reading, scan_name
from H3DELandmarksLib.core.errors import Cancelled, InputError
from H3DELandmarksLib.core.files import shown

if TYPE_CHECKING:
    from H3DELandmarksLib.cohort.inputs import GivenScan
    from H3DELandmarksLib.cohort.proposer import Proposer
    from H3DELandmarksLib.cohort.result_files import ResultFiles
    from H3DELandmarksLib.core.execution import Progress
    from H3DELandmarksLib.formats.results import ScanResult


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "propose",
        help="propose new landmarks from one to a few corrected cases, without a model",
        description="Lays corrected cases over scans and proposes their landmarks there, led by the points of a model "
        "that recognises the anatomy where there is one. Writes the same files as 'detect'. From five cases on, a "
        "model learns more from them: see 'train'.",
        example="scan.nrrd --examples my-cases --output results",
    )
    parser.add_argument(
        "scans",
        metavar="SCAN",
        type=scan_name,
        nargs="+",
        help="scan, radiograph, folder of such or list (.csv) with the column path and, if wanted, subject and series",
    )
    parser.add_argument(
        "--examples",
        required=True,
        metavar="FOLDER",
        help="project of corrected cases, or folder of scans that each have a point list of the same name",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="CASE",
        help="which of them (default: the five of a project that were reviewed last, all of a folder)",
    )
    parser.add_argument(
        "--guide",
        default="auto",
        metavar="ID",
        help="model whose points lead from the cases to the scans; auto: one that recognises the first case; none: "
        "scans are laid over each other by themselves, which needs them in about the same pose (default: %(default)s)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    add_reading(parser)
    parser.add_argument(
        "--show-doubtful",
        action="store_true",
        help="show points even where the scan does not look like the cases; they are most likely wrong",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files of these names even where a person has made or edited them",
    )
    # As for detect.
    parser.add_argument("--landmarks", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--hand-over", action="store_true", help=argparse.SUPPRESS)
    add_device(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> bool:
    """Propose; returns whether every scan succeeded."""
    from H3DELandmarksLib.cases.examples import MOST, marked_cases
    from H3DELandmarksLib.cohort.detectors import check_names
    from H3DELandmarksLib.cohort.inputs import Given, plan
    from H3DELandmarksLib.cohort.proposer import Proposer
    from H3DELandmarksLib.cohort.result_files import make_folder
    from H3DELandmarksLib.core.image_plane import has_unknown_pixels
    from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
    from H3DELandmarksLib.formats.reading import to_plain
    from H3DELandmarksLib.formats.results import ProposalResult, ScanResult

    console.log_folder = folder = make_folder(Path(options.output))
    cases = marked_cases(Path(options.examples), options.cases)
    names = tuple(LandmarkDefinition(name, "") for name in cases[0].landmarks.names)
    check_names(options.landmarks, LandmarkScheme("examples", "1", names))
    if len(cases) >= MOST and not options.hand_over:
        console.warn(f"{len(cases)} cases are enough to teach a model, which finds more: see 'h3delandmarks train'.")
    proposer = Proposer(cases, options.guide, options.device)
    first = cases[0].volume().grid
    given = Given(1 in first.shape, options.series, console.warn)
    needs_size = not has_unknown_pixels(first.shape, first.spacing)
    for path in map(Path, options.scans):
        given.add(path)
    for column in ("model", "region"):
        if any(getattr(scan, column) for scan in given.scans):
            raise InputError(f"The list's column '{column}' is for 'detect' and does nothing here: remove it.")
    planned = plan(given.scans, folder, False)
    results = [_one(scan, files, proposer, options, console, needs_size) for scan, files in planned]
    results += [
        ScanResult(scan=shown(path), ok=False, error=console.failure(error, shown(path)))
        for path, error in given.failed
    ]
    ok = all(result.ok for result in results)
    examples = tuple(case.name for case in cases)
    document = ProposalResult(ok=ok, software=__version__, examples=examples, scans=tuple(results))
    console.document(to_plain(document))
    return ok


def _one(
    given: GivenScan,
    files: ResultFiles,
    proposer: Proposer,
    options: argparse.Namespace,
    console: Console,
    needs_size: bool,
) -> ScanResult:
    """What became of a scan; its error is told."""
    from H3DELandmarksLib.formats.results import ScanResult

    start, scan = time.monotonic(), shown(given.path)
    try:
        with console.task(files.name) as progress:
            files.check_replaceable(options.overwrite)
            result = _proposed(given, files, proposer, options, progress, needs_size)
    except (BrokenPipeError, Cancelled):
        raise
    except Exception as error:
        return ScanResult(scan=scan, ok=False, error=console.failure(error, scan))
    seconds = time.monotonic() - start
    console.say(f"{scan}: {result['summary']} in {seconds:.1f} s, written to {files.markups}")
    return ScanResult(
        scan=scan,
        ok=True,
        seconds=round(seconds, 2),
        markups=str(files.markups),
        table=None if options.hand_over else str(files.table),
        provenance=str(files.provenance),
        summary=f"{result['summary']}.",
        unit=result["unit"],
        landmarks=result["landmarks"],
    )


def _proposed(
    given: GivenScan,
    files: ResultFiles,
    proposer: Proposer,
    options: argparse.Namespace,
    progress: Progress,
    needs_size: bool,
) -> dict:
    """Propose in a scan and write the files; the summary, all landmarks as programs read them, and their unit."""
    from dataclasses import replace

    from H3DELandmarksLib.cohort import bids
    from H3DELandmarksLib.cohort.examine import PIXELS, asked_for
    from H3DELandmarksLib.cohort.origin import landmark_results
    from H3DELandmarksLib.cohort.proposer import summary_of
    from H3DELandmarksLib.cohort.result_files import MODEL, SCAN, fingerprint
    from H3DELandmarksLib.io import isolated

    volume = isolated.read_volume(given.path, options.spacing, given.series, needs_size=needs_size)
    print_of_scan = fingerprint(volume)
    files.check_same_scan(print_of_scan, options.overwrite)
    said, origin = proposer.propose(volume, progress, options.show_doubtful, options.landmarks)
    assert origin.scan is not None
    origin = replace(origin, scan=replace(origin.scan, file=given.path.name))
    wanted = asked_for(said.landmarks, options.landmarks)
    files.folder.mkdir(parents=True, exist_ok=True)
    if options.hand_over:
        files.hand_over(wanted, origin)
    else:
        stamp = {SCAN: print_of_scan, MODEL: origin.cells()["model"]}
        files.write(wanted, stamp, None, options.overwrite, origin)
        if given.data_set is not None and origin.examples is not None:
            place, made = (files.folder_of_all, files.folder, files.name), f"proposed {origin.examples.line()}"
            bids.write_sidecar(*place, given.data_set, given.path, made, origin.unit)
    summary = summary_of(said, origin) + PIXELS * (origin.unit == "px" and said.is_alike)
    return {"summary": summary, "landmarks": landmark_results(said.landmarks), "unit": origin.unit}
