"""The field of view of a composite: of the jaw, of a few teeth, or of the lower head."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.geometry import crop_grid, transform_points
from H3DELandmarksResearch.phantom.framing import Framing, draw_truncation

LARGE_VOXEL_MM = 0.8


def draw_view(rng: np.random.Generator, pose: np.ndarray, spacing: float, round_views: bool) -> Framing:
    """Draw a field of view; large ones have voxels of 0.8 mm at least.

    Args:
        rng: random stream.
        pose: (4, 4) jaw coordinates -> LPS mm.
        spacing: voxel size, mm.
        round_views: whether the scanner may reconstruct a cylinder.
    """
    kind = rng.choice(["jaw", "side", "head"], p=[0.68, 0.10, 0.22])
    center, size = _VIEWS[kind](rng)
    voxel = max(spacing, LARGE_VOXEL_MM) if kind == "head" else spacing
    thick = voxel * rng.choice([1.0, 1.25, 1.6, 0.8], p=[0.7, 0.12, 0.08, 0.1])
    voxels = np.array([voxel, voxel, min(thick, 1.0)])
    is_round = round_views and rng.random() < 0.6
    if is_round:
        size[:2] = size[:2].max()
    shape = np.maximum(np.round(size / voxels), 8).astype(int)
    grid = crop_grid(transform_points(pose, center), np.eye(3), voxels, tuple(shape))
    return Framing(pose, grid, float(size[0] / 2) if is_round else None)


def _jaw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The usual view of the lower jaw, now and then cut at chin, rami or one side."""
    size = np.array([104 + 28 * rng.random(), 100 + 28 * rng.random(), 58 + 24 * rng.random()])
    center = np.array([0, 40, -11]) + rng.standard_normal(3).clip(-2, 2) * (3.0, 5.0, 4.0)
    return center + draw_truncation(rng), size


def _side(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A small view of the molars of one side."""
    side = rng.choice([-1.0, 1.0])
    center = np.array([side * 26, 42, -12]) + rng.standard_normal(3).clip(-2, 2) * (3.0, 4.0, 3.0)
    return center, np.array([50, 50, 45]) + 25 * rng.random(3)


def _head(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Face and upper neck."""
    size = np.array([140 + 30 * rng.random(), 140 + 50 * rng.random(), 90 + 50 * rng.random()])
    center = np.array([0, 58, -8]) + rng.standard_normal(3).clip(-2, 2) * (6.0, 10.0, 12.0)
    return center, size


_VIEWS = {"jaw": _jaw, "side": _side, "head": _head}
