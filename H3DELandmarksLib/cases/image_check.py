"""Points that do not lie on the scan: outside of it, in air, or all beside what they lie on in the other cases.

A point's brightness is that of the brightest voxel next to it, on a scale where the background is 0 and the middle
between background and body (parted by Otsu's threshold) is 1, so that scanners and units compare.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import is_radiograph
from H3DELandmarksLib.core.landmarks import LandmarkScheme


class FindingKind(enum.Enum):
    """Why a case or landmark deserves a look; the order is that in which findings are told."""

    UNREADABLE = "unreadable"
    SIDES = "sides"
    SWAP = "swap"
    OUTSIDE = "outside"
    AIR = "air"
    OFF_ANATOMY = "off anatomy"
    OUTLIER = "outlier"
    SAME_PLACE = "same place"
    SAME_IMAGE = "same image"
    SAME_POINTS = "same points"
    UNREVIEWED = "unreviewed"


@dataclass(frozen=True)
class Finding:
    """One thing that a person should look at.

    Attributes:
        case: id.
        kind: what it is.
        landmark: name; None for a finding about the case.
        reason: one sentence with what to do.
        value: how large it is, in `unit`; None where there is nothing to measure.
        unit: of the value: "mm", "%" or "points".
        position: (3,) LPS mm where to look; None without a place.
        expected: (3,) LPS mm where the point would be by the other cases; None where they do not say.
        picture: PNG file, where one was drawn.
    """

    case: str
    kind: FindingKind
    landmark: str | None
    reason: str
    value: float | None = None
    unit: str = ""
    position: np.ndarray | None = None
    expected: np.ndarray | None = None
    picture: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "case": self.case,
            "landmark": self.landmark,
            "kind": self.kind.value,
            "reason": self.reason,
            "value": None if self.value is None else float(self.value),
            "unit": self.unit,
            "position": None if self.position is None else [float(x) for x in self.position],
            "expected": None if self.expected is None else [float(x) for x in self.expected],
            "picture": None if self.picture is None else str(self.picture),
        }


# Tuned on 40 mouse skulls with planted errors, see benchmarks/check_planted_errors.py.
NEXT_TO = 2  # voxels
AIR = 0.5
DARKER = 0.6  # than the same landmark usually is
OFF_SHARE, OFF_POINTS = 0.1, 3
MOST_SHARE = 0.5
FEWEST_CASES = 5
SAMPLES_PER_AXIS = 128
TOLERATED_OUTSIDE = 1e-3  # mm


@dataclass(frozen=True)
class PointsOnScan:
    """How the points of a case lie on its scan.

    Attributes:
        case: id.
        positions: (K, 3) LPS mm; NaN where there is none.
        outside: (K,) mm beyond the field of view; 0 inside, NaN without a position.
        brightness: (K,) see above; NaN outside and in radiographs, where dark does not mean air.
    """

    case: str
    positions: np.ndarray
    outside: np.ndarray
    brightness: np.ndarray


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
    brightness = np.full(len(positions), np.nan)
    if not is_radiograph(volume):
        background, threshold = _scale(volume)
        for k in np.flatnonzero(outside <= TOLERATED_OUTSIDE):
            low = np.maximum(np.round(index[k]).astype(int) - NEXT_TO, 0)
            part = volume.array[tuple(slice(a, b + 2 * NEXT_TO + 1) for a, b in zip(low, low))]
            brightness[k] = (float(part.max()) - background) / (threshold - background)
    return PointsOnScan(case, positions, outside, brightness)


def check_on_scans(cases: Sequence[PointsOnScan], scheme: LandmarkScheme) -> list[Finding]:
    """Findings about all cases."""
    usual = np.full(len(scheme), np.nan)
    brightness = np.array([case.brightness for case in cases]).reshape(-1, len(scheme))
    enough = np.isfinite(brightness).sum(axis=0) >= FEWEST_CASES
    if enough.any():
        usual[enough] = np.nanmedian(brightness[:, enough], axis=0)
    return [finding for case in cases for finding in _check_case(case, usual, scheme)]


def _check_case(case: PointsOnScan, usual: np.ndarray, scheme: LandmarkScheme) -> list[Finding]:
    findings = []
    with np.errstate(invalid="ignore"):
        darker = case.brightness < DARKER * usual
        in_air = (case.brightness < AIR) & (darker | np.isnan(usual))
        outside = case.outside > TOLERATED_OUTSIDE
    placed = np.isfinite(case.outside)
    off = int((placed & (outside | darker)).sum())
    compared = int((placed & (outside | np.isfinite(case.brightness * usual))).sum())
    if off >= OFF_POINTS and off > OFF_SHARE * compared:
        reason = (
            f"{off} of {compared} points lie beside what they lie on in the other cases: look whether the points "
            "belong to this scan and neither was moved."
        )
        findings.append(Finding(case.case, FindingKind.OFF_ANATOMY, None, reason, 100.0 * off / compared, "%"))
        if off > MOST_SHARE * compared:
            in_air[:] = False  # one cause, told once
    for k, name in enumerate(scheme.names):
        if outside[k]:
            reason = f"'{name}' lies {case.outside[k]:.1f} mm outside the scan: place it again, or mark it as absent."
            findings.append(
                Finding(case.case, FindingKind.OUTSIDE, name, reason, float(case.outside[k]), "mm", case.positions[k])
            )
        elif in_air[k]:
            reason = f"'{name}' lies in air: place it again, or mark it as absent."
            findings.append(
                Finding(
                    case.case, FindingKind.AIR, name, reason, 100.0 * float(case.brightness[k]), "%", case.positions[k]
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
