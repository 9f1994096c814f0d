"""What a person has decided about a landmark, in Slicer's review and in cases that are kept."""

from __future__ import annotations

import enum


class ReviewState(enum.Enum):
    """What is known about a landmark."""

    PROPOSED = "proposed"
    PROPOSED_ABSENT = "proposed absent"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    MOVED = "moved"
    PLACED = "placed"
    ABSENT = "absent"

    @property
    def is_decided(self) -> bool:
        """Whether a person has decided."""
        return self not in (ReviewState.PROPOSED, ReviewState.PROPOSED_ABSENT, ReviewState.UNKNOWN)
