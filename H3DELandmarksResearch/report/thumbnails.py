"""Small pictures of scans on which a page draws the points: projections of the scan itself, or of the points alone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import is_radiograph
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksResearch.cases.case_folder import SCAN_SUFFIXES
from H3DELandmarksResearch.figures.layout import VIEWS, Panel, plan_sheet
from H3DELandmarksResearch.report.cohort import CohortCase

WIDTH, HEIGHT, GAP = 400, 170, 4  # pixels
SAMPLES = 200  # along the longest axis of what is projected
MOST_BYTES = 11_000
MARGIN = 0.08


@dataclass(frozen=True)
class Thumbnail:
    """A picture and where the points lie on it.

    Attributes:
        width, height: pixels.
        image: a JPEG; None where there are only points.
        views: x, y, width, height in pixels of each projection, and its four letters of orientation.
        marks: (K, 2 V) pixels, x and y in every view; NaN where a landmark has no place.
        scale: pixels a mm, in all views.
    """

    width: int
    height: int
    image: bytes | None
    views: tuple[tuple[int, int, int, int, str], ...]
    marks: np.ndarray
    scale: float

    @property
    def address(self) -> str | None:
        """The image for a page."""
        return None if self.image is None else f"data:image/jpeg;base64,{base64.b64encode(self.image).decode()}"


def thumbnail_of_case(case: CohortCase, folders: Sequence[Path] = ()) -> Thumbnail | None:
    """The scan with its points where the scan can be read and is the one that was searched; else the points alone.

    Args:
        case: with points.
        folders: where the scan may lie, when it is no longer where it was.
    """
    if case.landmarks is None:
        return None
    for path in _places(case, folders):
        try:
            volume = read_volume(path, case.spacing, case.series, needs_size=case.unit == "mm")
        except (H3DELandmarksError, OSError, MemoryError, ValueError):
            continue
        if case.voxels_sha256 in (None, content_of(volume).digest):
            return thumbnail(volume, case.landmarks)
    return points_alone(case.landmarks)


def _places(case: CohortCase, folders: Sequence[Path]) -> list[Path]:
    """Where the scan may be: where it was, or in a folder, by its own name or by that of the case."""
    if case.scan is not None:
        found = [folder / case.scan.name for folder in folders]
        found = [case.scan, *found] if case.scan.is_absolute() else found
    else:
        beside = [case.files["markups"].parent, *folders]
        found = [folder / f"{case.name}{suffix}" for folder in beside for suffix in SCAN_SUFFIXES]
    return [path for path in found if path.exists()]


def thumbnail(volume: Volume, landmarks: LandmarkSet) -> Thumbnail:
    """Largest values along three directions, or a radiograph.

    Args:
        volume: scan in any orientation.
        landmarks: LPS mm.
    """
    sheet = plan_sheet(_coarse(volume), landmarks, with_close_ups=False)
    low, high = sheet.window
    panels = sheet.projections
    scale, views = _laid_out([panel.high - panel.low for panel in panels])
    width, height = views[-1][0] + views[-1][2], max(view[3] for view in views)
    canvas = np.full((height, width), 14, np.uint8)
    marks = []
    for panel, (x, y, w, h) in zip(panels, views):
        gray = np.clip((panel.image - low) / (high - low), 0, 1) * 241 + 14
        canvas[y : y + h, x : x + w] = _resized(gray.astype(np.uint8), w, h)
        share = (panel.on_sheet(landmarks.positions) - panel.origin) / panel.size
        marks.append(np.stack([x + share[:, 0] * w, y + (1 - share[:, 1]) * h], axis=1))
    letters = ["".join(panel.view.letters) for panel in panels]
    return Thumbnail(
        width,
        height,
        gray_jpeg(canvas),
        tuple((*view, words) for view, words in zip(views, letters)),
        np.concatenate(marks, axis=1),
        scale,
    )


def points_alone(landmarks: LandmarkSet) -> Thumbnail | None:
    """The points in three views on an empty ground; None without any."""
    points = landmarks.positions[landmarks.present]
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    edge = max(MARGIN * float((high - low).max()), 1.0)
    low, high = low - edge, high + edge
    panels = [
        Panel(view, np.zeros((1, 1)), low[list(view.axes)], high[list(view.axes)], np.zeros(2), 1.0) for view in VIEWS
    ]
    scale, views = _laid_out([panel.size for panel in panels])
    marks = []
    for panel, (x, y, w, h) in zip(panels, views):
        share = replace(panel, scale=1.0).on_sheet(landmarks.positions) / panel.size
        marks.append(np.stack([x + share[:, 0] * w, y + (1 - share[:, 1]) * h], axis=1))
    placed = tuple((*view, "".join(panel.view.letters)) for view, panel in zip(views, panels))
    return Thumbnail(WIDTH, max(view[3] for view in views), None, placed, np.concatenate(marks, axis=1), scale)


def _laid_out(sizes: Sequence[np.ndarray]) -> tuple[float, list[tuple[int, int, int, int]]]:
    """Pixels a mm, and x, y, width and height of pictures of (2,) mm side by side at one scale."""
    free = WIDTH - GAP * (len(sizes) - 1)
    scale = min(free / sum(size[0] for size in sizes), HEIGHT / max(size[1] for size in sizes))
    pixels = [np.maximum(np.round(size * scale).astype(int), 1) for size in sizes]
    tallest, left, views = max(size[1] for size in pixels), 0, []
    for width, height in pixels:
        views.append((left, int(tallest - height) // 2, int(width), int(height)))
        left += int(width) + GAP
    return float(scale), views


def _coarse(volume: Volume) -> Volume:
    """The volume with the largest value of each block of voxels, where it has many more than a thumbnail shows."""
    factors = np.maximum(np.array(volume.array.shape) // SAMPLES, 1)
    if is_radiograph(volume) or (factors == 1).all():
        return volume
    shape = np.array(volume.array.shape) // factors
    array = volume.array
    for axis, (factor, count) in enumerate(zip(factors, shape)):
        kept = np.take(array, range(count * factor), axis=axis) if array.shape[axis] != count * factor else array
        split = [*kept.shape[:axis], count, factor, *kept.shape[axis + 1 :]]
        array = kept.reshape(split).max(axis=axis + 1)
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ ((factors - 1) / 2)
    affine[:3, :3] *= factors
    return Volume(array, affine)


def _resized(gray: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(gray).resize((width, height), Image.Resampling.BILINEAR))


def gray_jpeg(gray: np.ndarray) -> bytes:
    """A JPEG of (rows, columns) values from 0 to 255, of the best quality that a page has room for."""
    from PIL import Image

    data = b""
    for quality in (78, 65, 50, 35):
        target = BytesIO()
        Image.fromarray(gray).save(target, format="JPEG", quality=quality, optimize=True)
        data = target.getvalue()
        if len(data) <= MOST_BYTES:
            break
    return data
