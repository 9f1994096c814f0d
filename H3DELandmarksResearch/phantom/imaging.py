"""The scanner: blur, beam hardening, metal streaks, cupping, noise, rings, gray-value errors, shape of the view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from H3DELandmarksResearch.phantom.framing import Framing
from H3DELandmarksResearch.phantom.projection import streaks
from H3DELandmarksResearch.phantom.toothshapes import jitter

PADDING = -1000


@dataclass(frozen=True)
class Scanner:
    """Properties of one acquisition.

    Attributes:
        blur: standard deviation of the point spread function, mm.
        noise: standard deviation of the noise at a 0.4 mm voxel, HU.
        grain: correlation length of the noise, mm.
        cupping: darkening of the center relative to the rim, HU.
        rim: brightening at the edge of the view because tissue continues outside, HU.
        hardening: strength of the beam hardening, about 1.
        starvation: noise of rays through metal, about 1.
        rings: amplitude of ring artifacts, HU.
        scale, offset: gray-value errors, HU -> scale * HU + offset.
    """

    blur: float
    noise: float
    grain: float
    cupping: float
    rim: float
    hardening: float
    starvation: float
    rings: float
    scale: float
    offset: float


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """Draw a cone-beam CT scanner and its settings."""
    return Scanner(
        blur=0.24 + 0.22 * rng.random(),
        noise=float(np.exp(np.log(62) + jitter(rng, 0.38))),
        grain=0.18 + 0.25 * rng.random(),
        cupping=150 * rng.random(),
        rim=160 * rng.random(),
        hardening=0.5 + rng.random(),
        starvation=0.4 + 0.9 * rng.random(),
        rings=16 * rng.random() ** 2,
        scale=1 + jitter(rng, 0.06),
        offset=jitter(rng, 45),
    )


def acquire(hu: np.ndarray, framing: Framing, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Turn noise-free HU into a scan.

    Args:
        hu: float32 on the scan's grid; changed in place.
        framing: grid and shape of the view.
        scanner: the machine.
        rng: stream of the noise.

    Returns:
        int16 HU-like values.
    """
    spacing = framing.grid.spacing
    error = streaks(hu, spacing, scanner.hardening, scanner.starvation, rng)
    hu = gaussian_filter(hu, scanner.blur / spacing, truncate=2.5)
    hu += error
    hu += _shading(framing, scanner)[:, :, None]
    hu += _noise(hu.shape, spacing, scanner, rng)
    hu += _rings(framing, scanner, rng)[:, :, None]
    hu *= np.float32(scanner.scale)
    hu += np.float32(scanner.offset)
    if framing.radius is not None:
        hu[_radius(framing) > framing.radius] = PADDING
    return np.clip(hu, -1024, 3071).round().astype(np.int16)


def _radius(framing: Framing) -> np.ndarray:
    """Distance of each column of voxels from the axis of rotation, mm."""
    i, j, _ = framing.grid.shape
    x = (np.arange(i) - (i - 1) / 2) * framing.grid.spacing[0]
    y = (np.arange(j) - (j - 1) / 2) * framing.grid.spacing[1]
    return np.hypot(x[:, None], y[None, :])


def _shading(framing: Framing, scanner: Scanner) -> np.ndarray:
    """Cupping from scatter and the bright rim of a truncated view, HU per column."""
    edge = framing.radius or float(framing.grid.extent[:2].min() / 2)
    share = _radius(framing) / edge
    cup = -scanner.cupping * np.clip(1 - share**2, -0.2, 1)
    rim = scanner.rim * np.exp(-np.clip(1 - share, 0, None) * edge / 4.0)
    return (cup + rim).astype(np.float32)


def _noise(shape, spacing: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Correlated noise; smaller voxels are noisier."""
    white = rng.standard_normal(shape, dtype=np.float32)
    grains = gaussian_filter(white, scanner.grain / spacing, truncate=2.5)
    amplitude = scanner.noise * float((0.4 / spacing.mean()) ** 0.5)
    return grains * np.float32(amplitude / grains[::4, ::4, ::4].std())


def _rings(framing: Framing, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Concentric rings around the axis of rotation, HU per column."""
    radius = _radius(framing)
    profile = rng.standard_normal(400).astype(np.float32)
    profile[1:] *= np.minimum(1, 10 / np.arange(1, 400)) ** 0.3
    return np.float32(scanner.rings) * np.interp(radius, np.arange(400) * 0.35, profile).astype(np.float32)
