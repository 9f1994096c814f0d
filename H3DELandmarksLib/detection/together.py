"""Points placed together: where all landmarks most probably lie, given what networks see of each and the anatomy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.anatomy import Anatomy
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.region import FEWEST
from H3DELandmarksLib.core.revision import Decisions, Evidence, posterior
from H3DELandmarksLib.detection.predictions import RawPredictions


def placed_together(found: RawPredictions, presence: np.ndarray, anatomy: Anatomy) -> RawPredictions:
    """The same evidence with positions of which each follows from all.

    Networks see each landmark for itself. Where structures repeat, as vertebrae do, several places look alike; how the
    landmarks lie to each other and how errors go together (`core.revision`) tells which of them belong to each other.

    Args:
        found: of all K landmarks, LPS mm.
        presence: (K,) probability that each landmark is in the scan; others do not count.
        anatomy: of the same landmarks.

    Returns:
        LPS mm; `found` itself where too few landmarks are in the scan.
    """
    seen = np.isfinite(found.positions).all(axis=1) & (presence >= 0.5)
    if seen.sum() < FEWEST:
        return found
    names = tuple(str(number) for number in range(len(seen)))
    points = LandmarkSet(names, np.where(seen[:, None], found.positions, np.nan), np.where(seen, presence, 0.0))
    placed = posterior(Evidence(points, found.pose, found.candidates), anatomy, Decisions.none(len(names)))
    return replace(found, positions=np.where(np.isneginf(found.presence_logit)[:, None], np.nan, placed.lps))
