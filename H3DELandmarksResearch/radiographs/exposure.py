"""What a detector records of line integrals, and the picture that a viewer shows of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True)
class Exposure:
    """One shot.

    Attributes:
        photons: counted in a pixel that nothing shades.
        scatter: scattered photons per primary one; they are the primary image, blurred to a haze.
        haze_mm: standard deviation of that blur, mm at the detector.
        unsharpness_mm: standard deviation of the blur by the focal spot, which spares the noise.
        detector_blur_mm: standard deviation of the detector's own blur, which correlates the noise.
        electronics: standard deviation of the readout noise, in photons.
    """

    photons: float
    scatter: float = 0.0
    haze_mm: float = 1.0
    unsharpness_mm: float = 0.0
    detector_blur_mm: float = 0.0
    electronics: float = 0.0


@dataclass(frozen=True)
class Display:
    """How counts become gray values.

    Attributes:
        low: percentile, within the field, of the attenuation that is shown black; a margin of 3 % is added.
        high: percentile of what is shown white, with the same margin.
        gamma: exponent of the gray scale, 1 for the logarithm of the counts.
        bits: 8, or up to 16.
        shutter: whether everything outside the field is shown black (True) or as unexposed, which is white.
    """

    low: float = 0.5
    high: float = 99.8
    gamma: float = 1.0
    bits: int = 8
    shutter: bool = True


def expose(
    lines: np.ndarray, field: np.ndarray, spacing: np.ndarray, exposure: Exposure, rng: np.random.Generator
) -> np.ndarray:
    """Photons that the detector counts: Beer-Lambert's law, unsharpness, scatter, Poisson noise, detector blur.

    Args:
        lines: (X, Y) line integrals.
        field: (X, Y) share of the beam that passes the collimator, 0 to 1.
        spacing: (2,) mm of a pixel.
        exposure: the shot.
        rng: random stream.

    Returns:
        (X, Y) float64 counts; readout noise can make them negative.
    """
    primary = exposure.photons * np.exp(-lines.astype(np.float64)) * field
    primary = _blurred(primary, exposure.unsharpness_mm, spacing)
    scattered = exposure.scatter * _blurred(primary, exposure.haze_mm, spacing) if exposure.scatter else 0.0
    counts = rng.poisson(primary + scattered).astype(np.float64)
    counts = _blurred(counts, exposure.detector_blur_mm, spacing)
    return counts + exposure.electronics * rng.standard_normal(counts.shape)


def develop(counts: np.ndarray, inside: np.ndarray, photons: float, display: Display) -> np.ndarray:
    """The picture: logarithm of the counts with bone bright, windowed on the field.

    Args:
        counts: (X, Y) photons.
        inside: (X, Y) bool, the collimated field.
        photons: counted in a pixel that nothing shades.
        display: window and gray scale.

    Returns:
        (X, Y) uint8, or uint16 where more than 8 bits are asked for.
    """
    attenuation = -np.log(np.maximum(counts, 0.5) / photons)
    low, high = np.percentile(attenuation[inside], [display.low, display.high])
    margin = 0.03 * max(high - low, 1e-6)
    gray = np.clip((attenuation - low + margin) / (high - low + 2 * margin), 0, 1) ** display.gamma
    if display.shutter:
        gray = np.where(inside, gray, 0.0)
    return np.round(gray * (2**display.bits - 1)).astype(np.uint8 if display.bits <= 8 else np.uint16)


def _blurred(image: np.ndarray, sigma_mm: float, spacing: np.ndarray) -> np.ndarray:
    return gaussian_filter(image, sigma_mm / np.asarray(spacing), mode="nearest", truncate=3) if sigma_mm > 0 else image
