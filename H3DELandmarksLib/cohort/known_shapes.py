"""The shapes that a project's cases show already, in the frame of a model's mean shape."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.cohort.case_files import CaseFiles
from H3DELandmarksLib.cohort.project import CaseProject
from H3DELandmarksLib.cohort.record import Revision
from H3DELandmarksLib.errors import H3DELandmarksError
from H3DELandmarksLib.landmarks import LandmarkScheme
from H3DELandmarksLib.planar import lay_flat, points_on_sheet
from H3DELandmarksLib.shape_model import ShapeModel

FEWEST_POINTS = 3  # that fix a pose


def known_shapes(
    project: CaseProject, scheme: LandmarkScheme, shape: ShapeModel, flat: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each case of a project the (K, 3) points in the frame of the mean shape and (K,) what is known of them.

    Args:
        project: whose cases; those that cannot be read, or with too few points, are left out.
        scheme: of the model; landmarks are matched by name.
        shape: mean shape.
        flat: whether the model reads radiographs.
    """
    result = []
    for case in project.cases():
        try:
            points = _positions(project.review(case), case, scheme, flat)
        except H3DELandmarksError:
            continue
        reviewed = np.isfinite(points).all(axis=1)
        if reviewed.sum() >= FEWEST_POINTS:
            result.append((in_frame(shape, points), reviewed))
    return result


def in_frame(shape: ShapeModel, points: np.ndarray) -> np.ndarray:
    """(K, 3) points placed on the mean shape by a robust rigid fit; NaN where they are missing."""
    pose, _ = shape.fit(points, np.isfinite(points).all(axis=1).astype(float))
    return pose.to_model(points)


def _positions(revision: Revision, case: CaseFiles, scheme: LandmarkScheme, flat: bool) -> np.ndarray:
    """(K, 3) mm of the points of a case, reviewed or not, on the sheet for radiographs; NaN where there is none."""
    by_name = {p.name: p.position for p in revision.landmarks if p.position is not None}
    points = np.array([by_name.get(name, np.full(3, np.nan)) for name in scheme.names])
    return points_on_sheet(lay_flat(case.volume())[1], points) if flat else points
