"""Cells and tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the words "not measured" where there are no rows."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    if not lines:
        return "not measured"
    return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *lines])


def duration(seconds: float | None) -> str:
    """Seconds with three digits, in the unit that suits them."""
    if seconds is None:
        return ""
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def spread(ratio: Mapping[str, float]) -> str:
    """Median, and in brackets the least and the largest."""
    return f"**{ratio['median']:.2f}** ({ratio['least']:.2f} to {ratio['most']:.2f})"


def megabytes(result: Mapping[str, float] | None) -> str:
    """A result's megabytes; why there are none where it failed."""
    if not result:
        return ""
    return f"{result['megabytes']:.0f} MB" if "megabytes" in result else "failed"


def measured_on(machine: Mapping[str, object]) -> str:
    """Where and when a part was measured that isn't of the report's own run."""
    return f"{machine['processor']}, commit {machine['commit']}, {machine['date']}, load {machine['load_before']}"
