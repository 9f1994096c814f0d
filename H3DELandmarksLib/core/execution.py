"""How work is run: what can be chosen for it, without importing what runs it, and how it tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

DEVICES = ("auto", "cpu", "cuda", "mps")
BACKENDS = ("auto", "torch", "openvino")
PRECISIONS = ("auto", "fp32", "half")
# Distances in mm within which a landmark counts as detected, as published.
THRESHOLDS_MM = (2.0, 2.5, 3.0, 4.0)


# Receives the fraction done, from 0 to 1, and what is being done.
Progress = Callable[[float, str], None]


def part_of(progress: Progress, begun: float, share: float, message: str | None = None) -> Progress:
    """The progress of one part of a piece of work, told as progress of the whole.

    Args:
        progress: of the whole.
        begun: fraction of the whole that is done when the part begins.
        share: of the part in the whole.
        message: told instead of the part's own.
    """
    # Rounded, so that no part ends behind the beginning of the next.
    return lambda fraction, text: progress(round(begun + share * fraction, 9), message or text)


def silent(fraction: float, message: str) -> None:
    """Tells nobody."""
