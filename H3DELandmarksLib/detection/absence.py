"""When it is knowledge that a landmark was not found: somebody looked where it should be, and saw that it is not there.

Where a scan shows one side alone, networks take its structures for those of the other side, too: a point that lies on
the structure of its counterpart was not found either.

Measured on 66 composites and phantoms of the molar model and on scans as users have them of three models, see
docs/results.md: of landmarks said to be absent that are there, most have a presence above `SURELY_ABSENT`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.formats.results import RecognitionResult

# A landmark is absent where its presence is no higher, and where the points found tell its place within so many times
# the distance by which it differs between subjects.
SURELY_ABSENT, PLACE_KNOWN = 0.2, 2.0
# And where more than this share of the calibration scans are as strange as the scan, or stranger: networks that see a
# scan as hardly any before also miss what is there, as in jaws upside down, stretched heads and two pictures in one.
SURELY_KNOWN = 0.2
# The points of a pair lie on one structure where they are nearer together than this part of their usual distance, and
# nearer by so many times the distance by which both differ between subjects. In parts of simulated jaws that show one
# side, pairs were 0.01 to 0.22 of their distance apart, in whole ones 0.93 to 1.08. Pairs near the middle, and those of
# vertebrae, differ too much for the second: they never count as one structure.
ONE_STRUCTURE, CLEARLY_NEARER = 1 / 3, 5.0


def only_known_absences(
    landmarks: LandmarkSet, shape: ShapeModel, pose: Pose, grid: Grid, recognition: RecognitionResult | None
) -> LandmarkSet:
    """The same set, where landmarks that were not found are absent only if that is known.

    Their place must be known from points that were found with confidence, and lie in the scan as far from its ends as
    the landmark differs between subjects; and the network must be sure, in a scan that is not strange to it.

    Args:
        landmarks: what a model says of a scan that it recognises, LPS mm.
        shape: mean shape.
        pose: of the mean shape in the scan.
        grid: of the scan, in the same lengths.
        recognition: how strange the scan is; None where the model cannot tell.
    """
    absent = ~landmarks.present & ~landmarks.unknown
    trust = np.where(landmarks.present, np.nan_to_num(landmarks.confidence), 0.0)
    known = shape.place_error(trust) <= PLACE_KNOWN * shape.tolerance
    inside = grid.depth(pose.to_lps(shape.mean)) >= shape.tolerance
    landmarks = landmarks.unknown_where(absent & ~(known & inside), Cause.NO_PLACE)
    is_strange = recognition is not None and recognition.p_value <= SURELY_KNOWN
    return landmarks.unknown_where(absent & (is_strange | (landmarks.presence > SURELY_ABSENT)), Cause.UNSURE)


def on_one_side(landmarks: LandmarkSet, shape: ShapeModel, pairs: Sequence[tuple[str, str]]) -> LandmarkSet:
    """The same set; where left and right points lie on one structure, those of one side alone have a place.

    All such pairs count for the same side: the one whose points were found with more confidence together.

    Args:
        landmarks: what a model says of a scan that it recognises, LPS mm.
        shape: mean shape.
        pairs: (left, right) names.
    """
    row = {name: k for k, name in enumerate(landmarks.names)}
    sides = np.array([(row[left], row[right]) for left, right in pairs], dtype=int).reshape(-1, 2)
    usual, apart = (_distances(points, sides) for points in (shape.mean, landmarks.positions))
    differ = np.linalg.norm(shape.tolerance[sides], axis=1)
    together = sides[(apart < ONE_STRUCTURE * usual) & (usual - apart > CLEARLY_NEARER * differ)]
    weaker = int(np.argmin(np.nan_to_num(landmarks.confidence)[together].sum(axis=0)))
    return landmarks.unknown_where(np.isin(np.arange(len(landmarks)), together[:, weaker]), Cause.NO_PLACE)


def _distances(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(P,) of the points of each pair; NaN where one has no position."""
    distances: np.ndarray = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    return distances
