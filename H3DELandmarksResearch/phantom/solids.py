"""Arithmetic of solids given by their signed depth: positive inside, negative outside, in mm."""

from __future__ import annotations

import numpy as np


def join(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Depth of the union of two solids whose meeting edge is filled with a fillet of about `radius` mm."""
    blend = np.maximum(radius - np.abs(a - b), 0) / radius
    return np.maximum(a, b) + blend * blend * (radius / 4)


def meet(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Depth of the intersection of two solids whose edge is rounded off by about `radius` mm."""
    return -join(-a, -b, radius)


def coverage(depth: np.ndarray, width: float) -> np.ndarray:
    """Share of a voxel that a solid fills, from its depth at the voxel's center: a ramp as wide as the voxel.

    Args:
        depth: signed depth in mm.
        width: voxel size in mm.
    """
    return np.clip(depth * np.float32(1 / width) + np.float32(0.5), 0, 1)


def ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, center, half) -> np.ndarray:
    """Approximate depth inside an ellipsoid with axes along x, y, z (mm)."""
    radius = np.sqrt(
        ((x - center[0]) / half[0]) ** 2 + ((y - center[1]) / half[1]) ** 2 + ((z - center[2]) / half[2]) ** 2
    )
    return (1 - radius) * np.float32(min(half))


def mix(under: np.ndarray, over, share: np.ndarray) -> np.ndarray:
    """Values of `under` with a `share` (0..1) of `over` painted on top, in place."""
    under += (over - under) * share
    return under
