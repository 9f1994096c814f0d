"""Plots that the panel shows: the curve of a training, and a comparison of two models with its intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from H3DELandmarksLib.formats.comparison import Comparison
from H3DELandmarksResearch.figures.canvas import (
    BETTER,
    FAINT,
    INK,
    SECOND,
    STRONG,
    UNDECIDED,
    WORSE,
    as_png,
    name_rows,
    new_figure,
    plain_axes,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 7.2
WIDTH_INCHES, ROW_INCHES, EDGE_INCHES = 8.0, 0.26, 1.5


def draw_training_curve(rows: Sequence[Mapping[str, str]]) -> bytes:
    """Loss and errors of the validation cases by step; a PNG file's bytes.

    Args:
        rows: lines of a training's ``curve.csv``: ``step``, ``loss``, ``mean_mm``, ``median_mm``, ``p90_mm``.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = new_figure(WIDTH, 2.8)
    step = [int(row["step"]) for row in rows]
    left, right = (figure.add_axes((x, 0.17, 0.38, 0.68)) for x in (0.08, 0.59))
    left.plot(step, [float(row["loss"]) for row in rows], color=INK, marker="o", markersize=3)
    for name, color in (("p90", FAINT), ("mean", STRONG), ("median", SECOND)):
        values = [float(row[f"{name}_mm"]) for row in rows]
        right.plot(step, values, color=color, marker="o", markersize=3, label=name)
    for axes, title in ((left, "loss"), (right, "error on validation cases, mm")):
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("step")
        plain_axes(axes)
    right.set_ylim(bottom=0)
    right.legend(frameon=False, fontsize=8)
    return as_png(figure)


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the improvement of every landmark and of all.

    Args:
        comparison: what to draw.
        path: .png, .svg or .pdf file, replaced when the new one is complete.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InputError: the file cannot be written, or has no such ending.
    """
    rows = [comparison.total, *comparison.landmarks]
    figure = new_figure(WIDTH_INCHES, EDGE_INCHES + ROW_INCHES * len(rows))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    gains = np.array([(row.improvement.mean, row.improvement.low, row.improvement.high) for row in rows])
    draw_intervals(axes, [row.name for row in rows], gains)
    reach = 1.1 * max(comparison.tolerance_mm / 10, np.abs(gains[np.isfinite(gains)]).max(initial=0.0))
    axes.set(
        xlim=(-reach, reach),
        xlabel=f"improvement, {comparison.unit} (worse on the left, better on the right; 95 % interval over subjects)",
    )
    axes.spines["left"].set_visible(False)
    axes.set_title(
        f"{comparison.candidate.name} against {comparison.base.name}\n{comparison.sentence()}",
        fontsize=9,
        loc="left",
        wrap=True,
        parse_math=False,
    )
    save_figure(figure, path)


def draw_intervals(axes: Axes, names: Sequence[str], intervals: np.ndarray) -> None:
    """One row each: (K, 3) value, low and high, where they are finite; the first row is that of all."""
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, (middle, low, high) in enumerate(intervals):
        if not np.isfinite(middle):
            continue
        color = BETTER if low > 0 else WORSE if high < 0 else UNDECIDED
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [row, row], color=color, linewidth=2.0, solid_capstyle="butt")
        axes.plot([middle], [row], "o", color=color, markersize=4)
    name_rows(axes, names)
    axes.get_yticklabels()[0].set_fontweight("bold")
    plain_axes(axes, "x")
