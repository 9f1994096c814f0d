"""Table, figures and picture of the comparison of networks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.evaluation.metrics import THRESHOLDS_MM, case_means, mean_radial_error, success_rates
from H3DELandmarksLib.formats.manifest import Decoding
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.formats.reading import Limits, Text
from H3DELandmarksResearch.figures.canvas import new_figure, plain_axes, save_figure
from H3DELandmarksResearch.studies import write_results
from H3DELandmarksResearch.training.configuration import Configuration


@dataclass(frozen=True, kw_only=True)
class ComparedNetwork:
    """What a network of the comparison changes in the stage.

    Attributes:
        title: in the table.
        network: in place of the stage's.
        settings: of the stage's network that differ.
        decoding: in place of the stage's.
        training, augmentation: entries that differ.
    """

    title: Text
    network: Network | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    decoding: Decoding | None = None
    training: dict[str, Any] = field(default_factory=dict)
    augmentation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """``configurations/compare-networks.json``: which networks learn which stage.

    Attributes:
        configuration: path or bundled name of the training configuration.
        stage: name of the stage.
        stage_settings: entries of the stage that differ for all networks.
        networks: by name.
    """

    configuration: Text
    stage: Text
    stage_settings: dict[str, Any] = field(default_factory=dict)
    networks: Annotated[dict[str, ComparedNetwork], Limits(min_length=1)]


def write_report(
    work: Path,
    plan: ComparisonPlan,
    configuration: Configuration,
    folds: Sequence[Sequence[str]],
    output: Path,
    command: str,
) -> dict:
    """Write ``output`` .json, .md and .png from all results in `work`; returns the figures.

    Args:
        work: holds ``fold-N/NETWORK/result.json``.
        plan: what is compared.
        configuration: what the networks learn.
        folds: names of the cases of each.
        output: path without suffix.
        command: what was called.
    """
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(work.glob("fold-*/*/result.json"))]
    thresholds = list(configuration.record.thresholds_mm or THRESHOLDS_MM)
    rows = {
        name: {"title": entry.title, **summary([r for r in results if r["network"] == name], thresholds)}
        for name, entry in plan.networks.items()
        if any(r["network"] == name for r in results)
    }
    figures = {
        "command": command,
        "commit": _commit(),
        "configuration": configuration.path.stem,
        "stage": plan.stage,
        "stage_settings": plan.stage_settings,
        "folds": [list(fold) for fold in folds],
        "thresholds_mm": thresholds,
        "networks": rows,
    }
    write_results(output, figures, as_text(figures))
    with atomic_write(output.with_suffix(".png")) as partial:
        _draw(figures, partial)
    return figures


def summary(results: Sequence[Mapping], thresholds: Sequence[float]) -> dict:
    """Figures of one network over the folds that are done: errors in mm, rates from 0 to 1, seconds."""
    cases = {name: row for result in results for name, row in result["errors_mm"].items()}
    errors = np.array([[np.nan if e is None else e for e in row] for row in cases.values()], dtype=float)
    mean, deviation = mean_radial_error(errors)
    folds = {
        str(result["fold"]): float(np.nanmean(np.array(list(result["errors_mm"].values()), dtype=float)))
        for result in results
    }
    timed = [r["seconds_a_step"] for r in results if r["seconds_a_step"] is not None]
    return {
        "cases": len(cases),
        "mre_mm": mean,
        "sd_mm": deviation,
        "median_mm": float(np.nanmedian(errors)),
        "success": [float(rate) for rate in success_rates(errors, np.isfinite(errors), thresholds)],
        "case_means_mm": dict(zip(cases, map(float, case_means(errors)))),
        "folds_mm": folds,
        "parameters": results[0]["parameters"],
        "steps": [r["steps"] for r in results],
        "seconds_a_step": float(np.mean(timed)) if timed else None,
        "budget_seconds": sorted({r["budget_seconds"] for r in results}),
    }


def as_text(figures: Mapping) -> str:
    """The report in Markdown."""
    limits = "".join(f" SDR {limit:g} mm |" for limit in figures["thresholds_mm"])
    limits += " parameters | steps | s a step | budget, s |"
    lines = [
        "# Networks, heads and losses compared",
        "",
        f"`{figures['command']}` at commit {figures['commit']}; stage '{figures['stage']}' of "
        f"{figures['configuration']}{_changes(figures['stage_settings'])}, crops in the canonical pose, held-out "
        f"specimens of {len(figures['folds'])} folds (those done are listed).",
        "",
        f"| network | folds | specimens | MRE +- SD, mm | median, mm |{limits}",
        "|---" * (5 + limits.count("|")) + "|",
    ]
    for row in figures["networks"].values():
        rates = "".join(f" {100 * rate:.1f} % |" for rate in row["success"])
        pace = "-" if row["seconds_a_step"] is None else f"{row['seconds_a_step']:.2f}"
        lines.append(
            f"| {row['title']} | {', '.join(row['folds_mm'])} | {row['cases']} | {row['mre_mm']:.3f} +- "
            f"{row['sd_mm']:.3f} | {row['median_mm']:.3f} |{rates} {row['parameters'] / 1e6:.2f} M | "
            f"{', '.join(map(str, row['steps']))} | {pace} | {', '.join(f'{b:g}' for b in row['budget_seconds'])} |"
        )
    lines += ["", "Mean error of each fold, mm:", ""]
    lines += [
        f"- {row['title']}: " + ", ".join(f"fold {fold} {error:.3f}" for fold, error in row["folds_mm"].items())
        for row in figures["networks"].values()
    ]
    return "\n".join(lines) + "\n"


def _changes(settings: Mapping) -> str:
    return "".join(f", {name} {value}" for name, value in settings.items())


def _draw(figures: Mapping, path: Path) -> None:
    rows = list(figures["networks"].values())
    figure = new_figure(8, 1.2 + 0.6 * len(rows))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    means = [[m for m in row["case_means_mm"].values() if np.isfinite(m)] for row in rows]
    axes.boxplot(means, orientation="horizontal", tick_labels=[row["title"] for row in rows], whis=(0, 100))
    axes.invert_yaxis()
    axes.set_xlabel("mean error of each held-out specimen, mm")
    axes.set_xlim(left=0)
    plain_axes(axes, "x")
    save_figure(figure, path)


def _commit() -> str:
    answer = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return answer.stdout.strip() or "unknown"
