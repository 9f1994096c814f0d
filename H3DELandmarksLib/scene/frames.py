"""The two conventions for patient millimeters."""

from __future__ import annotations

import numpy as np

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def lps_from_ras(points: np.ndarray) -> np.ndarray:
    """Change (..., 3) points from RAS to LPS mm, or from LPS to RAS: it is the same change of signs."""
    return np.asarray(points, dtype=np.float64) * np.diag(LPS_FROM_RAS)[:3]
