"""The shapes of a cohort: mean, outliers and principal components, as tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import plural
from H3DELandmarksResearch.evaluation.procrustes import Alignment, align
from H3DELandmarksResearch.report import plots
from H3DELandmarksResearch.report.page import Cell, Section, Table, number_cell, share_cell, text_cell

MOST_NAMED, SHOWN_COMPONENTS = 12, 3


def shape_section(sets: Sequence[tuple[str, LandmarkSet]], unit: str, mark: str = "", whose: str = "") -> Section:
    """Generalized Procrustes analysis of all subjects, or why there is none.

    Args:
        sets: name and points (LPS mm) of each subject.
        unit: of their lengths; where it differs, no size is the mean one.
        mark, whose: tell the section from others, for the page and in its title.
    """
    section = Section(f"shapes{mark}", f"Shapes{whose}")
    names = list(dict.fromkeys(name for _, landmarks in sets for name in landmarks.names))
    points = np.full((len(sets), len(names), 3), np.nan)
    for row, (_, landmarks) in enumerate(sets):
        points[row] = landmarks.ordered_as(tuple(names)).positions
    try:
        alignment = align([name for name, _ in sets], names, points)
    except InputError as error:
        section.blocks = [f"No shapes are compared. {error}"]
        return section
    section.blocks = [
        _about(alignment),
        plots.shape_plot(
            f"shape{mark}",
            alignment,
            "Mean shape (blue) with all subjects laid upon it (gray), and how landmarks move along the first principal "
            "component, from -2 to 2 standard deviations (orange), in the orientation of the fullest subject.",
        ),
        plots.component_plot(
            f"components{mark}",
            alignment,
            "Subjects in the first two principal components, outliers named; shares of variance.",
        ),
        _subject_table(alignment, unit),
        _landmark_table(alignment, unit),
    ]
    return section


def _about(alignment: Alignment) -> str:
    gaps = int((alignment.gaps > 0).sum())
    parts = [
        f"Generalized Procrustes analysis of {plural(len(alignment.subjects), 'subject')} and "
        f"{plural(len(alignment.landmarks), 'landmark')}: place, size and turn are removed, mirror images are not "
        f"made. Farther from the mean than 1.5 interquartile ranges above the upper quartile, and so outliers: "
        f"{int(alignment.outliers.sum())}."
    ]
    if gaps:
        parts.append(
            f"{gaps} subjects lack landmarks: they are laid on the mean by those that they have, and in the principal "
            "components a gap counts as the mean's place."
        )
    for words, left_out in (
        ("Left out, since they have too few landmarks, or all at one place: ", alignment.few_points),
        ("Left out, since fewer than half of the subjects have them: ", alignment.often_missing),
    ):
        if left_out:
            more = f" and {len(left_out) - MOST_NAMED} more" if len(left_out) > MOST_NAMED else ""
            parts.append(f"{words}{', '.join(left_out[:MOST_NAMED])}{more}.")
    parts.append("Landmarks do not slide: semi-landmarks of curves and surfaces are treated as landmarks.")
    return " ".join(parts)


def _subject_table(alignment: Alignment, unit: str) -> Table:
    shown = min(SHOWN_COMPONENTS, alignment.scores.shape[1])
    rows: list[list[Any]] = []
    for n in np.argsort(-alignment.distance):
        far = bool(alignment.outliers[n])
        rows.append(
            [
                text_cell(alignment.subjects[n], "doubt" if far else ""),
                number_cell(float(alignment.distance[n]), 4),
                Cell("outlier" if far else "", "outlier" if far else None, "doubt"),
                number_cell(float(alignment.size[n]), 2),
                number_cell(int(alignment.gaps[n]), 0),
                *(number_cell(float(alignment.scores[n, c]), 4) for c in range(shown)),
            ]
        )
    heads = [f"PC {c + 1} ({100 * alignment.shares[c]:.1f} %)" for c in range(shown)]
    columns = ("subject", "Procrustes distance", "", f"centroid size, {unit}", "gaps", *heads)
    return Table("Every subject, the farthest from the mean first", columns, rows)


def _landmark_table(alignment: Alignment, unit: str) -> Table:
    size = float(np.mean(alignment.size)) if unit in get_args(LengthUnit) else np.nan
    there = np.isfinite(alignment.aligned).all(axis=2).mean(axis=0)
    total = float((alignment.spread**2).sum()) or 1.0
    rows = [
        [
            text_cell(name),
            *(number_cell(float(v), 4) for v in alignment.mean[k]),
            number_cell(float(alignment.spread[k]), 4),
            number_cell(float(alignment.spread[k]) * size, 2),
            share_cell(float(alignment.spread[k] ** 2) / total),
            share_cell(float(there[k])),
        ]
        for k, name in enumerate(alignment.landmarks)
    ]
    axes = "xyz"[: alignment.mean.shape[1]]
    at_mean = f"spread at mean size, {unit}"
    columns = ("landmark", *axes, "spread", at_mean, "share of variance", "subjects that have it")
    return Table("Mean shape: centroid size 1", columns, rows)
