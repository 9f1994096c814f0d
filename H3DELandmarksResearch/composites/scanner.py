"""The scanners of composites: cone-beam CT with gray values of its own, and CT in Hounsfield units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksResearch.phantom.imaging import Scanner, draw_scanner
from H3DELandmarksResearch.phantom.toothshapes import jitter

# How far a slice reaches into its neighbors, in slices, where it is thicker than pixels are wide.
SLICE_BLUR = 0.4
SATURATED_SHARE = 0.12


def as_stored(volume: Volume, rng: np.random.Generator) -> Volume:
    """A scan as its scanner stores it: thick slices are averages, and some programs cut off high values."""
    array, spacing = volume.array, volume.spacing
    if spacing[2] > 1.2 * spacing[0]:
        array = gaussian_filter1d(array.astype(np.float32), SLICE_BLUR, axis=2, truncate=3).round()
    top = rng.uniform(1200, 2200) if rng.random() < SATURATED_SHARE else 3071
    return Volume(np.minimum(array, top).astype(np.int16), volume.affine)


def coarsened(volume: Volume, rng: np.random.Generator) -> Volume:
    """A scan as planning CT shows it: voxels of 1.5 to 4 mm and slices of 1 to 3 mm, means of what they cover."""
    pixel, slices = rng.uniform(1.5, 4.0), rng.uniform(1.0, 3.0)
    blocks = np.maximum(np.round(np.array([pixel, pixel, slices]) / volume.spacing), 1).astype(int)
    array = np.pad(volume.array, [(0, int(-n % b)) for n, b in zip(volume.array.shape, blocks)], mode="edge")
    split = [part for n, b in zip(array.shape, blocks) for part in (n // b, b)]
    affine = volume.affine @ np.diag([*blocks, 1.0])
    affine[:3, 3] = volume.grid.lps_from_ijk((blocks - 1) / 2)
    return Volume(array.reshape(split).mean(axis=(1, 3, 5)).round().astype(np.int16), affine)


def draw_any_scanner(rng: np.random.Generator) -> tuple[Scanner, bool]:
    """Draw a scanner with its settings; returns also whether it is a cone-beam CT."""
    scanner = draw_scanner(rng)
    if rng.random() < 0.55:
        scale, offset = (rng.uniform(0.7, 1.15), rng.uniform(-200, 250)) if rng.random() < 0.5 else (1.0, 0.0)
        return replace(scanner, scale=scanner.scale * scale, offset=scanner.offset + offset), True
    return (
        replace(
            scanner,
            blur=0.3 + 0.5 * rng.random(),
            noise=float(np.exp(np.log(32) + jitter(rng, 0.45))),
            cupping=25 * rng.random(),
            rim=0.0,
            rings=0.0,
            scale=1 + jitter(rng, 0.02),
            offset=jitter(rng, 12),
        ),
        False,
    )
