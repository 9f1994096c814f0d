"""How long a click on "Detect landmarks" takes until the points are there, beside the computation alone.

    python -m benchmarks.clicks [--clicks N] [--threads N]

The panel runs in the tests' stand-in for Slicer, with the bundled sample and its model: the first click starts the
program that detects and loads the model, later ones find both there. The computation alone is one call of the library
on a volume that is in memory, in a program with the same number of threads. Both are measured by turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from H3DELandmarksLib.cli.main import SPINNING

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "Resources" / "SampleData" / "mandibular-molar-phantom.nrrd"
MODEL = "mandibular-molar-phantom"
LAUNCHER = '#!/bin/sh\n"{python}" "$@"\nexit $?\n'
COMPUTE = """
import sys, time
from H3DELandmarksLib.cohort.detectors import load_detector
from H3DELandmarksLib.io.images import read_volume
detector, volume = load_detector(sys.argv[1], "cpu"), read_volume(sys.argv[2])
detector.detect(volume)
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    detector.detect(volume)
    print(time.perf_counter() - start, flush=True)
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clicks", description=__doc__.split("\n")[0])
    parser.add_argument("--clicks", type=int, default=5, help="after the first one (default: %(default)d)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of networks (default: all cores)")
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ.setdefault(*SPINNING)  # as commands do
    with tempfile.TemporaryDirectory(prefix="h3de-clicks-") as folder:
        panel = open_panel(Path(folder))
        first = click(panel)
        with Computing() as compute:
            turns = [(click(panel), compute()) for _ in range(options.clicks)]
        panel.cleanup()
    later, alone = (statistics.median(times) for times in zip(*turns))
    print(f"first click     {first:7.2f} s")
    print(f"later clicks    {later:7.2f} s   median of {options.clicks}: {', '.join(f'{t[0]:.2f}' for t in turns)}")
    print(f"computation     {alone:7.2f} s   median of {options.clicks}: {', '.join(f'{t[1]:.2f}' for t in turns)}")
    print(f"later clicks take {later / alone:.2f} times the computation (goal: 1.2 at most)")
    print(f"the first click takes {first / later:.1f} times a later one (goal: 3 at least)")
    return int(later > 1.2 * alone or first < 3 * later)


def open_panel(folder: Path):
    """The panel in the stand-in, with the sample and its model chosen."""
    launcher = folder / "PythonSlicer"
    launcher.write_text(LAUNCHER.format(python=sys.executable), encoding="utf-8")
    launcher.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    sys.path.insert(0, str(ROOT / "Testing" / "standin"))
    import application

    application.start()
    module = application.load_module(ROOT / "H3DELandmarks" / "H3DELandmarks.py")
    import slicer.util

    slicer.util.loadVolume(str(SAMPLE))
    panel = application.open_panel(module)
    keys = [panel.ui.modelSelector.itemData(row) for row in range(panel.ui.modelSelector.count)]
    panel.ui.modelSelector.setCurrentIndex(next(row for row, key in enumerate(keys) if key.startswith(MODEL)))
    return panel


def click(panel) -> float:
    """Seconds from a click to points in the scene."""
    import slicer

    start = time.perf_counter()
    panel.ui.applyButton.click()
    while panel.isDetecting():
        slicer.app.processEvents()
        time.sleep(0.005)
    seconds = time.perf_counter() - start
    assert "landmarks found" in panel.ui.statusLabel.text, panel.ui.statusLabel.text
    return seconds


class Computing:
    """A program that computes when it is asked, and waits otherwise; entering it gives what asks."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMPUTE, MODEL, str(SAMPLE)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"
        return self._ask

    def _ask(self) -> float:
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __exit__(self, *error) -> None:
        self._process.communicate()


if __name__ == "__main__":
    sys.exit(main())
