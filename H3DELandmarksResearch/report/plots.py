"""The plots of reports, each an SVG element for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from H3DELandmarksLib.core.text import number
from H3DELandmarksResearch.evaluation.procrustes import Alignment
from H3DELandmarksResearch.figures.canvas import (
    BETTER,
    FAINT,
    INK,
    SECOND,
    SERIES,
    STRONG,
    UNDECIDED,
    WORSE,
    as_svg,
    name_rows,
    new_figure,
    plain_axes,
)
from H3DELandmarksResearch.figures.card_plots import draw_diagram
from H3DELandmarksResearch.figures.plots import draw_intervals
from H3DELandmarksResearch.report.page import PAGE_COLORS, Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, ROW, EDGE = 9.5, 0.18, 0.75  # inches
MANY = 1500  # points of a plot that become a picture in it
STATE_COLORS = (STRONG, SERIES[2], FAINT, SECOND, SERIES[3], SERIES[4], UNDECIDED, INK)
COLORS = {**PAGE_COLORS, BETTER: "var(--good)", WORSE: "var(--bad)"}


def percentile_rows(
    unique: str, names: Sequence[str], values: Sequence[np.ndarray], label: str, caption: str, limits=None
) -> Figure:
    """One row a landmark: 5th to 95th percentile, quartiles and median.

    Args:
        unique: names the figure in its page.
        names: of the rows.
        values: of each row, any number of them; NaN is left out.
        label: of the axis.
        caption: below the figure.
        limits: of the axis; from 0 to the largest where None.
    """
    height = EDGE + ROW * max(len(names), 3)
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((_left(names), 0.5 / height, 0.985 - _left(names), 1 - EDGE / height))
    for row, column in enumerate(values):
        known = column[np.isfinite(column)]
        if not known.size:
            continue
        low, first, middle, third, high = np.percentile(known, [5, 25, 50, 75, 95])
        axes.plot([low, high], [row, row], color=STRONG, linewidth=0.9, solid_capstyle="butt")
        axes.plot([first, third], [row, row], color=STRONG, linewidth=4.5, alpha=0.55, solid_capstyle="butt")
        axes.plot([middle], [row], "|", color=INK, markersize=7, markeredgewidth=1.6)
    name_rows(axes, names)
    axes.set_xlabel(label)
    axes.set_xlim(*(limits or (0, None)))
    plain_axes(axes, "x")
    return Figure(as_svg(figure, unique, COLORS), caption)


def state_bars(unique: str, names: Sequence[str], counts: Mapping[str, Sequence[int]], caption: str) -> Figure:
    """How many scans of each landmark are in each state: (K,) counts by state."""
    height = EDGE + 0.25 + ROW * max(len(names), 3)
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((_left(names), 0.5 / height, 0.985 - _left(names), 1 - (EDGE + 0.25) / height))
    begin = np.zeros(len(names))
    for (state, column), color in zip(counts.items(), STATE_COLORS * 2):
        axes.barh(range(len(names)), column, left=begin, color=color, height=0.7, label=state, linewidth=0)
        begin = begin + np.asarray(column)
    name_rows(axes, names)
    axes.set_xlim(0, max(float(begin.max(initial=0)), 1.0))
    axes.set_xlabel("scans")
    plain_axes(axes, "x")
    legend_above(axes, min(len(counts), 6))
    return Figure(as_svg(figure, unique, COLORS), caption)


def histograms(unique: str, panels: Sequence[tuple[str, np.ndarray]], caption: str) -> Figure:
    """Histograms side by side: (label, values)."""
    figure = new_figure(WIDTH, 2.5)
    for n, (label, values) in enumerate(panels):
        axes = figure.add_axes(((n + 0.14) / len(panels), 0.2, 0.8 / len(panels), 0.72))
        known = values[np.isfinite(values)]
        if known.size:
            middle = (known.min() + known.max()) / 2
            least = max(1.0, abs(middle))
            reach = known.max() - middle
            reach = reach if reach > 1e-6 * least else 0.05 * least  # equal values have one bar
            axes.hist(known, bins=24, range=(middle - reach, middle + reach), color=STRONG, alpha=0.8, linewidth=0)
        axes.set(xlabel=label, ylabel="scans" if n == 0 else "")
        plain_axes(axes, "y")
    return Figure(as_svg(figure, unique, COLORS), caption)


def cumulative(
    unique: str, curves: Mapping[str, tuple[np.ndarray, int]], thresholds: Sequence[float], unit: str, caption: str
) -> Figure:
    """Share of all present landmarks that lie within a distance: errors, and of how many, by label."""
    figure = new_figure(WIDTH, 3.3)
    axes = figure.add_axes((0.07, 0.15, 0.9, 0.78))
    largest = max([*thresholds, *(np.percentile(e, 99) for e, _ in curves.values() if e.size)]) * 1.05
    for (label, (errors, count)), color in zip(curves.items(), SERIES):
        steps = np.sort(errors)
        shares = 100 * np.arange(1, len(steps) + 1) / max(count, 1)
        if len(steps) > MANY:
            kept = np.linspace(0, len(steps) - 1, MANY).astype(int)
            steps, shares = steps[kept], shares[kept]
        steps = np.concatenate([[0.0], steps, [max(largest, steps.max(initial=0.0))]])
        shares = np.concatenate([[0.0], shares, shares[-1:] if shares.size else [0.0]])
        axes.step(steps, shares, where="post", color=color, label=label)
    for threshold in thresholds:
        axes.axvline(threshold, color=FAINT, linewidth=0.8, dashes=(4, 3))
    axes.set(xlim=(0, largest), ylim=(0, 102), xlabel=f"distance to the reference, {unit}", ylabel="landmarks, %")
    plain_axes(axes)
    if len(curves) > 1:
        legend = axes.legend(loc="lower right", frameon=False, fontsize=8, labelcolor=INK)
        _plain_words(legend)
    return Figure(as_svg(figure, unique, COLORS), caption)


def bland_altman(unique: str, panels: Sequence[tuple[str, np.ndarray, np.ndarray]], unit: str, caption: str) -> Figure:
    """Differences over means: (title, means, differences) side by side, with bias and 95 % limits of agreement."""
    figure = new_figure(WIDTH, 3.2)
    reach = max((float(np.percentile(np.abs(d), 99.5)) for _, _, d in panels if d.size), default=1.0) * 1.15
    for n, (title, means, differences) in enumerate(panels):
        axes = figure.add_axes(((n + 0.17) / len(panels), 0.16, 0.76 / len(panels), 0.72))
        axes.scatter(means, differences, s=6, color=STRONG, alpha=0.35, linewidths=0, rasterized=means.size > MANY)
        if differences.size > 1:
            bias, sd = float(differences.mean()), float(differences.std(ddof=1))
            for place, dashes in ((bias, (1, 0)), (bias - 1.96 * sd, (4, 3)), (bias + 1.96 * sd, (4, 3))):
                axes.axhline(place, color=SECOND, linewidth=1.1, dashes=dashes)
            title = f"{title}: {number(bias)} ({number(bias - 1.96 * sd)} to {number(bias + 1.96 * sd)})"
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set(ylim=(-reach, reach), xlabel=f"mean, {unit}")
        axes.set_ylabel(f"found less reference, {unit}" if n == 0 else "")
        axes.set_title(title, loc="left", parse_math=False)
        plain_axes(axes)
    return Figure(as_svg(figure, unique, COLORS), caption)


def reliability_plots(unique: str, panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]], caption: str) -> Figure:
    """Whether stated probabilities came true: (title, bins of `evaluation.reliability`) side by side."""
    figure = new_figure(WIDTH, 3.7)
    for n, (title, bins) in enumerate(panels):
        axes = figure.add_axes((0.07 + n * 0.48, 0.13, 0.36, 0.74))
        draw_diagram(axes, bins)
        axes.set(xlabel="stated probability", ylabel="share that came true" if n == 0 else "")
        axes.set_title(title, loc="left", parse_math=False)
        plain_axes(axes)
    return Figure(as_svg(figure, unique, COLORS), caption)


def forest(unique: str, names: Sequence[str], intervals: np.ndarray, label: str, caption: str) -> Figure:
    """Values with intervals: (K, 3) middle, low and high of each row; the first row is that of all."""
    height = EDGE + ROW * len(names)
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((_left(names), 0.5 / height, 0.985 - _left(names), 1 - EDGE / height))
    draw_intervals(axes, names, intervals)
    axes.set_xlabel(label)
    return Figure(as_svg(figure, unique, COLORS), caption)


def shape_plot(unique: str, alignment: Alignment, caption: str) -> Figure:
    """The mean shape and all subjects laid upon it, seen along two axes, and the first principal component."""
    views = ((0, 2), (1, 2)) if alignment.mean.shape[1] == 3 else ((0, 1),)
    figure = new_figure(WIDTH, 3.9)
    count = alignment.aligned.shape[0] * alignment.aligned.shape[1]
    sd = alignment.scores[:, 0].std(ddof=1) if alignment.scores.shape[1] else 0.0
    for n, (across, up) in enumerate(views):
        axes = figure.add_axes((0.05 + n * 0.48, 0.1, 0.43, 0.8))
        sign = 1 if len(views) == 2 else -1  # the second axis of a radiograph points down
        x, y = alignment.aligned[..., across].ravel(), sign * alignment.aligned[..., up].ravel()
        axes.scatter(x, y, s=4, color=FAINT, alpha=0.4, linewidths=0, rasterized=count > MANY)
        if sd:
            ends = [alignment.mean + f * sd * alignment.components[0] for f in (-2, 2)]
            for start, end in zip(*ends):
                axes.plot(
                    [start[across], end[across]],
                    [sign * start[up], sign * end[up]],
                    color=SECOND,
                    linewidth=1.5,
                    zorder=3,
                )
        axes.scatter(alignment.mean[:, across], sign * alignment.mean[:, up], s=9, color=STRONG, linewidths=0)
        axes.set_aspect("equal", adjustable="datalim")
        names = "LPS" if len(views) == 2 else "xy"
        axes.set_xlabel(f"{names[across]}, in sizes of the mean")
        axes.set_ylabel(f"{names[up]}")
        plain_axes(axes)
    return Figure(as_svg(figure, unique, COLORS), caption)


def component_plot(unique: str, alignment: Alignment, caption: str) -> Figure:
    """Scores of the first two principal components, outliers named, and the shares of variance."""
    figure = new_figure(WIDTH, 3.6)
    axes = figure.add_axes((0.07, 0.14, 0.5, 0.8))
    scores = np.pad(alignment.scores[:, :2], ((0, 0), (0, max(0, 2 - alignment.scores.shape[1]))))
    shares = np.pad(alignment.shares[:2], (0, max(0, 2 - len(alignment.shares))))
    far = alignment.outliers
    axes.scatter(*scores[~far].T, s=14, color=STRONG, alpha=0.6, linewidths=0, rasterized=len(scores) > MANY)
    axes.scatter(*scores[far].T, s=18, color=SECOND, marker="D", linewidths=0)
    for row in np.flatnonzero(far)[np.argsort(-alignment.distance[far])][:12]:
        axes.annotate(
            alignment.subjects[row][:28],
            scores[row],
            (4, 3),
            textcoords="offset points",
            fontsize=6.5,
            color=INK,
            parse_math=False,
        )
    axes.set(xlabel=f"PC 1 ({100 * shares[0]:.1f} %)", ylabel=f"PC 2 ({100 * shares[1]:.1f} %)")
    plain_axes(axes)
    bars = figure.add_axes((0.65, 0.14, 0.33, 0.8))
    shown = 100 * alignment.shares[:10]
    bars.bar(range(1, len(shown) + 1), shown, color=STRONG, width=0.7)
    bars.set(xlabel="principal component", ylabel="variance, %")
    plain_axes(bars, "y")
    return Figure(as_svg(figure, unique, COLORS), caption)


def legend_above(axes: Axes, columns: int) -> None:
    """The legend in a row above the plot."""
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, fontsize=8, labelcolor=INK
    )
    _plain_words(legend)


def _plain_words(legend) -> None:
    for text in legend.get_texts():
        text.set_parse_math(False)


def _left(names: Sequence[str]) -> float:
    """Share of the width that the names of rows take."""
    return min(0.42, 0.05 + 0.0068 * max((len(str(name)) for name in names), default=0))
