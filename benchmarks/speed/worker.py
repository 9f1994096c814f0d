"""One measurement in a process of its own: python -m benchmarks.speed.worker SECTION SETTINGS RESULT_FILE."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.machine import ROOT


def measure_apart(section: str, **settings: Any) -> dict:
    """Measure a section in a fresh process.

    Args:
        section: a name of `sections.SECTIONS`.
        settings: its keyword arguments, JSON-ready; ``threads`` says how many PyTorch may use.

    Returns:
        The section's result; ``{"error": why}`` where it failed, for the table to say so.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks.speed.worker", section, json.dumps(settings), str(result)]
        # The thread count must stand before OpenMP starts.
        environment = os.environ | {"OMP_NUM_THREADS": str(settings.get("threads", os.cpu_count()))}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode == 0:
            return json.loads(result.read_text(encoding="utf-8"))
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return {"error": last if done.returncode > 0 else f"ended by signal {-done.returncode}, likely for lack of memory"}


def main(section: str, settings: str, result: str) -> None:
    """Run the section and write what it returns."""
    import torch

    from benchmarks.speed.sections import SECTIONS

    arguments = json.loads(settings)
    if threads := arguments.pop("threads", None):
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    Path(result).write_text(json.dumps(SECTIONS[section](**arguments)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
