"""The picture of a detection: projections with all landmarks, slices through the least certain ones."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.core.landmarks import LandmarkSet, Statement
from H3DELandmarksLib.core.text import first_of
from H3DELandmarksResearch.figures.canvas import new_figure, save_figure
from H3DELandmarksResearch.figures.layout import (
    LABEL_STEP,
    MARGIN,
    Panel,
    Sheet,
    plan_sheet,
    robust_window,
    round_length,
    shown_name,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKGROUND, FOREGROUND, MUTED = "#0d1117", "#f0f3f6", "#9aa4b0"
REFERENCE_COLOR, UNRATED_COLOR = "#ff5cf0", "#7ee787"
# Orange to blue: told apart by people who confuse red and green.
CONFIDENCE_COLORS = ("#ff4f30", "#ffb02e", "#fff27a", "#62d9ff", "#2f9bff")
WARNING_COLOR = "#ffb02e"
RING_AREA = 52.0
HEADING_CHARACTER, LINE_HEIGHT = 0.064, 0.145  # inches
LISTED_ABSENT = 24


def draw_detection(
    volume: Volume,
    landmarks: LandmarkSet,
    path: str | Path,
    reference: LandmarkSet | None = None,
    title: str = "",
    origin: str = "",
    unit: LengthUnit = "mm",
    warning: str = "",
) -> None:
    """Draw maximum-intensity projections with all landmarks, and slices through the least certain ones.

    Args:
        volume: scan in any orientation, or a radiograph of one slice, which is shown as on `planar`'s sheet.
        landmarks: what was found; colored by confidence.
        path: .png, .svg or .pdf file to write; replaced only when the new one is complete.
        reference: true positions, drawn as rings; matched by name.
        title: first line of the picture, for example the scan's name.
        origin: last line: model, scan, time and software.
        unit: of lengths.
        warning: what must not be overlooked, in a color of its own.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InputError: the name has another ending.
    """
    figure = detection_figure(volume, landmarks, reference, title, origin=origin, unit=unit, warning=warning)
    save_figure(figure, Path(path))


def detection_figure(
    volume: Volume,
    landmarks: LandmarkSet,
    reference: LandmarkSet | None,
    title: str,
    remark: str | None = None,
    origin: str = "",
    unit: LengthUnit = "mm",
    warning: str = "",
) -> Figure:
    """The picture of a detection as a figure.

    Args:
        volume, landmarks, reference, title, origin, unit, warning: as for `draw_detection`.
        remark: second line; where given, the landmarks were not found but are shown as they are, without close-ups.
    """
    if reference is not None:
        reference = reference.ordered_as(landmarks.names)
    sheet = plan_sheet(volume, landmarks, with_close_ups=remark is None)
    figure = new_figure(sheet.width, sheet.height, BACKGROUND)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, sheet.width), ylim=(0, sheet.height), autoscale_on=False)
    axes.set_axis_off()
    colors = confidence_colors(landmarks.confidence)
    for panel in sheet.projections:
        _draw_projection(axes, panel, sheet.window, unit)
        _draw_labels(axes, panel, landmarks, colors, sheet.label_range)
        _draw_points(axes, panel, landmarks, colors, reference)
    _draw_close_ups(axes, sheet, landmarks, colors, reference, unit)
    summary = _summary(landmarks, reference, unit) if remark is None else remark
    _draw_heading(axes, sheet, title, summary, warning)
    _draw_legend(axes, sheet, landmarks, reference)
    write(axes, sheet.width - MARGIN, 0.06, origin, 6.5, MUTED, ha="right", va="bottom")
    return figure


def confidence_colors(confidence: np.ndarray) -> np.ndarray:
    """(K, 4) RGBA colors from 0 to 1 of (K,) confidences; NaN has a color of its own."""
    from matplotlib.colors import to_rgba

    colors = _color_map()(np.clip(np.nan_to_num(confidence), 0, 1))
    colors[np.isnan(confidence)] = to_rgba(UNRATED_COLOR)
    return colors


def _color_map():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("confidence", CONFIDENCE_COLORS)


def write(axes: Axes, x: float, y: float, text: str, size: float, color: Any = FOREGROUND, **options: Any) -> None:
    axes.text(x, y, text, fontsize=size, color=color, parse_math=False, **options)


def draw_image(axes: Axes, panel: Panel, window: tuple[float, float]) -> None:
    axes.imshow(
        panel.image,
        extent=panel.extent,
        aspect="auto",
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        interpolation="bilinear",
    )


def _draw_rings(axes: Axes, places: np.ndarray) -> None:
    """Reference positions at (N, 2) places on the sheet; the dark edge keeps them visible on bright bone."""
    for color, width in (("#000000", 2.2), (REFERENCE_COLOR, 1.1)):
        axes.scatter(*places.T, s=RING_AREA, facecolors="none", edgecolors=color, linewidths=width, zorder=3)


def draw_scale_bar(
    axes: Axes, x: float, y: float, scale: float, longest: float, remark: str = "", unit: LengthUnit = "mm"
) -> None:
    """A bar of a round length that is at most `longest` inches, with its length below."""
    length = round_length(longest / scale)
    axes.plot([x, x + length * scale], [y, y], color=FOREGROUND, linewidth=2, solid_capstyle="butt")
    write(axes, x, y - 0.05, f"{length:g} {unit}{remark}", 7.5, va="top")


def _draw_projection(axes: Axes, panel: Panel, window: tuple[float, float], unit: LengthUnit) -> None:
    """The image with its title, orientation letters and scale bar."""
    draw_image(axes, panel, window)
    left, right, bottom, top = panel.extent
    middle, center, inset = (left + right) / 2, (bottom + top) / 2, 0.05
    for letter, x, y, options in zip(
        panel.view.letters,
        (left + inset, right - inset, middle, middle),
        (center, center, top - inset, bottom + inset),
        (
            {"ha": "left", "va": "center"},
            {"ha": "right", "va": "center"},
            {"ha": "center", "va": "top"},
            {"ha": "center", "va": "bottom"},
        ),
    ):
        write(axes, x, y, letter, 9, weight="bold", **options)
    write(axes, left, top + 0.06, panel.view.title, 9, MUTED)
    draw_scale_bar(axes, left, bottom - 0.09, panel.scale, 0.3 * (right - left), unit=unit)


def _draw_points(
    axes: Axes, panel: Panel, landmarks: LandmarkSet, colors: np.ndarray, reference: LandmarkSet | None
) -> None:
    """Markers, the least certain on top; references as rings tied to what was found."""
    places = panel.on_sheet(landmarks.positions)
    if reference is not None:
        true = panel.on_sheet(reference.positions)
        both = landmarks.present & reference.present
        axes.plot(*np.stack([places[both], true[both]], axis=1).T, color=REFERENCE_COLOR, linewidth=0.6, alpha=0.8)
        _draw_rings(axes, true[reference.present])
    by_confidence = np.argsort(-np.nan_to_num(landmarks.confidence, nan=1.0), kind="stable")
    order = by_confidence[landmarks.present[by_confidence]]
    axes.scatter(*places[order].T, s=20, c=colors[order], edgecolors="#000000", linewidths=0.6, zorder=4)


def _draw_labels(
    axes: Axes, panel: Panel, landmarks: LandmarkSet, colors: np.ndarray, label_range: tuple[float, float]
) -> None:
    """Names in a column on each side of the panel, in the points' order from top to bottom, with leader lines."""
    places = panel.on_sheet(landmarks.positions)
    rows = np.flatnonzero(landmarks.present)
    rows = rows[np.argsort(places[rows, 0], kind="stable")]
    half = (len(rows) + 1) // 2
    left, right, _, _ = panel.extent
    sides = ((rows[:half], left - 0.1, -0.03, "right"), (rows[half:], right + 0.1, 0.03, "left"))
    for group, edge, outward, align in sides:
        group = group[np.argsort(places[group, 1], kind="stable")]
        heights = spread(places[group, 1], LABEL_STEP, *label_range)
        for k, height in zip(group, heights):
            axes.plot([edge, places[k, 0]], [height, places[k, 1]], color=colors[k], linewidth=0.45, alpha=0.75)
            name = shown_name(landmarks.names[k])
            write(axes, edge + outward, height, name, 7, colors[k], ha=align, va="center_baseline")


def _draw_close_ups(
    axes: Axes,
    sheet: Sheet,
    landmarks: LandmarkSet,
    colors: np.ndarray,
    reference: LandmarkSet | None,
    unit: LengthUnit,
) -> None:
    """Slices in three directions through the chosen landmarks."""
    for k, panels in sheet.close_ups:
        left, _, bottom, top = panels[0].extent
        write(axes, left, top + 0.05, _close_up_title(landmarks, k, unit), 7.5, colors[k])
        for panel in panels:
            draw_image(axes, panel, robust_window(panel.image, 1.0, 99.8))
            draw_cross(axes, panel.on_sheet(landmarks.positions[k]), colors[k])
            if reference is not None and reference.present[k]:
                place = panel.on_sheet(reference.positions[k])
                if (np.abs(place - panel.origin - panel.size / 2) < panel.size / 2).all():
                    _draw_rings(axes, place[np.newaxis])
        if k == sheet.close_ups[0][0]:
            remark = " in all close-ups (axial, coronal and sagittal slices through the least certain landmarks)"
            draw_scale_bar(axes, left, bottom - 0.08, panels[0].scale, 0.6 * panels[0].size[0], remark, unit)


def draw_cross(axes: Axes, place: np.ndarray, color: np.ndarray) -> None:
    """A cross whose open middle leaves the anatomy at the point visible."""
    x, y = place
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        axes.plot([x + 0.07 * dx, x + 0.2 * dx], [y + 0.07 * dy, y + 0.2 * dy], color=color, linewidth=1.1)
    axes.scatter([x], [y], s=5, color=[color])


def _close_up_title(landmarks: LandmarkSet, row: int, unit: LengthUnit) -> str:
    words = [shown_name(landmarks.names[row])]
    if np.isfinite(landmarks.confidence[row]):
        words.append(f"confidence {landmarks.confidence[row]:.0%}".replace("%", " %"))
    if np.isfinite(landmarks.radius[row]):
        words.append(f"90 % within {landmarks.radius[row]:.1f} {unit}")
    return ", ".join(words)


def _draw_heading(axes: Axes, sheet: Sheet, title: str, summary: str, warning: str) -> None:
    """The title and up to three lines as wide as the sheet; what does not fit into them ends with dots."""
    top, characters = sheet.height - 0.14, int((sheet.width - 2 * MARGIN) / HEADING_CHARACTER)
    write(axes, MARGIN, top, title, 12, weight="bold", va="top")
    lines = [(line, WARNING_COLOR) for line in _lines(warning[:1].upper() + warning[1:], characters, 2)]
    lines += [(line, MUTED) for line in _lines(summary, characters, 1 if lines else 2)]
    for number, (line, color) in enumerate(lines):
        write(axes, MARGIN, top - 0.23 - LINE_HEIGHT * number, line, 8.5, color, va="top")


def _lines(text: str, characters: int, most: int) -> list[str]:
    return wrap(text, characters, max_lines=most, placeholder=" ...")


def _draw_legend(axes: Axes, sheet: Sheet, landmarks: LandmarkSet, reference: LandmarkSet | None) -> None:
    """What colors and rings mean, in the upper right corner."""
    right, top = sheet.width - MARGIN, sheet.height - 0.14
    if np.isfinite(landmarks.confidence[landmarks.present]).any():
        ramp, extent = np.linspace(0, 1, 64)[np.newaxis], (right - 1.3, right - 0.12, top - 0.13, top - 0.03)
        axes.imshow(ramp, extent=extent, aspect="auto", cmap=_color_map())
        write(axes, right - 1.36, top - 0.08, "confidence 0", 7.5, MUTED, ha="right", va="center")
        write(axes, right, top - 0.08, "1", 7.5, MUTED, ha="right", va="center")
    if reference is not None:
        _draw_rings(axes, np.array([[right - 1.24, top - 0.3]]))
        write(axes, right - 1.14, top - 0.3, "reference position", 7.5, MUTED, va="center")


def _summary(landmarks: LandmarkSet, reference: LandmarkSet | None, unit: LengthUnit) -> str:
    """One line: how many were found, how far from the reference, which are not there."""
    if len(set(landmarks.causes)) == 1 and (cause := landmarks.causes[0]):
        return f"No landmark: {cause.statement.value}, {cause.value}"
    words = [f"{int(landmarks.present.sum())} of {len(landmarks)} landmarks found"]
    if reference is not None:
        errors = np.linalg.norm(landmarks.positions - reference.positions, axis=1)
        errors = errors[np.isfinite(errors)]
        if errors.size:
            words.append(
                f"mean distance to the reference {errors.mean():.2f} {unit}, largest {errors.max():.2f} {unit}"
            )
    groups: dict[str, list[str]] = {}
    for name, statement, cause in zip(landmarks.names, landmarks.statements, landmarks.causes):
        if statement is not Statement.FOUND:
            groups.setdefault(f"{statement.value} ({cause.value})" if cause else statement.value, []).append(name)
    for stated, names in groups.items():
        words.append(f"{stated}: {first_of(names, LISTED_ABSENT)}")
    return "; ".join(words)
