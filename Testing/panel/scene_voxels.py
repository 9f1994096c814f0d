"""Scans with something in them: a round head of soft tissue in air, with points of the tiny model on it."""

import numpy as np
import slicer.util

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet

NAMES = ("Left", "Middle", "Right")
SIZE, SPACING = 40, 2.0


def head(seed):
    """A scan and its true points, a little different for each seed.

    Returns:
        Volume, and (3, 3) LPS mm of NAMES.
    """
    random = np.random.default_rng(seed)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = -SPACING * (SIZE - 1) / 2 + random.uniform(-3, 3, 3)
    ijk = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"), axis=-1)
    apart = np.linalg.norm((ijk - (SIZE - 1) / 2) * SPACING, axis=-1)
    voxels = np.where(apart < 34, 60, -1000) + random.normal(0, 15, apart.shape)
    center = affine[:3, 3] + SPACING * (SIZE - 1) / 2
    points = center + np.array([[20, -5, 4], [0, -22, 0], [-20, -5, 4]]) + random.normal(0, 0.8, (3, 3))
    for point, value in zip(points, (400, 700, 1000)):
        voxels[np.linalg.norm(affine[:3, 3] + SPACING * ijk - point, axis=-1) < 5] = value
    return Volume(voxels.astype(np.int16), affine), points


def write_heads(project, count, astray=None):
    """Add reviewed heads to a folder of cases; the cases in the order of their seeds.

    Args:
        project: CaseProject.
        count: of heads.
        astray: seed of the head whose left point lies in air, though it was proposed rightly; None for none.
    """
    cases = []
    for seed in range(count):
        volume, points = head(seed)
        kept = points + (np.array([[18, 0, 25], [0, 0, 0], [0, 0, 0]]) if seed == astray else 0)
        landmarks = [
            CaseLandmark(name, ReviewState.MOVED, now, said, 0.9, 0.8, 2.0)
            for name, now, said in zip(NAMES, kept, points + 0.5)
        ]
        cases.append(project.case(project.add(volume, landmarks, ModelName("tiny", "1.0.0")).case))
    return cases


def add_head(name, seed=99):
    """A head in the scene; its volume node and what a model would find in it."""
    volume, points = head(seed)
    to_ras = np.diag([-1, -1, 1, 1]) @ volume.affine
    node = slicer.util.addVolumeFromArray(np.ascontiguousarray(volume.array.T), ijkToRAS=to_ras, name=name)
    return node, LandmarkSet(NAMES, points, np.full(3, 0.9), np.full(3, 0.8), np.full(3, 2.0))
