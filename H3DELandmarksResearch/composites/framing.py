"""The field of view of a composite: of the jaw, of a few teeth, of the face, or of head and neck."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.geometry import crop_grid, transform_points
from H3DELandmarksResearch.phantom.framing import Framing, draw_truncation

# Least edges in mm of the voxels of larger views.
LARGE_VOXEL_MM = {"jaw": 0.0, "side": 0.0, "head": 0.8, "whole": 1.0}
THICKEST_MM = {"jaw": 1.5, "side": 1.0, "head": 2.0, "whole": 2.5}


def draw_view(rng: np.random.Generator, pose: np.ndarray, spacing: float, round_views: bool) -> Framing:
    """Draw a field of view; large ones have larger voxels, and slices may be thicker than pixels are wide.

    Args:
        rng: random stream.
        pose: (4, 4) jaw coordinates -> LPS mm.
        spacing: voxel size, mm.
        round_views: whether the scanner is one that reconstructs cylinders, and slices as thin as pixels.
    """
    kind = rng.choice(list(_VIEWS), p=[0.38, 0.08, 0.22, 0.32])
    center, size = _VIEWS[kind](rng)
    voxel = max(spacing, LARGE_VOXEL_MM[kind])
    thick = voxel * rng.choice([1.0, 1.3, 1.8, 2.5], p=[0.4, 0.2, 0.2, 0.2])
    is_round = round_views and kind != "whole" and rng.random() < 0.6
    voxels = np.array([voxel, voxel, voxel if is_round else min(thick, THICKEST_MM[kind])])
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


def _whole(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A head with neck, and shoulders or the vault of the skull."""
    size = np.array([170 + 50 * rng.random(), 190 + 40 * rng.random(), 130 + 110 * rng.random()])
    return np.array([0, 75, 0]) + rng.uniform(-1, 1, 3) * (12.0, 15.0, 45.0), size


_VIEWS = {"jaw": _jaw, "side": _side, "head": _head, "whole": _whole}
