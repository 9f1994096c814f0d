"""The molar model on a real person's teeth in simulated bone: tooth shapes that the phantom's formulas never made.

    python -m H3DELandmarksResearch.studies.real_teeth TEETH --model mandibular-molar-phantom --scans 8
    python -m H3DELandmarksResearch.studies.real_teeth TEETH --model mandibular-molar-phantom --less-room 6

TEETH is a folder of surface meshes, see `H3DELandmarksResearch.phantom.mesh_teeth`. Every second scan shows the person
in a mirror. Bone, soft tissue, pose, field of view and scanner are drawn anew for each scan, so the scans differ in all
but the teeth: one person is not a population, and the intervals speak of that person only. How close behind the second
molars the ramus rises is not known where third ones are missing: ``--less-room`` says by how many mm closer than in a
jaw that has all its teeth.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import percent
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
OFF_MM = 5.0  # half a molar's width


def scans(teeth: list[MeshTooth], count: int, less_room_mm: float = 0.0) -> Iterator[Case]:
    """Simulated scans of the person, LPS mm; see `anatomy_around`."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        anatomy = anatomy_around(mirrored(teeth) if seed % 2 else teeth, seed, less_room_mm)
        rng = random_streams(seed)
        framing = draw_framing(rng["framing"], SPACING)
        hu = render(anatomy, framing, rng["texture"])
        volume = Volume(acquire(hu, framing, draw_scanner(rng["scanner"]), rng["noise"]), framing.grid.affine)
        points = visible_landmarks(anatomy, framing)
        # All but the points of the second molars in the field of view are unknown, not absent.
        yield Case(f"real-teeth-{seed}", volume, replace(points, presence=np.where(points.present, 1.0, np.nan)))


def taken_for_another(found: LandmarkSet, truth: LandmarkSet) -> tuple[list[bool], np.ndarray]:
    """Whether the second molar of each side was taken for another tooth, and how sure the points of such ones are.

    Args:
        found, truth: LPS mm; sides of which nothing is known, or nothing was found, do not count.

    Returns:
        One answer a side, and (N,) confidences of points on other teeth.
    """
    away = np.linalg.norm(found.positions - truth.positions, axis=1)
    is_off, confidences = [], [np.zeros(0)]
    for side in "LR":
        own = np.array([name.startswith(side) for name in truth.names]) & np.isfinite(away)
        if own.any():
            is_off.append(bool(np.median(away[own]) > OFF_MM))
            confidences.append(found.confidence[own & is_off[-1]])
    return is_off, np.concatenate(confidences)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teeth", type=Path, help="folder with mandible and maxilla")
    parser.add_argument("--model", required=True, help="id or path of the model package")
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--less-room", type=float, default=0.0, metavar="MM", help="behind the second molars")
    options = parser.parse_args()
    detector, predictions, references = Detector(find_model(options.model)), {}, {}
    for case in scans(read_mesh_teeth(options.teeth), options.scans, options.less_room):
        predictions[case.name], references[case.name] = detector.detect(case.volume), case.landmarks
    print(evaluate_sets(predictions, references, THRESHOLDS_MM).text())
    sides, confidences = zip(*(taken_for_another(predictions[name], references[name]) for name in references))
    taken, sure = sum(sides, []), np.concatenate(confidences)
    share = f": confidence of one half or more in {percent(np.mean(sure >= 0.5))} of their points" if len(sure) else ""
    print(f"second molars taken for another tooth: {sum(taken)} of {len(taken)}{share}")


if __name__ == "__main__":
    run_study(main)
