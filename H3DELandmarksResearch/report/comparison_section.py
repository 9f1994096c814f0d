"""Which of two models is better, on the cases and landmarks that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from H3DELandmarksLib.core.text import plural
from H3DELandmarksLib.evaluation import Evaluation, paired
from H3DELandmarksResearch.report import plots
from H3DELandmarksResearch.report.evaluation_figures import Evaluated, range_text, rate_interval, share_range
from H3DELandmarksResearch.report.page import (
    Fact,
    Section,
    Table,
    interval_cell,
    number_cell,
    p_cell,
    p_text,
    text_cell,
)


def comparison_section(base: Evaluated, other: Evaluated, subjects: Mapping[str, str]) -> Section:
    """Improvement of the base over the other model on the cases and landmarks that both have."""
    cases = [case for case in base.evaluation.cases if case in other.evaluation.cases]
    names = [name for name in base.evaluation.landmarks if name in other.evaluation.landmarks]
    if not cases or not names:
        said = f"{base.name} and {other.name} have no case or no landmark in common."
        return Section("comparison", "Comparison", [said])
    mine, theirs = (_part(each.evaluation, cases, names) for each in (base, other))
    present = mine[1] & theirs[1]
    miss, unit = max(base.evaluation.thresholds), base.evaluation.unit
    worse, better = paired.counted_errors(theirs[0], mine[0], present, miss)
    whose = [subjects.get(case, case) for case in cases]
    gains = paired.subject_means(worse - better, whose)
    with np.errstate(invalid="ignore"):
        over_all = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in gains])
    total = paired.improvement(over_all)
    single = [paired.improvement(gains[:, k]) for k in range(len(names))]
    forest = plots.forest(
        "improvement",
        ["all landmarks", *names],
        np.array([[one.mean, one.low, one.high] for one in (total, *single)]),
        f"improvement, {unit}: {other.name} better on the left, {base.name} better on the right",
        "Difference of errors with its 95 % interval over subjects; a landmark that a model misses counts as "
        f"{miss:g} {unit}, or as the other's error where that is larger.",
    )
    blocks = [
        _verdict(base, other, total),
        f"{plural(len(cases), 'case')} and {plural(len(names), 'landmark')} that both have; others count nowhere.",
        _comparison_facts(base, other, mine[0], theirs[0], present, whose, total),
        forest,
        _single_landmarks((base.name, other.name), names, (better, worse), single, unit),
    ]
    return Section("comparison", "Comparison", blocks)


def _single_landmarks(
    models: tuple[str, str],
    names: Sequence[str],
    errors: tuple[np.ndarray, np.ndarray],
    single: Sequence[Any],
    unit: str,
) -> Table:
    """One line for each landmark.

    Args:
        models: what the base and the other are called.
        names: of the K landmarks.
        errors: (N, K) mm of both, misses counted.
        single: improvement at each landmark.
        unit: of lengths.
    """
    corrected = paired.holm([one.p for one in single])
    rows = [
        [
            text_cell(name),
            *(number_cell(_mean(each[:, k])) for each in errors),
            interval_cell(one.mean, one.low, one.high, signed=True),
            p_cell(one.p),
            p_cell(float(corrected[k])),
        ]
        for k, (name, one) in enumerate(zip(names, single))
    ]
    means = tuple(f"{model}, mean {unit}" for model in models)
    return Table(
        "Every landmark",
        ("landmark", *means, f"improvement, {unit} (95 %)", "p", "p, corrected"),
        rows,
        "p of Wilcoxon's signed-rank test over subjects; corrected for the number of landmarks (Holm).",
    )


def _part(figures: Evaluation, cases: Sequence[str], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = [figures.cases.index(case) for case in cases]
    columns = [figures.landmarks.index(name) for name in names]
    return figures.errors[np.ix_(rows, columns)], figures.present[np.ix_(rows, columns)]


def _verdict(base: Evaluated, other: Evaluated, total: Any) -> str:
    if not np.isfinite([total.low, total.high]).all():
        return "One subject cannot tell which model is better."
    better = base.name if total.low > 0 else other.name if total.high < 0 else None
    said = f"{better} is better" if better else "No difference is shown"
    holds = "excludes" if better else "holds"
    return f"{said}: the interval of the improvement over {total.subjects} subjects {holds} zero."


def _comparison_facts(
    base: Evaluated,
    other: Evaluated,
    mine: np.ndarray,
    theirs: np.ndarray,
    present: np.ndarray,
    subjects: Sequence[str],
    total: Any,
) -> list[Fact]:
    unit = base.evaluation.unit
    facts = [
        Fact(
            "improvement, misses counted",
            f"{total.mean:+.2f} {unit}",
            f"{range_text(total.low, total.high, f' {unit}')}, p {p_text(total.p)}",
        )
    ]
    for threshold in base.evaluation.thresholds:
        within = (mine <= threshold).astype(float) - (theirs <= threshold)
        rate = float(within[present].sum() / max(present.sum(), 1))
        note = f"percentage points; {share_range(*rate_interval(within, present, subjects), signed=True)}"
        facts.append(Fact(f"more within {threshold:g} {unit}", f"{100 * rate:+.1f}", note))
    return facts


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
