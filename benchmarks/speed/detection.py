"""From a large CT on disk to landmarks: by stage, with memory, and how both grow with the scan."""

from __future__ import annotations

import cProfile
import gc
import pstats
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.speed.measure import MEGABYTE, load_libraries, peak_bytes, reset_peak, resident_bytes, summary
from benchmarks.speed.networks import exponent
from benchmarks.speed.scan_volume import jaw, place_in_head
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.engine import Engine
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.models import find_model

MODEL = "mandibular-molar-phantom"
# Rows of the table: how functions are called, and the path that they are defined in, as patterns.
STAGES = {
    "reading the file": ("read_volume", "io/images.py"),
    "axis order": ("canonical", "geometry.py"),
    "intensity range": ("for_volume", "detection/scan.py"),
    "search of the whole scan": ("localize", "detection/search.py"),
    "refinement": ("refine", "detection/search.py"),
}
PARTS = {"of these, resampling": ("resample", "geometry.py"), "of these, decoding": ("decode_.*", "detection/decoding")}


def scan(shape: tuple[int, int, int], file: str, rounds: int = 3) -> dict:
    """Seconds from a file to landmarks, whole and by stage, and the error against the phantom's truth.

    Args:
        shape: voxels of the scan.
        file: .nrrd to write the scan to; left there.
        rounds: how often to measure.
    """
    case = jaw()
    write_volume(file, place_in_head(case, tuple(shape)))
    start = time.perf_counter()
    detector = Detector(find_model(MODEL))
    loading = time.perf_counter() - start
    load_libraries()
    first, found = _timed(detector, Path(file))
    seconds = [_timed(detector, Path(file))[0] for _ in range(rounds)]
    error = np.linalg.norm(found.positions - case.landmarks.positions, axis=1)
    return {
        "seconds": summary(seconds),
        "first_seconds": first,
        "loading_seconds": loading,
        "profile": _profile(detector, Path(file)),
        "found": int(found.present.sum()),
        "mean_error_mm": float(np.nanmean(error)),
        "file_megabytes": Path(file).stat().st_size / MEGABYTE,
    }


def scan_memory(file: str) -> dict:
    """Megabytes at the peak of loading the model, reading a scan and detecting, beyond the imported libraries."""
    load_libraries()
    before = resident_bytes()
    reset_peak()
    Detector(find_model(MODEL)).detect(read_volume(file))
    return {"megabytes": (peak_bytes() - before) / MEGABYTE}


def growth(sides: list[int]) -> dict:
    """Seconds and megabytes of detection in cubes of several sides, from a scan in memory."""
    case, detector = jaw(), Detector(find_model(MODEL))
    detector.detect(case.volume)
    seconds, megabytes = [], []
    for side in sides:
        volume = place_in_head(case, (side,) * 3)
        gc.collect()
        before = resident_bytes()
        reset_peak()
        start = time.perf_counter()
        detector.detect(volume)
        seconds.append(time.perf_counter() - start)
        megabytes.append((peak_bytes() - before) / MEGABYTE)
        del volume
    return {
        "sides": sides,
        "seconds": seconds,
        "megabytes": megabytes,
        "time_exponent": exponent(sides, seconds),
        "memory_exponent": exponent(sides, [max(1.0, m) for m in megabytes]),
    }


def _timed(detector: Detector, file: Path) -> tuple[float, LandmarkSet]:
    start = time.perf_counter()
    found = detector.detect(read_volume(file))
    return time.perf_counter() - start, found


def _profile(detector: Detector, file: Path) -> dict[str, float]:
    """Seconds in each stage and part of one run, by Python's profiler."""
    profile = cProfile.Profile()
    engines = [TimedEngine(network.engine) for network in detector.networks]
    for network, engine in zip(detector.networks, engines):
        network.engine = engine
    start = time.perf_counter()
    profile.runcall(_timed, detector, file)
    whole = time.perf_counter() - start
    for network, engine in zip(detector.networks, engines):
        network.engine = engine.engine
    times = {name: seconds_in(profile, *where) for name, where in (STAGES | PARTS).items()}
    times["of these, networks"] = sum(engine.seconds for engine in engines)
    return {"whole": whole, **times, "other": max(0.0, whole - sum(times[name] for name in STAGES))}


class TimedEngine:
    """An engine that adds up how long it works."""

    def __init__(self, engine: Engine) -> None:
        """Stand in for ``engine``."""
        self.engine, self.seconds = engine, 0.0

    def maps(self, batch: np.ndarray) -> Sequence[Tensor]:
        """See Engine."""
        start = time.perf_counter()
        maps = self.engine.maps(batch)
        self.seconds += time.perf_counter() - start
        return maps


def seconds_in(profile: cProfile.Profile, function: str, path: str) -> float:
    """Seconds in functions of these names and files, with all that they call; calls among themselves count once.

    Args:
        profile: of a run.
        function: pattern of the whole name.
        path: pattern of a part of the file's path within H3DELandmarksLib.
    """
    entries = pstats.Stats(profile).stats
    meant = {
        key
        for key in entries
        if re.fullmatch(function, key[2]) and re.search(f"H3DELandmarksLib/.*{path}", Path(key[0]).as_posix())
    }
    return sum(times[3] for key in meant for caller, times in entries[key][4].items() if caller not in meant)
