"""Points that are there twice: two landmarks of a case at one place, and cases with the points of another case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue
from H3DELandmarksLib.cases.point_check import RIGHT_BEYOND, CheckedPoints, mutual_distances, relative_sizes
from H3DELandmarksLib.cases.shape_check import MIN_CASES
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.shape_model import rigid_fit

SAME_PLACE = 0.5  # of the smallest voxel edge
USUALLY_APART = 4.0  # as many times as that
NEARER = 0.1  # of the usual distance
COPIED_MM = 1e-2


def check_same_places(cases: Sequence[CheckedPoints], scheme: LandmarkScheme) -> list[QualityIssue]:
    """Two landmarks of a case at one place, which usually lie apart: also a structure of a row that was marked twice.

    Args:
        cases: of one scheme.
        scheme: of the landmarks.
    """
    if not cases:
        return []
    positions = np.stack([case.positions for case in cases])
    sizes = relative_sizes(positions)
    voxels = SAME_PLACE * np.array([case.voxel for case in cases])
    told: dict[tuple[int, int], QualityIssue] = {}
    for k in range(len(scheme) - 1):
        apart = np.linalg.norm(positions[:, k + 1 :] - positions[:, k, None], axis=2)  # (N, K - k - 1)
        shares = apart / sizes[:, None]
        usual = np.nanmedian(np.where(np.isfinite(shares).any(axis=0), shares, np.inf), axis=0)
        for n, m in np.argwhere((apart <= voxels[:, None]) | (shares <= NEARER * usual)).tolist():
            elsewhere = np.delete(shares[:, m], n)
            if (n, k + 1 + m) in told or not _is_strange(shares[n, m], elsewhere, voxels[n] / sizes[n], len(scheme)):
                continue
            case, one, other = cases[n], scheme.names[k], scheme.names[k + 1 + m]
            reason = f"'{one}' and '{other}' lie at one place: place one of them again."
            told[n, k + 1 + m] = QualityIssue(
                case.case, IssueKind.SAME_PLACE, other, reason, float(apart[n, m]), case.unit, case.positions[k + 1 + m]
            )
    return list(told.values())


def _is_strange(distance: float, elsewhere: np.ndarray, voxel: float, landmarks: int) -> bool:
    """Whether two points are too near each other for what their distance is in the other cases."""
    from scipy.stats import norm, t

    elsewhere = elsewhere[np.isfinite(elsewhere)]
    usual = float(np.median(elsewhere)) if len(elsewhere) else np.inf
    if distance <= voxel and usual >= USUALLY_APART * voxel:
        return True
    if distance > NEARER * usual or len(elsewhere) < MIN_CASES:
        return False
    spread = float(np.median(np.abs(elsewhere - usual))) / norm.ppf(0.75)
    once_in = RIGHT_BEYOND * landmarks * (landmarks - 1) / 2
    return bool(usual - distance > t.ppf(1 - 1 / once_in, len(elsewhere) - 1) * spread)


def check_copies(cases: Sequence[CheckedPoints]) -> list[QualityIssue]:
    """Cases whose points are those of an earlier case, moved as a whole: the same subject twice."""
    findings = []
    distances = [mutual_distances(case.positions) for case in cases]
    for n, case in enumerate(cases):
        for m in range(n):
            both = np.isfinite(distances[n]) & np.isfinite(distances[m])
            if both.sum() < 6 or np.abs(distances[n] - distances[m])[both].max() > COPIED_MM:
                continue
            if _is_moved_copy(case.positions, cases[m].positions):
                reason = f"All points are those of {cases[m].case}: keep one of the two cases."
                findings.append(QualityIssue(case.case, IssueKind.SAME_POINTS, None, reason, other=cases[m].case))
                break
    return findings


def _is_moved_copy(points: np.ndarray, others: np.ndarray) -> bool:
    both = np.isfinite(points).all(axis=1) & np.isfinite(others).all(axis=1)
    pose = rigid_fit(points[both], others[both])
    return bool(np.linalg.norm(pose.to_lps(points[both]) - others[both], axis=1).max() <= COPIED_MM)
