"""The audit of a plain folder of cases, scans beside point lists: the checks of a project for a set of anybody's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from H3DELandmarksLib.cases.findings import QualityIssue, in_order
from H3DELandmarksLib.cases.point_check import CheckedPoints
from H3DELandmarksLib.cases.quality import CheckedCase, check_set, unreadable
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.core.text import composed, csv_text, first_of, same_names
from H3DELandmarksLib.formats.reading import Count, Finite, FormatError, Text, build, parse_json, to_json
from H3DELandmarksLib.formats.training import SUBSETS
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.io.tables import write_rows
from H3DELandmarksResearch.cases.case_folder import case_names, points_of_case, read_case, readers_of_case
from H3DELandmarksResearch.cases.reader_check import check_against, check_readers

log = logging.getLogger(__name__)
TABLE, RECORD = "audit.csv", "audit.json"
COLUMNS = ("case", "kind", "landmark", "other", "value", "unit", "x_lps_mm", "y_lps_mm", "z_lps_mm", "reason")


@dataclass(frozen=True)
class AuditFinding:
    """One thing that a person should look at.

    Attributes:
        case: name of the case.
        kind: what is suspected, as `cases check` names it.
        reason: one sentence with what to do.
        landmark: its name; None for a finding about the whole case.
        other: the second case of a finding about two.
        value: how large it is, in `unit`; None where there is nothing to measure.
        unit: "mm", "px" (lengths in a picture that does not state how large its pixels are), "%" or empty.
        position_lps_mm: where to look.
        expected_lps_mm: where the other cases would have the point.
    """

    case: Text
    kind: Text
    reason: Text
    landmark: Text | None = None
    other: Text | None = None
    value: Finite | None = None
    unit: str = ""
    position_lps_mm: tuple[Finite, Finite, Finite] | None = None
    expected_lps_mm: tuple[Finite, Finite, Finite] | None = None


@dataclass(frozen=True)
class AuditRecord:
    """The whole file.

    Attributes:
        format_version: of this file.
        cases: how many could be read.
        findings: case by case, the graver ones of a case first.
    """

    format_version: Literal[1]
    cases: Count
    findings: tuple[AuditFinding, ...]


def scheme_of_folder(folder: Path) -> LandmarkScheme:
    """All landmarks that any point list of a folder names, in the order of first mention; without pairs.

    Labels that differ in case, blanks or the form of accents alone are one, unless a list has both.

    Raises:
        InputError: there is no point list.
    """
    names: dict[str, None] = {}
    for case in case_names(folder):
        try:
            listed = read_markups(points_of_case(folder, case)).names
        except InputError:
            continue  # told by the audit
        meant = same_names(listed, names)
        names.update(dict.fromkeys(meant.get(name, name) for name in listed))
    return LandmarkScheme("folder", "1.0", tuple(LandmarkDefinition(name, "") for name in names))


def subsets_of(path: Path) -> dict[str, str]:
    """The subset of each case by a split file: lists of case names by subset.

    Raises:
        InputError: the file cannot be read or is no split, or a case stands in two of `SUBSETS`.
    """
    try:
        split = build(dict[str, list[str]], parse_json(path.read_bytes()))
    except (OSError, FormatError) as error:
        raise InputError(f"'{path}' is no split file (lists of case names by subset): choose another.") from error
    result: dict[str, str] = {}
    # Finer names, as of parts of the test cases, come last.
    for subset in sorted(split, key=lambda name: name not in SUBSETS):
        for name in split[subset]:
            first = result.setdefault(name, subset)
            if first != subset and subset in SUBSETS:
                raise InputError(
                    f"'{path}' names the case '{name}' in {first} and in {subset}: leave it in one of both."
                )
    return result


def audit_folder(
    folder: Path,
    scheme: LandmarkScheme,
    subsets: Mapping[str, str],
    progress: Progress,
    predictions: Path | None = None,
) -> tuple[int, list[QualityIssue]]:
    """Look for repeated pictures, exchanged names and points out of place.

    Args:
        folder: with one scan and one point list a case.
        scheme: landmarks, and the pairs of both sides.
        subsets: the subset of each case, where there are any.
        progress: receives the fraction done and the name of the case at hand.
        predictions: folder with a model's point lists, named after those cases that it has not learnt from.

    Returns:
        How many cases could be read, and the findings, case by case; the graver ones of a case first.

    Raises:
        InputError: a folder holds no point list, or none of the scheme.
    """
    cases, findings, read = case_names(folder), [], []
    readers: dict[str, dict[str, CheckedPoints]] = {}
    predicted: dict[str, CheckedPoints] = {}
    there = {composed(name) for name in case_names(predictions)} if predictions else set()
    if lacking := [name for name in cases if predictions and composed(name) not in there]:
        log.warning("'%s' has no points of %s: these are not compared with the model.", predictions, first_of(lacking))
    for number, name in enumerate(cases):
        progress(number / len(cases), name)
        try:
            volume, landmarks = read_case(folder, name, scheme.names)
            said = readers_of_case(folder, name, scheme.names)
            beside = points_of_case(predictions, name) if predictions and composed(name) in there else None
            found = None if beside is None else read_markups(beside, scheme.names)
        except InputError as error:
            findings.append(unreadable(name, error))
            continue
        read.append(CheckedCase.of(name, volume, landmarks.positions))
        unit = read[-1].on_scan.unit
        for reader, points in said.items():
            marked = CheckedPoints(name, points.ordered_as(scheme.names).positions, unit)
            readers.setdefault(f"reader '{reader}'", {})[name] = marked
        if found is not None:
            predicted[name] = CheckedPoints(name, found.ordered_as(scheme.names).positions, unit)
    if read and not any(np.isfinite(case.on_scan.positions).any() for case in read):
        raise InputError(
            f"No point in '{folder}' is a landmark of the scheme '{scheme.id}': choose that of its points."
        )
    findings += check_set(read, scheme, subsets)
    findings += check_readers(readers, scheme)
    readers = readers or {"the case": {case.id: case.on_scan for case in read}}
    for reader, listed_points in readers.items():
        findings += check_against((reader, listed_points), ("the model", predicted), scheme)
    progress(1.0, "done")
    return len(read), in_order(findings)


def audit_record(cases: int, findings: Sequence[QualityIssue]) -> AuditRecord:
    """The findings as a file holds them."""

    def place(position: np.ndarray | None) -> tuple[float, float, float] | None:
        return None if position is None else tuple(position.tolist())

    def entry(f: QualityIssue) -> AuditFinding:
        about = (f.case, f.kind.value, f.reason, f.landmark, f.other, f.value, f.unit)
        return AuditFinding(*about, place(f.position), place(f.expected))

    return AuditRecord(1, cases, tuple(map(entry, findings)))


def write_audit(folder: Path, record: AuditRecord) -> tuple[Path, Path]:
    """Write ``audit.csv`` and ``audit.json`` into an existing folder; gives their paths."""
    table, file = folder / TABLE, folder / RECORD
    rows = []
    for f in record.findings:
        texts = [csv_text(text or "") for text in (f.case, f.kind, f.landmark, f.other)]
        numbers = ["" if f.value is None else f"{f.value:.3f}", f.unit, *map(str, f.position_lps_mm or ("", "", ""))]
        rows.append([*texts, *numbers, csv_text(f.reason)])
    write_rows(table, COLUMNS, rows)
    with atomic_write(file) as temporary:
        temporary.write_bytes(to_json(record))
    return table, file
