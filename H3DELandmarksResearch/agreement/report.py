"""The comparisons that `evaluate` makes where cases hold several readers' points, and their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.text import aligned, number, plural
from H3DELandmarksLib.evaluation.readers import Readings, mean_of_readers
from H3DELandmarksLib.formats.comparison import HumanFloor
from H3DELandmarksResearch.agreement.record import Agreement, AgreementReport, Interval, LandmarkAgreement
from H3DELandmarksResearch.agreement.statistics import DRAWS, agreement

MODEL, MEAN = "model", "mean of readers"
Sets = Mapping[str, LandmarkSet]


@dataclass(frozen=True)
class _Comparer:
    """What all comparisons share: the landmarks, whose case each is, and the draws of the bootstrap."""

    names: tuple[str, ...]
    patients: Mapping[str, str]
    draws: int

    def __call__(self, labels: tuple[str, str], pairs: Sequence[tuple[str, LandmarkSet, LandmarkSet]]) -> Agreement:
        """Compare sets; each pair with the name of its case."""
        sides = [[pair[side].ordered_as(self.names) for pair in pairs] for side in (1, 2)]
        first, second = (np.array([one.positions for one in side]).reshape(-1, len(self.names), 3) for side in sides)
        absent = [
            np.array([~one.present & ~one.unknown for one in side], dtype=bool).reshape(-1, len(self.names))
            for side in sides
        ]
        whose = [self.patients.get(case, case) for case, *_ in pairs]
        return agreement(labels, self.names, first, second, (absent[0], absent[1]), whose, self.draws)


def compare_readers(
    predictions: Sets, readings: Mapping[str, Readings], same: Sequence[tuple[str, str]] = (), draws: int = DRAWS
) -> AgreementReport:
    """The model against readers and their mean, reader against reader, and each reader against himself.

    Args:
        predictions: by case, LPS mm; may be empty.
        readings: by case and reader, LPS mm.
        same: pairs of cases that show the same picture in the same place; they count as one patient.
        draws: of the bootstrap.
    """
    readers = tuple(sorted({reader for case in readings.values() for reader in case}))
    names = tuple(dict.fromkeys(n for case in readings.values() for points in case.values() for n in points.names))
    compare = _Comparer(names, _patients(same), draws)
    by_reader = {reader: {case: s[reader] for case, s in readings.items() if reader in s} for reader in readers}
    means = {case: mean_of_readers(said, names) for case, said in readings.items() if len(said) > 1}
    truths = [*by_reader.items(), *([(MEAN, means)] if means else [])]

    def on_common(labels: tuple[str, str], a: Sets, b: Sets) -> Agreement:
        return compare(labels, [(case, a[case], b[case]) for case in sorted(a.keys() & b.keys())])

    between = [on_common(pair, by_reader[pair[0]], by_reader[pair[1]]) for pair in combinations(readers, 2)]
    repeated = {r: [(a, sets[a], sets[b]) for a, b in same if a in sets and b in sets] for r, sets in by_reader.items()}
    return AgreementReport(
        readers=readers,
        same_pictures=tuple(same),
        models=tuple(_some(on_common((MODEL, name), predictions, sets) for name, sets in truths)),
        between=tuple(_some(between)),
        within=tuple(_some(compare((r, f"{r} again"), pairs) for r, pairs in repeated.items())),
    )


def _some(found) -> list[Agreement]:
    return [one for one in found if one.cases]


def _patients(same: Sequence[tuple[str, str]]) -> dict[str, str]:
    """One name for all cases that pairs connect."""
    patients: dict[str, str] = {}
    for a, b in same:
        old, new = patients.get(b, b), patients.get(a, a)
        patients |= {case: new for case, patient in patients.items() if patient == old}
        patients |= {a: new, b: new}
    return patients


def report_text(report: AgreementReport, floor: HumanFloor | None = None, unit: LengthUnit = "mm") -> str:
    """The comparisons as aligned plain text; intervals are of 95 %, by bootstrap over patients."""
    groups = [
        ("Model against readers", report.models),
        ("Reader against reader", report.between),
        ("Reader against the same reader, who saw the same picture twice", report.within),
    ]
    lines = [f"Readers            {', '.join(report.readers)}"]
    if floor is not None:
        said = floor.sentence("The model", unit) if report.models else floor.difference(unit)
        lines.append(f"Human floor        {said}")
    for title, group in groups:
        if group:
            lines += ["", f"{title}, {unit} [95 % interval over patients]", *aligned(_summary(group))]
    for one in (*report.models, *report.between, *report.within):
        lines += ["", f"{one.first} - {one.second}, by landmark, {unit}", *aligned(_rows(one), right=True)]
    return "\n".join([*lines, "", NOTE]) + "\n"


NOTE = """\
MRE, SD: mean and standard deviation of distances over points. Bias: first less second along L (to the left; right in
a picture without orientation), P (back; down) and S (up). Limits: Bland and Altman's 95 %. Dahlberg: root of half the
mean square. ICC: ICC(2,1) of Shrout and Fleiss over cases, near 1 wherever patients lie differently; for all landmarks,
the mean of theirs."""


def _summary(group: Sequence[Agreement]) -> list[list[str]]:
    head = ["pair", "cases", "points", "MRE", "SD", "Dahlberg", "axis", "bias", "SD along", "limits", "ICC(2,1)"]
    rows = []
    for one in group:
        start = [f"{one.first} - {one.second}", str(one.cases), str(one.total.points)]
        start += [_cell(value) for value in (one.total.mre_mm, one.total.sd_mm, one.total.dahlberg_mm)]
        for n, along in enumerate(one.total.axes):
            limits = f"{number(along.low_mm.value)} to {number(along.high_mm.value)}"
            cells = [along.axis, _cell(along.bias_mm), _cell(along.sd_mm), limits, _cell(along.icc, 3)]
            rows.append([*(start if n == 0 else [""] * len(start)), *cells])
    return [head, *rows]


def _cell(figure: Interval, decimals: int = 2) -> str:
    show = partial(number, decimals=decimals)
    return f"{show(figure.value)} [{show(figure.low)}, {show(figure.high)}]"


def _rows(one: Agreement) -> list[list[str]]:
    axes = [along.axis for along in one.total.axes]
    along = [f"{what} {axis}" for axis in axes for what in ("bias", "SD", "limits", "Dahlberg", "ICC")]

    def cells(row: LandmarkAgreement) -> list[str]:
        by_axis = {a.axis: a for a in row.axes}
        shown = [row.landmark, str(row.points), f"{_cell(row.mre_mm)}", number(row.sd_mm.value)]
        shown.append(number(row.dahlberg_mm.value))
        for axis in axes:
            a = by_axis.get(axis)
            if a is None:
                shown += ["-"] * 5
                continue
            limits = f"{number(a.low_mm.value)} to {number(a.high_mm.value)}"
            figures = (number(a.sd_mm.value), limits, number(a.dahlberg_mm.value), number(a.icc.value, 3))
            shown += [_cell(a.bias_mm), *figures]
        return shown

    table = [["landmark", "points", "MRE", "SD", "Dahlberg", *along], *map(cells, (*one.landmarks, one.total))]
    if one.total.only_first or one.total.only_second:
        table[-1][0] += f" ({plural(one.total.only_first, 'point')} only by {one.first}"
        table[-1][0] += f", {one.total.only_second} only by {one.second})"
    return table
