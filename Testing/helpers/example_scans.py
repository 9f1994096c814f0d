"""Pictures of blobs, moved and bent as is known, for proposals from examples."""

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet

SHAPES = {2: (180, 150, 1), 3: (56, 48, 44)}
SPACING = 1.0


def blob_places(axes: int, seed: int = 0, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 3) places in mm, (N,) widths and (N,) heights of blobs; in a plane the third coordinate is 0."""
    rng = np.random.default_rng(seed)
    size = np.array(SHAPES[axes]) * SPACING
    places = size * rng.uniform(0.15, 0.85, (count, 3))
    if axes == 2:
        places[:, 2] = 0
    scale = size[:axes].max()
    return places, scale * rng.uniform(0.015, 0.03, count), rng.uniform(0.5, 1.0, count)


def picture_of(axes: int, move, seed: int | None = 0, noise: float = 0.01) -> Volume:
    """A scan of the blobs of a seed after a motion.

    Args:
        axes: 2 for a radiograph, 3 for a volume.
        move: maps (N, 3) mm to (N, 3) mm; from the blobs' own frame to LPS.
        seed: of the blobs; None for stripes, which are nothing alike.
        noise: standard deviation.
    """
    if seed is None:
        index = np.stack(np.meshgrid(*map(np.arange, SHAPES[axes]), indexing="ij"), axis=-1)
        return Volume((index.sum(axis=-1) // 6 % 2).astype(np.float32), np.diag([SPACING] * 3 + [1.0]))
    places, widths, heights = blob_places(axes, seed)
    there = move(places)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPES[axes]), indexing="ij"), axis=-1) * SPACING
    array = np.zeros(SHAPES[axes])
    for place, width, height in zip(there, widths, heights):
        array += height * np.exp(-((grid - place) ** 2).sum(axis=-1) / (2 * width**2))
    rng = np.random.default_rng([seed, axes])
    return Volume((array + noise * rng.normal(size=array.shape)).astype(np.float32), np.diag([SPACING] * 3 + [1.0]))


def marked(axes: int, move, seed: int = 0, count: int = 6, prefix: str = "P") -> LandmarkSet:
    """Some of the blobs as landmarks, LPS mm."""
    return LandmarkSet(tuple(f"{prefix}{k}" for k in range(count)), move(blob_places(axes, seed)[0][:count]))


def still(points: np.ndarray) -> np.ndarray:
    """No motion."""
    return points


def bent(axes: int, amount: float = 0.02, turn: float = 0.08, shift: float = 0.03):
    """A small turn, stretch and shift with a smooth bend; lengths are shares of the scan's size."""
    size = np.array(SHAPES[axes]) * SPACING
    c, s = np.cos(turn), np.sin(turn)

    def move(points: np.ndarray) -> np.ndarray:
        away = points - size / 2
        turned = np.stack([c * away[:, 0] - s * away[:, 1], s * away[:, 0] + c * away[:, 1], away[:, 2]], axis=1)
        bend = amount * size.max() * np.sin(2 * np.pi * points[:, ::-1] / size.max())
        moved = turned * 1.04 + size / 2 + shift * size + bend
        if axes == 2:
            moved[:, 2] = 0
        return moved

    return move
