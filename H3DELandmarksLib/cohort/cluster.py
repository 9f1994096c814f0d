"""Where scans are examined: a Dask cluster, of this computer or of others.

A model is sent once, by its SHA-256, and to workers that come later. A scan goes as its voxels and geometry, or as a
path where the workers see the same files; nothing else of it is sent. Dask gives the scan of a worker that dies to
another one; results are written here, so that none is written twice.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cohort.address import Address
from H3DELandmarksLib.cohort.detectors import keep_detectors
from H3DELandmarksLib.cohort.examine import Detectors, Finding, Search, examine
from H3DELandmarksLib.cohort.here import AHEAD, Job, cores
from H3DELandmarksLib.cohort.result_files import fingerprint
from H3DELandmarksLib.core.errors import Cancelled, H3DELandmarksError, InputError, MissingDependencyError
from H3DELandmarksLib.core.execution import Progress, silent
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io import isolated
from H3DELandmarksLib.io.dicom import modality
from H3DELandmarksLib.models import ModelPackage, find_model

if TYPE_CHECKING:
    from distributed import Client, Future, WorkerPlugin

logger = logging.getLogger(__name__)
THREADS = 2  # of a worker: one reads while the other examines
CONNECT_S = 20
POLL_S = 0.5
# How often a scan may be with a worker that dies before the scan is taken for the cause.
ALLOWED_DEATHS = 5


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingDependencyError(
            "A cluster needs the Python package distributed: install it (pip install distributed)."
        ) from error
    for name in ("distributed", "distributed.worker", "distributed.nanny", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # deaths of workers are no news to users, nor a lost host
    return distributed


@contextmanager
def connected(address: Address) -> Iterator[Cluster]:
    """A cluster that is there.

    Raises:
        InputError: it must not be used, or does not answer.
        MissingDependencyError: distributed is not installed.
    """
    address.check()
    distributed = _distributed()
    security = None
    if address.is_encrypted:
        security = distributed.Security(
            require_encryption=True,
            tls_ca_file=address.authority,
            tls_client_cert=address.certificate,
            tls_client_key=address.key,
        )
    try:
        client = distributed.Client(address.address, security=security, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"The scheduler '{address.address}' does not answer ({error}): check address, certificates, and whether it "
            "runs."
        ) from error
    with client:
        yield Cluster(client, address.as_paths)


@contextmanager
def local_cluster(workers: int) -> Iterator[Cluster]:
    """A cluster of so many workers on this computer, which ends with the block."""
    distributed = _distributed()
    import dask

    threads = str(max(1, cores() // workers))
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_DEATHS}))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="h3de-cluster-"))
        cluster = stack.enter_context(
            distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=THREADS,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                local_directory=folder,
                env=dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
            )
        )
        client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        yield Cluster(client, as_paths=True)


class Cluster:
    """The workers of a Dask cluster; a `here.Place`."""

    def __init__(self, client: Client, as_paths: bool) -> None:
        """Args: the client, and whether workers see the same files.

        Raises:
            InputError: there are no workers.
        """
        self._client = client
        self.as_paths = as_paths
        try:
            client.wait_for_workers(1, timeout=CONNECT_S)
        except TimeoutError as error:
            raise InputError("The cluster has no workers: start some (dask worker ADDRESS).") from error
        self.at_once = len(client.nthreads())
        self.width = THREADS * self.at_once + AHEAD
        self.computing_s = self.reading_s = 0.0
        self._lock = threading.Lock()
        self._sent = cache(self._send)

    def _send(self, name: str) -> str:
        """Let every worker have a model, unless it has it; gives its file's name there."""
        data = _packed(find_model(name))
        file = f"{hashlib.sha256(data).hexdigest()}.zip"
        self._client.register_plugin(_model_file(file, data), name=file)
        return file

    def find(self, job: Job, progress: Progress, cancelled: Callable[[], bool], overwrite: bool) -> Finding:
        """See Place."""
        search = job.own_search
        with self._lock:
            models = {name: self._sent(name) for name in (search.model, search.around) if name}
        sent = replace(search, model=models[search.model], around=models.get(search.around or ""))
        scan: Volume | str = os.path.abspath(job.given.path)
        series, title = job.given.series, job.files.name
        if not self.as_paths:
            series, title = None, ""
            needs_size = find_model(search.model).manifest.height_mm is None
            scan = isolated.read_volume(job.given.path, search.spacing, job.given.series, needs_size=needs_size)
            job.files.check_same_scan(fingerprint(scan), overwrite)
        ask = partial(self._client.submit, examine_there, scan, series, sent, title, __version__, pure=False)
        answer = self._answer(ask, progress, cancelled)
        if isinstance(answer, H3DELandmarksError):
            raise answer
        for warning in answer.warnings:
            logger.warning("%s", warning)
        with self._lock:
            self.computing_s += answer.computing_s
            self.reading_s += answer.reading_s
        return answer.found

    def _answer(
        self, ask: Callable[[], Future], progress: Progress, cancelled: Callable[[], bool]
    ) -> Answer | H3DELandmarksError:
        """What a worker answers; asked again where the scheduler has lost the question with a worker."""
        distributed = _distributed()
        progress(0.0, "Waiting for a worker")
        for _ in range(ALLOWED_DEATHS):
            try:
                return _waited_for(ask(), cancelled)
            except distributed.KilledWorker as error:
                raise InputError(
                    "Every worker that examined this scan ended, most likely for lack of memory: examine it on a "
                    "computer with more."
                ) from error
            except distributed.CancelledError:
                if self._client.status != "running":
                    break
        raise InputError(
            "The connection to the cluster was lost: check whether it runs, and start again (many scans with --resume "
            "--retry-failed, which keeps what is finished)."
        )


def _waited_for(future: Future, cancelled: Callable[[], bool]) -> Answer | H3DELandmarksError:
    """What becomes of a task; `Future.result` with a timeout would fail now and then where it is asked again."""
    is_done = threading.Event()
    future.add_done_callback(lambda _: is_done.set())
    while not is_done.wait(POLL_S):
        if cancelled():
            future.cancel()
            raise Cancelled("Detection was cancelled.")
    answer: Answer | H3DELandmarksError = future.result()
    return answer


def _packed(package: ModelPackage) -> bytes:
    """A model as a zip file, the same bytes for the same model."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for name in package.files:
            archive.writestr(zipfile.ZipInfo(name), package.read(name))
    return data.getvalue()


# On the workers


def _model_file(file: str, data: bytes) -> WorkerPlugin:
    """What brings a model to each worker when it starts or when the model is sent."""
    from distributed import WorkerPlugin

    class ModelFile(WorkerPlugin):
        idempotent = True

        def setup(self, worker: Any) -> None:
            keep_file(Path(worker.local_directory) / file, data)

    return ModelFile()


def keep_file(path: Path, data: bytes) -> None:
    """Write a file that other threads may look for meanwhile."""
    with atomic_write(path, durable=False) as temporary:
        temporary.write_bytes(data)


@dataclass(frozen=True)
class Answer:
    """What a worker says of a scan, and how long reading and examining took it."""

    found: Finding
    reading_s: float
    computing_s: float
    warnings: tuple[str, ...]


class _Warnings(logging.Handler):
    """Collects what is warned of in the thread that has made it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.texts.append(record.getMessage())

    def __enter__(self) -> _Warnings:
        logging.getLogger("H3DELandmarksLib").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("H3DELandmarksLib").removeHandler(self)


_examining = threading.Lock()


def examine_there(
    scan: Volume | str, series: str | None, search: Search, title: str, version: str
) -> Answer | H3DELandmarksError:
    """What is found in a scan, or why nothing is; runs on a worker.

    Args:
        scan: voxels and geometry, or a path that this worker sees.
        series: as for `io.images.read_volume`.
        search: its models are names of files that `_model_file` has brought.
        title: of the picture.
        version: of the software that asks.
    """
    try:
        return _examined(scan, series, search, title, version)
    except H3DELandmarksError as error:  # not raised, or Dask would log it with all arguments
        error.__traceback__ = None
        return error


def _examined(scan: Volume | str, series: str | None, search: Search, title: str, version: str) -> Answer:
    from distributed import get_worker

    if version != __version__:
        raise InputError(f"The worker has version {__version__} of this software: install {version} there.")
    folder = Path(get_worker().local_directory)
    search = replace(
        search, model=str(folder / search.model), around=str(folder / search.around) if search.around else None
    )
    kind = partial(modality, Path(scan), series) if isinstance(scan, str) else str
    with _Warnings() as warnings:
        begun = time.monotonic()
        if isinstance(scan, str):
            with _examining:
                needs_size = _loaded(search).main.package.manifest.height_mm is None
            volume = isolated.read_volume(scan, search.spacing, series, needs_size=needs_size)
        else:
            volume = scan
        reading_s = time.monotonic() - begun
        with _examining:
            start = time.monotonic()
            found = examine(_loaded(search), volume, search, silent, None, kind, title)
            return Answer(found, reading_s, time.monotonic() - start, tuple(warnings.texts))


def _loaded(search: Search) -> Detectors:
    from H3DELandmarksLib.cohort import detectors

    if detectors._kept is None:
        keep_detectors()
    return Detectors.load(search)
