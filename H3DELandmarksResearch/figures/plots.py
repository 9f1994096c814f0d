"""Plots that the panel shows: the curve of a training, and a comparison of two models with its intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from H3DELandmarksLib.formats.comparison import Comparison, Row
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
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, row in enumerate(rows):
        _draw_row(axes, place, row)
    reach = max([comparison.tolerance_mm / 10, *(abs(end) for row in rows for end in _finite_ends(row))])
    axes.set(
        xlim=(-1.1 * reach, 1.1 * reach),
        xlabel="improvement, mm (worse on the left, better on the right; 95 % interval over subjects)",
    )
    name_rows(axes, [row.name for row in rows])
    axes.get_yticklabels()[0].set_fontweight("bold")
    plain_axes(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.set_title(
        f"{comparison.candidate.name} against {comparison.base.name}\n{comparison.sentence()}",
        fontsize=9,
        loc="left",
        wrap=True,
        parse_math=False,
    )
    save_figure(figure, path)


def _draw_row(axes, place: int, row: Row) -> None:
    gain = row.improvement
    if not math.isfinite(gain.mean):
        return
    color = BETTER if gain.low > 0 else WORSE if gain.high < 0 else UNDECIDED
    if gain.subjects > 1:
        axes.plot([gain.low, gain.high], [place, place], color=color, linewidth=2.2, solid_capstyle="butt")
    axes.plot(gain.mean, place, "o", color=color, markersize=5 if gain.subjects > 1 else 3)


def _finite_ends(row: Row) -> list[float]:
    gain = row.improvement
    return [end for end in (gain.mean, gain.low, gain.high) if np.isfinite(end)]
