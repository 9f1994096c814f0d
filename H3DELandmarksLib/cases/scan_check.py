"""Points compared with their own scan: outside, in air, beside what they lie on in the other cases.

Brightness next to a point is that of the brightest voxel there, on a scale where the background is 0 and the middle
between background and body (parted by Otsu's threshold) is 1, so that scanners and units compare. In some scans Otsu's
threshold parts body and bone, in others of the same kind air and body: a point is darker than usual only where it is so
in stored values, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue
from H3DELandmarksLib.cases.point_check import CheckedPoints
from H3DELandmarksLib.cases.shape_check import MIN_CASES
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import is_radiograph, length_unit
from H3DELandmarksLib.core.landmarks import LandmarkScheme

# Tuned on 40 mouse skulls with planted errors: H3DELandmarksResearch/studies/check_planted_errors.py.
NEXT_TO_POINT = 2  # voxels
AIR = 0.5
DARKER = 0.6  # than the same landmark usually is
OFF_SHARE, OFF_POINTS = 0.1, 3
MAX_OFF_SHARE = 0.5
SAMPLES_PER_AXIS = 128
TOLERATED_OUTSIDE_MM = 1e-3


@dataclass(frozen=True)
class PointsOnScan(CheckedPoints):
    """How the points of a case lie on its scan.

    Attributes:
        outside: (K,) mm beyond the field of view; 0 inside, NaN without a position.
        brightness: (K,) see above; NaN outside and in radiographs, where dark does not mean air.
        values: (K,) the same brightness in stored values above the background.
    """

    outside: np.ndarray = field(kw_only=True)
    brightness: np.ndarray = field(kw_only=True)
    values: np.ndarray = field(kw_only=True)


def look_at_scan(case: str, volume: Volume, positions: np.ndarray) -> PointsOnScan:
    """Measure a case.

    Args:
        case: id.
        volume: its scan.
        positions: (K, 3) LPS mm; NaN where there is none.
    """
    index = volume.grid.ijk_from_lps(positions)
    size = np.array(volume.array.shape)
    beyond = np.maximum(np.maximum(-0.5 - index, index - (size - 0.5)), 0.0)
    outside = np.linalg.norm(beyond * volume.spacing, axis=1)
    brightness, values = np.full((2, len(positions)), np.nan)
    if not is_radiograph(volume):
        background, threshold = _scale(volume)
        for k in np.flatnonzero(outside <= TOLERATED_OUTSIDE_MM):
            low = np.maximum(np.round(index[k]).astype(int) - NEXT_TO_POINT, 0)
            part = volume.array[tuple(slice(a, b + 2 * NEXT_TO_POINT + 1) for a, b in zip(low, low))]
            values[k] = float(part.max()) - background
            brightness[k] = values[k] / (threshold - background)
    unit = length_unit(volume.array.shape, volume.spacing)
    voxel = float(volume.spacing.min())
    return PointsOnScan(case, positions, unit, voxel, outside=outside, brightness=brightness, values=values)


def check_on_scans(cases: Sequence[PointsOnScan], scheme: LandmarkScheme) -> list[QualityIssue]:
    """Findings about all cases."""
    usual, usual_value = (
        _usual(np.array([getattr(case, name) for case in cases])) for name in ("brightness", "values")
    )
    return [finding for case in cases for finding in _check_case_on_scan(case, usual, usual_value, scheme)]


def _usual(of_cases: np.ndarray) -> np.ndarray:
    """(K,) medians of (N, K); NaN where few cases tell."""
    usual: np.ndarray = np.full(of_cases.shape[1:], np.nan)
    enough = np.isfinite(of_cases).sum(axis=0) >= MIN_CASES
    if enough.any():
        usual[enough] = np.nanmedian(of_cases[:, enough], axis=0)
    return usual


def _check_case_on_scan(
    case: PointsOnScan, usual: np.ndarray, usual_value: np.ndarray, scheme: LandmarkScheme
) -> list[QualityIssue]:
    findings = []
    with np.errstate(invalid="ignore"):
        darker = (case.brightness < DARKER * usual) & (case.values < DARKER * usual_value)
        in_air = (case.brightness < AIR) & (darker | np.isnan(usual))
        outside = case.outside > TOLERATED_OUTSIDE_MM
    placed = np.isfinite(case.outside)
    off = int((placed & (outside | darker)).sum())
    compared = int((placed & (outside | np.isfinite(case.brightness * usual))).sum())
    if off >= OFF_POINTS and off > OFF_SHARE * compared:
        reason = (
            f"{off} of {compared} points lie beside what they lie on in the other cases: look whether the points "
            "belong to this scan and neither was moved."
        )
        findings.append(QualityIssue(case.case, IssueKind.OFF_ANATOMY, None, reason, 100.0 * off / compared, "%"))
        if off > MAX_OFF_SHARE * compared:
            in_air[:] = False  # one cause, told once
    for k, name in enumerate(scheme.names):
        if outside[k]:
            far = f"{case.outside[k]:.1f} {case.unit}"
            reason = f"'{name}' lies {far} outside the scan: place it again, or mark it as absent."
            findings.append(
                QualityIssue(
                    case.case, IssueKind.OUTSIDE, name, reason, float(case.outside[k]), case.unit, case.positions[k]
                )
            )
        elif in_air[k]:
            reason = f"'{name}' lies in air: place it again, or mark it as absent."
            findings.append(
                QualityIssue(
                    case.case, IssueKind.AIR, name, reason, 100.0 * float(case.brightness[k]), "%", case.positions[k]
                )
            )
    return findings


def _scale(volume: Volume) -> tuple[float, float]:
    """The value of the background, and the threshold to the body; apart even in a scan of one value."""
    step = tuple(slice(None, None, max(1, size // SAMPLES_PER_AXIS)) for size in volume.array.shape)
    sample = np.ascontiguousarray(volume.array[step], dtype=np.float32)
    background = float(np.percentile(sample, 1))
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(sitk.GetImageFromArray(sample))
    inside = sample > otsu.GetThreshold()
    if not inside.any() or inside.all():
        return background, background + 1e-6
    # Otsu's threshold is anywhere in a gap between both classes; the middle of their means is in its middle.
    return background, max(float(sample[inside].mean() + sample[~inside].mean()) / 2, background + 1e-6)
