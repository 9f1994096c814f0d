"""The molar model on a real person's teeth in simulated bone: tooth shapes that the phantom's formulas never made.

    python -m H3DELandmarksResearch.studies.real_teeth TEETH --model mandibular-molar-phantom --scans 8

TEETH is a folder of surface meshes, see `H3DELandmarksResearch.phantom.mesh_teeth`. Every second scan shows the person
in a mirror. Bone, soft tissue, pose, field of view and scanner are drawn anew for each scan, so the scans differ in all
but the teeth: one person is not a population, and the intervals speak of that person only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.evaluation import evaluate_sets
from H3DELandmarksLib.evaluation.metrics import THRESHOLDS_MM
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.phantom.anatomy import random_streams
from H3DELandmarksResearch.phantom.case import visible_landmarks
from H3DELandmarksResearch.phantom.framing import draw_framing
from H3DELandmarksResearch.phantom.imaging import acquire, draw_scanner
from H3DELandmarksResearch.phantom.mesh_teeth import MeshTooth, anatomy_around, mirrored, read_mesh_teeth
from H3DELandmarksResearch.phantom.scene import render
from H3DELandmarksResearch.studies import run_study

FIRST_SEED = 70000
SPACING = 0.4


def scans(teeth: list[MeshTooth], count: int) -> Iterator[Case]:
    """Simulated scans of the person, LPS mm."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        anatomy = anatomy_around(mirrored(teeth) if seed % 2 else teeth, seed)
        rng = random_streams(seed)
        framing = draw_framing(rng["framing"], SPACING)
        hu = render(anatomy, framing, rng["texture"])
        volume = Volume(acquire(hu, framing, draw_scanner(rng["scanner"]), rng["noise"]), framing.grid.affine)
        points = visible_landmarks(anatomy, framing)
        # All but the points of the second molars in the field of view are unknown, not absent.
        yield Case(f"real-teeth-{seed}", volume, replace(points, presence=np.where(points.present, 1.0, np.nan)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teeth", type=Path, help="folder with mandible and maxilla")
    parser.add_argument("--model", required=True, help="id or path of the model package")
    parser.add_argument("--scans", type=int, default=8)
    options = parser.parse_args()
    detector, predictions, references = Detector(find_model(options.model)), {}, {}
    for case in scans(read_mesh_teeth(options.teeth), options.scans):
        predictions[case.name], references[case.name] = detector.detect(case.volume), case.landmarks
    print(evaluate_sets(predictions, references, THRESHOLDS_MM).text())


if __name__ == "__main__":
    run_study(main)
