"""Pairs of cases that show the same picture in the same place, from which each reader is compared with himself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from H3DELandmarksLib.cases.same_picture import fingerprint, repeated_pictures
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json
from H3DELandmarksLib.io.isolated import read_volume
from H3DELandmarksResearch.cases.case_folder import scan_of_case

PAIRS = "same_picture_pairs"


def find_pairs(folder: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs by content, as `audit` finds them; of several, each is paired with the first. Not moved or scaled copies.

    Args:
        folder: of cases; those without a readable scan are left out.
        names: of the cases.
    """
    prints = {}
    for name in names:
        try:
            prints[name] = fingerprint(read_volume(scan_of_case(folder, name)))
        except InputError:
            continue
    known, first = list(prints), {}
    for repeat in repeated_pictures(list(prints.values())):
        if repeat.in_place:
            earlier, later = known[repeat.first], known[repeat.second]
            first.setdefault(later, first.get(earlier, earlier))
    return [(earlier, later) for later, earlier in first.items()]


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Pairs of names in a JSON file: a list of pairs, or an object with one under ``same_picture_pairs...``.

    Raises:
        InputError: it holds none.
    """
    try:
        content = parse_json(path.read_bytes())
        if isinstance(content, dict):
            content = next((pairs for key, pairs in content.items() if key.startswith(PAIRS)), None)
        return build(list[tuple[str, str]], content)
    except (OSError, FormatError) as error:
        raise InputError(f'\'{path}\' holds no pairs of cases: write a JSON list such as [["a", "b"]].') from error
