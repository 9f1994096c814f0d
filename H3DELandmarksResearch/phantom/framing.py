"""How a head is placed in the scanner: pose, field of view and voxel size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Grid, crop_grid, transform_points

_PIVOT = np.array([0.0, 35.0, -10.0])


@dataclass(frozen=True)
class Framing:
    """Pose and field of view.

    Attributes:
        pose: (4, 4) jaw coordinates -> LPS mm.
        grid: the voxels of the scan, axes along L, P, S.
        radius: of the reconstructed cylinder around the grid's center along S, mm; None where the box is filled.
    """

    pose: np.ndarray
    grid: Grid
    radius: float | None

    def sees(self, points: np.ndarray) -> np.ndarray:
        """Whether (..., 3) LPS points lie inside the reconstructed field of view."""
        inside = self.grid.contains(points)
        if self.radius is None:
            return inside
        away = np.linalg.norm(np.asarray(points)[..., :2] - self.grid.center[:2], axis=-1)
        return inside & (away <= self.radius)


def draw_framing(rng: np.random.Generator, spacing: float | None = None) -> Framing:
    """Draw pose and field of view; `spacing` in mm fixes the voxel size without changing the rest."""
    pose = _draw_pose(rng)
    size = np.array([100 + 30 * rng.random(), 100 + 30 * rng.random(), 60 + 20 * rng.random()])
    round_view = rng.random() < 0.5
    if round_view:
        size[:2] = max(112.0, size[0])
    center = np.array([0, 39, -11]) + rng.standard_normal(3).clip(-2, 2) * (3.0, 4.0, 3.0)
    center = center + draw_truncation(rng)
    drawn = _draw_spacing(rng)
    voxel = drawn if spacing is None else np.full(3, float(spacing))
    shape = np.maximum(np.round(size / voxel), 8).astype(int)
    grid = crop_grid(transform_points(pose, center), np.eye(3), voxel, tuple(shape))
    return Framing(pose, grid, float(size[0] / 2) if round_view else None)


def _draw_pose(rng: np.random.Generator) -> np.ndarray:
    """Rotation about the middle of the jaw (pitch, roll, yaw up to 12 degrees) and a position in the scanner."""
    angles = rng.standard_normal(3).clip(-2, 2) * (6.0, 3.5, 4.0)
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = rng.uniform(-30, 30, 3) - rotation @ _PIVOT
    return pose


def draw_truncation(rng: np.random.Generator) -> np.ndarray:
    """Now and then the field of view misses the chin, the rami or one side."""
    lot, amount, side = rng.random(), rng.random(), rng.choice([-1.0, 1.0])
    if lot < 0.10:
        return np.array([0.0, 14 + 12 * amount, 0.0])
    if lot < 0.22:
        return np.array([0.0, -14 - 18 * amount, 0.0])
    if lot < 0.32:
        return np.array([side * (20 + 18 * amount), 0.0, 0.0])
    return np.zeros(3)


def _draw_spacing(rng: np.random.Generator) -> np.ndarray:
    """Voxel size in mm: mostly 0.4 to 0.5; sometimes other along z."""
    voxel = rng.choice([0.3, 0.35, 0.4, 0.45, 0.5, 0.6], p=[0.07, 0.08, 0.3, 0.2, 0.25, 0.1])
    stretch = rng.choice([1.0, 1.25, 0.8], p=[0.8, 0.12, 0.08])
    return np.array([voxel, voxel, voxel * stretch])
