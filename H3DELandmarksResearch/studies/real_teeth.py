"""The molar model on a real person's teeth in simulated bone: tooth shapes that the phantom's formulas never made.

    python -m H3DELandmarksResearch.studies.real_teeth TEETH --model mandibular-molar-phantom --scans 8

TEETH is a folder of surface meshes, see `H3DELandmarksResearch.phantom.mesh_teeth`. Every second scan shows the person
in a mirror. Bone, soft tissue, pose, field of view and scanner are drawn anew for each scan, so the scans differ in all
but the teeth: one person is not a population, and the intervals speak of that person only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.geometry import Volume, transform_points
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.evaluation import evaluate_sets
from H3DELandmarksLib.evaluation.metrics import THRESHOLDS_MM
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.phantom.anatomy import Anatomy, random_streams
from H3DELandmarksResearch.phantom.framing import Framing, draw_framing
from H3DELandmarksResearch.phantom.imaging import acquire, draw_scanner
from H3DELandmarksResearch.phantom.mesh_teeth import MeshTooth, anatomy_around, mirrored, read_mesh_teeth
from H3DELandmarksResearch.phantom.scene import render
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME
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
        yield Case(f"real-teeth-{seed}", volume, _points(anatomy, framing))


def _points(anatomy: Anatomy, framing: Framing) -> LandmarkSet:
    """The points of the second molars that lie in the field of view; all others are unknown, not absent."""
    found: dict[str, np.ndarray] = {}
    for tooth in anatomy.lower:
        found.update(tooth.landmarks())
    positions = np.array([found.get(name, np.full(3, np.nan)) for name in MOLAR_SCHEME.names])
    positions = transform_points(framing.pose, positions)
    positions[~framing.sees(positions)] = np.nan
    presence = np.where(np.isfinite(positions).all(axis=1), 1.0, np.nan)
    return LandmarkSet(MOLAR_SCHEME.names, positions, presence)


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
