"""Pictures of a model's definitions on a scan: every landmark named in projections, and each in three slices."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import is_radiograph
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.figures import detection as drawing
from H3DELandmarksResearch.figures.canvas import as_jpeg, new_figure
from H3DELandmarksResearch.figures.layout import CLOSE_UP_GAP, GAP, MARGIN, close_up, robust_window, shown_name

SIZE, TITLE, COLUMNS = 1.12, 0.3, 3


def draw_every_landmark(volume: Volume, landmarks: LandmarkSet, most_bytes: int) -> bytes:
    """Axial, coronal and sagittal slices through each present landmark, named above them; a JPEG file's bytes.

    Args:
        volume: scan in any orientation.
        landmarks: true positions.
        most_bytes: how large the file may become.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    present = np.flatnonzero(landmarks.present)
    rows = -(-len(present) // COLUMNS)
    cell = 3 * SIZE + 2 * CLOSE_UP_GAP
    width = 2 * MARGIN + COLUMNS * cell + (COLUMNS - 1) * GAP
    height = 2 * MARGIN + 0.3 + rows * (SIZE + TITLE)
    figure = new_figure(width, height, drawing.BACKGROUND)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axes.set_axis_off()
    color = drawing.confidence_colors(np.array([np.nan]))[0]
    scale = 1.0
    for number, k in enumerate(present):
        row, column = divmod(number, COLUMNS)
        corner = np.array([MARGIN + column * (cell + GAP), height - MARGIN - (row + 1) * (SIZE + TITLE)])
        name = f"{shown_name(landmarks.names[k])}: axial, coronal, sagittal"
        drawing.write(axes, corner[0], corner[1] + SIZE + 0.06, name, 8.5, color)
        for panel in close_up(volume, landmarks.positions[k], corner, SIZE):
            drawing.draw_image(axes, panel, robust_window(panel.image, 1.0, 99.8))
            drawing.draw_cross(axes, panel.on_sheet(landmarks.positions[k]), color)
            scale = panel.scale
    drawing.draw_scale_bar(axes, MARGIN, MARGIN + 0.22, scale, 0.6 * SIZE, " in all slices")
    return as_jpeg(figure, most_bytes)


def draw_overview(volume: Volume, landmarks: LandmarkSet, title: str, most_bytes: int) -> bytes:
    """A radiograph, or projections of a scan, with all landmarks named; a JPEG file's bytes.

    Parameters as for `draw_every_landmark`.
    """
    shown = "one radiograph" if is_radiograph(volume) else "maximum-intensity projections of one scan"
    remark = f"{shown} with the true positions"
    return as_jpeg(drawing.detection_figure(volume, landmarks, None, title, remark), most_bytes)


def draw_failure(volume: Volume, found: LandmarkSet, truth: LandmarkSet, title: str, most_bytes: int) -> bytes:
    """What was found beside what is true; a JPEG file's bytes.

    Args:
        volume: scan.
        found: result.
        truth: reference.
        title: first line.
        most_bytes: how large the file may become.
    """
    return as_jpeg(drawing.detection_figure(volume, found, truth, title), most_bytes)
