"""A radiograph of a ladder: rungs in a row, each with two points of either side, as vertebrae have corners."""

from __future__ import annotations

import numpy as np
from flat_cases import NETWORK

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet

RUNGS, CORNERS = 6, ("upper left", "upper right", "lower left", "lower right")
NAMES = tuple(f"rung {rung} {corner}" for rung in range(RUNGS) for corner in CORNERS)
PAIRS = tuple((NAMES[k], NAMES[k + 1]) for k in range(0, len(NAMES), 2))
SCHEME = LandmarkScheme("ladder", "1", tuple(LandmarkDefinition(n, n) for n in NAMES), PAIRS)
GROUPS = [NAMES[4 * rung : 4 * rung + 4] for rung in range(RUNGS)]
SIDE = 160  # mm and pixels of the picture
BRIGHTNESS = np.array([1.0, 0.8, 0.6, 0.4])  # of the spots at the four corners


def stage(**changes) -> dict:
    """A stage of a configuration that looks closer at rungs."""
    settings = {**NETWORK["settings"], "landmarks": 4, "n_win": [4, 3, 2, 1], "topk": [1, 3, 2, 1]}
    groups = [{"landmarks": list(names), "mirrored": False} for names in GROUPS]
    design = {"name": "rung", "network": {**NETWORK, "settings": settings}, "spacing_mm": 0.5, "shape": [96, 96, 1]}
    return {**design, "poses": "structures", "groups": groups, "decoding": {"method": "softmax"}, **changes}


def corners(turn: float = 0.0, width: float = 24.0, step: float = 18.0) -> np.ndarray:
    """(K, 3) LPS mm of the corners.

    Args:
        turn: radians by which the ladder is turned about the picture's center.
        width: mm of a rung.
        step: mm from one rung to the next.
    """
    middles = np.array([[0.0, (rung - (RUNGS - 1) / 2) * step] for rung in range(RUNGS)])
    corner = np.array([[-0.5, -0.3], [0.5, -0.3], [-0.5, 0.3], [0.5, 0.3]]) * (width, step)
    flat = (middles[:, None] + corner).reshape(-1, 2)
    cosine, sine = np.cos(turn), np.sin(turn)
    turned = flat @ np.array([[cosine, sine], [-sine, cosine]]) + (SIDE - 1) / 2
    return np.column_stack([turned, np.zeros(len(flat))])


def picture(points: np.ndarray) -> tuple[Volume, LandmarkSet]:
    """A radiograph with a bright spot at each corner, and where they are."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    spots = zip(np.tile(BRIGHTNESS, RUNGS), points)
    array = sum(bright * np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2) / 4) for bright, p in spots)
    return Volume(array[..., None].astype(np.float32), np.eye(4)), LandmarkSet(NAMES, points)
