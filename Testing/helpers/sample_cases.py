"""Small heads with ten landmarks on bone, alike but not the same: what a project of cases is tested with."""

import numpy as np

from H3DELandmarksLib.cases import CaseLandmark, ReviewState
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet

PAIRS = tuple((f"{name}L", f"{name}R") for name in ("a", "b", "c", "d"))
MIDLINE = ("top", "front")
NAMES = tuple(name for pair in PAIRS for name in pair) + MIDLINE
SCHEME = LandmarkScheme("head", "1.0", tuple(LandmarkDefinition(n, f"the point {n}") for n in NAMES), PAIRS)
# Millimeters from the middle; left is positive.
LEFT = np.array([[10.0, -6, -6], [11, 5, 4], [7, 8, -9], [6, -9, 5]])
SHAPE = np.concatenate([np.stack([LEFT, LEFT * [-1, 1, 1]], axis=1).reshape(-1, 3), [[0, 2, 12], [0, -12, -2]]])
SIZE, SPACING = 40, 1.0
AIR, BODY, BONE = -1000, 40, 1200


def points_of(seed: int) -> np.ndarray:
    """(10, 3) LPS mm of one subject."""
    rng = np.random.default_rng(seed)
    return SHAPE * rng.normal(1, 0.04) + rng.normal(0, 0.25, SHAPE.shape) + SIZE / 2 + rng.normal(0, 0.5, 3)


def scan_of(seed: int, points: np.ndarray | None = None) -> Volume:
    """A head in air with bone around the points."""
    points = points_of(seed) if points is None else points
    rng = np.random.default_rng(seed + 1000)
    lps = np.stack(np.meshgrid(*(np.arange(SIZE) * SPACING,) * 3, indexing="ij"), axis=-1)
    values = np.where(np.linalg.norm(lps - SIZE / 2, axis=-1) < 15, BODY, AIR).astype(float)
    for point in points:
        values[np.linalg.norm(lps - point, axis=-1) < 2.2] = BONE
    values += rng.normal(0, 10, values.shape)
    return Volume(values.round().astype(np.int16), np.diag([SPACING, SPACING, SPACING, 1.0]))


def set_of(points: np.ndarray, **more) -> LandmarkSet:
    """A landmark set of the scheme."""
    return LandmarkSet(NAMES, points, **more)


def placed(points: np.ndarray) -> list[CaseLandmark]:
    """Landmarks that a person placed."""
    return [CaseLandmark(name, ReviewState.PLACED, point) for name, point in zip(NAMES, points)]
