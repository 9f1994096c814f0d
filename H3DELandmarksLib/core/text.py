"""Figures as people and programs read them: numbers, shares, aligned tables, values that JSON can hold, and names
that people write in more ways than one."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

# Names of landmarks that a sentence lists before it counts the rest.
MOST_NAMED = 12


def number(value: float, decimals: int = 2) -> str:
    """A number with so many decimals; a dash where there is none."""
    return f"{value:.{decimals}f}" if math.isfinite(value) else "-"


def with_spread(mean: float, sd: float, sign: str = "+-") -> str:
    """``1.23 +- 0.45``; the mean alone where too few values have no standard deviation."""
    return f"{number(mean)} {sign} {number(sd)}" if math.isfinite(sd) else number(mean)


def percent(value: float, decimals: int = 1) -> str:
    """A share from 0 to 1 as ``12.3 %``; a dash where there is none."""
    return f"{100 * value:.{decimals}f} %" if math.isfinite(value) else "-"


def plural(count: int, noun: str) -> str:
    """``1 case`` or ``2 cases``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def first_of(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """``a, b and 3 more``: the first names, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest(name: str, known: Collection[str]) -> str:
    """The advice for a name that is not known: the one that was probably meant, else all."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean '{found[0]}'?" if found else f"known are {', '.join(sorted(known))}"


def shown(text: str) -> str:
    """A text for terminals: what steers them, turns the writing or cannot be written is an escape."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def csv_text(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula; `from_csv` is its inverse."""
    return f"'{text}" if _FORMULA.match(text) else text


def from_csv(cell: str) -> str:
    """The text that `csv_text` has made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def aligned(rows: Sequence[Sequence[str]], right: bool = False) -> list[str]:
    """Rows of cells, the first being the header, as lines with aligned columns.

    Args:
        rows: all of one length.
        right: whether all columns but the first are aligned at their right end.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    align = str.rjust if right else str.ljust
    return ["  ".join([row[0].ljust(widths[0]), *map(align, row[1:], widths[1:])]).rstrip() for row in rows]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first being the header, as a table in Markdown."""
    header, *others = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([header, "|" + "---|" * len(rows[0]), *others])


def plain(value: Any) -> Any:
    """The same content in types that JSON has; numbers that are not finite become None, arrays lists, paths text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def same_names(found: Collection[str], known: Collection[str]) -> dict[str, str]:
    """Which known name is meant by a found one that differs from it in case, blanks or the form of accents alone.

    Returns:
        Known names by found ones, without those that are equal; where two names could be meant, or one by two, none is.
    """
    exact = set(found) & set(known)
    wanted = {name: _key(name) for name in known}
    others = {name: _key(name) for name in found if name not in exact}
    by_key = {key: name for name, key in wanted.items() if name not in exact}
    once = Counter(wanted.values()), Counter(others.values())
    return {
        name: by_key[key] for name, key in others.items() if key in by_key and all(count[key] == 1 for count in once)
    }


def _key(name: str) -> str:
    return "".join(composed(name).split()).casefold()


def composed(name: str) -> str:
    """A name with its accents as most systems store them; others store the same name in more characters."""
    return unicodedata.normalize("NFC", name)


def name_key(name: str) -> str:
    """The same for names that some file systems take for one: they ignore case, or the form of accents."""
    return composed(name).casefold()


def numbered(names: Sequence[str]) -> list[str]:
    """The same names, with a number added from the second use on."""
    used: set[str] = set()
    result = []
    for name in names:
        number, candidate = 1, name
        while name_key(candidate) in used:
            number += 1
            candidate = f"{name}_{number}"
        used.add(name_key(candidate))
        result.append(candidate)
    return result
