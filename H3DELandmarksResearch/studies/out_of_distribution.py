"""How often a model finds points with confidence in scans that do not show its anatomy.

    export H3DE_DATA=../shared/data
    python -m H3DELandmarksResearch.studies.out_of_distribution --model mouse-skull --model head-neck-ct

Each volume is searched as it is, and once more with its header shrunk or enlarged so that it is as large as the scans
that the model was made for: a model may not be saved by size alone. A point is confident where the model says that it
is present and states a confidence above 0.5. A model that refuses a volume, because it is far too large or the voxels
are far too coarse, finds nothing in it. Models for radiographs get each volume's projection from front to back.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.models import find_model
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.studies.foreign_volumes import ForeignVolume, NotHere, foreign_volumes

CONFIDENT = 0.5
# Scans are usually this much larger than what the points span.
AROUND = 1.6


def resized(volume: Volume, detector: Detector) -> Volume:
    """The volume as large as the model's scans: its header alone changes."""
    wanted = AROUND * np.ptp(detector.shape.mean, axis=0).max()
    affine = volume.affine.copy()
    affine[:3] *= wanted / volume.grid.extent.max()
    return Volume(volume.array, affine)


def projected(volume: Volume) -> Volume:
    """The mean from front to back, as a radiograph of one slice: bright where much attenuates."""
    upright = canonical(volume)
    return Volume(upright.array.astype(np.float32).mean(axis=1, keepdims=True), upright.affine)


def confident(found: LandmarkSet) -> int:
    """How many points are stated to be present with confidence."""
    return int((found.present & (np.nan_to_num(found.confidence) > CONFIDENT)).sum())


def try_volume(detector: Detector, volume: Volume) -> dict:
    """Present and confident points in one volume."""
    try:
        found = detector.detect(volume)
    except InputError:
        return {"present": 0, "confident": 0, "refused": True}
    return {"present": int(found.present.sum()), "confident": confident(found), "refused": False}


def report(model: str, volumes: list[ForeignVolume]) -> list[dict]:
    """One row per volume that can be had."""
    detector, rows = Detector(find_model(model)), []
    for foreign in volumes:
        try:
            volume = foreign.load()
        except NotHere as reason:
            print(f"  left out: {foreign.name}: {reason}", file=sys.stderr)
            continue
        volume = projected(volume) if detector.is_2d else volume
        own = detector.package.id in foreign.own_for
        row = {"volume": foreign.name, "points": len(detector.scheme), "own_anatomy": own}
        row["as_it_is"] = try_volume(detector, volume)
        row["resized"] = try_volume(detector, resized(volume, detector))
        rows.append(row)
        print(f"  {foreign.name}: {_cell(row, 'as_it_is')}, resized {_cell(row, 'resized')}", file=sys.stderr)
    return rows


def _cell(row: dict, way: str) -> str:
    result = row[way]
    if result["refused"]:
        return "refused"
    return f"{result['confident']} of {row['points']} ({result['present']} present)"


def table(model: str, rows: list[dict]) -> str:
    """Markdown: confident points of each volume, and the rate over all that do not show the model's anatomy."""
    lines = [f"{model}:", "", "| volume | as it is | resized to the model's anatomy |", "|---|---|---|"]
    for row in rows:
        remark = " (its own anatomy, at least in part: not counted)" if row["own_anatomy"] else ""
        lines.append(f"| {row['volume']}{remark} | {_cell(row, 'as_it_is')} | {_cell(row, 'resized')} |")
    counted = [row for row in rows if not row["own_anatomy"]]
    rates = []
    for way in ("as_it_is", "resized"):
        total = sum(row["points"] for row in counted)
        rates.append(f"{100 * sum(row[way]['confident'] for row in counted) / max(total, 1):.1f} %")
    lines.append(f"| **confident points, all counted volumes** | **{rates[0]}** | **{rates[1]}** |")
    return "\n".join(lines)


def main() -> None:
    """Print a table for each model and, with --output, save the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="id or path of a package; may be repeated")
    parser.add_argument("--cache", type=Path, default=RUNS / "foreign", help="folder of fetched packages")
    parser.add_argument("--only", help="only volumes whose name contains this")
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    data = Path(os.environ["H3DE_DATA"]) if os.environ.get("H3DE_DATA") else None
    volumes = [v for v in foreign_volumes(options.cache, data) if (options.only or "") in v.name]
    results = {}
    for model in options.model:
        print(model, file=sys.stderr)
        results[model] = report(model, volumes)
        print(table(model, results[model]) + "\n", flush=True)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    run_study(main)
