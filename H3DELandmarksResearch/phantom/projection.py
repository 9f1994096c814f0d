"""Beam hardening and metal artifacts, made where they arise: in the projections.

Dense material is projected along parallel rays, the part of the line integrals that a polychromatic beam and a
starved detector get wrong is computed, and that error alone is reconstructed by filtered back projection.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

WATER = 0.02  # attenuation of water, 1/mm
BONE_THRESHOLD, METAL_THRESHOLD = 300.0, 3600.0
METAL_GAIN = 3.0  # metal is painted with fewer HU than it has, to keep the blur around it small


def streaks(
    hu: np.ndarray, spacing: np.ndarray, hardening: float, starvation: float, rng: np.random.Generator
) -> np.ndarray:
    """HU error of a scan from beam hardening and metal.

    Args:
        hu: (I, J, K) noise-free HU; rays run in the plane of I and J.
        spacing: (3,) mm.
        hardening: strength of the beam hardening.
        starvation: strength of the noise of rays that metal has starved.
        rng: random stream.

    Returns:
        (I, J, K) float32 HU to be added.
    """
    error = _reconstructed_error(hu, spacing, 2.0, 72, hardening, 0.0, rng)
    metal = np.flatnonzero((hu > METAL_THRESHOLD).any(axis=(0, 1)))
    if len(metal):
        margin = int(np.ceil(1.5 / spacing[2]))
        low, high = max(metal[0] - margin, 0), min(metal[-1] + 1 + margin, hu.shape[2])
        error[:, :, low:high] += _reconstructed_error(
            hu[:, :, low:high], spacing, 1.0, 150, hardening, starvation, rng, True
        )
    return error


def _reconstructed_error(hu, spacing, pixel, angles, hardening, starvation, rng, metal=False) -> np.ndarray:
    """Error on coarser pixels (about `pixel` mm), brought back to the voxels of `hu`."""
    factor = np.maximum(np.round(pixel / spacing), 1).astype(int)
    coarse = _block_mean(np.minimum(hu, 16000), factor)
    size = coarse.shape[0], coarse.shape[1]
    mm = spacing[:2] * factor[:2]
    matrix = projector(size, mm, angles)
    bone = np.clip(coarse - BONE_THRESHOLD, 0, 2800) * np.float32(WATER / 1000)
    lines = matrix @ bone.reshape(-1, coarse.shape[2])
    if metal:
        dense = np.clip(coarse - METAL_THRESHOLD, 0, None) * np.float32(METAL_GAIN * WATER / 1000)
        thick = matrix @ dense.reshape(-1, coarse.shape[2])
        wrong = _metal_error(thick, lines, hardening, starvation, rng)
    else:
        wrong = -0.035 * hardening * lines**2
    image = _back_project(matrix, wrong, angles, float(mm.mean())).reshape(coarse.shape) * np.float32(1000 / WATER)
    if metal:
        image *= np.clip(1 - dense / (0.1 * METAL_GAIN), 0, 1)
    return _grown(image, hu.shape)


def _metal_error(thick: np.ndarray, bone: np.ndarray, hardening: float, starvation: float, rng) -> np.ndarray:
    """Line integrals through metal come out too small, the more so with bone behind, and noisy."""
    seen = 1.6 * hardening**-0.5 * (1 - np.exp(-thick / (1.6 * hardening**-0.5)))
    noise = rng.standard_normal(thick.shape, dtype=np.float32) * 0.12 * starvation * np.minimum(np.expm1(0.5 * seen), 6)
    return 0.75 * (seen - thick) * (1 + 0.1 * bone) * (thick > 0) + noise


def _block_mean(image: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Mean over blocks of voxels; the last block of an axis repeats the edge."""
    pad = [(0, int(-n % f)) for n, f in zip(image.shape, factor)]
    image = np.pad(image, pad, mode="edge")
    for axis, f in enumerate(factor):
        shape = list(image.shape)
        shape[axis : axis + 1] = [shape[axis] // f, f]
        image = image.reshape(shape).mean(axis=axis + 1, dtype=np.float32)
    return image


def _grown(image: np.ndarray, shape) -> np.ndarray:
    """Linear interpolation to a finer array of the given shape."""
    for axis in (2, 1, 0):
        count = image.shape[axis]
        place = np.clip((np.arange(shape[axis]) + 0.5) * count / shape[axis] - 0.5, 0, count - 1)
        low = np.minimum(place.astype(int), max(count - 2, 0))
        share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        first, second = image.take(low, axis), image.take(np.minimum(low + 1, count - 1), axis)
        second -= first
        second *= share
        image = first + second
    return image


def projector(size: tuple[int, int], mm: np.ndarray, angles: int) -> csr_matrix:
    """Matrix (angles * bins, pixels) that sums an image along parallel rays; entries in mm."""
    i, j = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * d for n, d in zip(size, mm)), indexing="ij")
    step = float(mm.mean())
    bins = int(np.ceil(np.hypot(size[0] * mm[0], size[1] * mm[1]) / step)) + 3
    rows, values = [], []
    for a in range(angles):
        angle = np.pi * (a + 0.5) / angles
        place = (i * np.cos(angle) + j * np.sin(angle)).ravel() / step + (bins - 1) / 2
        low = np.floor(place).astype(np.int32)
        share = (place - low).astype(np.float32)
        rows += [a * bins + low, a * bins + low + 1]
        values += [(1 - share) * step, share * step]
    columns = np.tile(np.arange(i.size, dtype=np.int32), 2 * angles)
    return csr_matrix((np.concatenate(values), (np.concatenate(rows), columns)), shape=(angles * bins, i.size))


def _back_project(matrix: csr_matrix, lines: np.ndarray, angles: int, step: float) -> np.ndarray:
    """Filtered back projection of line integrals (angles * bins, slices) to (pixels, slices)."""
    bins = lines.shape[0] // angles
    padded = 1 << int(np.ceil(np.log2(2 * bins)))
    frequency = np.fft.rfftfreq(padded, step)
    ramp = 2 * np.abs(frequency) * (0.5 + 0.5 * np.cos(np.pi * frequency * step))
    spectrum = np.fft.rfft(lines.reshape(angles, bins, -1), padded, axis=1) * ramp[None, :, None]
    filtered = np.fft.irfft(spectrum, padded, axis=1)[:, :bins].reshape(lines.shape).astype(np.float32)
    return matrix.T @ filtered * np.float32(np.pi / (2 * angles) / step)
