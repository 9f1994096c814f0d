"""Crops that hold nothing to be found: what keeps a network from seeing its anatomy in everything."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

GAP = 0.6


def nothing_to_find(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """An image without anatomy: noise, a smooth texture, or solids of several brightnesses, partly blanked.

    Args:
        shape: voxels of the image.
        rng: source of randomness.

    Returns:
        float32 in 0..1.
    """
    kind = rng.integers(3)
    if kind == 0:
        image = rng.normal(rng.uniform(0, 1), rng.uniform(0.02, 0.5), shape)
    elif kind == 1:
        image = _texture(shape, rng)
    else:
        image = _solids(shape, rng)
    image = np.clip(image, 0, 1).astype(np.float32)
    if rng.random() < GAP:
        image = _within_a_box(image, rng)
    return image


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Smoothed noise with a random contrast, thresholded in half of the cases."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0.7, 5.0), mode="wrap")
    field = rng.uniform(0.2, 0.6) + rng.uniform(0.1, 0.5) * field / max(field.std(), 1e-6)
    return np.where(field > 0.5, rng.uniform(0.5, 1), rng.uniform(0, 0.5)) if rng.random() < 0.5 else field


def _solids(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Shells and bodies of random ellipsoids and rods in soft tissue."""
    size = np.array(shape)
    axes = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size), indexing="ij"), axis=-1)
    image = np.full(shape, rng.uniform(0, 0.4))
    for _ in range(rng.integers(2, 9)):
        radii = np.exp(rng.uniform(np.log(2), np.log(np.maximum(size / 2, 3))))
        distance = np.sqrt((((axes - rng.uniform(0, size)) / radii) ** 2).sum(axis=-1))
        hollow = rng.uniform(0.5, 0.95) if rng.random() < 0.5 else 0.0
        image[(distance < 1) & (distance >= hollow)] = rng.uniform(0.2, 1.0)
    return image + rng.normal(0, 0.02, shape)


def _within_a_box(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blank what lies outside a random box, as around a small scan."""
    result = np.zeros_like(image)
    box = []
    for n in image.shape:
        length = int(np.ceil(n * rng.uniform(0.4, 1.0)))
        start = int(rng.integers(0, n - length + 1))
        box.append(slice(start, start + length))
    result[tuple(box)] = image[tuple(box)]
    return result
