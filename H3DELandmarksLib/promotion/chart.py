"""The picture of a comparison: how much better the candidate is at each landmark, with its interval."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.files import replaced_when_complete
from H3DELandmarksLib.pictures.figures import new_figure
from H3DELandmarksLib.promotion.comparison import Comparison, Row

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
    axes.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)),
             xlabel="improvement, mm (worse on the left, better on the right; 95 % interval over subjects)")
    axes.set_yticklabels([row.name for row in rows], parse_math=False)
    axes.get_yticklabels()[0].set_weight("bold")
    axes.grid(axis="x", color=MUTED, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(f"{comparison.candidate.name} against {comparison.base.name}\n{comparison.sentence()}", fontsize=9,
                   loc="left", wrap=True, parse_math=False)
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
