"""``detect``: landmarks of one or many scans, with models that are loaded once."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cli.console import (
    Console,
    add_command,
    add_engine,
    add_json,
    add_model,
    add_progress,
    count,
    distance,
    duration,
)
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import shown
from H3DELandmarksLib.core.text import plural

MOST_DETAILED = 500  # scans whose landmarks the document holds; those of more are in the table of all alone
USUAL_MARGIN_MM = 20.0

if TYPE_CHECKING:
    from H3DELandmarksLib.cohort.engine import Engine, Outcome
    from H3DELandmarksLib.cohort.examine import Search
    from H3DELandmarksLib.cohort.here import Job, Place
    from H3DELandmarksLib.cohort.inputs import Given
    from H3DELandmarksLib.cohort.log import CohortLog
    from H3DELandmarksLib.formats.results import CohortScan, CohortSummary
    from H3DELandmarksLib.models import ModelPackage


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "detect",
        help="find landmarks in scans",
        description="Writes for each scan NAME.mrk.json (Slicer point list), NAME.csv (table), NAME.provenance.json "
        "(where the points come from), NAME.measured.csv where the landmarks define measurements, and on request "
        "NAME.png; of several scans also cohort.csv (one table) and "
        "cohort.jsonl (what became of each scan).",
        example="scan.nrrd --model mouse-skull --output results",
    )
    parser.add_argument(
        "scans",
        metavar="SCAN",
        type=scan_name,
        nargs="+",
        help="NRRD, NIfTI, MetaImage, picture or DICOM file, a folder of such, a pattern such as 'data/*/ct.nrrd', a "
        "BIDS data set, or a list (.csv) with the column path and, if wanted, model, subject, region and series",
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
    # A point list of all landmarks: a second look goes where these points place the anatomy.
    parser.add_argument("--decided", metavar="FILE", help=argparse.SUPPRESS)
    _add_selection(parser)
    _add_cohort(parser)
    _add_cluster(parser)
    add_engine(parser)
    add_json(parser)
    add_progress(parser)
    parser.set_defaults(run=run)


def add_reading(parser: argparse.ArgumentParser, of_one: bool = False) -> None:
    """``--spacing`` and ``--series``: what reading scans, or one scan, needs to be told."""
    parser.add_argument(
        "--spacing",
        type=spacing_mm,
        metavar="MM",
        help="where files state it wrongly or not at all: width and height of a pixel in mm, as 0.1 or 0.1x0.12, and "
        "for scans the distance of slices, as 0.4x0.4x0.8",
    )
    parser.add_argument(
        "--series",
        metavar="UID",
        help="UID, number or description of the series to read, where a folder holds several"
        + ("" if of_one else "; all: each of them"),
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


def scan_name(text: str) -> str:
    """A path or pattern; an empty text, as an unset variable of a script leaves it, would be the current folder.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("a name is empty: write the path of a scan or folder, '.' for the current one")
    return text


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
        type=distance,
        metavar="MM",
        help=f"with --roi-from: how far around the points (default: {USUAL_MARGIN_MM:g})",
    )


def _add_cohort(parser: argparse.ArgumentParser) -> None:
    """What concerns many scans."""
    group = parser.add_argument_group("many scans")
    group.add_argument(
        "--resume",
        action="store_true",
        help="leave scans as they are that were finished before with this model and these options, whatever they are "
        "called now, and those that failed",
    )
    group.add_argument("--retry-failed", action="store_true", help="with --resume, which it implies: try these again")
    group.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="scans to examine at the same time (default: one a core for many scans on a CPU, as far as memory allows)",
    )
    group.add_argument("--parquet", action="store_true", help="also write the table of all scans as cohort.parquet")


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    """What concerns Dask."""
    group = parser.add_argument_group("many computers (Dask)")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--local-cluster", type=count, metavar="N", help="examine on N processes of this computer")
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="examine on the cluster of this scheduler; on another computer than this one as tls://HOST:PORT only",
    )
    group.add_argument(
        "--shared-paths", action="store_true", help="its workers see the same files: send paths, no voxels"
    )
    group.add_argument("--consent", metavar="HOST", help="agree that scans are sent to this host")
    group.add_argument("--tls-ca", metavar="FILE", help="certificate of the authority that both sides trust")
    group.add_argument("--tls-cert", metavar="FILE", help="certificate of this side")
    group.add_argument("--tls-key", metavar="FILE", help="key of this side")


def run(options: argparse.Namespace, console: Console) -> bool:
    """Detect; returns whether every scan succeeded."""
    from H3DELandmarksLib.cohort.here import Here, Job, jobs_that_fit, shared_cores
    from H3DELandmarksLib.cohort.inputs import plan
    from H3DELandmarksLib.cohort.result_files import make_folder
    from H3DELandmarksLib.cohort.table import require_parquet
    from H3DELandmarksLib.io.isolated import start_reader

    _refuse_alone(options)
    console.log_folder = folder = make_folder(Path(options.output))
    if options.parquet:
        require_parquet()
    start_reader()  # it is ready once PyTorch is
    with ExitStack() as stack:
        search, package = _search(options)
        place: Place
        if options.scheduler or options.local_cluster:
            place = stack.enter_context(_cluster(options))
        else:
            here = Here(1)
            detectors = here.load(search)
            place = here
        given = _given(options, package.manifest.is_2d, console)
        if search.around and any(scan.region for scan in given.scans):
            raise InputError("--roi-from would replace the regions that the list names: leave out one of both.")
        planned = plan(given.scans, folder, given.is_cohort)
        jobs = [Job(s, files, replace(search, model=s.model) if s.model else search) for s, files in planned]
        _warn_of_models(jobs, package, console)
        if isinstance(place, Here):
            wanted = options.jobs or (jobs_that_fit() if given.is_cohort else 1)
            place.set_jobs(max(1, min(wanted, len(jobs), detectors.scans_at_once or wanted)))
            stack.enter_context(shared_cores(place.at_once))
        return _run(jobs, place, given, package, folder, options, console)


def _refuse_alone(options: argparse.Namespace) -> None:
    """Refuse options that would do nothing, as what they belong to is not given."""
    for name in ("roi_points", "roi_margin"):
        if getattr(options, name) and not options.roi_from:
            raise InputError(f"{_word(name)} belongs to --roi-from: say which model finds the points.")
    for name in ("shared_paths", "consent", "tls_ca", "tls_cert", "tls_key"):
        if getattr(options, name) and not options.scheduler:
            raise InputError(f"{_word(name)} belongs to --scheduler: give the address of the cluster.")
    if options.jobs and (options.scheduler or options.local_cluster):
        raise InputError(
            "--jobs does nothing on a cluster, whose workers tell how many scans it examines: leave it out."
        )


def _word(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _search(options: argparse.Namespace) -> tuple[Search, ModelPackage]:
    """What is wanted of every scan, and the model that is to find it.

    Raises:
        ModelPackageError: there is no such model.
        InputError: the region cannot be read, or a model has no landmark of a name.
    """
    from H3DELandmarksLib.cohort.detectors import check_names
    from H3DELandmarksLib.cohort.examine import Search
    from H3DELandmarksLib.io.markups import read_markups, read_region
    from H3DELandmarksLib.models import find_model

    package = find_model(options.model)
    check_names(options.landmarks, package.scheme)
    if options.roi_from:
        check_names(options.roi_points, find_model(options.roi_from).scheme)
    search = Search(
        model=options.model,
        landmarks=tuple(options.landmarks) if options.landmarks else None,
        region=read_region(options.roi) if options.roi else None,
        around=options.roi_from,
        around_points=tuple(options.roi_points) if options.roi_points else None,
        margin_mm=options.roi_margin or USUAL_MARGIN_MM,
        spacing=tuple(options.spacing) if options.spacing else None,
        show_doubtful=options.show_doubtful,
        picture=options.picture and not options.hand_over,
        ask_others=options.decided is None,
        decided=read_markups(options.decided) if options.decided else None,
        device=options.device,
        backend=options.backend,
        precision=options.precision,
    )
    return search, package


def _cluster(options: argparse.Namespace) -> AbstractContextManager[Place]:
    from H3DELandmarksLib.cohort.cluster import Address, connected, local_cluster

    if options.local_cluster:
        return local_cluster(options.local_cluster)
    keys = (options.tls_ca, options.tls_cert, options.tls_key)
    return connected(Address(options.scheduler, *keys, options.consent, options.shared_paths))


def _given(options: argparse.Namespace, radiographs: bool, console: Console) -> Given:
    from H3DELandmarksLib.cohort.inputs import Given

    given = Given(radiographs, options.series, console.warn)
    for path in map(Path, options.scans):
        given.add(path)
    wanted = given.is_cohort or options.resume or options.retry_failed or options.parquet
    given.is_cohort = wanted and not options.hand_over
    return given


def _warn_of_models(jobs: Sequence[Job], package: ModelPackage, console: Console) -> None:
    """Tell which of the models that are used, also by a list, are not accurate; one that is not there fails later."""
    from H3DELandmarksLib.core.errors import ModelPackageError
    from H3DELandmarksLib.models import find_model

    for name in dict.fromkeys(job.given.model for job in jobs):
        try:
            used = find_model(name) if name else package
        except ModelPackageError:
            continue
        if used.manifest.measured and (caution := used.manifest.measured.caution()):
            console.warn(caution if used is package else f"The model '{used.id}': {caution}")


def _run(
    jobs: Sequence[Job],
    place: Place,
    given: Given,
    package: ModelPackage,
    folder: Path,
    options: argparse.Namespace,
    console: Console,
) -> bool:
    """Do the work and tell what became of it."""
    from H3DELandmarksLib.cohort.engine import Engine, Wishes
    from H3DELandmarksLib.cohort.log import CohortLog
    from H3DELandmarksLib.formats.case_record import ModelName
    from H3DELandmarksLib.formats.reading import to_plain
    from H3DELandmarksLib.formats.results import DetectionResult, PassedOver, ScanResult

    failed = tuple(
        ScanResult(scan=shown(path), ok=False, error=console.failure(error, shown(path)))
        for path, error in given.failed
    )
    wishes = Wishes(
        overwrite=options.overwrite,
        hand_over=options.hand_over,
        details=console.is_for_programs and len(jobs) <= MOST_DETAILED,
        resume=options.resume or options.retry_failed,
        retry=options.retry_failed,
    )
    with ExitStack() as stack:
        log = stack.enter_context(CohortLog(folder).open()) if given.is_cohort else None
        if log is not None:
            given_paths = [Path(scan) for scan in options.scans]
            told = zip(given.failed, failed)  # what was typed, and holds nothing, is no scan
            unusable = [(path, result.error or "") for (path, _), result in told if path not in given_paths]
            log.add_unusable([*given_paths, *(job.given.path for job in jobs)], unusable)
        engine = Engine(place, wishes, log, console.task, console.failure)
        start = time.monotonic()
        outcomes = _outcomes(engine, jobs, console)
        seconds = time.monotonic() - start
        summary = None
        if log is not None:
            summary = _summary(log, place, outcomes, len(failed), seconds, options.parquet, console)
            if again := sum(outcome.is_resumed and not outcome.result.ok for outcome in outcomes):
                console.warn(f"{plural(again, 'scan')} failed before, see {log.path}: --retry-failed tries again.")
            _tell(summary, sum(outcome.result.ok and not outcome.is_resumed for outcome in outcomes), console)
    result = DetectionResult(
        ok=not failed and all(outcome.result.ok for outcome in outcomes),
        software=__version__,
        model=ModelName(package.id, package.version),
        confidence_within_mm=package.manifest.calibration.confidence.tolerance_mm,
        length_unit=package.manifest.length_unit,
        scans=(*(outcome.result for outcome in outcomes), *failed),
        passed_over=tuple(PassedOver(shown(path), reason) for path, reason in given.passed_over),
        cohort=summary,
    )
    console.document(to_plain(result))
    return result.ok


def _outcomes(engine: Engine, jobs: Sequence[Job], console: Console) -> list[Outcome]:
    """The outcomes in the order of the jobs; each is told when it is there."""
    outcomes: list[Outcome] = []
    failed, resumed, start = 0, 0, time.monotonic()
    with ExitStack() as stack:
        count = stack.enter_context(console.counting(len(jobs))) if engine.log else None
        for outcome in engine.run(jobs):
            outcomes.append(outcome)
            failed += not outcome.result.ok
            resumed += outcome.is_resumed
            fresh = len(outcomes) - resumed
            left = (time.monotonic() - start) / fresh * (len(jobs) - len(outcomes)) if fresh else None
            if outcome.line:
                console.say(outcome.line)
            if count:
                count(len(outcomes), failed, None if left is None else round(left, 1))
    return sorted(outcomes, key=lambda outcome: outcome.number)


def _summary(
    log: CohortLog,
    place: Place,
    outcomes: Sequence[Outcome],
    failed: int,
    seconds: float,
    parquet: bool,
    console: Console,
) -> CohortSummary:
    """Write the table of all scans, and say what became of them."""
    from H3DELandmarksLib.cohort.table import NAME, PARQUET, write_tables
    from H3DELandmarksLib.formats.results import CohortSummary

    write_tables(log.folder, _standing(log, console), parquet)
    found = sum(outcome.result.ok for outcome in outcomes)
    return CohortSummary(
        log=str(log.path),
        table=str(log.folder / NAME),
        parquet=str(log.folder / PARQUET) if parquet else None,
        found=found,
        failed=len(outcomes) - found + failed,
        resumed=sum(outcome.is_resumed for outcome in outcomes),
        jobs=place.at_once,
        seconds=round(seconds, 2),
        computing=min(1.0, place.computing_s / (place.at_once * seconds)) if place.computing_s else None,
    )


def _standing(log: CohortLog, console: Console) -> list[CohortScan]:
    """What is known of each scan but those whose results another detection has replaced, which are told."""
    standing = []
    for entry in log.entries:
        if entry.outputs is None or not log.is_replaced(entry):
            standing.append(entry)
            continue
        place = log.folder / entry.outputs.markups
        console.warn(f"'{place}' is no more the result of '{entry.scan}', which is left out: detect again in it.")
    return standing


def _tell(summary: CohortSummary, examined: int, console: Console) -> None:
    """Say in a line what became of all scans, so many of which were examined now."""
    total, resumed = summary.found + summary.failed, summary.resumed
    before = f", {resumed} as an earlier run had left them" if resumed else ""
    busy = ""
    if summary.computing is not None:
        rate = examined / summary.seconds * 3600
        busy = f" ({rate:.0f} an hour; {summary.jobs} at a time, computing {summary.computing:.0%} of it)"
    took = duration(summary.seconds)
    console.say(f"{summary.found} of {total} scans in {took}{busy}{before}: {summary.table}, {summary.log}")
