"""Two lists of points on the same pictures, of two readers or of a reader and a model: where they differ unusually.

Everybody has habits, as a landmark that is placed higher than others place it: they are taken out, by the median of
the differences at each landmark, before distances are judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue
from H3DELandmarksLib.cases.point_check import CheckedPoints, outlier_limit
from H3DELandmarksLib.cases.shape_check import MIN_CASES, usual_length
from H3DELandmarksLib.core.landmarks import LandmarkScheme

Lists = Mapping[str, CheckedPoints]  # by case


def check_readers(readers: Mapping[str, Lists], scheme: LandmarkScheme) -> Iterator[QualityIssue]:
    """Findings about points on which two readers differ far more than they usually do.

    Args:
        readers: points of each reader, by the reader's word.
        scheme: of the landmarks.
    """
    for one, other in combinations(readers, 2):
        yield from check_against((one, readers[one]), (other, readers[other]), scheme)


def check_against(one: tuple[str, Lists], other: tuple[str, Lists], scheme: LandmarkScheme) -> Iterator[QualityIssue]:
    """Findings about points that lie unusually far from where another reader, or a model, has them.

    Args:
        one, other: word for the reader, and the points. A model's must be of cases that it has not learnt from.
        scheme: of the landmarks.
    """
    (reader, points), (judge, others) = one, other
    cases = sorted(points.keys() & others.keys())
    if len(cases) < MIN_CASES:
        return
    expected = np.stack([others[case].positions for case in cases])
    expected = expected + _habit(np.stack([points[case].positions for case in cases]) - expected)
    distances = np.stack([np.linalg.norm(points[c].positions - e, axis=1) for c, e in zip(cases, expected)])
    if not np.isfinite(distances).any():
        return
    spread = usual_length(distances)
    with np.errstate(invalid="ignore"):
        unusual = distances > outlier_limit(distances / spread) * spread
    for n, k in np.argwhere(unusual).tolist():
        case = points[cases[n]]
        far, usually = (f"{length:.1f} {case.unit}" for length in (distances[n, k], spread[k]))
        reason = (
            f"'{scheme.names[k]}' of {reader} lies {far} from where {judge} has it, their habits taken out, which is "
            f"usually {usually}: look which of them is right."
        )
        places = (case.positions[k], expected[n, k])
        yield QualityIssue(
            case.case, IssueKind.READERS, scheme.names[k], reason, float(distances[n, k]), case.unit, *places
        )


def _habit(differences: np.ndarray) -> np.ndarray:
    """(K, 3) mm, the median of (N, K, 3) differences; 0 where there are too few to tell a habit."""
    enough = np.isfinite(differences).all(axis=2).sum(axis=0) >= MIN_CASES
    habit = np.zeros(differences.shape[1:])
    if enough.any():
        habit[enough] = np.nanmedian(differences[:, enough], axis=0)
    return habit
