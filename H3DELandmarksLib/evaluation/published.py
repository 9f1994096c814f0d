"""The table in which landmark detection is published: MRE +- SD, SDR at each threshold, accuracy and F1 of presence.

Given for all cases, and apart for complete ones (no landmark is absent) and incomplete ones, as He et al. do for the
MML set (Neurocomputing 567:127051). A present landmark that was predicted absent counts as not detected; landmarks
predicted in spite of their absence count only against accuracy and F1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from H3DELandmarksLib.evaluation import metrics

if TYPE_CHECKING:
    from H3DELandmarksLib.evaluation.report import Evaluation


def complete_cases(evaluation: Evaluation) -> np.ndarray:
    """(N,) bool: the reference states for no landmark that it is absent."""
    return (evaluation.present | ~evaluation.known).all(axis=1)


def published_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row for all cases and, where some are incomplete, one each for complete and incomplete cases.

    Returns:
        Rows with ``cases`` (whole, complete, incomplete), ``n`` (how many), ``mre_mm``, ``sd_mm``, ``sdr_T`` for each
        threshold, ``accuracy`` and ``f1``; NaN where a number cannot be computed.
    """
    complete = complete_cases(evaluation)
    parts = {"whole": np.ones_like(complete), "complete": complete, "incomplete": ~complete}
    return [
        _row(evaluation, name, part) for name, part in parts.items() if name == "whole" or not complete.all()
    ]  # fmt: skip


def published_text(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as lines of aligned text; nothing where there is only the row of all cases."""
    if len(rows) < 2:
        return []
    rates = [key for key in rows[0] if key.startswith("sdr_")]
    titles = ["cases", "n", "MRE +- SD, mm", f"SDR {' / '.join(key[4:] for key in rates)} mm, %", "ACC, %", "F1, %"]
    cells = [
        [
            row["cases"],
            str(row["n"]),
            f"{_number(row['mre_mm'])} +- {_number(row['sd_mm'])}" if row["n"] else "-",
            " / ".join(_percent(row[key]) for key in rates) if row["n"] else "-",
            _percent(row["accuracy"]),
            _percent(row["f1"]),
        ]
        for row in rows
    ]
    widths = [max(len(line[k]) for line in [titles, *cells]) for k in range(len(titles))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in [titles, *cells]]


def _row(evaluation: Evaluation, name: str, part: np.ndarray) -> dict[str, Any]:
    errors, present = evaluation.errors[part], evaluation.present[part]
    mre, sd = metrics.mean_radial_error(errors)
    rates = metrics.success_rates(errors, present, evaluation.thresholds)
    scores = metrics.presence_scores(evaluation.predicted[part], present, evaluation.known[part])
    return {
        "cases": name,
        "n": int(part.sum()),
        "mre_mm": mre,
        "sd_mm": sd,
        **{f"sdr_{t:g}": float(rate) for t, rate in zip(evaluation.thresholds, rates)},
        "accuracy": scores.accuracy,
        "f1": scores.f1,
    }


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}" if np.isfinite(value) else "-"
