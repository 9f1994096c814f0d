"""Where scans are examined: this computer, whose cores several of them share."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from H3DELandmarksLib.cohort.examine import Detectors, Finding, Search, examine
from H3DELandmarksLib.cohort.inputs import GivenScan
from H3DELandmarksLib.cohort.result_files import ResultFiles, fingerprint
from H3DELandmarksLib.core.errors import Cancelled
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.io import isolated
from H3DELandmarksLib.io.dicom import modality
from H3DELandmarksLib.io.markups import read_region

AHEAD = 2  # scans that are read or written while others are examined
BYTES_PER_JOB = 2 * 2**30  # a large CT, being examined and being read


@dataclass(frozen=True)
class Job:
    """A scan, where its results go, and what is wanted of it."""

    given: GivenScan
    files: ResultFiles
    search: Search

    @property
    def own_search(self) -> Search:
        """What is wanted, with the box that a list names for this scan.

        Raises:
            InputError: the box cannot be read.
        """
        region = self.given.region
        return replace(self.search, region=read_region(region)) if region else self.search


class Place(Protocol):
    """Where scans are examined.

    Attributes:
        at_once: scans that are examined at a time.
        width: scans that are examined, read or written at a time.
        computing_s: seconds of all examinations together.
    """

    at_once: int
    computing_s: float

    @property
    def width(self) -> int:
        """See above."""

    def find(self, job: Job, progress: Progress, cancelled: Callable[[], bool], overwrite: bool) -> Finding:
        """What is found in a scan; errors as of reading and of `examine`."""


class Here:
    """This computer: as many scans at a time as jobs, which share its cores."""

    def __init__(self, jobs: int) -> None:
        """Args: scans at a time."""
        self.at_once = jobs
        self.computing_s = 0.0
        self._slots = threading.BoundedSemaphore(jobs)
        self._lock = threading.RLock()
        self._loaded: dict[tuple[object, ...], Detectors] = {}

    @property
    def width(self) -> int:
        """See Place."""
        return self.at_once + AHEAD

    def set_jobs(self, jobs: int) -> None:
        """How many scans at a time from now on; not while any is examined."""
        self.at_once, self._slots = jobs, threading.BoundedSemaphore(jobs)

    def load(self, search: Search) -> Detectors:
        """The models of a search, loaded once; raises what `Detectors.load` does."""
        how = (search.device, search.backend, search.precision)
        key = (search.model, search.landmarks, search.around, search.around_points, *how)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = Detectors.load(search)
            return self._loaded[key]

    def find(self, job: Job, progress: Progress, cancelled: Callable[[], bool], overwrite: bool) -> Finding:
        """See Place."""
        search, path = job.own_search, job.given.path
        detectors = self.load(search)
        needs_size = detectors.main.package.manifest.height_mm is None
        volume = isolated.read_volume(path, search.spacing, job.given.series, needs_size=needs_size)
        job.files.check_same_scan(fingerprint(volume), overwrite)
        with self._slots:
            if cancelled():
                raise Cancelled("Detection was cancelled.")
            start, kind = time.monotonic(), partial(modality, path, job.given.series)
            found = examine(detectors, volume, search, progress, cancelled, kind, job.files.name)
            with self._lock:
                self.computing_s += time.monotonic() - start
            return found


def cores() -> int:
    """Cores that this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs_that_fit() -> int:
    """One for each thread that PyTorch may use, as far as memory allows."""
    import torch

    free = isolated.free_memory()
    most = torch.get_num_threads()
    return most if free is None else max(1, min(most, free // BYTES_PER_JOB))


@contextmanager
def shared_cores(jobs: int) -> Iterator[None]:
    """Let each of several jobs use its part of the cores."""
    import SimpleITK as sitk
    import torch

    before = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    if jobs > 1:
        torch.set_num_threads(max(1, before[0] // jobs))
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(max(1, before[1] // jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before[1])
