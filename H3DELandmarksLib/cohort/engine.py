"""Many scans through reading, examining and writing, several at a time, of which none waits for another.

Each scan is one thread's work from reading to writing. More threads run than may examine at a time, so that some read
and write meanwhile; as many scans are in memory as there are threads, however many are given.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from H3DELandmarksLib.cohort import bids
from H3DELandmarksLib.cohort.examine import Finding, asked_for
from H3DELandmarksLib.cohort.here import Job, Place
from H3DELandmarksLib.cohort.log import CohortLog, content_digest, settings_digest
from H3DELandmarksLib.cohort.origin import landmark_results
from H3DELandmarksLib.cohort.result_files import MODEL, SCAN, ResultFiles
from H3DELandmarksLib.core.errors import Cancelled
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.files import shown
from H3DELandmarksLib.formats.case_record import utc_now
from H3DELandmarksLib.formats.provenance import Provenance, read_provenance
from H3DELandmarksLib.formats.reading import to_json
from H3DELandmarksLib.formats.results import CohortModel, CohortOutputs, CohortScan, ListedModel, ScanResult
from H3DELandmarksLib.io import isolated
from H3DELandmarksLib.io.markups import unit_of_points

JOBS_PER_READER = 4


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `line` says it to people, None where an error was told."""

    number: int
    result: ScanResult
    line: str | None = None
    is_resumed: bool = False


@dataclass(frozen=True)
class Wishes:
    """How results are treated.

    Attributes:
        overwrite: whether files that a person made or edited are replaced.
        hand_over: whether a program reads the point list at once and removes it.
        details: whether outcomes hold all landmarks.
        resume: whether scans that are finished are left as they are, and those that failed too.
        retry: whether those that failed are tried again.
    """

    overwrite: bool = False
    hand_over: bool = False
    details: bool = True
    resume: bool = False
    retry: bool = False


@dataclass
class Engine:
    """Runs jobs.

    Attributes:
        place: where scans are examined.
        wishes: how results are treated.
        log: of all scans; None where none is wanted.
        task: opens the progress of a scan by its name.
        failure: tells an error, and gives its sentence.
    """

    place: Place
    wishes: Wishes
    log: CohortLog | None
    task: Callable[[str], AbstractContextManager[Progress]]
    failure: Callable[[Exception, str], str]
    _stopped: threading.Event = field(default_factory=threading.Event)
    _model: Callable[[str], CohortModel] = field(default_factory=lambda: cache(_model))

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """The outcome of each job as soon as it is there; an error ends its own job only.

        Raises:
            BrokenPipeError: nobody reads what is told.
        """
        if len(jobs) == 1 or (self.log is None and self.place.at_once == 1):
            yield from map(self._process, range(len(jobs)), jobs)
            return
        width = self.place.width
        isolated.allow_readers(1 + (self.place.at_once - 1) // JOBS_PER_READER)
        waiting: set[Future[Outcome]] = set()
        with ThreadPoolExecutor(width, thread_name_prefix="scan") as pool:
            try:
                for number, job in enumerate(jobs):
                    waiting.add(pool.submit(self._process, number, job))
                    if len(waiting) > width:
                        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        yield from (future.result() for future in done)
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            except BaseException:
                self._stopped.set()
                isolated.interrupt()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _process(self, number: int, job: Job) -> Outcome:
        start = time.monotonic()
        scan = shown(job.given.path)
        entry = None
        try:
            with self.task(job.files.name) as progress:
                entry = self._begin(job)
                if (known := self._known(entry, job)) is not None:
                    return _resumed(number, scan, known, job)
                job.files.check_replaceable(self.wishes.overwrite, job.search.picture)
                found = self.place.find(job, progress, self._stopped.is_set, self.wishes.overwrite)
                found = found.named(job.given.path.name)
                job.files.check_same_scan(found.fingerprint, self.wishes.overwrite)
                self._write(job, found)
        except (BrokenPipeError, Cancelled):
            raise
        except Exception as error:
            if self._stopped.is_set():
                raise Cancelled("Detection was cancelled.") from error
            reason = self.failure(error, scan)
            self._record(job, entry, start, reason=reason)
            return Outcome(number, ScanResult(scan=scan, ok=False, error=reason))
        seconds = time.monotonic() - start
        self._record(job, entry, start, found)
        line = f"{scan}: {found.summary} in {seconds:.1f} s, written to {job.files.markups}"
        return Outcome(number, self._result(job, found, seconds), line)

    def _begin(self, job: Job) -> CohortScan | None:
        """What is known of a scan before the work; None without a log."""
        if self.log is None:
            return None
        model = self._model(job.search.model)
        return replace(self._unknown(job), model=model, content=content_digest(job.given.path))

    def _known(self, entry: CohortScan | None, job: Job) -> CohortScan | None:
        if self.log is None or entry is None or not self.wishes.resume:
            return None
        known = self.log.known(entry, job.search.picture)
        if known is None and not self.wishes.retry:
            known = self.log.failed_before(entry)
        if known is None:
            return None
        is_own = known.key == entry.key
        subject = (entry.subject or known.subject) if is_own else entry.subject  # a list may have been corrected
        now = replace(
            known, scan=entry.scan, name=entry.name, subject=subject, series=entry.series, region=entry.region
        )
        if now != known:
            is_renamed = not (is_own or os.path.lexists(known.scan))
            self.log.add(now, instead_of=known if is_renamed else None)
        return now

    def _write(self, job: Job, found: Finding) -> None:
        files, wanted = job.files, asked_for(found.landmarks, job.search.landmarks)
        files.folder.mkdir(parents=True, exist_ok=True)
        if self.wishes.hand_over:
            files.hand_over(wanted, found.origin)
            return
        model = found.origin.cells()["model"]
        stamp = {SCAN: found.fingerprint, MODEL: model}
        draw = None if found.picture is None else partial(_draw, found.picture)
        files.write(wanted, stamp, draw, self.wishes.overwrite, found.origin, found.measurements)
        if job.given.data_set is not None:
            root, scan, made = job.given.data_set, job.given.path, f"found by the model {model}"
            bids.write_sidecar(files.folder_of_all, files.folder, files.name, root, scan, made, found.unit)

    def _record(
        self, job: Job, entry: CohortScan | None, start: float, found: Finding | None = None, reason: str | None = None
    ) -> None:
        if self.log is None:
            return
        if found is None and entry is not None and self.log.known(entry, picture=False):
            return  # the results of an earlier run still stand
        entry = replace(
            entry or self._unknown(job), seconds=round(time.monotonic() - start, 3), time=utc_now(), reason=reason
        )
        if found is not None:
            recognised = found.recognition.recognised if found.recognition else None
            outputs = _outputs(job.files, found)
            entry = replace(entry, status="found", summary=found.summary, recognised=recognised, outputs=outputs)
            entry = replace(entry, doubt=found.doubt(job.search.landmarks))
        self.log.add(entry)

    def _result(self, job: Job, found: Finding, seconds: float) -> ScanResult:
        files = job.files
        return ScanResult(
            scan=shown(job.given.path),
            model=_listed_model(job, found.origin),
            ok=True,
            seconds=round(seconds, 2),
            summary=f"{found.summary}.",
            unit=found.unit,
            recognition=found.recognition,
            miscounted=found.miscounted,
            recognised_by=found.others,
            landmarks=landmark_results(found.landmarks, found.candidates) if self.wishes.details else None,
            markups=str(files.markups),
            table=None if self.wishes.hand_over else str(files.table),
            provenance=str(files.provenance),
            picture=None if found.picture is None else str(files.picture),
            measurement_table=str(files.measurements) if found.measurements and not self.wishes.hand_over else None,
            measurements=(found.measurements or None) if self.wishes.details else None,
        )

    def _unknown(self, job: Job) -> CohortScan:
        """A failed line, of which content and model are not known yet."""
        search, given = job.search, job.given
        box = None if search.region is None else search.region.affine.tolist()
        own_box = content_digest(given.region) if given.region else None
        around = None
        if search.around:
            around = self._model(search.around).sha256, search.around_points, search.margin_mm
        settings = settings_digest(
            landmarks=sorted(search.landmarks) if search.landmarks else None,
            region=own_box or box,
            around=around,
            spacing=search.spacing,
            doubtful=search.show_doubtful,
            how=(search.backend, search.precision),
        )
        return CohortScan(
            scan=shown(os.path.abspath(given.path)),
            name=shown(job.files.relative_name),
            series=given.series,
            subject=given.subject,
            region=shown(os.path.abspath(given.region)) if given.region else None,
            settings=settings,
            status="failed",
            seconds=0.0,
            time=utc_now(),
        )


def _listed_model(job: Job, origin: Provenance) -> ListedModel | None:
    model = origin.model
    if job.given.model is None or model is None:
        return None
    return ListedModel(model.id, model.version, model.confidence_within_mm, model.unit)


def _draw(picture: bytes | Exception, path: Path) -> None:
    if isinstance(picture, Exception):
        raise picture
    path.write_bytes(picture)


def _resumed(number: int, scan: str, known: CohortScan, job: Job) -> Outcome:
    files, folder = known.outputs, job.files.folder_of_all
    if files is None:
        return Outcome(number, ScanResult(scan=scan, ok=False, error=known.reason), None, True)
    result = ScanResult(
        scan=scan,
        model=_listed_model(job, read_provenance(folder / files.provenance)) if job.given.model else None,
        ok=True,
        summary=f"{known.summary}." if known.summary else None,
        seconds=known.seconds,
        unit=unit_of_points(folder / files.markups),
        markups=str(folder / files.markups),
        table=str(folder / files.table),
        provenance=str(folder / files.provenance),
        picture=str(folder / files.picture) if files.picture else None,
        measurement_table=str(folder / files.measurement_table) if files.measurement_table else None,
    )
    return Outcome(number, result, f"{scan}: finished before, see {result.markups}", True)


def _model(name: str) -> CohortModel:
    from H3DELandmarksLib.models import find_model

    known = find_model(name).reference
    return CohortModel(known.id, known.version, known.digest)


def _outputs(files: ResultFiles, found: Finding) -> CohortOutputs:
    def place(path: Path) -> str:
        return shown(path.relative_to(files.folder_of_all).as_posix())

    return CohortOutputs(
        markups=place(files.markups),
        table=place(files.table),
        provenance=place(files.provenance),
        provenance_sha256=hashlib.sha256(to_json(found.origin)).hexdigest(),
        picture=place(files.picture) if found.picture is not None else None,
        measurement_table=place(files.measurements) if found.measurements else None,
    )
