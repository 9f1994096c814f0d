"""The scanners of composites: cone-beam CT with gray values of its own, and CT in Hounsfield units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from H3DELandmarksResearch.phantom.imaging import Scanner, draw_scanner
from H3DELandmarksResearch.phantom.toothshapes import jitter


def draw_any_scanner(rng: np.random.Generator) -> tuple[Scanner, bool]:
    """Draw a scanner with its settings; returns also whether it is a cone-beam CT."""
    scanner = draw_scanner(rng)
    if rng.random() < 0.55:
        scale, offset = (rng.uniform(0.7, 1.15), rng.uniform(-200, 250)) if rng.random() < 0.5 else (1.0, 0.0)
        return replace(scanner, scale=scanner.scale * scale, offset=scanner.offset + offset), True
    return (
        replace(
            scanner,
            blur=0.3 + 0.4 * rng.random(),
            noise=float(np.exp(np.log(32) + jitter(rng, 0.45))),
            cupping=25 * rng.random(),
            rim=0.0,
            rings=0.0,
            scale=1 + jitter(rng, 0.02),
            offset=jitter(rng, 12),
        ),
        False,
    )
