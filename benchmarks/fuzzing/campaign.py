"""Many inputs in child processes: each costs at most itself, and what does not end in a sentence is kept.

An input follows from the name of its reader and its number alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fuzzing.readers import READERS
from benchmarks.fuzzing.seeds import make_seeds
from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.formats.reading import FormatError

ROOT = Path(__file__).resolve().parents[2]
MAX_SECONDS, MAX_BYTES = 5.0, 2 * 2**30
HANG_SECONDS = 240.0  # by the clock, on a computer that others use, too
EXPECTED = (H3DELandmarksError, FormatError)


def run_campaign(
    readers: Sequence[str], inputs: int, seed: int, workers: int, output: Path, minutes: float | None = None
) -> int:
    """Try so many inputs, and tell how many were read, refused or found a fault.

    Args:
        readers: names.
        inputs: for all readers together, in turn.
        seed: number of the first input of each reader.
        workers: child processes at once.
        output: where inputs go that found a fault, with the reason beside them.
        minutes: after which no further input begins.

    Returns:
        1 where there was a fault, else 0.
    """
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    for number in range(inputs):
        jobs.put((readers[number % len(readers)], seed + number // len(readers)))
    results: Counter[tuple[str, str]] = Counter()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="h3de-fuzz-") as folder:
        make_seeds(Path(folder) / "seeds")
        end = begin + 60 * minutes if minutes is not None else float("inf")
        job = (jobs, end, Path(folder), output, results)
        crew = [threading.Thread(target=_oversee, args=job) for _ in range(workers)]
        for member in crew:
            member.start()
        for member in crew:
            member.join()
    outcomes = ("read", "refused", "fault")
    print(f"{'reader':20} {'inputs':>8} {'read':>8} {'refused':>8} {'faults':>8}")
    for reader in (*readers, None):
        counts = [
            sum(n for (r, o), n in results.items() if o == outcome and reader in (r, None)) for outcome in outcomes
        ]
        print(f"{reader or 'all':20} {sum(counts):8} {counts[0]:8} {counts[1]:8} {counts[2]:8}")
    print(f"{time.monotonic() - begin:.0f} s; the first input of each reader has the number {seed}")
    return int(any(outcome == "fault" for _, outcome in results))


def _oversee(jobs: queue.SimpleQueue, end: float, folder: Path, output: Path, results: Counter) -> None:
    """Hand jobs to a child process, and start another one where it did not survive."""
    child = None
    while time.monotonic() < end:
        try:
            reader, number = jobs.get_nowait()
        except queue.Empty:
            break
        child = child if child is not None and child.poll() is None else _start(folder)
        answer = _ask(child, reader, number)
        if answer is None:
            child.kill()
            answer = {"outcome": "fault", "reason": f"the process ended or hung (code {child.wait()})"}
        elif answer["outcome"] == "fault":
            child.kill()  # what it has in memory by now is unknown
            child.wait()
        results[reader, answer["outcome"]] += 1
        if answer["outcome"] == "fault":
            _keep(output, folder, reader, number, answer["reason"])
    if child is not None:
        child.kill()
        child.wait()


def _start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.fuzzing", "--work", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "QT_QPA_PLATFORM": "offscreen"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def _ask(child: subprocess.Popen, reader: str, number: int) -> dict | None:
    """What a child says of an input; None where it ends or says nothing for long."""
    watch = threading.Timer(HANG_SECONDS, child.kill)
    watch.start()
    try:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps([reader, number]) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
        return json.loads(line) if line else None
    except OSError:
        return None
    finally:
        watch.cancel()


def _keep(output: Path, folder: Path, reader: str, number: int, reason: str) -> None:
    name, data = make_input(folder / "seeds", reader, number)
    place = output / reader.replace(" ", "-") / f"{number}-{name}"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    place.with_name(f"{place.name}.txt").write_text(reason, encoding="utf-8", errors="backslashreplace")
    print(f"fault: {place}: {reason.strip().splitlines()[-1][:160]!r}", flush=True)


def make_input(seeds: Path, reader: str, number: int) -> tuple[str, bytes]:
    """Name and content of an input."""
    rng = random.Random(f"{reader} {number}")
    return READERS[reader].mutated(rng, sorted((seeds / reader).iterdir()))


def work(folder: Path) -> None:
    """Read jobs from stdin and answer each in a line."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print what they think of a file
    resource.setrlimit(resource.RLIMIT_AS, (24 * 2**30,) * 2)
    for line in sys.stdin:
        reader, number = json.loads(line)
        answers.write(json.dumps(_try(folder, reader, number)) + "\n")


def _try(folder: Path, reader: str, number: int) -> dict[str, str]:
    name, data = make_input(folder / "seeds", reader, number)
    place = folder / f"input-{os.getpid()}"
    place.mkdir(exist_ok=True)
    path = place / name
    path.write_bytes(data)
    _forget_peak()
    seconds, memory = _spent(), _peak()
    try:
        READERS[reader].read(path)
        answer = {"outcome": "read"}
    except EXPECTED as error:
        answer = {"outcome": "refused"}
        if "\n" in str(error).strip() and isinstance(error, H3DELandmarksError):
            answer = {"outcome": "fault", "reason": f"more than a line: {error}"}
    except BaseException:
        answer = {"outcome": "fault", "reason": traceback.format_exc()}
    spent, grown = _spent() - seconds, _peak() - memory
    if spent > MAX_SECONDS or grown > MAX_BYTES:
        answer = {"outcome": "fault", "reason": f"it took {spent:.1f} s and {grown / 2**20:.0f} MB"}
    shutil.rmtree(place, ignore_errors=True)
    return answer


def _forget_peak() -> None:
    """Let the peak of the process be what it uses now, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Peak of the process in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _spent() -> float:
    """Seconds of computing, of child processes, too."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)
