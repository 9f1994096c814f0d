"""All landmarks of one scan from its label volume: present, or unknown where no contour supports them."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.head_neck.contours import Contour, contour, is_isolated
from H3DELandmarksResearch.head_neck.mandible import mandible_points
from H3DELandmarksResearch.head_neck.scheme import HEAD_NECK_SCHEME, ORGANS

# Height (mm) and volume (ml) of a completely drawn organ; others are parts of one, or more than one.
COMPLETE = {
    "brainstem": ((45, 75), (15, 40)),
    "parotid-L": ((36, 75), (12, 55)),
    "parotid-R": ((36, 75), (12, 55)),
    "larynx": ((24, 52), (10, 45)),
}


def derive_landmarks(labels: Volume, scan: Volume) -> LandmarkSet:
    """Derive the landmarks of `HEAD_NECK_SCHEME`.

    A point that the contours do not support is unknown: a missing contour does not tell that the organ is not in view.
    So is one whose surroundings were set to air, as in the published scans beyond the treated region.

    Args:
        labels: values as in `ORGANS`.
        scan: CT in Hounsfield units, as large as `labels`.
    """
    labels, scan = canonical(labels), canonical(scan)
    names = HEAD_NECK_SCHEME.names
    found = dict.fromkeys(names, np.full(3, np.nan))
    mandible = contour(labels, ORGANS["mandible"])
    if mandible is not None:
        found |= mandible_points(mandible, scan)
    for name, limits in COMPLETE.items():
        organ = contour(labels, ORGANS[name])
        if organ is not None and is_complete(organ, *limits):
            found[name] = organ.centroid
    positions = np.array([found[name] for name in names])
    known = [bool(np.isfinite(point).all()) and not is_isolated(scan, point) for point in positions]
    definitions = tuple(landmark.definition for landmark in HEAD_NECK_SCHEME.landmarks)
    return LandmarkSet(names, positions, np.where(known, 1.0, np.nan), definitions=definitions)


def is_complete(organ: Contour, heights_mm: tuple[float, float], volumes_ml: tuple[float, float]) -> bool:
    """Whether a contour has the size of the whole organ and does not end at the scan's edge."""
    sizes = zip((organ.height_mm, organ.volume_ml), (heights_mm, volumes_ml))
    return not organ.touches_edge and all(low <= size <= high for size, (low, high) in sizes)
