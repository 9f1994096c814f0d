"""What the page says of predictions beside references: how far, how often, how well rated, which model is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import number, percent, plural
from H3DELandmarksLib.evaluation import Evaluation, metrics, paired
from H3DELandmarksResearch.evaluation.reliability import compare_statements
from H3DELandmarksResearch.report import plots
from H3DELandmarksResearch.report.page import (
    Cell,
    Fact,
    Page,
    Section,
    Table,
    interval_cell,
    number_cell,
    p_cell,
    p_text,
    share_cell,
    text_cell,
)
from H3DELandmarksResearch.report.reader_blocks import reader_blocks

AXES = ("left", "back", "head")
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What a page of an evaluation is made from.

    Attributes:
        name: of the model or folder.
        evaluation: its figures.
        predictions, references: LPS mm by case.
        tolerance_mm: distance that its confidences mean; None where nobody says so.
    """

    name: str
    evaluation: Evaluation
    predictions: Mapping[str, LandmarkSet]
    references: Mapping[str, LandmarkSet]
    tolerance_mm: float | None = None


def evaluation_page(
    title: str,
    base: Evaluated,
    document: Mapping[str, Any],
    other: Evaluated | None = None,
    subjects: Mapping[str, str] | None = None,
) -> Page:
    """The page.

    Args:
        title: heading.
        base: what was evaluated.
        document: what ``evaluate --json`` prints of it; what it says of readers is shown.
        other: another model on the same cases.
        subjects: whose each case is; each is a subject of its own where None. Intervals are over subjects.
    """
    figures = base.evaluation
    whose = [(subjects or {}).get(case, case) for case in figures.cases]
    lines = [
        f"{plural(len(figures.cases), 'case')}, {plural(len(figures.landmarks), 'landmark')}, "
        f"{int(figures.present.sum())} present in the references; predictions: {base.name}",
        f"95 % intervals by bootstrap over {plural(len(set(whose)), 'subject')}.",
    ]
    if other is not None:
        lines.insert(1, f"compared with {other.name} on the same cases")
    sections = [
        _overview(figures, whose, document),
        _cumulative(base, other),
        _landmarks(figures),
        _cases(figures),
        _agreement(base),
        _presence(figures),
        _calibration(base),
        *([_comparison(base, other, subjects or {})] if other is not None else []),
        *_readers(document),
        *_remarks(figures, document),
    ]
    return Page(title, lines, sections)


def _overview(figures: Evaluation, subjects: Sequence[str], document: Mapping[str, Any]) -> Section:
    mre, sd = metrics.mean_radial_error(figures.errors)
    low, high = _mean_interval(metrics.case_means(figures.errors), subjects)
    facts = [Fact("mean radial error", f"{number(mre)} \N{PLUS-MINUS SIGN} {number(sd)} mm", _range(low, high, " mm"))]
    rates = metrics.success_rates(figures.errors, figures.present, figures.thresholds)
    for threshold, rate in zip(figures.thresholds, rates):
        interval = rate_interval(figures.errors <= threshold, figures.present, subjects)
        ends = " to ".join(number(100 * end, 1) for end in interval)
        facts.append(Fact(f"within {threshold:g} mm", percent(float(rate)), f"{ends} %"))
    summary = metrics.error_summary(figures.errors)
    facts += [
        Fact("median, 90th percentile", f"{number(summary['median'])}, {number(summary['p90'])} mm"),
        Fact("largest", f"{number(summary['max'])} mm"),
        Fact(
            "missed",
            str(int(figures.missed.sum())),
            "present, but predicted absent",
            "bad" if figures.missed.any() else "",
        ),
    ]
    blocks: list[Any] = [
        facts,
        "A landmark that is present but was not found counts as not detected, and has no error. The mean radial error "
        "is the mean of the cases' means, with the standard deviation of these.",
    ]
    if document.get("radiograph_form"):
        blocks.append(_radiograph_form(document["radiograph_form"]))
    if len(figures.published_rows) > 1:
        blocks.append(_published(figures))
    return Section("overview", "Overview", blocks)


def _radiograph_form(form: Mapping[str, Any]) -> str:
    """The figures as papers on radiographs define them."""
    rates = [f"{percent(value)} below {key[4:]} mm" for key, value in form.items() if key.startswith("sdr_")]
    return (
        f"As papers on radiographs define them: MRE {number(form['mre_mm'])} \N{PLUS-MINUS SIGN} "
        f"{number(form['sd_mm'])} mm over points; mean over landmarks of the detection rates: {', '.join(rates)}."
    )


def _published(figures: Evaluation) -> Table:
    keys = [f"sdr_{threshold:g}" for threshold in figures.thresholds]
    rows = [
        [
            text_cell(row["cases"]),
            number_cell(row["n"], 0),
            Cell(f"{number(row['mre_mm'])} \N{PLUS-MINUS SIGN} {number(row['sd_mm'])}", _finite(row["mre_mm"])),
            *(share_cell(row[key]) for key in keys),
            share_cell(row["accuracy"]),
            share_cell(row["f1"]),
        ]
        for row in figures.published_rows
    ]
    heads = [f"within {threshold:g} mm" for threshold in figures.thresholds]
    columns = ("cases", "n", "MRE \N{PLUS-MINUS SIGN} SD, mm", *heads, "presence accuracy", "presence F1")
    return Table("As published: all, complete and incomplete cases", columns, rows)


def _cumulative(base: Evaluated, other: Evaluated | None) -> Section:
    def curve(evaluated: Evaluated) -> tuple[np.ndarray, int]:
        errors = evaluated.evaluation.errors[evaluated.evaluation.present]
        return errors[np.isfinite(errors)], int(evaluated.evaluation.present.sum())

    curves = {each.name: curve(each) for each in (base, other) if each is not None}
    caption = (
        "How many of all present landmarks lie within a distance of the reference; missed ones never do. Dashes: the "
        "chosen distances."
    )
    figure = plots.cumulative("cumulative", curves, base.evaluation.thresholds, caption)
    return Section("cumulative", "Cumulative errors", [figure])


def _landmarks(figures: Evaluation) -> Section:
    shown = figures.landmarks
    caption = "Errors of each landmark over the cases: line 5th to 95th percentile, bar quartiles, tick median."
    plot = plots.percentile_rows(
        "landmark-errors", shown, list(figures.errors.T), "distance to the reference, mm", caption
    )
    keys = [f"sdr_{threshold:g}" for threshold in figures.thresholds]
    rows = [
        [
            text_cell(row["landmark"]),
            number_cell(row["n"], 0),
            number_cell(row["missed"], 0, "bad" if row["missed"] else ""),
            *(number_cell(row[f"{name}_mm"]) for name in ("mean", "median", "p90", "max")),
            *(share_cell(row[key]) for key in keys),
            share_cell(row["coverage"]),
        ]
        for row in figures.table
    ]
    heads = [f"within {threshold:g} mm" for threshold in figures.thresholds]
    columns = (
        "landmark",
        "n",
        "missed",
        "mean, mm",
        "median",
        "90th percentile",
        "largest",
        *heads,
        "90 % radius covers",
    )
    return Section("landmarks", "Landmarks", [plot, Table("Every landmark", columns, rows)])


def _cases(figures: Evaluation) -> Section:
    means, rows = metrics.case_means(figures.errors), []
    for n in np.argsort(-np.nan_to_num(means, nan=-1.0)):
        errors, missed = figures.errors[n], int(figures.missed[n].sum())
        known = np.isfinite(errors)
        worst = figures.landmarks[int(np.nanargmax(errors))] if known.any() else ""
        rates = metrics.success_rates(errors[np.newaxis], figures.present[n : n + 1], figures.thresholds[:1])
        rows.append(
            [
                text_cell(figures.cases[n]),
                number_cell(int(figures.present[n].sum()), 0),
                number_cell(float(means[n])),
                number_cell(float(np.nanmedian(errors)) if known.any() else None),
                number_cell(float(np.nanmax(errors)) if known.any() else None),
                text_cell(worst),
                number_cell(missed, 0, "bad" if missed else ""),
                share_cell(float(rates[0])),
            ]
        )
    first = f"within {figures.thresholds[0]:g} mm"
    columns = ("case", "present", "mean, mm", "median", "largest", "of the landmark", "missed", first)
    spread = plots.histograms("case-means", [("mean error of a case, mm", means)], "How the cases are distributed.")
    return Section("cases", "Cases", [spread, Table("Every case, the worst first", columns, rows)])


def _agreement(base: Evaluated) -> Section:
    """Bland and Altman along the three axes; places are from the middle of each case's reference."""
    figures = base.evaluation
    found, truth = (
        np.stack([sets[case].ordered_as(figures.landmarks).positions for case in figures.cases])
        if figures.cases
        else np.zeros((0, len(figures.landmarks), 3))
        for sets in (base.predictions, base.references)
    )
    known = np.isfinite(found).all(axis=2) & np.isfinite(truth).all(axis=2)
    if known.sum() < 2:
        return Section(
            "agreement", "Agreement", ["Fewer than two landmarks are in both, so there is nothing to compare."]
        )
    middle = (
        np.nanmean(np.where(known[..., None], truth, np.nan), axis=1, keepdims=True) if known.any(axis=1).all() else 0.0
    )
    panels, rows = [], []
    for axis, name in enumerate(AXES):
        difference = (found - truth)[known][:, axis]
        if not np.abs(truth[known][:, axis] - truth[known][0, axis]).max() and not np.abs(difference).max():
            continue  # out of the plane of radiographs
        mean = ((found + truth) / 2 - middle)[known][:, axis]
        panels.append((name, mean, difference))
        rows.append(_agreement_row(name, difference))
    caption = (
        "Bland-Altman plots along the patient's axes (positive: toward the patient's left, back, head), from the "
        "middle of the case's landmarks: bias (line) and 95 % limits of agreement (dashes)."
    )
    table = Table(
        "Bias and limits of agreement, with 95 % intervals",
        ("axis", "n", "bias, mm", "lower limit, mm", "upper limit, mm"),
        rows,
        "Intervals take all landmarks for independent, as is usual; those of one case are not quite.",
    )
    return Section("agreement", "Agreement", [plots.bland_altman("bland-altman", panels, "mm", caption), table])


def _agreement_row(name: str, difference: np.ndarray) -> list[Cell]:
    """Bias and limits with the intervals of Bland and Altman (Lancet 1986;327:307)."""
    from scipy.stats import t

    n, bias, sd = difference.size, float(difference.mean()), float(difference.std(ddof=1))
    reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) * sd
    at_bias, at_limit = reach / np.sqrt(n), reach * np.sqrt(3 / n)
    low, high = bias - 1.96 * sd, bias + 1.96 * sd
    return [
        text_cell(name),
        number_cell(n, 0),
        interval_cell(bias, bias - at_bias, bias + at_bias, signed=True),
        interval_cell(low, low - at_limit, low + at_limit, signed=True),
        interval_cell(high, high - at_limit, high + at_limit, signed=True),
    ]


def _presence(figures: Evaluation) -> Section:
    scores = figures.presence
    hit, false_alarm, miss, rejection = scores.counts
    facts = [Fact(name, percent(getattr(scores, name))) for name in ("accuracy", "precision", "recall")]
    facts.append(Fact("F1", percent(scores.f1)))
    blocks: list[Any] = [
        facts,
        Table(
            "Is it in the scan?",
            ("reference", "predicted present", "predicted absent"),
            [
                [text_cell("present"), number_cell(hit, 0, "good"), number_cell(miss, 0, "bad" if miss else "")],
                [
                    text_cell("absent"),
                    number_cell(false_alarm, 0, "bad" if false_alarm else ""),
                    number_cell(rejection, 0, "good"),
                ],
            ],
        ),
    ]
    if not (false_alarm + rejection):
        blocks.append("No reference says that a landmark is absent, so nothing is known about false alarms.")
    wrong = (figures.predicted != figures.present) & figures.known
    if wrong.any():
        rows = [
            [
                text_cell(name),
                number_cell(int((figures.present & figures.known)[:, k].sum()), 0),
                number_cell(int((~figures.present & figures.known)[:, k].sum()), 0),
                number_cell(int((wrong & figures.present)[:, k].sum()), 0),
                number_cell(int((wrong & ~figures.present)[:, k].sum()), 0),
            ]
            for k, name in enumerate(figures.landmarks)
            if wrong[:, k].any()
        ]
        blocks.append(
            Table("Landmarks with wrong answers", ("landmark", "present", "absent", "missed", "false alarms"), rows)
        )
    return Section("presence", "Presence", blocks)


def _calibration(base: Evaluated) -> Section:
    figures = base.evaluation
    section = Section("calibration", "Calibration")
    coverage = metrics.radius_coverage(figures.errors, figures.radius)
    section.blocks.append([Fact("90 % radius covers", percent(coverage), "of errors: 90 % where it is calibrated")])
    if not figures.cases:
        return section
    found = {case: base.predictions[case].ordered_as(figures.landmarks) for case in figures.cases}
    truth = {case: base.references[case].ordered_as(figures.landmarks) for case in figures.cases}
    summary = compare_statements(found, truth, base.tolerance_mm or np.inf).summary()
    panels = []
    for kind, title in (("presence", "presence"), ("confidence", f"confidence, within {base.tolerance_mm or 0:g} mm")):
        part = summary[kind]
        if part["statements"] and (kind == "presence" or base.tolerance_mm):
            said = f"{title}\ncalibration error (ECE) {part['ece']:.3f}, n = {part['statements']}"
            panels.append((said, part["bins"]))
    if panels:
        caption = (
            "Whether stated probabilities came true: each dot is a tenth of the scale, with the number of statements; "
            "on the dashed line they mean what they say."
        )
        section.blocks.append(plots.reliability_plots("reliability", panels, caption))
    if base.tolerance_mm is None:
        section.blocks.append(
            "Whether confidences came true is not shown: no file NAME.provenance.json beside the predictions says "
            "which distance they mean."
        )
    return section


def _comparison(base: Evaluated, other: Evaluated, subjects: Mapping[str, str]) -> Section:
    """Improvement of the base over the other model on the cases and landmarks that both have."""
    section = Section("comparison", "Comparison")
    cases = [case for case in base.evaluation.cases if case in other.evaluation.cases]
    names = [name for name in base.evaluation.landmarks if name in other.evaluation.landmarks]
    if not cases or not names:
        section.blocks = [f"{base.name} and {other.name} have no case or no landmark in common."]
        return section
    mine, theirs = (_part(each.evaluation, cases, names) for each in (base, other))
    present = mine[1] & theirs[1]
    miss = max(base.evaluation.thresholds)
    worse, better = paired.counted_errors(theirs[0], mine[0], present, miss)
    whose = [subjects.get(case, case) for case in cases]
    difference = worse - better
    gains = paired.subject_means(difference, whose)
    with np.errstate(invalid="ignore"):
        over_all = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in gains])
    total = paired.improvement(over_all)
    single = [paired.improvement(gains[:, k]) for k in range(len(names))]
    corrected = paired.holm([one.p for one in single])
    section.blocks = [
        _verdict(base, other, total),
        _comparison_facts(base, other, mine[0], theirs[0], present, whose, total),
        plots.forest(
            "improvement",
            ["all landmarks", *names],
            np.array([[one.mean, one.low, one.high] for one in (total, *single)]),
            f"improvement, mm: {other.name} better on the left, {base.name} better on the right",
            "Difference of errors with its 95 % interval over subjects; a landmark that a model misses counts as "
            f"{miss:g} mm, or as the other's error where that is larger.",
        ),
        Table(
            "Every landmark",
            (
                "landmark",
                f"{base.name}, mean mm",
                f"{other.name}, mean mm",
                "improvement, mm (95 %)",
                "p",
                "p, corrected",
            ),
            [
                [
                    text_cell(name),
                    number_cell(_mean(better[:, k])),
                    number_cell(_mean(worse[:, k])),
                    interval_cell(one.mean, one.low, one.high, signed=True),
                    p_cell(one.p),
                    p_cell(float(corrected[k])),
                ]
                for k, (name, one) in enumerate(zip(names, single))
            ],
            "p of Wilcoxon's signed-rank test over subjects; corrected for the number of landmarks (Holm).",
        ),
    ]
    return section


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
    facts = [
        Fact(
            "improvement, misses counted",
            f"{total.mean:+.2f} mm",
            f"{_range(total.low, total.high, ' mm')}, p {p_text(total.p)}",
        )
    ]
    for threshold in base.evaluation.thresholds:
        within = (mine <= threshold).astype(float) - (theirs <= threshold)
        rate = float(within[present].sum() / max(present.sum(), 1))
        low, high = rate_interval(within, present, subjects)
        note = f"percentage points; {100 * low:+.1f} to {100 * high:+.1f}"
        facts.append(Fact(f"more within {threshold:g} mm", f"{100 * rate:+.1f}", note))
    return facts


def _readers(document: Mapping[str, Any]) -> list[Section]:
    """What an evaluation says of readers, where it says anything."""
    blocks = reader_blocks(document)
    return [Section("readers", "Readers", blocks)] if blocks else []


def _remarks(figures: Evaluation, document: Mapping[str, Any]) -> list[Section]:
    """What could not be compared."""
    groups = (
        ("case without a prediction", figures.without_prediction),
        ("case without a reference", figures.without_reference),
        ("landmark that is never predicted", figures.never_predicted),
        ("landmark that is never marked", figures.never_marked),
        ("problem", tuple(document.get("errors", ()))),
    )
    rows = [[text_cell(kind), text_cell(name)] for kind, names in groups for name in names]
    return (
        [Section("not-compared", "Not compared", [Table("What counts nowhere", ("what", "name"), rows)])]
        if rows
        else []
    )


def rate_interval(
    success: np.ndarray, counted: np.ndarray, subjects: Sequence[str], draws: int = 4000
) -> tuple[float, float]:
    """95 % interval of a share, by bootstrap over subjects, whose landmarks belong together.

    Args:
        success: (N, K) of cases, what is counted as success.
        counted: (N, K) bool, what counts.
        subjects: (N) whose case it is.
        draws: of the bootstrap.

    Returns:
        Lower and upper end; NaN with fewer than two subjects.
    """
    order = list(dict.fromkeys(subjects))
    if len(order) < 2:
        return np.nan, np.nan
    member = np.array([[subject == one for subject in subjects] for one in order], dtype=float)
    hits = member @ np.where(counted, success, 0.0).sum(axis=1)
    whole = member @ counted.sum(axis=1)
    picks = np.random.default_rng(paired.SEED).integers(len(order), size=(draws, len(order)))
    shares = hits[picks].sum(axis=1) / np.maximum(whole[picks].sum(axis=1), 1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def _mean_interval(values: np.ndarray, subjects: Sequence[str]) -> tuple[float, float]:
    if not len(values):
        return np.nan, np.nan
    means = paired.subject_means(values, subjects)
    means = means[np.isfinite(means)]
    return paired.bootstrap_interval(means) if means.size > 1 else (np.nan, np.nan)


def _range(low: float, high: float, unit: str = "") -> str:
    return f"{number(low)} to {number(high)}{unit}" if np.isfinite([low, high]).all() else "no interval of one subject"


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
