"""The page: sections of text, tables and figures, and cards of cases, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import MissingDependencyError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.text import plain
from H3DELandmarksResearch.figures.canvas import FAINT, GRID, INK, PAPER, SECOND, SERIES, STRONG

TEMPLATE = "page.html"
# Colors of the plots that change with the page's.
PAGE_COLORS = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    STRONG: "var(--strong)",
    SECOND: "var(--second)",
    **{color: f"var(--series{number})" for number, color in enumerate(SERIES) if number > 1},
}


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: shown.
        value: sorts the column; None is last.
        tone: "good", "bad" or "doubt", shown in color and in weight; "" for most.
    """

    text: str
    value: float | str | None = None
    tone: str = ""


def number_cell(value: float | None, decimals: int = 2, tone: str = "", unit: str = "") -> Cell:
    """A number; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return Cell("\N{EN DASH}")
    return Cell(f"{value:.{decimals}f}{unit}", float(value), tone)


def p_cell(p: float) -> Cell:
    """A p value."""
    return Cell(p_text(p), p)


def p_text(p: float) -> str:
    """``0.013``, or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def share_cell(value: float | None, tone: str = "") -> Cell:
    """A share from 0 to 1 in percent."""
    return number_cell(None if value is None else 100 * value, 1, tone, " %")


def text_cell(text: str | None, tone: str = "") -> Cell:
    """A text; a dash where there is none."""
    return Cell(text, text.casefold(), tone) if text else Cell("\N{EN DASH}")


def interval_cell(mean: float, low: float, high: float, decimals: int = 2, signed: bool = False) -> Cell:
    """A value with its interval."""
    if not math.isfinite(mean):
        return Cell("\N{EN DASH}")
    sign = "+" if signed else ""
    if not (math.isfinite(low) and math.isfinite(high)):
        return Cell(f"{mean:{sign}.{decimals}f}", mean)
    return Cell(f"{mean:{sign}.{decimals}f} ({low:{sign}.{decimals}f} to {high:{sign}.{decimals}f})", mean)


@dataclass(frozen=True)
class Table:
    """A table that its reader can sort, and search where it is long."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers."""
        return any(isinstance(row[column].value, (int, float)) for row in self.rows)


@dataclass(frozen=True)
class Figure:
    """A plot: an SVG element that `canvas.as_svg` made, with the words below it."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Fact:
    """A figure that stands large at the top."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


@dataclass
class Section:
    """A part of the page.

    Attributes:
        id: in the address of the part.
        title: heading.
        blocks: texts (str), tables, figures and rows of facts (lists of Fact), in order.
        is_cards: whether the cards of the cases stand here, behind the blocks.
    """

    id: str
    title: str
    blocks: list[Any] = field(default_factory=list)
    is_cards: bool = False


@dataclass
class Page:
    """Everything that the page says.

    Attributes:
        title: heading.
        lines: below the title: what it is about.
        sections: in order.
        cards: what the cards show, as `cohort_sections.card_data` makes it; None without cards.
    """

    title: str
    lines: Sequence[str]
    sections: Sequence[Section]
    cards: dict[str, Any] | None = None


def render(page: Page) -> str:
    """The page as HTML.

    Raises:
        MissingDependencyError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependencyError(
            "Reports need the Python package Jinja2: install it with 'pip install jinja2'."
        ) from error
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["figure"] = lambda block: isinstance(block, Figure)
    environment.tests["table"] = lambda block: isinstance(block, Table)
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    return environment.get_template(TEMPLATE).render(
        page=page,
        cards=plain(page.cards) if page.cards is not None else None,
        time=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        software=__version__,
        style=Markup((Path(__file__).parent / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        svg=Markup,
    )


def write_page(page: Page, path: Path) -> None:
    """Write the page; a file of that name is replaced when the new one is complete.

    Raises:
        OutputError: it cannot be written.
        MissingDependencyError: Jinja2 is not installed.
    """
    content = render(page)
    with atomic_write(path) as temporary:
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace", newline="\n")
