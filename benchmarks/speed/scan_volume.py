"""A large CT with a lower jaw in it: a phantom case inside a head of soft tissue, in air."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksResearch.phantom import PhantomCase, generate_phantom

SPACING = 0.4
SEED = 7
AIR, TISSUE, NOISE = -1000, 50, 40


def jaw() -> PhantomCase:
    """The phantom case that every scan holds, with all molars, in voxels of 0.4 mm."""
    return generate_phantom(SEED, missing=(), spacing=SPACING)


def place_in_head(case: PhantomCase, shape: tuple[int, int, int]) -> Volume:
    """A scan with the case in its middle, cut where it is larger than the scan; points keep their LPS positions.

    Args:
        case: what to place.
        shape: voxels of the scan.
    """
    rng = np.random.default_rng(SEED)
    axes = np.meshgrid(*(np.linspace(-1.1, 1.1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    inside = sum(axis**2 for axis in axes) <= 1
    array = np.where(inside, np.int16(TISSUE), np.int16(AIR))
    for plane in array:
        plane += rng.normal(0, NOISE, plane.shape).astype(np.int16)
    part = case.volume.array
    first = [(whole - size) // 2 for whole, size in zip(shape, part.shape)]
    target = tuple(slice(max(0, f), f + size) for f, size in zip(first, part.shape))
    source = tuple(slice(max(0, -f), max(0, -f) + whole) for f, whole in zip(first, shape))
    array[target] = part[source]
    affine = case.volume.affine.copy()
    affine[:3, 3] = case.volume.grid.lps_from_ijk([-f for f in first])
    return Volume(array, affine)
