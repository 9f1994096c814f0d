"""Plots of a model card: errors of each landmark, and whether stated probabilities came true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from H3DELandmarksResearch.figures.canvas import FAINT, INK, PAPER, SECOND, STRONG, as_png, new_figure, plain_axes
from H3DELandmarksResearch.figures.plots import WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW, MARGIN = 0.17, 1.0
SQUARE = 3.3


def draw_errors(names: Sequence[str], errors: np.ndarray, radius: np.ndarray, unit: str = "mm") -> bytes:
    """One line per landmark: each case's error, the median and the radius that is stated for it; a PNG file's bytes.

    Args:
        names: (K) labels.
        errors: (N, K) mm, NaN where there is none.
        radius: (K,) mm.
        unit: of the lengths, as written.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    height = MARGIN + ROW * len(names)
    figure = new_figure(WIDTH, height)
    longest = max(len(name) for name in names)
    left = min(0.4, 0.06 + 0.0095 * longest)
    axes = figure.add_axes((left, 0.52 / height, 0.97 - left, 1 - MARGIN / height))
    plain_axes(axes)
    rows = np.arange(len(names))
    shown = np.isfinite(errors)
    scatter = axes.scatter(errors[shown], np.broadcast_to(rows, errors.shape)[shown], s=9, color=STRONG, alpha=0.45)
    scatter.set(linewidths=0, label="a test case")
    middle = [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan for column in errors.T]
    axes.scatter(middle, rows, s=46, marker="|", color=INK, linewidths=1.6, label="median", zorder=3)
    axes.scatter(radius, rows, s=20, marker=">", color=SECOND, label="stated 90 % radius", zorder=3)
    largest = max(np.nanmax(errors) if shown.any() else 0.0, np.max(radius), 1e-6)
    axes.set(xlim=(0, 1.04 * largest), ylim=(len(names) - 0.3, -0.7), xlabel=f"distance to the reference, {unit}")
    axes.set_yticks(rows, [str(name) for name in names], fontsize=7, parse_math=False)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.6)
    axes.grid(axis="y", color="#f0f2f4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=8, handletextpad=0.2)
    return as_png(figure)


def draw_reliability(
    diagrams: Mapping[str, Mapping[str, Sequence[float]]], errors: Mapping[str, float | None]
) -> bytes:
    """Reliability diagrams side by side; a PNG file's bytes.

    Args:
        diagrams: (B) lists ``stated``, ``observed`` and ``count`` of each probability, by its title.
        errors: expected calibration error by the same titles, None where there is none.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    width, height = (SQUARE + 0.75) * len(diagrams) + 0.1, SQUARE + 1.05
    figure = new_figure(width, height)
    for number, (title, bins) in enumerate(diagrams.items()):
        left = 0.6 + number * (SQUARE + 0.75)
        axes = figure.add_axes((left / width, 0.55 / height, SQUARE / width, SQUARE / height))
        plain_axes(axes)
        draw_diagram(axes, bins)
        error = errors[title]
        said = "" if error is None else f"\ncalibration error (ECE) {error:.3f}, {sum(bins['count'])} statements"
        axes.set_title(f"{title}{said}", fontsize=8.5, color=INK, loc="left", parse_math=False)
        axes.set(xlabel="stated probability", ylabel="share that came true" if number == 0 else "")
    return as_png(figure)


def draw_diagram(axes: Axes, bins: Mapping[str, Sequence[float]]) -> None:
    """Observed over stated shares; a dot's area grows with the statements in it, which stand beside."""
    stated, observed, count = (np.asarray(bins[key], float) for key in ("stated", "observed", "count"))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, dashes=(4, 3))
    axes.vlines(stated, stated, observed, color=SECOND, linewidth=1.2)
    if len(count):
        axes.scatter(stated, observed, s=14 + 110 * count / count.max(), color=STRONG, edgecolors=PAPER, zorder=3)
    for x, y, number in zip(stated, observed, count):
        below = y > 0.93 or 0.07 < y <= x
        axes.annotate(
            f"{number:.0f}",
            (x, y),
            (0, -9 if below else 9),
            textcoords="offset points",
            fontsize=6.5,
            color=INK,
            ha="center",
            va="top" if below else "bottom",
        )
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
    axes.grid(color="#eceff2", linewidth=0.6)
    axes.set_axisbelow(True)
