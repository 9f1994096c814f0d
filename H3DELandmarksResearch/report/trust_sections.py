"""Whether what was stated holds: agreement along the axes, presence, confidence and radii."""

from __future__ import annotations

from typing import Any

import numpy as np

from H3DELandmarksLib.core.text import percent
from H3DELandmarksLib.evaluation import Evaluation, metrics
from H3DELandmarksResearch.agreement.record import DIRECTIONS
from H3DELandmarksResearch.agreement.statistics import AXES
from H3DELandmarksResearch.evaluation.reliability import compare_statements
from H3DELandmarksResearch.report import plots
from H3DELandmarksResearch.report.evaluation_figures import Evaluated
from H3DELandmarksResearch.report.page import Cell, Fact, Section, Table, interval_cell, number_cell, text_cell

LEVEL = 0.95


def agreement_section(base: Evaluated) -> Section:
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
    count = np.maximum(known.sum(axis=1), 1)[:, None, None]
    middle = np.where(known[..., None], truth, 0.0).sum(axis=1, keepdims=True) / count
    panels, rows = [], []
    for axis, name in enumerate(AXES):
        difference = (found - truth)[known][:, axis]
        if not np.abs(truth[known][:, axis] - truth[known][0, axis]).max() and not np.abs(difference).max():
            continue  # out of the plane of radiographs
        mean = ((found + truth) / 2 - middle)[known][:, axis]
        panels.append((name, mean, difference))
        rows.append(_agreement_row(name, difference))
    caption = (
        f"Bland-Altman plots along the axes ({DIRECTIONS}), from the middle of the case's landmarks: bias (line) and "
        "95 % limits of agreement (dashes)."
    )
    table = Table(
        "Bias and limits of agreement, with 95 % intervals",
        ("axis", "n", *(f"{value}, {figures.unit}" for value in ("bias", "lower limit", "upper limit"))),
        rows,
        "Intervals take all landmarks for independent, as is usual; those of one case are not quite.",
    )
    return Section("agreement", "Agreement", [plots.bland_altman("bland-altman", panels, figures.unit, caption), table])


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


def presence_section(figures: Evaluation) -> Section:
    scores = figures.presence
    hit, false_alarm, miss, rejection = scores.counts
    facts = [Fact(name, percent(getattr(scores, name))) for name in ("accuracy", "precision", "recall")]
    facts.append(Fact("F1", percent(scores.f1)))
    blocks: list[Any] = [
        facts,
        Table(
            "Is it in the scan?",
            ("reference", "found", "not found"),
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


def calibration_section(base: Evaluated) -> Section:
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
    for kind, title in (
        ("presence", "presence"),
        ("confidence", f"confidence, within {base.tolerance_mm or 0:g} {figures.unit}"),
    ):
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
            "which distance they mean, or it is a share of the picture's height."
        )
    return section
