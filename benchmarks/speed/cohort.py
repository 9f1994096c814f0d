"""Many scans by one command: throughput, what it saves, how it grows, and what a cluster costs beside the work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.speed.machine import ROOT, describe_machine
from benchmarks.speed.networks import exponent
from H3DELandmarksLib.core.resources import resource_folder

MODEL = "mandibular-molar-phantom"
SAMPLE = "mandibular-molar-phantom.nrrd"


def cohort(counts: list[int], alone: int) -> dict:
    """Scans an hour and core, the ratio to a process for each scan, and time and memory by the number of scans.

    Each figure is given by the clock and in processor time of all processes, which other work on the machine disturbs
    less.

    Args:
        counts: numbers of scans, the last of which tells the throughput.
        alone: how many scans are given to a process each.
    """
    with tempfile.TemporaryDirectory(prefix="h3de-cohort-") as name:
        folder = Path(name)
        singles = [_detect([scan], folder / f"alone-{k}") for k, scan in enumerate(_copies(folder / "one", alone))]
        runs = [_detect([_folder(folder / f"of-{count}", count)], folder / f"out-{count}") for count in counts]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    seconds, processor = [run.seconds for run in runs], [run.processor for run in runs]
    alone_seconds, alone_processor = median(run.seconds for run in singles), median(run.processor for run in singles)
    return {
        "counts": counts,
        "seconds": seconds,
        "processor_seconds": processor,
        "megabytes": [run.megabytes for run in runs],
        "time_exponent": _exponent(counts[1:], seconds[1:]),
        "processor_exponent": _exponent(counts[1:], processor[1:]),
        "computing": runs[-1].summary["computing"],
        "examining": (runs[-1].examining - runs[0].examining) / (processor[-1] - processor[0]),
        "jobs": runs[-1].summary["jobs"],
        "scans_per_hour_and_core": 3600 * counts[-1] / seconds[-1] / cores,
        "scans_per_processor_hour": 3600 * counts[-1] / processor[-1],
        "alone_seconds": alone_seconds,
        "alone_processor_seconds": alone_processor,
        "times_faster": alone_seconds / (seconds[-1] / counts[-1]),
        "times_less_processor": alone_processor / (processor[-1] / counts[-1]),
        "machine": describe_machine(),
    }


def cluster(count: int) -> dict:
    """Seconds that a scan on a cluster of one worker takes beside reading and examining it.

    Args:
        count: scans, after one that warms up.
    """
    from H3DELandmarksLib.cohort.cluster import local_cluster
    from H3DELandmarksLib.cohort.examine import Search
    from H3DELandmarksLib.cohort.here import Job
    from H3DELandmarksLib.cohort.inputs import GivenScan
    from H3DELandmarksLib.cohort.result_files import ResultFiles
    from H3DELandmarksLib.core.execution import silent

    with tempfile.TemporaryDirectory(prefix="h3de-cohort-") as name, local_cluster(1) as workers:
        scan = resource_folder("SampleData") / SAMPLE
        job = Job(GivenScan(scan), ResultFiles(scan, Path(name), "sample"), Search(MODEL, device="cpu"))
        overheads = []
        for as_paths in (True, False):
            workers.as_paths = as_paths
            workers.find(job, silent, lambda: False, False)
            seconds = []
            for _ in range(count):
                before, start = workers.computing_s + workers.reading_s, time.perf_counter()
                workers.find(job, silent, lambda: False, False)
                whole = time.perf_counter() - start
                seconds.append(whole - (workers.computing_s + workers.reading_s - before))
            overheads.append(median(seconds))
    return {
        "overhead_as_path": overheads[0],
        "overhead_as_voxels": overheads[1],
        "scans": count,
        "machine": describe_machine(),
    }


def _exponent(counts: list[int], seconds: list[float]) -> float | None:
    """The power of the number of scans that time grows with; None where two numbers don't tell."""
    return 3 * exponent(counts, seconds) if len(counts) > 1 else None  # `exponent` takes edges of cubes


def _copies(folder: Path, count: int) -> list[Path]:
    scans = [folder / f"scan-{k:03}.nrrd" for k in range(count)]
    folder.mkdir()
    for scan in scans:
        shutil.copyfile(resource_folder("SampleData") / SAMPLE, scan)
    return scans


def _folder(folder: Path, count: int) -> Path:
    _copies(folder, count)
    return folder


_RUN = """
import json, resource, sys, time
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.cohort import here

def timed(*arguments, examine=here.examine):
    start = time.thread_time()
    try:
        return examine(*arguments)
    finally:
        spent.append(time.thread_time() - start)

spent, here.examine = [], timed
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(sum(spent))
sys.exit(code)
"""


class Run(NamedTuple):
    """A whole process.

    Attributes:
        seconds: by the clock.
        processor: seconds of processor time, with those of its children.
        examining: of these, the seconds of the threads that examine scans.
        megabytes: peak memory.
        summary: of the cohort; empty for one scan.
    """

    seconds: float
    processor: float
    examining: float
    megabytes: float
    summary: dict


def _detect(scans: list[Path], output: Path) -> Run:
    words = [*map(str, scans), "--model", MODEL, "--output", str(output), "--device", "cpu", "--progress", "json"]
    start, before = time.perf_counter(), os.times()
    done = subprocess.run([sys.executable, "-c", _RUN, "detect", *words], cwd=ROOT, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-500:])
    *_, result, megabytes, examining = done.stdout.splitlines()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seconds, processor, float(examining), float(megabytes), json.loads(result).get("cohort", {}))
