"""Whose scans are one subject's: CSV files with the columns ``case`` and ``subject``, or the names of BIDS."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from H3DELandmarksLib.cohort.bids import subject_of
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.text import composed, csv_text, first_of, from_csv, name_key
from H3DELandmarksLib.io.markups import point_list_name
from H3DELandmarksLib.io.tables import read_rows, write_rows
from H3DELandmarksResearch.cases.case_folder import case_name

SUBJECTS = "subjects.csv"


def subjects_in(folder: Path, cases: Collection[str]) -> dict[str, str]:
    """Whose cases of a plain folder are, by a table in it or by their names; those of nobody stated are left out.

    Args:
        folder: of scans and point lists.
        cases: the names that are used.

    Raises:
        InputError: as for `read_subjects`.
    """
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    tables = [path for path in there if path.name.lower() == SUBJECTS]
    by_name = {name: subject for name in cases if (subject := subject_of(Path(name))) is not None}
    return {**by_name, **read_subjects(tables, cases, {_case(path.name) for path in there})}


def read_subjects(paths: Iterable[Path], cases: Collection[str], others: Collection[str] = ()) -> dict[str, str]:
    """Whose each case is.

    Names that differ in case or in how accents are stored alone are of one subject. A table may hold more cases than
    are used. But where it names what is not there while a case has no row, one of
    both is misspelt, and scans of one patient would count as those of several.

    Args:
        paths: the tables; cases are named with or without folder and ending.
        cases: the names that are used.
        others: further names that may stand there.

    Returns:
        The subject by case, for those that have one.

    Raises:
        InputError: a table cannot be read, gives a case two subjects, or does not fit the cases.
    """
    called = {composed(name): name for name in (*others, *cases)}
    subjects: dict[str, str] = {}
    first: dict[str, str] = {}
    path = None
    for path in paths:
        for stated, name in _rows(path):
            case, subject = called.get(composed(stated), stated), first.setdefault(name_key(name), name)
            if subjects.setdefault(case, subject) != subject:
                raise InputError(f"'{path}' gives the case '{case}' two subjects: keep one.")
    strange, without = sorted(subjects.keys() - {*cases, *others}), sorted(set(cases) - subjects.keys())
    if strange and without:
        named, lacking = (first_of([f"'{name}'" for name in names]) for names in (strange, without))
        raise InputError(
            f"'{path}' names {named}, of which there is no case, and lacks {lacking}: name cases as their files are "
            "called."
        )
    return {case: subject for case, subject in subjects.items() if subject}


def write_subjects(folder: Path, subjects: Mapping[str, str]) -> None:
    """Write whose each case of a folder is, where two are of one subject or an earlier table says otherwise."""
    if len(set(subjects.values())) < len(subjects) or (folder / SUBJECTS).exists():
        rows = ((csv_text(case), csv_text(subject)) for case, subject in subjects.items())
        write_rows(folder / SUBJECTS, ("case", "subject"), rows)


def _rows(path: Path) -> list[tuple[str, str]]:
    try:
        rows = [{(name or "").strip().lower(): cell for name, cell in row.items()} for row in read_rows(path)]
        if not rows:
            raise ValueError("it has no rows")
        return [(_case(row["case"]), from_csv(row["subject"]).strip()) for row in rows]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}' needs the columns case and subject: correct it, or do without it.") from error


def _case(cell: str) -> str:
    path = Path(from_csv(cell).strip())
    return point_list_name(path) or case_name(path)
