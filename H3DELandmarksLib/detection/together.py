"""Points placed together: where all landmarks most probably lie, given what networks see of each and the anatomy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.anatomy import Anatomy
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.region import FEWEST
from H3DELandmarksLib.core.revision import Decisions, Evidence, posterior
from H3DELandmarksLib.core.rows import Row, count
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection.predictions import RawPredictions


def placed_together(found: RawPredictions, presence: np.ndarray, anatomy: Anatomy) -> RawPredictions:
    """The same evidence with positions of which each follows from all.

    Networks see each landmark for itself. Where structures repeat, as vertebrae do, several places look alike: they
    are counted first (`core.rows`), if the anatomy says how they follow each other. How the landmarks lie to each other
    and how errors go together (`core.revision`) tells then where each is, unless a closer look there has told.

    Args:
        found: of all K landmarks, LPS mm.
        presence: (K,) probability that each landmark is in the scan; others do not count.
        anatomy: of the same landmarks.

    Returns:
        LPS mm, with the places that networks gave; `found` itself where too few landmarks are in the scan.
    """
    seen = np.isfinite(found.positions).all(axis=1) & (presence >= 0.5)
    if seen.sum() < FEWEST:
        return found
    counted = found if anatomy.row is None else counted_row(found, seen, anatomy.row)
    names = tuple(str(number) for number in range(len(seen)))
    points = LandmarkSet(names, np.where(seen[:, None], counted.positions, np.nan), np.where(seen, presence, 0.0))
    placed = posterior(Evidence(points, found.pose, counted.candidates), anatomy, Decisions.none(len(names)))
    nowhere = np.isneginf(found.presence_logit)[:, None]
    closer = found.closer
    positions = placed.lps if closer is None else np.where(np.isfinite(closer), closer, placed.lps)
    return replace(found, positions=np.where(nowhere, np.nan, positions), count=counted.count)


def counted_row(found: RawPredictions, seen: np.ndarray, row: Row) -> RawPredictions:
    """Each landmark at a place that a network sees on its own structure, once the structures are counted.

    Args:
        found: of all K landmarks, LPS mm.
        seen: (K,) bool, landmarks that are in the scan.
        row: of the same landmarks.

    Returns:
        LPS mm; `found` itself where too little of the row is seen.
    """
    if found.candidates is None:
        return found
    pose = found.pose
    in_model = Pose(pose.rotation.T, -pose.translation @ pose.rotation)
    points = pose.to_model(found.positions)
    counted = count(row, points[:, :2], seen, found.candidates.moved(in_model))
    if counted is None:
        return found
    candidates = counted.candidates.moved(pose)
    depth = float(np.median(points[seen, 2]))
    expected = pose.to_lps(np.pad(counted.places, ((0, 0), (0, 1)), constant_values=depth))
    nearest = np.where(candidates.share[:, :1] > 0, candidates.positions[:, 0], expected)
    return replace(found, positions=nearest, candidates=candidates, count=counted.count)
