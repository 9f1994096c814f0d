"""The figures of a learning curve for people: a table and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np

from H3DELandmarksResearch.figures.canvas import SERIES, new_figure, plain_axes, save_figure
from H3DELandmarksResearch.studies import write_results


def write_figures(stem: Path, result: Mapping) -> None:
    """JSON, a Markdown table and a plot."""
    write_results(stem, result, table(result))
    plot(stem.with_suffix(".png"), result)
    print(table(result))


def table(result: Mapping) -> str:
    """Markdown."""
    sdr = f"SDR {result['threshold_mm']:g} mm"
    lines = [
        f"# {result['title']}",
        "",
        f"Base: {result['base']}; measured on {len(result['measured_on'])} cases that "
        "were never corrected; 95 % intervals of a bootstrap over these cases.",
        "",
    ]
    lines += [f"Made by `{result['command']}`.", ""] if "command" in result else []
    for label, group in result["groups"].items():
        lines += [
            f"## {label} ({len(group['landmarks'])})",
            "",
            f"| corrected cases | MRE, mm | {sdr} | gain, mm | missed | CPU, min |",
            "|---|---|---|---|---|---|",
        ]
        rows = [(str(point["corrections"]), point) for point in group["points"]]
        rows += [(group["reference"]["model"], group["reference"])] if "reference" in group else []
        for name, p in rows:
            seconds = p.get("cpu_seconds")
            minutes = "" if seconds is None or not np.isfinite(seconds) else f"{seconds / 60:.1f}"
            lines.append(
                f"| {name} | {p['mre_mm']:.3f} ({p['mre_interval'][0]:.3f} to {p['mre_interval'][1]:.3f}) | "
                f"{100 * p['sdr']:.1f} % ({100 * p['sdr_interval'][0]:.1f} to {100 * p['sdr_interval'][1]:.1f}) | "
                f"{p['gain_mm']:+.3f} ({p['gain_interval'][0]:+.3f} to {p['gain_interval'][1]:+.3f}) | "
                f"{p['missed']} of {p['landmarks']} | {minutes} |"
            )
        lines.append("")
    return "\n".join(lines)


def plot(path: Path, result: Mapping) -> None:
    """Error and detection rate against the number of corrected cases."""
    figure = new_figure(9, 3.6)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 2)
    for (label, group), color in zip(result["groups"].items(), cycle(SERIES)):
        counts = [point["corrections"] for point in group["points"]]
        for axis, name, factor in zip(axes, ("mre", "sdr"), (1, 100)):
            key = "mre_mm" if name == "mre" else name
            middle = factor * np.array([point[key] for point in group["points"]])
            band = factor * np.array([point[f"{name}_interval"] for point in group["points"]])
            (line,) = axis.plot(counts, middle, color=color, marker="o", label=label)
            axis.fill_between(counts, band[:, 0], band[:, 1], color=line.get_color(), alpha=0.2)
            if "reference" in group:
                axis.axhline(
                    factor * group["reference"][key],
                    color=line.get_color(),
                    linestyle=":",
                    label=group["reference"]["model"],
                )
    for axis, text in zip(axes, ("mean radial error, mm", f"found within {result['threshold_mm']:g} mm, %")):
        axis.set_xlabel("corrected cases")
        axis.set_ylabel(text)
        plain_axes(axis)
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=8, frameon=False)
    figure.suptitle(result["title"], fontsize=10, parse_math=False)
    save_figure(figure, path)
