"""When it is knowledge that a landmark was not found: somebody looked where it should be, and saw that it is not there.

Measured on 66 composites and phantoms of the molar model and on scans as users have them of three models, see
docs/results.md: of landmarks said to be absent that are there, most have a presence above `SURELY_ABSENT`.
"""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.core.statements import Cause

# A landmark is absent where its presence is no higher, and where the points found tell its place within so many times
# the distance by which it differs between subjects.
SURELY_ABSENT, PLACE_KNOWN = 0.2, 2.0


def only_known_absences(landmarks: LandmarkSet, shape: ShapeModel, pose: Pose, grid: Grid) -> LandmarkSet:
    """The same set, where landmarks that were not found are absent only if that is known.

    Their place must be known from points that were found with confidence, and lie in the scan as far from its ends as
    the landmark differs between subjects; and the network must be sure.

    Args:
        landmarks: what a model says of a scan that it recognises, LPS mm.
        shape: mean shape.
        pose: of the mean shape in the scan.
        grid: of the scan, in the same lengths.
    """
    absent = ~landmarks.present & ~landmarks.unknown
    trust = np.where(landmarks.present, np.nan_to_num(landmarks.confidence), 0.0)
    known = shape.place_error(trust) <= PLACE_KNOWN * shape.tolerance
    inside = grid.depth(pose.to_lps(shape.mean)) >= shape.tolerance
    landmarks = landmarks.unknown_where(absent & ~(known & inside), Cause.NO_PLACE)
    return landmarks.unknown_where(absent & (landmarks.presence > SURELY_ABSENT), Cause.UNSURE)
