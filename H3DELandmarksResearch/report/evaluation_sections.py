"""The page of an evaluation: how far predictions lie from references, and how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from H3DELandmarksLib.core.image_plane import named_in_mm
from H3DELandmarksLib.core.text import number, percent, plain, plural, with_spread
from H3DELandmarksLib.evaluation import Evaluation, metrics, paired
from H3DELandmarksResearch.report import plots
from H3DELandmarksResearch.report.comparison_section import comparison_section
from H3DELandmarksResearch.report.evaluation_figures import (
    Evaluated,
    mean_interval,
    range_text,
    rate_interval,
    share_range,
)
from H3DELandmarksResearch.report.page import Cell, Fact, Page, Section, Table, number_cell, share_cell, text_cell
from H3DELandmarksResearch.report.reader_blocks import reader_blocks
from H3DELandmarksResearch.report.trust_sections import agreement_section, calibration_section, presence_section

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


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
        f"{int(figures.present.sum())} present in the references; predictions: {base.name}"
    ]
    over = f"over {plural(len(set(whose)), 'subject')}"
    if len(set(whose)) >= paired.FEWEST:
        lines.append(f"95 % intervals by bootstrap {over}.")
    elif other is not None:
        lines.append(f"95 % intervals of the improvement by Student's t {over}.")
    else:
        lines.append(f"No 95 % intervals {over}, which tell of no others.")
    if other is not None:
        lines.insert(1, f"compared with {other.name} on the cases that both have")
    sections = [
        _overview(figures, whose, document),
        _cumulative(base, other),
        _landmarks(figures),
        _cases(figures),
        agreement_section(base),
        presence_section(figures),
        calibration_section(base),
        *([comparison_section(base, other, subjects or {})] if other is not None else []),
        *_readers(document),
        *_remarks(figures, document),
    ]
    return Page(title, lines, sections)


def _overview(figures: Evaluation, subjects: Sequence[str], document: Mapping[str, Any]) -> Section:
    mre, sd = metrics.mean_radial_error(figures.errors)
    unit = figures.unit
    low, high = mean_interval(metrics.case_means(figures.errors), subjects)
    facts = [Fact("mean radial error", f"{with_spread(mre, sd, PLUS_MINUS)} {unit}", range_text(low, high, f" {unit}"))]
    rates = metrics.success_rates(figures.errors, figures.present, figures.thresholds)
    for threshold, rate in zip(figures.thresholds, rates):
        ends = share_range(*rate_interval(figures.errors <= threshold, figures.present, subjects))
        facts.append(Fact(f"within {threshold:g} {unit}", percent(float(rate)), ends))
    summary = metrics.error_summary(figures.errors)
    facts += [
        Fact("median, 90th percentile", f"{number(summary['median'])}, {number(summary['p90'])} {unit}"),
        Fact("largest", f"{number(summary['max'])} {unit}"),
        Fact("missed", str(int(figures.missed.sum())), "present, but not found", "bad" if figures.missed.any() else ""),
    ]
    blocks: list[Any] = [
        facts,
        "A landmark that is present but was not found counts as not detected, and has no error. The mean radial error "
        "is the mean of the cases' means, with the standard deviation of these.",
    ]
    if document.get("radiograph_form"):
        blocks.append(_radiograph_form(named_in_mm(document["radiograph_form"]), unit))
    if len(figures.published_rows) > 1:
        blocks.append(_published(figures))
    return Section("overview", "Overview", blocks)


def _radiograph_form(form: Mapping[str, Any], unit: str) -> str:
    """The figures as papers on radiographs define them."""
    rates = [f"{percent(value)} below {key[4:]} {unit}" for key, value in form.items() if key.startswith("sdr_")]
    return (
        f"As papers on radiographs define them: MRE {with_spread(form['mre_mm'], form['sd_mm'], PLUS_MINUS)} "
        f"{unit} over points; mean over landmarks of the detection rates: {', '.join(rates)}."
    )


def _published(figures: Evaluation) -> Table:
    keys = [f"sdr_{threshold:g}" for threshold in figures.thresholds]
    rows = [
        [
            text_cell(row["cases"]),
            number_cell(row["n"], 0),
            Cell(with_spread(row["mre_mm"], row["sd_mm"], PLUS_MINUS), plain(row["mre_mm"])),
            *(share_cell(row[key]) for key in keys),
            share_cell(row["accuracy"]),
            share_cell(row["f1"]),
        ]
        for row in figures.published_rows
    ]
    heads = [f"within {threshold:g} {figures.unit}" for threshold in figures.thresholds]
    columns = ("cases", "n", f"MRE {PLUS_MINUS} SD, {figures.unit}", *heads, "presence accuracy", "presence F1")
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
    figure = plots.cumulative("cumulative", curves, base.evaluation.thresholds, base.evaluation.unit, caption)
    return Section("cumulative", "Cumulative errors", [figure])


def _landmarks(figures: Evaluation) -> Section:
    shown = figures.landmarks
    caption = "Errors of each landmark over the cases: line 5th to 95th percentile, bar quartiles, tick median."
    plot = plots.percentile_rows(
        "landmark-errors", shown, list(figures.errors.T), f"distance to the reference, {figures.unit}", caption
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
    heads = [f"within {threshold:g} {figures.unit}" for threshold in figures.thresholds]
    columns = (
        "landmark",
        "n",
        "missed",
        f"mean, {figures.unit}",
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
    first = f"within {figures.thresholds[0]:g} {figures.unit}"
    columns = ("case", "present", f"mean, {figures.unit}", "median", "largest", "of the landmark", "missed", first)
    spread = plots.histograms(
        "case-means", [(f"mean error of a case, {figures.unit}", means)], "How the cases are distributed."
    )
    return Section("cases", "Cases", [spread, Table("Every case, the worst first", columns, rows)])


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
