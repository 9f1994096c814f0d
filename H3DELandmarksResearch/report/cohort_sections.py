"""What the page says of a cohort."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import first_of, plural
from H3DELandmarksResearch.report import plots
from H3DELandmarksResearch.report.cohort import (
    BY_PERSON,
    CASE_STATES,
    DOUBTFUL,
    FAILED,
    FOUND,
    NOT_RECOGNISED,
    CohortCase,
    Measurement,
)
from H3DELandmarksResearch.report.page import Cell, Fact, Page, Section, Table, number_cell, share_cell, text_cell
from H3DELandmarksResearch.report.shapes import shape_section
from H3DELandmarksResearch.report.thumbnails import Thumbnail

PRINTED = 60  # cards on paper
MOST_ROWS = 60  # of a plot with a row a landmark
NO_MODEL = "model not stated"


def cohort_page(
    title: str, folder: str, cases: Sequence[CohortCase], thumbnails: Sequence[Thumbnail | None], target: Path
) -> Page:
    """The page.

    Args:
        title: heading.
        folder: what it is about.
        cases: in any order.
        thumbnails: of each case.
        target: where the page will lie, so that links lead from there.
    """
    cases = _told_apart(cases)
    with_points = [case for case in cases if case.landmarks is not None]
    names = list(dict.fromkeys(name for case in with_points for name in case.landmarks.names))  # type: ignore[union-attr]
    models = sorted({case.model for case in cases if case.model})
    lines = [f"{plural(len(cases), 'scan')} in {folder}", f"Model: {', '.join(models) or 'not stated'}"]
    sections = [
        _overview(cases, with_points),
        Section("cases", "Cases", [_about_doubt(with_points)], is_cards=True),
        *([_distributions(with_points, names)] if with_points else []),
        *([Section("landmarks", "Landmarks", [_landmark_table(with_points, names)])] if names else []),
        *_measurement_sections(with_points),
        *_shape_sections(with_points),
        _failures(cases),
    ]
    return Page(title, lines, sections, card_data(cases, thumbnails, names, models, target))


def _told_apart(cases: Sequence[CohortCase]) -> list[CohortCase]:
    """The same; what several models call alike carries the name of its model."""
    models: dict[str, set[str]] = {}
    for case in cases:
        for name in (*(case.landmarks.names if case.landmarks else ()), *(m.name for m in case.measurements)):
            models.setdefault(name, set()).add(case.model)

    def called(name: str, case: CohortCase) -> str:
        return name if len(models[name]) == 1 else f"{name} ({case.model or NO_MODEL})"

    def renamed(points: LandmarkSet, case: CohortCase) -> LandmarkSet:
        return replace(points, names=tuple(called(name, case) for name in points.names))

    return [
        replace(
            case,
            landmarks=case.landmarks and renamed(case.landmarks, case),
            measurements=tuple(replace(m, name=called(m.name, case)) for m in case.measurements),
        )
        for case in cases
    ]


def _shape_sections(cases: Sequence[CohortCase]) -> list[Section]:
    """The shapes that each model has found, which are no variation of one another."""
    models = list(dict.fromkeys(case.model for case in cases)) or [""]
    sections = []
    for number, model in enumerate(models):
        of_model = [case for case in cases if case.model == model]
        sets = [(case.name, case.landmarks) for case in of_model if case.landmarks is not None]
        mark, whose = ("", "") if len(models) == 1 else (str(number + 1), f" of {model or NO_MODEL}")
        sections.append(shape_section(sets, units_of(of_model), mark, whose))
    return sections


def units_of(cases: Sequence[CohortCase]) -> str:
    """The unit of what is told of all cases: ``mm``, ``px``, or both where they differ and share no figures."""
    return " or ".join(sorted({case.unit for case in cases})) or "mm"


def _overview(cases: Sequence[CohortCase], with_points: Sequence[CohortCase]) -> Section:
    count = Counter(case.state for case in cases)
    seconds = [case.seconds for case in cases if case.seconds is not None]
    facts = [
        Fact("scans", str(len(cases))),
        Fact("found, nothing doubtful", str(count[FOUND])),
        Fact("with doubtful landmarks", str(count[DOUBTFUL]), "to be looked at", "doubt" if count[DOUBTFUL] else ""),
        Fact("not recognised", str(count[NOT_RECOGNISED]), "", "doubt" if count[NOT_RECOGNISED] else ""),
        Fact("failed", str(count[FAILED]), "", "bad" if count[FAILED] else ""),
    ]
    by_person = sum(state in BY_PERSON for case in with_points for state in case.states)
    points = sum(len(case.states) for case in with_points)
    facts.append(Fact("landmarks decided by a person", f"{by_person} of {points}"))
    if seconds:
        facts.append(Fact("seconds a scan, median", f"{np.median(seconds):.1f}", f"{sum(seconds) / 3600:.1f} h in all"))
    return Section("overview", "Overview", [facts])


def _about_doubt(cases: Sequence[CohortCase]) -> str:
    tolerances = sorted({case.within for case in cases if case.within})
    within = f" (within {' or '.join(tolerances)} of the right place)" if tolerances else ""
    return (
        "The most doubtful come first: scans that are not recognised, then by their most doubtful landmark. Doubt is "
        f"the probability that what is said is wrong: 1 - confidence{within} of a point, the probability of being "
        "there of a landmark that is said to be absent, and 0 where a person has decided. Click a name for everything "
        "about a case."
    )


def _distributions(cases: Sequence[CohortCase], names: Sequence[str]) -> Section:
    def column(name: str, attribute: str) -> np.ndarray:
        values = [getattr(points, attribute)[k] for points, k, _ in _named(cases, name) if points.present[k]]
        return np.array(values, dtype=float)

    shown = list(names[:MOST_ROWS])
    confidence, radius = ([column(name, kind) for name in shown] for kind in ("confidence", "radius"))
    states = Counter((name, state) for case in cases for name, state in zip(case.landmarks.names, case.states))  # type: ignore[union-attr]
    order = [state for state, _ in Counter(s for case in cases for s in case.states).most_common()]
    blocks: list[Any] = []
    if len(names) > len(shown):
        blocks.append(f"Of {len(names)} landmarks the first {len(shown)} are drawn; the table below has all.")
    doubts = np.array([np.nan if case.doubt is None else case.doubt for case in cases])
    found = np.array([100 * case.landmarks.present.mean() for case in cases])  # type: ignore[union-attr]
    seconds = np.array([np.nan if case.seconds is None else case.seconds for case in cases])
    panels = [("largest doubt of a scan", doubts), ("landmarks found, %", found), ("seconds", seconds)]
    panels = [(label, values) for label, values in panels if np.isfinite(values).any()]
    blocks.append(plots.histograms("spread", panels, "How the scans are distributed."))
    counts = {state: [states[name, state] for name in shown] for state in order}
    blocks.append(plots.state_bars("states", shown, counts, "What is said of each landmark, in how many scans."))
    about = "where the landmark was found: line 5th to 95th percentile, bar quartiles, tick median."
    if any(np.isfinite(c).any() for c in confidence):
        blocks.append(
            plots.percentile_rows("confidence", shown, confidence, "confidence", f"Confidence {about}", (0, 1))
        )
    if len({case.unit for case in cases}) == 1 and any(np.isfinite(r).any() for r in radius):
        blocks.append(
            plots.percentile_rows("radius", shown, radius, f"90 % radius, {units_of(cases)}", f"Radius {about}")
        )
    return Section("distributions", "Distributions", blocks)


def _named(cases: Sequence[CohortCase], name: str) -> list[tuple[LandmarkSet, int, CohortCase]]:
    """The points of the cases that have a landmark, its place in them, and the cases."""
    sets = [(case.landmarks, case) for case in cases if case.landmarks is not None]
    return [(points, points.names.index(name), case) for points, case in sets if name in points.names]


def _landmark_table(cases: Sequence[CohortCase], names: Sequence[str]) -> Table:
    rows = []
    for name in names:
        picked = _named(cases, name)
        states = Counter(case.states[k] for _, k, case in picked)
        found = [(s, k) for s, k, _ in picked if s.present[k]]
        confidence = np.array([s.confidence[k] for s, k in found])
        is_one_unit = len({case.unit for _, _, case in picked}) == 1
        radius = np.array([s.radius[k] for s, k in found if is_one_unit])
        doubtful = sum(case.doubts[k] > 0.5 for _, k, case in picked)
        by_person = sum(n for state, n in states.items() if state in BY_PERSON)
        others = ", ".join(f"{state} {n}" for state, n in states.most_common() if state != "found")
        rows.append(
            [
                text_cell(name),
                number_cell(len(found), 0),
                number_cell(int(doubtful), 0, "doubt" if doubtful else ""),
                number_cell(by_person, 0),
                number_cell(_median(confidence)),
                number_cell(_low(confidence)),
                number_cell(_median(radius)),
                text_cell(others),
            ]
        )
    return Table(
        "Every landmark over all scans",
        (
            "landmark",
            "found",
            "doubtful",
            "by a person",
            "confidence, median",
            "5th percentile",
            f"90 % radius, median, {units_of(cases)}",
            "other states",
        ),
        rows,
    )


def _measurement_sections(cases: Sequence[CohortCase]) -> list[Section]:
    """The measurements of all cases, where results hold any."""
    by_name: dict[tuple[str, str], list[tuple[CohortCase, Measurement]]] = {}  # and unit
    for case in cases:
        for measured in case.measurements:
            by_name.setdefault((measured.name, measured.unit), []).append((case, measured))
    before = [case.name for case in cases if case.is_measured_before]
    told = [f"Left out, as points were moved after they were measured: {first_of(before)}."] if before else []
    if not by_name:
        return [Section("measurements", "Measurements", told)] if told else []
    rows, single = [], []
    for (name, unit), entries in by_name.items():
        values = np.array([m.value for _, m in entries if m.value is not None])
        judged = [m.is_usual for _, m in entries if m.is_usual is not None]
        rows.append(
            [
                text_cell(name),
                text_cell(unit),
                number_cell(len(values), 0),
                number_cell(float(values.mean()) if values.size else None),
                number_cell(float(values.std(ddof=1)) if values.size > 1 else None),
                number_cell(float(values.min()) if values.size else None),
                number_cell(float(values.max()) if values.size else None),
                text_cell(entries[0][1].usual),
                share_cell(1 - float(np.mean(judged)) if judged else None),
            ]
        )
        single += [_measured_row(case, m) for case, m in entries]
    summary = Table(
        "Every measurement over all scans",
        ("measurement", "unit", "scans", "mean", "SD", "least", "largest", "usual", "outside the usual"),
        rows,
    )
    columns = ("scan", "measurement", "value", "unit", "90 % interval", "usual")
    each = [Table("Every measurement of every scan", columns, single)] if len(single) <= 3000 else []
    return [Section("measurements", "Measurements", [*told, summary, *each])]


def _measured_row(case: CohortCase, measured: Measurement) -> list[Cell]:
    tone = "doubt" if measured.is_usual is False else ""
    return [
        text_cell(case.name),
        text_cell(measured.name),
        number_cell(measured.value, tone=tone),
        text_cell(measured.unit),
        text_cell(_interval(measured)),
        text_cell(measured.usual),
    ]


def _failures(cases: Sequence[CohortCase]) -> Section:
    failed = [case for case in cases if case.state == FAILED]
    if not failed:
        return Section("failures", "Failures", ["No scan failed, as far as the files of the folder tell."])
    rows = [[text_cell(case.name), text_cell(case.subject), text_cell(case.reason)] for case in failed]
    return Section("failures", "Failures", [Table("Scans without a result", ("scan", "subject", "reason"), rows)])


def card_data(
    cases: Sequence[CohortCase],
    thumbnails: Sequence[Thumbnail | None],
    names: Sequence[str],
    models: Sequence[str],
    target: Path,
) -> dict[str, Any]:
    """What the script of the page shows; see page.js."""
    states = list(dict.fromkeys(state for case in cases for state in case.states))
    index = {name: k for k, name in enumerate(names)}
    return {
        "names": names,
        "states": states,
        "byPerson": [k for k, state in enumerate(states) if state in BY_PERSON],
        "models": models,
        "caseStates": CASE_STATES,
        "printed": PRINTED,
        "cases": [
            {
                "name": case.name,
                "subject": case.subject,
                "summary": case.summary,
                "reason": case.reason,
                "model": models.index(case.model) if case.model else -1,
                "state": CASE_STATES.index(case.state),
                "doubt": _rounded(case.doubt),
                "seconds": _rounded(case.seconds, 1),
                "unit": case.unit,
                "search": " ".join((case.name, case.subject, case.summary, case.reason)).lower(),  # as the page lowers
                "picture": None if picture is None else _picture(picture),
                "points": _points(case, picture, index, states),
                "links": _links(case, target),
                "measurements": [_measurement_texts(m) for m in case.measurements],
            }
            for case, picture in zip(cases, thumbnails)
        ],
    }


def _picture(picture: Thumbnail) -> dict[str, Any]:
    return {
        "width": picture.width,
        "height": picture.height,
        "image": picture.address,
        "views": picture.views,
        "scale": round(picture.scale, 4),
    }


def _points(
    case: CohortCase, picture: Thumbnail | None, index: dict[str, int], states: Sequence[str]
) -> list[list[Any]]:
    points = case.landmarks
    if points is None:
        return []
    result = []
    for k, name in enumerate(points.names):
        place = np.round(points.positions[k], 2).tolist() if points.present[k] else None
        marks = np.round(picture.marks[k], 1).tolist() if place and picture is not None else None
        stated = (_rounded(values[k]) for values in (case.doubts, points.confidence, points.radius, points.presence))
        result.append([index[name], states.index(case.states[k]), *stated, place, marks])
    return result


def _links(case: CohortCase, target: Path) -> list[tuple[str, str]]:
    """Files of the result, as seen from the page."""
    words = {"picture": "Picture", "markups": "Point list", "table": "Table", "provenance": "Origin"}
    folder = target.resolve().parent
    return [(text, _link(case.files[kind].resolve(), folder)) for kind, text in words.items() if kind in case.files]


def _link(path: Path, folder: Path) -> str:
    try:
        return quote(os.path.relpath(path, folder).replace(os.sep, "/"))
    except ValueError:  # on another drive of Windows
        return path.as_uri()


def _measurement_texts(measured: Measurement) -> list[str]:
    value = "\N{EN DASH}" if measured.value is None else f"{measured.value:.2f} {measured.unit}"
    outside = "outside the usual" if measured.is_usual is False else ""
    return [measured.name, value, _interval(measured), measured.usual, outside]


def _interval(measured: Measurement) -> str:
    known = measured.low is not None and measured.high is not None
    return f"{measured.low:.2f} to {measured.high:.2f}" if known else ""


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def _median(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None


def _low(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, 5)) if known.size else None
