"""The plan of a picture: which views of the scan are shown, and where.

Everything lies on one sheet whose coordinates are inches from its lower left corner. All projections share one scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from H3DELandmarksLib.core.geometry import Volume, canonical, crop_grid, field_of_view_grid, resample, transform_points
from H3DELandmarksLib.core.image_plane import is_radiograph, lay_flat
from H3DELandmarksLib.core.landmarks import LandmarkSet

ROW_WIDTH, LEAST_IMAGES_WIDTH, ROW_HEIGHT, RADIOGRAPH_HEIGHT = 15.0, 10.5, 5.2, 8.0
MARGIN, GAP, HEADING_HEIGHT, HEADING_WIDTH = 0.2, 0.25, 0.8, 6.5
LABEL_STEP, CHARACTER_WIDTH, LONGEST_LABEL = 0.118, 0.068, 18
CLOSE_UPS, CLOSE_UP_GAP = 4, 0.05
PROJECTION_SAMPLES, OBLIQUE_SAMPLES, CLOSE_UP_SAMPLES = 320, 230, 80


@dataclass(frozen=True)
class View:
    """A viewing direction along one LPS axis, as radiologists look.

    Attributes:
        title: name of the plane.
        axes: LPS axes (0 left, 1 posterior, 2 superior) that run to the right and along the sheet's vertical.
        upward: whether the second axis runs up.
        letters: patient directions at the left, right, top and bottom edge.
    """

    title: str
    axes: tuple[int, int]
    upward: bool
    letters: tuple[str, str, str, str]

    @property
    def normal(self) -> int:
        """The LPS axis along which the view looks."""
        return 3 - sum(self.axes)


AXIAL = View("Axial", (0, 1), False, ("R", "L", "A", "P"))
CORONAL = View("Coronal", (0, 2), True, ("R", "L", "S", "I"))
SAGITTAL = View("Sagittal", (1, 2), True, ("A", "P", "S", "I"))
VIEWS = (AXIAL, CORONAL, SAGITTAL)
# The header of a radiograph seldom knows the patient's sides, and a wrong letter is worse than none.
SHEET = View("", (0, 1), False, ("", "", "", ""))


@dataclass(frozen=True)
class Panel:
    """An image with its place on the sheet.

    Attributes:
        view: direction.
        image: (rows, columns) values, first row at the top.
        low, high: (2,) LPS mm of the image's edges along the view's axes.
        origin: (2,) inches of the lower left corner on the sheet.
        scale: inches per mm.
        frame_from_lps: (4, 4) to the frame that the image lies in, where that is not LPS itself.
    """

    view: View
    image: np.ndarray
    low: np.ndarray
    high: np.ndarray
    origin: np.ndarray
    scale: float
    frame_from_lps: np.ndarray = field(default_factory=lambda: np.eye(4))

    @property
    def size(self) -> np.ndarray:
        """(2,) width and height on the sheet in inches."""
        return (self.high - self.low) * self.scale

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top on the sheet in inches."""
        (left, bottom), (width, height) = self.origin, self.size
        return left, left + width, bottom, bottom + height

    def on_sheet(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) LPS mm to (..., 2) inches on the sheet."""
        flat = transform_points(self.frame_from_lps, points)[..., list(self.view.axes)]
        right, along = flat[..., 0] - self.low[0], flat[..., 1] - self.low[1]
        up = along if self.view.upward else self.high[1] - self.low[1] - along
        return self.origin + self.scale * np.stack([right, up], axis=-1)


@dataclass(frozen=True)
class Sheet:
    """The picture's plan.

    Attributes:
        width, height: inches.
        projections: one panel per view.
        label_range: lowest and highest place of labels in inches.
        window: values of the projections shown black and white.
        close_ups: (row of the landmark, its panels) of the landmarks that are shown in slices.
    """

    width: float
    height: float
    projections: tuple[Panel, ...]
    label_range: tuple[float, float]
    window: tuple[float, float]
    close_ups: tuple[tuple[int, tuple[Panel, ...]], ...]


def plan_sheet(volume: Volume, landmarks: LandmarkSet, with_close_ups: bool = True) -> Sheet:
    """Decide what is shown where.

    Args:
        volume: scan in any orientation, or a radiograph of one slice.
        landmarks: points to show and label.
        with_close_ups: whether slices through the least certain landmarks are shown, too; never of a radiograph.
    """
    box, views, frame_from_lps = _upright(volume, landmarks)
    label_width = 0.16 + CHARACTER_WIDTH * max(len(shown_name(name)) for name in landmarks.names)
    scale = _scale(box, views, label_width)
    widths = [box.grid.extent[view.axes[0]] * scale for view in views]
    heights = [box.grid.extent[view.axes[1]] * scale for view in views]
    across = sum(widths) + 2 * label_width * len(views) + GAP * (len(views) - 1)
    width = max(across, HEADING_WIDTH) + 2 * MARGIN
    rows = least_certain(landmarks) if with_close_ups and len(views) > 1 else []
    size = ((width - 2 * MARGIN - (CLOSE_UPS - 1) * GAP) / CLOSE_UPS - 2 * CLOSE_UP_GAP) / 3
    bottom = MARGIN + 0.25 + (size + 0.6 if rows else 0.0)
    row_height = max(*heights, LABEL_STEP * (landmarks.present.sum() // 2 + 1))
    panels, left = [], (width - across) / 2
    for view, panel_width, panel_height in zip(views, widths, heights):
        origin = np.array([left + label_width, bottom + (row_height - panel_height) / 2])
        panels.append(replace(_projection(box, view, origin, scale), frame_from_lps=frame_from_lps))
        left += panel_width + 2 * label_width + GAP
    step, low = 3 * size + 2 * CLOSE_UP_GAP + GAP, MARGIN + 0.3
    close_ups = [
        (k, close_up(volume, landmarks.positions[k], np.array([MARGIN + n * step, low]), size))
        for n, k in enumerate(rows)
    ]
    return Sheet(
        width,
        bottom + row_height + HEADING_HEIGHT,
        tuple(panels),
        (bottom, bottom + row_height),
        robust_window(np.concatenate([panel.image.ravel() for panel in panels])),
        tuple(close_ups),
    )


def _scale(box: Volume, views: Sequence[View], label_width: float) -> float:
    """Inches per mm at which the views fill a row without exceeding its height."""
    size = box.grid.extent
    free = max(ROW_WIDTH - 2 * label_width * len(views) - GAP * (len(views) - 1), LEAST_IMAGES_WIDTH)
    height = ROW_HEIGHT if len(views) > 1 else RADIOGRAPH_HEIGHT
    return min(free / sum(size[view.axes[0]] for view in views), height / max(size[view.axes[1]] for view in views))


def _upright(volume: Volume, landmarks: LandmarkSet) -> tuple[Volume, tuple[View, ...], np.ndarray]:
    """The scan with I, J, K along L, P, S at drawing resolution, the views worth drawing, and its frame from LPS.

    A radiograph lies in the frame of its sheet, others in LPS.
    """
    if is_radiograph(volume):
        flat, lps_from_sheet = lay_flat(volume)
        if not np.allclose(flat.affine[:2, :2], np.diag(flat.spacing[:2]), atol=1e-3 * flat.spacing[:2].min()):
            cover = field_of_view_grid(flat.grid, float(flat.spacing[:2].min()), np.eye(3))
            flat = resample(flat, cover, float(flat.array.min()))
        return flat, (SHEET,), np.linalg.inv(lps_from_sheet)
    volume = canonical(volume)
    straight = np.allclose(np.abs(volume.affine[:3, :3] / volume.spacing), np.eye(3), atol=1e-3)
    samples = PROJECTION_SAMPLES if straight else OBLIQUE_SAMPLES
    spacing = max(volume.grid.extent.max() / samples, volume.spacing.min())
    grid = field_of_view_grid(volume.grid, spacing, np.eye(3))
    return _trimmed(resample(volume, grid, float(volume.array.min())), landmarks), VIEWS, np.eye(4)


def _trimmed(box: Volume, landmarks: LandmarkSet) -> Volume:
    """The part of an upright volume that holds the subject and the landmarks: scans are often half air."""
    step = 3
    coarse = box.array[::step, ::step, ::step]
    black, white = robust_window(coarse, 50.0, 99.7)
    subject = coarse > black + 0.15 * (white - black)
    index = box.grid.ijk_from_lps(landmarks.positions[landmarks.present])
    part = []
    for axis, count in enumerate(box.array.shape):
        share = np.cumsum(subject.sum(axis=tuple({0, 1, 2} - {axis})), dtype=float)
        edges = step * np.searchsorted(share, np.array([0.002, 0.998]) * share[-1])
        margin = 0.04 * count
        low = max(int(min([edges[0], *index[:, axis]]) - margin), 0)
        high = min(int(max([edges[1], *index[:, axis]]) + margin) + 2, count)
        part.append(slice(min(low, count - 1), max(high, 1)))
    affine = box.affine.copy()
    affine[:3, 3] = box.grid.lps_from_ijk(np.array([s.start for s in part]))
    return Volume(box.array[tuple(part)], affine)


def _projection(box: Volume, view: View, origin: np.ndarray, scale: float) -> Panel:
    """The largest values along a view of an upright volume."""
    low, high = box.grid.lps_from_ijk(np.array([np.full(3, -0.5), np.array(box.array.shape) - 0.5]))
    image = box.array.max(axis=view.normal)
    axes = list(view.axes)
    return Panel(view, _rows_from_top(image, view), low[axes], high[axes], origin, scale)


def _rows_from_top(image: np.ndarray, view: View) -> np.ndarray:
    """(rows, columns) of an image indexed along the view's axes."""
    image = image.T.astype(np.float32)
    return image[::-1] if view.upward else image


def robust_window(values: np.ndarray, low: float = 3.0, high: float = 99.7) -> tuple[float, float]:
    """Values to show black and white: percentiles, so that metal and padding don't decide."""
    black, white = np.percentile(values, [low, high])
    return float(black), float(white if white > black else black + 1.0)


def least_certain(landmarks: LandmarkSet) -> list[int]:
    """Rows of the present landmarks that most deserve a look."""
    present = np.flatnonzero(landmarks.present)
    confidence = np.nan_to_num(landmarks.confidence[present], nan=2.0)
    return present[np.argsort(confidence, kind="stable")][:CLOSE_UPS].tolist()


def close_up(volume: Volume, center: np.ndarray, origin: np.ndarray, size: float) -> tuple[Panel, ...]:
    """Slices in three directions through a point: a small part of the scan, but enough voxels to recognize something.

    Args:
        volume: scan.
        center: (3,) LPS mm.
        origin: (2,) inches of the lower left corner on the sheet.
        size: edge length on the sheet in inches.
    """
    side = float(max(volume.grid.extent.max() / 8, 20 * volume.spacing.min()))
    panels = []
    for column, view in enumerate(VIEWS):
        samples = np.full(3, CLOSE_UP_SAMPLES)
        samples[view.normal] = 1
        grid = crop_grid(center, np.eye(3), side / CLOSE_UP_SAMPLES, tuple(samples))
        image = resample(volume, grid, float(volume.array.min())).array.max(axis=view.normal)
        image, middle = _rows_from_top(image, view), center[list(view.axes)]
        corner = origin + (column * (size + CLOSE_UP_GAP), 0.0)
        panels.append(Panel(view, image, middle - side / 2, middle + side / 2, corner, size / side))
    return tuple(panels)


def shown_name(name: str) -> str:
    """A name as labels show it: long ones lose their middle, since their ends tell them apart."""
    if len(name) <= LONGEST_LABEL:
        return name
    tail = LONGEST_LABEL // 3
    return name[: LONGEST_LABEL - tail - 1] + "\N{HORIZONTAL ELLIPSIS}" + name[-tail:]


def spread(wanted: np.ndarray, step: float, low: float, high: float) -> np.ndarray:
    """Move sorted places as little as possible so that neighbors are `step` apart and all lie from `low` to `high`.

    Args:
        wanted: (K,) ascending.
        step: smallest distance; shortened where the range is too short for all.
        low: lower bound.
        high: upper bound.

    Returns:
        (K,) ascending places, nearest to `wanted` in the least-squares sense.
    """
    from scipy.optimize import isotonic_regression

    count = len(wanted)
    if count == 0:
        return np.empty(0)
    step = min(step, (high - low) / max(count - 1, 1))
    offsets = step * np.arange(count)
    fitted = isotonic_regression(np.asarray(wanted, dtype=float) - offsets).x
    return np.clip(fitted, low, high - offsets[-1]) + offsets


def round_length(limit: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that does not exceed `limit`."""
    power = 10.0 ** np.floor(np.log10(limit))
    return float(power * max(factor for factor in (1, 2, 5) if factor * power <= limit * (1 + 1e-9)))
