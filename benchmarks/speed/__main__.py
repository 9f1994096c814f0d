"""Measure and report: python -m benchmarks.speed [--quick] [--only WORD [--merge]] [--output FOLDER].

A full run takes about twelve minutes on two quiet cores, and writes benchmarks/SPEED.md and benchmarks/speed.json once
it is complete. A quick one runs tiny networks, to see that everything works, and writes to runs/speed-quick.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed.machine import ROOT, busy_warning, describe_machine, load
from benchmarks.speed.plan import THREADS, Measurement, full_plan, quick_plan
from benchmarks.speed.report import markdown, summary_lines
from benchmarks.speed.worker import measure_apart
from H3DELandmarksLib.core.files import atomic_write

FIGURES = "speed.json"


def main(arguments: list[str] | None = None) -> int:
    """Run the measurements, print the report and save it; returns 1 where a measurement failed."""
    options = _parser().parse_args(arguments)
    machine = describe_machine()
    if warning := busy_warning(machine["load_before"], machine["cores"]):
        print(f"Warning: {warning}", file=sys.stderr)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="h3de-bench-") as folder:
        plan = (quick_plan if options.quick else full_plan)(str(Path(folder) / "scan.nrrd"))
        results = measure_all([m for m in plan if options.only in m.key])
    machine |= {"load_after": load(), "seconds": time.monotonic() - start}
    command = "make bench" + (" BENCH_ARGUMENTS=--quick" if options.quick else "")
    folder = options.output or (ROOT / "runs" / "speed-quick" if options.quick else ROOT / "benchmarks")
    figures = {"machine": machine, "results": results}
    if options.merge:
        figures = merged(json.loads((folder / FIGURES).read_text(encoding="utf-8")), results, machine)
    text = markdown(figures["results"], figures["machine"], command)
    print(text)
    if options.merge or not options.only:
        save(folder, text, figures)
    print("\n".join(summary_lines(results)))
    return int(any("error" in result for result in results.values()))


def measure_all(plan: list[Measurement]) -> dict[str, dict]:
    """Results by key, each measured in its own process; says on the error output how far it is."""
    results = {}
    for number, measurement in enumerate(plan, start=1):
        began = time.monotonic()
        result = measure_apart(measurement.section, **{"threads": THREADS[-1]} | measurement.settings)
        results[measurement.key] = result
        state = f"failed: {result['error']}" if "error" in result else "done"
        print(f"[{number}/{len(plan)}] {measurement.key}: {state}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return results


def merged(figures: dict, results: dict[str, dict], machine: dict) -> dict:
    """Saved figures with parts that were measured later, each of which says on what; failures replace nothing."""
    new = {key: {"machine": machine} | result for key, result in results.items() if "error" not in result}
    return figures | {"results": figures["results"] | new}


def save(folder: Path, text: str, figures: dict) -> None:
    """Write the report and all figures, each replaced only when the new file is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in (("SPEED.md", text), (FIGURES, json.dumps(figures, indent=1) + "\n")):
        with atomic_write(folder / name) as temporary:
            temporary.write_text(contents, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny networks: only shows that everything runs")
    parser.add_argument("--only", default="", metavar="WORD", help="only measurements whose name holds this; not saved")
    parser.add_argument("--merge", action="store_true", help="save what --only measured into the last report")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where to save the report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
