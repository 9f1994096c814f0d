"""The picture of a finding: three slices through its place, the point, where it is expected, its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.findings import IssueKind, QualityIssue
from H3DELandmarksLib.cases.store import CaseProject
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.geometry import Volume, crop_grid, resample
from H3DELandmarksLib.formats.case_record import CASE_ID
from H3DELandmarksResearch.figures.canvas import new_figure
from H3DELandmarksResearch.figures.layout import robust_window

BACKGROUND, FOREGROUND, MUTED = "#0d1117", "#f0f3f6", "#9aa4b0"
POINT, EXPECTED = "#ff4f30", "#62d9ff"
INCHES, SAMPLES = (9.6, 3.7), 160
# Title, LPS axes to the right and along the vertical, whether the second runs up: as radiologists look.
PLANES = (("Axial", 0, 1, False), ("Coronal", 0, 2, True), ("Sagittal", 1, 2, True))
VOXELS_SHOWN, SHARE_SHOWN = 40, 0.5


def draw_findings(
    project: CaseProject, findings: Sequence[QualityIssue], folder: Path, progress: Progress
) -> list[QualityIssue]:
    """Draw a picture for every finding that has a place; gives the findings with their pictures.

    Args:
        project: whose findings.
        findings: as `check_project` gives them.
        folder: exists; pictures are named after case, kind and landmark number.
        progress: receives the fraction done and the id of the case at hand.
    """
    history = project.history()
    scheme = history.newest
    result: list[QualityIssue] = []
    scans: dict[str, tuple[Volume, np.ndarray]] = {}  # the case at hand; findings of one case come together
    for number, finding in enumerate(findings):
        progress(number / max(len(findings), 1), finding.case)
        if finding.kind is not IssueKind.UNREADABLE and CASE_ID.fullmatch(finding.case):
            if finding.case not in scans:
                case = project.case(finding.case)
                scans = {finding.case: (case.volume(), history.now(case.revision()).positions(scheme))}
            volume, points = scans[finding.case]
            landmark = "" if finding.landmark is None else f"-{scheme.names.index(finding.landmark) + 1:03d}"
            path = folder / f"{finding.case}-{finding.kind.value.replace(' ', '-')}{landmark}.png"
            draw_finding(volume, points, scheme.names, finding, path)
            finding = replace(finding, picture=path)
        result.append(finding)
    progress(1.0, "done")
    return result


def draw_finding(volume: Volume, points: np.ndarray, names: tuple[str, ...], finding: QualityIssue, path: Path) -> None:
    """Draw one finding.

    Args:
        volume: scan of the case.
        points: (K, 3) LPS mm; NaN where there is none.
        names: (K,) of the landmarks.
        finding: what to show; one without a place shows the middle of the points.
        path: PNG file, replaced when the new one is complete.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = new_figure(*INCHES, background=BACKGROUND)
    center, half = _view(volume, points, finding)
    for number, plane in enumerate(PLANES):
        axes = figure.add_axes((0.01 + 0.33 * number, 0.02, 0.32, 0.8))
        _draw_plane(axes, volume, points, names, finding, center, half, plane)
    figure.text(0.01, 0.93, f"{finding.case}: {finding.kind.value}", color=FOREGROUND, fontsize=10, weight="bold")
    figure.text(0.01, 0.875, finding.reason, color=MUTED, fontsize=7.5, parse_math=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, facecolor=BACKGROUND, format="png")


def _view(volume: Volume, points: np.ndarray, finding: QualityIssue) -> tuple[np.ndarray, float]:
    """(3,) LPS mm of the middle, and half of the edge in mm; everything that is to be seen fits in."""
    if finding.position is None:
        known = points[np.isfinite(points).all(axis=1)]
        center = np.median(known, axis=0) if len(known) else volume.grid.center
        return center, SHARE_SHOWN * float(volume.grid.extent.max())
    half = VOXELS_SHOWN * float(volume.spacing.min())
    if finding.expected is not None:
        half = max(half, 1.3 * float(np.abs(finding.expected - finding.position).max()))
    return finding.position, half


def _draw_plane(axes, volume: Volume, points, names, finding: QualityIssue, center, half: float, plane: tuple) -> None:
    """One slice with everything near it; points farther from it are fainter."""
    title, right, vertical, up = plane
    normal = 3 - right - vertical
    directions = np.zeros((3, 3))
    directions[right, 0] = directions[vertical, 1] = directions[normal, 2] = 1.0
    grid = crop_grid(center, directions, 2 * half / SAMPLES, (SAMPLES, SAMPLES, 1))
    image = resample(volume, grid, float(volume.array.min())).array[:, :, 0].T
    low, high = robust_window(image, 1.0, 99.8)
    edges = (center[right] - half, center[right] + half, center[vertical] - half, center[vertical] + half)
    axes.imshow(image, extent=edges, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
    axes.set(xlim=edges[:2], ylim=edges[2:] if up else edges[:1:-1])
    axes.set_axis_off()
    axes.set_title(title, color=MUTED, fontsize=8, loc="left", pad=2)
    for name, point in zip(names, points):
        near = np.abs(point - center).max() <= half if np.isfinite(point).all() else False
        if near and name != finding.landmark:
            faint = float(np.clip(1 - abs(point[normal] - center[normal]) / half, 0.15, 1))
            axes.plot(point[right], point[vertical], ".", color=FOREGROUND, markersize=4, alpha=faint)
            axes.text(
                point[right], point[vertical], f" {name}", color=FOREGROUND, fontsize=6, alpha=faint, parse_math=False
            )
    if finding.expected is not None:
        axes.plot(
            finding.expected[right], finding.expected[vertical], "o", color=EXPECTED, markersize=9, fillstyle="none"
        )
    if finding.position is not None:
        axes.plot(finding.position[right], finding.position[vertical], "+", color=POINT, markersize=12)
