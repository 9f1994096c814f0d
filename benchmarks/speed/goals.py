"""The figures to reach, and whether a run reached them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.speed.contestants import OURS
from benchmarks.speed.plan import FLAT_SIDES, HEADS, THREADS

Results = dict[str, dict]
BATCH = 2


class Goal(NamedTuple):
    """One figure.

    Attributes:
        figure: what it is.
        limit: the value to reach.
        unit: of both values.
        at_least: whether more is better.
        measured: the figure, from a run's results; raises KeyError where it was not measured.
    """

    figure: str
    limit: float
    unit: str
    at_least: bool
    measured: Callable[[Results], float]

    def verdict(self, results: Results) -> tuple[float | None, str]:
        """The figure (None where it was not measured) and "yes", "no" or "not measured"."""
        try:
            value = self.measured(results)
        except KeyError:
            return None, "not measured"
        if not math.isfinite(value):
            return None, "not measured"
        reached = value >= self.limit if self.at_least else value <= self.limit
        return value, "yes" if reached else "no"


def torch_ratio(results: Results, head: str, threads: int) -> float:
    """How many times faster than the published form our forward pass is in PyTorch."""
    return results[f"forward {head} {threads}"]["times_faster"][OURS]["median"]


def best_backend(results: Results, head: str, threads: int, half: bool) -> tuple[str, float]:
    """Name and ratio of the fastest engine that is exact, or of the fastest reduced one for ``half``."""
    rows = results[f"backends {head} {threads}"]["engines"].items()
    ratios = [(name, row["times_faster"]) for name, row in rows if row["reduced"] == half and "times_faster" in row]
    if not ratios:
        raise KeyError("no such engine")
    return max(ratios, key=lambda pair: pair[1])


def _per_thread(text: str, limit: float, measured: Callable[[Results, int], float]) -> list[Goal]:
    return [
        Goal(
            f"{text}, {threads} thread{'s' * (threads > 1)}",
            limit,
            "x",
            True,
            lambda results, threads=threads: measured(results, threads),
        )
        for threads in THREADS
    ]


GOALS: list[Goal] = [
    *_per_thread("anchor network forward, PyTorch", 3.0, lambda r, t: torch_ratio(r, "anchor", t)),
    *_per_thread("anchor network forward, best exact engine", 4.0, lambda r, t: best_backend(r, "anchor", t, False)[1]),
    *_per_thread("heat-map network forward, PyTorch", 1.8, lambda r, t: torch_ratio(r, "heatmap", t)),
    *_per_thread(
        "heat-map network forward, best exact engine", 3.0, lambda r, t: best_backend(r, "heatmap", t, False)[1]
    ),
    *(
        goal
        for head in HEADS
        for goal in _per_thread(
            f"{head} network forward, best reduced precision",
            8.0,
            lambda r, t, head=head: best_backend(r, head, t, True)[1],
        )
    ),
    *(
        goal
        for side in FLAT_SIDES
        for goal in _per_thread(
            f"HYATT-Net forward, {side} x {side} pixels",
            2.0,
            lambda r, t, side=side: r[f"radiograph {side} {t}"]["times_faster"][OURS]["median"],
        )
    ),
    *(
        Goal(
            f"training step with loss, {head}, batch {BATCH}",
            4.0,
            "x",
            True,
            lambda r, head=head: r[f"training {head} {BATCH}"]["times_faster"][OURS]["median"],
        )
        for head in HEADS
    ),
    Goal("memory of a forward pass, anchor", 110, "MB", False, lambda r: r[f"memory anchor {OURS}"]["megabytes"]),
    Goal("memory of a forward pass, heat map", 600, "MB", False, lambda r: r[f"memory heatmap {OURS}"]["megabytes"]),
    Goal("512 x 512 x 300 CT, file to landmarks", 4.0, "s", False, lambda r: r["scan"]["seconds"]["median"]),
    Goal("512 x 512 x 300 CT, peak memory", 1200, "MB", False, lambda r: r["scan memory"]["megabytes"]),
    Goal("many scans, computing on all cores", 85, "%", True, lambda r: 100 * r["cohort"]["computing"]),
    Goal("cluster, beside the work on a scan", 0.05, "s", False, lambda r: r["cluster"]["overhead_as_path"]),
    *(
        Goal(
            f"input sizes of at least 32 a side served, {head}",
            100,
            "%",
            True,
            lambda r, head=head: 100 * r[f"sizes {head}"]["served"] / len(r[f"sizes {head}"]["tried"]),
        )
        for head in HEADS
    ),
]
