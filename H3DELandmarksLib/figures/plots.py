"""The picture of a comparison: how much better the candidate is at each landmark, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import replaced_when_complete
from H3DELandmarksLib.figures.canvas import FAINT, PAPER, SECOND, STRONG, as_png, new_figure
from H3DELandmarksLib.formats.comparison import Comparison, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW, MARGIN, WIDTH = 0.17, 1.0, 7.2
SQUARE = 3.3


def draw_errors(names: Sequence[str], errors: np.ndarray, radius: np.ndarray) -> bytes:
    """One line per landmark: each case's error, the median and the radius that is stated for it; a PNG file's bytes.

    Args:
        names: (K) labels.
        errors: (N, K) mm, NaN where there is none.
        radius: (K,) mm.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    height = MARGIN + ROW * len(names)
    figure = new_figure(WIDTH, height)
    longest = max(len(name) for name in names)
    left = min(0.4, 0.06 + 0.0095 * longest)
    axes = figure.add_axes((left, 0.52 / height, 0.97 - left, 1 - MARGIN / height))
    _plain(axes)
    rows = np.arange(len(names))
    shown = np.isfinite(errors)
    scatter = axes.scatter(errors[shown], np.broadcast_to(rows, errors.shape)[shown], s=9, color=STRONG, alpha=0.45)
    scatter.set(linewidths=0, label="a test case")
    middle = [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan for column in errors.T]
    axes.scatter(middle, rows, s=46, marker="|", color=INK, linewidths=1.6, label="median", zorder=3)
    axes.scatter(radius, rows, s=20, marker=">", color=SECOND, label="stated 90 % radius", zorder=3)
    largest = max(np.nanmax(errors) if shown.any() else 0.0, np.max(radius), 1e-6)
    axes.set(xlim=(0, 1.04 * largest), ylim=(len(names) - 0.3, -0.7), xlabel="distance to the reference, mm")
    axes.set_yticks(rows, [str(name) for name in names], fontsize=7, parse_math=False)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.6)
    axes.grid(axis="y", color="#f0f2f4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=8, handletextpad=0.2)
    return as_png(figure)


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
        _plain(axes)
        axes.grid(color="#e4e7eb", linewidth=0.6)
    right.set_ylim(bottom=0)
    right.legend(frameon=False, fontsize=8)
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
        _plain(axes)
        _draw_diagram(axes, bins)
        error = errors[title]
        said = "" if error is None else f"\ncalibration error (ECE) {error:.3f}, {sum(bins['count'])} statements"
        axes.set_title(f"{title}{said}", fontsize=8.5, color=INK, loc="left", parse_math=False)
        axes.set(xlabel="stated probability", ylabel="share that came true" if number == 0 else "")
    return as_png(figure)


def _draw_diagram(axes: Axes, bins: Mapping[str, Sequence[float]]) -> None:
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


def _plain(axes: Axes) -> None:
    """Thin left and lower edges, small ticks."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(labelsize=7.5, color=FAINT, labelcolor=INK, length=2.5)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=8, color=INK)


BETTER, WORSE, UNDECIDED, INK, MUTED = "#1a7f37", "#cf222e", "#6e7781", "#1f2328", "#d0d7de"
WIDTH_INCHES, ROW_INCHES, EDGE_INCHES = 8.0, 0.26, 1.5


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the improvement of every landmark and of all.

    Args:
        comparison: what to draw.
        path: PNG file, replaced when the new one is complete.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InputError: the file cannot be written.
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
        ylim=(len(rows) - 0.4, -0.6),
        yticks=range(len(rows)),
        xlabel="improvement, mm (worse on the left, better on the right; 95 % interval over subjects)",
    )
    axes.set_yticklabels([row.name for row in rows], parse_math=False)
    axes.get_yticklabels()[0].set_weight("bold")
    axes.grid(axis="x", color=MUTED, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(
        f"{comparison.candidate.name} against {comparison.base.name}\n{comparison.sentence()}",
        fontsize=9,
        loc="left",
        wrap=True,
        parse_math=False,
    )
    try:
        with replaced_when_complete(path) as temporary:
            figure.savefig(temporary, format="png")
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror}): check the folder and its space.") from error


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
