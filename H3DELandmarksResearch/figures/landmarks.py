"""Landmarks without a scan: the mean shape from three sides, for models whose scans must not be shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksResearch.figures.anatomy import shaded_surface
from H3DELandmarksResearch.figures.canvas import FAINT, INK, PAPER, SECOND, STRONG, as_png, new_figure
from H3DELandmarksResearch.figures.layout import round_length, shown_name, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIDLINE, LEFT, RIGHT, BODY = INK, STRONG, SECOND, "#eef1f4"
PANEL, LABELS, LETTER, HEADING, FOOT, STEP = 3.1, 0.62, 0.066, 0.5, 0.5, 0.135
LARGEST_ARROW = 0.16
SURFACE = 0.25  # of the brightest bone
SHADES, ANATOMY_COLORS = 24, 128
# More names than this beside one view can't be followed to their points.
MOST_NAMES = 28


@dataclass(frozen=True)
class Side:
    """A direction to look from.

    Attributes:
        title: words for it.
        axes: the shape's axes that run to the right and up.
        flips: -1 where an axis runs the other way.
        letters: what lies at the left, right, top and bottom edge; empty where nobody knows.
        toward: (3,) axis direction of the shape's frame from the anatomy to the eye.
        named: which points are named: "all", "upper" or "lower" along the third axis, or all but the "right" ones.
    """

    title: str
    axes: tuple[int, int]
    flips: tuple[int, int]
    letters: tuple[str, str, str, str]
    toward: tuple[int, int, int]
    named: str = "all"


# The patient's axes are left, posterior, superior; an anatomy's own are left, then the longest extent across.
PATIENT = (
    Side("from below", (0, 1), (1, -1), ("R", "L", "A", "P"), (0, 0, -1)),
    Side("from in front", (0, 2), (1, 1), ("R", "L", "S", "I"), (0, -1, 0)),
    Side("from the left", (1, 2), (1, 1), ("A", "P", "S", "I"), (1, 0, 0)),
)
OWN = (
    Side("from above", (0, 1), (1, 1), ("R", "L", "", ""), (0, 0, 1), "upper"),
    Side("from below", (0, 1), (-1, 1), ("L", "R", "", ""), (0, 0, -1), "lower"),
    Side("left and midline points from the left", (1, 2), (1, 1), ("", "", "", ""), (1, 0, 0), "not right"),
)
FLAT = (Side("as the picture lies, mean of all", (0, 1), (1, -1), ("", "", "", ""), (0, 0, 1)),)


def draw_schematic(
    names: Sequence[str],
    points: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    own_frame: bool,
    errors: np.ndarray | None = None,
    anatomy: Volume | None = None,
    unit: str = "mm",
) -> bytes:
    """The mean shape from three sides, pairs joined, every point named; a PNG file's bytes.

    Args:
        names: (K) labels.
        points: (K, 3) mm in the shape's frame.
        pairs: (left, right) names.
        own_frame: whether the frame is the anatomy's own; else it is the patient's.
        errors: (K, 3) mm from the right place to the found one in the same frame, NaN where there is none: drawn as
            arrows, enlarged where they are small.
        anatomy: `mean_anatomy` in the same frame, drawn as a lit surface behind the points; None draws their outline.
        unit: of the lengths, as written.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    sides = FLAT if not points[:, 2].any() else OWN if own_frame else PATIENT
    colors = _colors(names, pairs)
    named = [_named(side, points, colors) for side in sides]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    scale = 0.94 * PANEL / max(np.ptp(points, axis=0).max(), 1e-6)
    extent = np.ptp(points, axis=0) if anatomy is None else anatomy.grid.extent
    tallest = scale * max(extent[side.axes[1]] for side in sides)
    high = max(tallest + 0.3, STEP * max((len(group) + 1) // 2 for group in named))
    room = max(LABELS, 0.2 + LETTER * max(len(shown_name(str(name))) for name in names))
    width, height = len(sides) * (PANEL + 2 * room), high + HEADING + FOOT
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    enlarged = 1.0 if errors is None else _enlargement(errors, points)
    for number, (side, group) in enumerate(zip(sides, named)):
        center = np.array([(number + 0.5) * (PANEL + 2 * room), FOOT + high / 2])
        where = center + _placed(side, points - middle, scale)
        if anatomy is None or errors is not None:
            _draw_outline(axes, where)
        else:
            _draw_anatomy(axes, side, anatomy, center - _placed(side, middle[np.newaxis], scale)[0], scale)
        _draw_pairs(axes, where, names, pairs)
        if errors is not None:
            _draw_arrows(axes, where, where + _placed(side, enlarged * errors, scale), colors, group)
        _draw_dots(axes, where, colors, group, errors is None)
        _draw_names(axes, where, names, colors, group, center[0], (FOOT + 0.05, FOOT + high - 0.05))
        _draw_words(axes, side, center, high)
    _draw_foot(axes, scale, width, unit, _legend(anatomy is not None, None if errors is None else enlarged))
    return as_png(figure) if anatomy is None else as_png(figure, ANATOMY_COLORS)


def _legend(has_anatomy: bool, enlarged: float | None) -> str:
    """What colors and lines mean; `enlarged` is by how much arrows are, None where there are none."""
    if enlarged is not None:
        lengths = f"{enlarged:g} times as long as they are" if enlarged > 1 else "in true length"
        return f"arrows: from the right place to the found one, {lengths}"
    gray = "mean anatomy" if has_anatomy else "outline of all points"
    return f"blue: left, orange: right, black: midline or unpaired; thin lines join pairs; gray: {gray}"


def _draw_foot(axes: Axes, scale: float, width: float, unit: str, said: str) -> None:
    """A bar of a round length, and what the marks mean; the scale is inches per unit, the width in inches."""
    length = round_length(0.25 * PANEL / scale)
    axes.plot([0.3, 0.3 + length * scale], [0.3, 0.3], color=INK, linewidth=2, solid_capstyle="butt")
    axes.text(0.3, 0.24, f"{length:g} {unit}", fontsize=7.5, color=INK, va="top")
    start = 0.3 + length * scale + 0.25
    said = fill(said, int((width - start) / LETTER))
    axes.text(start, 0.3, said, fontsize=7.5, color=INK, va="center", linespacing=1.3)


def _named(side: Side, points: np.ndarray, colors: Sequence[str]) -> np.ndarray:
    """Rows of the points that are named in a view; all of them where they are few."""
    everything = np.arange(len(points))
    if side.named == "all" or len(points) <= MOST_NAMES and side.named != "not right":
        return everything
    if side.named == "not right":
        return np.array([k for k in everything if colors[k] != RIGHT], dtype=int)
    upper = points[:, 2] >= (points[:, 2].min() + points[:, 2].max()) / 2
    return everything[upper if side.named == "upper" else ~upper]


def _placed(side: Side, vectors: np.ndarray, scale: float) -> np.ndarray:
    """(K, 2) inches along the view's axes."""
    return scale * vectors[:, list(side.axes)] * side.flips


def _enlargement(errors: np.ndarray, points: np.ndarray) -> float:
    """A round factor at which the largest error is well visible; 1 where it is large already."""
    largest = np.nanmax(np.linalg.norm(errors, axis=1), initial=0.0)
    if not largest:
        return 1.0
    return max(1.0, round_length(LARGEST_ARROW * np.ptp(points, axis=0).max() / largest))


def _draw_outline(axes: Axes, where: np.ndarray) -> None:
    """The convex outline of all points."""
    from scipy.spatial import ConvexHull, QhullError

    with suppress(QhullError, ValueError):  # too few points, or all on a line
        axes.fill(*where[ConvexHull(where).vertices].T, color=BODY, zorder=0)


def _draw_anatomy(axes: Axes, side: Side, anatomy: Volume, origin: np.ndarray, scale: float) -> None:
    """The surface of an anatomy; `origin` is where the zero of its frame lies on the sheet."""
    right, up = side.axes
    image = np.round(shaded_surface(anatomy, SURFACE, np.array(side.toward)) * SHADES) / SHADES  # small files
    image = image if right < up else image.T
    corners = anatomy.grid.lps_from_ijk(np.array([np.full(3, -0.5), np.array(anatomy.array.shape) - 0.5]))
    (left, bottom), (end, top) = origin + _placed(side, corners, scale)
    axes.imshow(
        image.T,
        extent=(left, end, bottom, top),
        origin="lower",
        aspect="auto",
        cmap="gray",
        interpolation="nearest",
        vmin=-0.35,
        vmax=1,
        zorder=0,
    )


def _draw_pairs(axes: Axes, where: np.ndarray, names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> None:
    """Lines that join pairs."""
    index = {name: k for k, name in enumerate(names)}
    for left, right in pairs:
        axes.plot(*where[[index[left], index[right]]].T, color="#cfd6dd", linewidth=0.8, zorder=1)


def _draw_arrows(axes: Axes, starts: np.ndarray, tips: np.ndarray, colors: Sequence[str], named: np.ndarray) -> None:
    for k in named[np.isfinite(tips[named]).all(axis=1)]:
        style = {"arrowstyle": "-|>,head_length=0.28,head_width=0.14", "color": colors[k], "linewidth": 1.2}
        axes.annotate("", tips[k], starts[k], arrowprops={**style, "shrinkA": 0, "shrinkB": 0}, zorder=4)


def _draw_dots(axes: Axes, where: np.ndarray, colors: Sequence[str], named: np.ndarray, large: bool) -> None:
    """Named points in their color, others faint."""
    size = 18 if large else 7
    axes.scatter(*where.T, s=size, c="#c3cad2", edgecolors=PAPER, linewidths=0.5, zorder=2.5)
    shown = [colors[k] for k in named]
    axes.scatter(*where[named].T, s=size, c=shown, edgecolors=PAPER, linewidths=0.5, zorder=3)


def _draw_words(axes: Axes, side: Side, center: np.ndarray, high: float) -> None:
    """Title and letters of a view."""
    top, across = FOOT + high + 0.16, PANEL / 2 - 0.1
    axes.text(center[0], top + 0.08, side.title, fontsize=8.5, color=INK, ha="center")
    places = ((-across, top + 0.08), (across, top + 0.08), (0, top - 0.12), (0, FOOT - 0.08))
    for letter, (dx, y) in zip(side.letters, places):
        axes.text(center[0] + dx, y, letter, fontsize=9, color=FAINT, weight="bold", ha="center", va="baseline")


def _draw_names(
    axes: Axes,
    where: np.ndarray,
    names: Sequence[str],
    colors: Sequence[str],
    named: np.ndarray,
    middle: float,
    heights: tuple[float, float],
) -> None:
    """Names left and right of a view, in the points' order from top to bottom, tied to them by lines."""
    order = named[np.argsort(where[named, 0], kind="stable")]
    half = (len(order) + 1) // 2
    for group, outward, align in ((order[:half], -1, "right"), (order[half:], 1, "left")):
        group = group[np.argsort(where[group, 1], kind="stable")]
        edge = middle + outward * (PANEL / 2 + 0.08)
        for k, y in zip(group, spread(where[group, 1], STEP, *heights)):
            axes.plot([edge, where[k, 0]], [y, where[k, 1]], color=colors[k], linewidth=0.5, alpha=0.5, zorder=2)
            name = shown_name(str(names[k]))
            axes.text(
                edge + outward * 0.04, y, name, fontsize=7.5, color=colors[k], ha=align, va="center", parse_math=False
            )


def _colors(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    lefts, rights = {left for left, _ in pairs}, {right for _, right in pairs}
    return [LEFT if name in lefts else RIGHT if name in rights else MIDLINE for name in names]
