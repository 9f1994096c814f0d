"""The report of `which_case_next`: which order is best on validation, how sure that is, what the test strains say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BASE, DRAWS, LEVEL = "random", 10_000, 0.95
COLORS = {"random": "#57606a", "uncertainty": "#d1480f", "distance": "#2da44e", "combined": "#0b62c4"}


@dataclass(frozen=True)
class Runs:
    """What all complete seeds gave.

    Attributes:
        strategies: names.
        seeds: that every strategy has completed.
        sizes: numbers of corrected specimens.
        errors: by subset, (strategies, seeds, sizes, specimens) mean error in mm.
        cpu_s: seconds of training.
    """

    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    sizes: tuple[int, ...]
    errors: dict[str, np.ndarray]
    cpu_s: float


def read_runs(work: Path, strategies: Sequence[str], sizes: Sequence[int]) -> Runs:
    """Read the results of `run`; seeds that are not complete for every strategy are left out."""
    rounds = {path.stem: json.loads(path.read_text()) for path in work.glob("*.json")}
    seeds = sorted({int(name.rpartition("-")[2]) for name in rounds})
    complete = [
        seed for seed in seeds if all(len(rounds.get(f"{s}-{seed}", ())) == len(sizes) for s in strategies)
    ]
    errors = {
        subset: np.array([
            [[list(entry[subset].values()) for entry in rounds[f"{s}-{seed}"]] for seed in complete]
            for s in strategies
        ])
        for subset in ("validation", "test")
    }  # fmt: skip
    return Runs(tuple(strategies), tuple(complete), tuple(sizes), errors,
                sum(entry["cpu_s"] for done in rounds.values() for entry in done))


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds and its bootstrap interval."""
    draws = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(values.mean()), float(low), float(high)


def against_random(runs: Runs, strategy: str, subset: str, sizes: slice = slice(1, None)) -> np.ndarray:
    """(seeds,) mm, how much larger the error is than with the random order of the same seed, over the later sizes."""
    means = runs.errors[subset].mean(axis=3)[:, :, sizes].mean(axis=2)
    return means[runs.strategies.index(strategy)] - means[runs.strategies.index(BASE)]


def summary(runs: Runs) -> dict:
    """All figures; the test strains only for the order that is best on validation and for the random one."""
    curve = runs.errors["validation"].mean(axis=3)
    worst = runs.errors["validation"].max(axis=3)
    orders = {
        name: {
            "mean_mm": [interval(curve[n, :, k]) for k in range(len(runs.sizes))],
            "worst_specimen_mm": [interval(worst[n, :, k]) for k in range(len(runs.sizes))],
            "difference_mm": [
                interval(curve[n, :, k] - curve[runs.strategies.index(BASE), :, k]) for k in range(len(runs.sizes))
            ],
            "difference_of_curves_mm": interval(against_random(runs, name, "validation")),
        }
        for n, name in enumerate(runs.strategies)
    }  # fmt: skip
    others = [name for name in runs.strategies if name != BASE]
    best = min(others, key=lambda name: orders[name]["difference_of_curves_mm"][0])
    return {
        "seeds": list(runs.seeds), "sizes": list(runs.sizes), "cpu_minutes": round(runs.cpu_s / 60, 1),
        "level": LEVEL, "orders": orders, "best": best,
        "beats_random": orders[best]["difference_of_curves_mm"][2] < 0,
        "test": {
            "difference_of_curves_mm": interval(against_random(runs, best, "test")),
            "mean_mm": {name: [interval(values) for values in
                               runs.errors["test"][runs.strategies.index(name)].mean(axis=2).T]
                        for name in (BASE, best)},
        },
    }  # fmt: skip


def draw(found: dict, path: Path) -> None:
    """Both pictures: errors, and differences from the random order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    sizes = np.array(found["sizes"])
    for n, (name, values) in enumerate(found["orders"].items()):
        shift = 0.18 * (n - 1.5)
        for axes, key in ((left, "mean_mm"), (right, "difference_mm")):
            mean, low, high = np.array(values[key]).T
            axes.errorbar(sizes + shift, mean, [mean - low, high - mean], color=COLORS[name], marker="o", ms=4,
                          lw=1.4, capsize=2, label=name)
    left.set(ylabel="mean error on validation strains, mm", title="Error against number of corrected specimens")
    right.set(ylabel="difference from the random order, mm", title="Paired by seed (below 0: better than random)")
    right.axhline(0, color=COLORS[BASE], lw=0.8)
    for axes in (left, right):
        axes.set(xlabel="corrected specimens", xticks=sizes)
        axes.grid(alpha=0.25)
    left.legend(frameon=False)
    figure.savefig(path)


def text(found: dict, settings: str) -> str:
    """The report."""
    def cell(values: Sequence[float], sign: str = "") -> str:
        mean, low, high = values
        return f"{mean:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"

    best, test = found["best"], found["test"]["difference_of_curves_mm"]
    mean, low, high = found["orders"][best]["difference_of_curves_mm"]
    verdict = (
        f"**'{best}' beats the random order** by {-mean:.3f} mm ({-high:.3f} to {-low:.3f})"
        if found["beats_random"] else
        f"**No order beats the random one for certain.** The best, '{best}', differs by {mean:+.3f} mm "
        f"({low:+.3f} to {high:+.3f}), so that `cases rank` keeps the random order, with near repetitions last"
    )
    worse = [name for name, entry in found["orders"].items() if entry["difference_of_curves_mm"][1] > 0]
    if worse:
        verdict += f"; worse than chance here: {' and '.join(worse)}"
    sizes = " | ".join(map(str, found["sizes"]))
    lines = [
        "# Which case next: does an order beat chance?", "",
        "    H3DE_DATA=../shared/data python -m benchmarks.which_case_next run --work runs/which-case-next",
        "    python -m benchmarks.which_case_next report --work runs/which-case-next", "", settings, "",
        f"{verdict} (means over {', '.join(map(str, found['sizes'][1:]))} specimens, {len(found['seeds'])} seeds, "
        f"{found['level']:.0%} bootstrap intervals over seeds, not corrected for comparing several orders). On the "
        f"five test strains, looked at once for this order, the difference is {cell(test, '+')} mm.", "",
        "![curves](which_case_next.png)", "",
        "Mean error on the seven validation strains, mm:", "",
        f"| order | {sizes} | all but the first, against random |", "|---" * (len(found["sizes"]) + 2) + "|",
    ]  # fmt: skip
    for name, values in found["orders"].items():
        cells = [cell(entry) for entry in values["mean_mm"]]
        against = "" if name == BASE else cell(values["difference_of_curves_mm"], "+")
        lines.append(f"| {' | '.join([name, *cells, against])} |")
    lines += ["", "Worst validation strain, mm:", "", f"| order | {sizes} |", "|---" * (len(found["sizes"]) + 1) + "|"]
    for name, values in found["orders"].items():
        lines.append(f"| {' | '.join([name, *map(cell, values['worst_specimen_mm'])])} |")
    lines += ["", "Mean error on the five test strains, mm:", "", f"| order | {sizes} |",
              "|---" * (len(found["sizes"]) + 1) + "|"]
    for name, values in found["test"]["mean_mm"].items():
        lines.append(f"| {' | '.join([name, *map(cell, values)])} |")
    return "\n".join(lines) + "\n"
