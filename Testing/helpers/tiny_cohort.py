"""Many small scans, and what the command line says of them."""

import json
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.formats.results import CohortScan, DetectionResult
from H3DELandmarksLib.io.images import write_volume

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


def make_scan(path: Path, seed: int = 0) -> Path:
    """A scan of noise, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).normal(0, 300, (10, 9, 8)).astype(np.int16)
    write_volume(path, Volume(array, AFFINE), compress=False)
    return path


def detect(capsys, output: Path, *words) -> tuple[int, DetectionResult, str]:
    """Exit code, document and errors of ``detect``."""
    code = main(["detect", *map(str, words), "--output", str(output), "--device", "cpu", "--json"])
    out, err = capsys.readouterr()
    return code, build(DetectionResult, json.loads(out)), err


def log_of(output: Path) -> list[CohortScan]:
    """The lines of a log."""
    lines = (output / "cohort.jsonl").read_bytes().splitlines()
    return [build(CohortScan, json.loads(line)) for line in lines]
