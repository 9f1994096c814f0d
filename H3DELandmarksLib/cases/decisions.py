"""What a person decided, seen in two point lists: where the points lie now, and where a model had proposed them."""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.case_record import CaseLandmark, ReviewState

SAME_PLACE_MM = 1e-3


def landmarks_from_sets(
    scheme: LandmarkScheme, corrected: LandmarkSet, proposed: LandmarkSet | None = None, reviewed: bool = True
) -> tuple[tuple[CaseLandmark, ...], int]:
    """Landmarks with states, from two point lists.

    Args:
        scheme: landmarks of the project.
        corrected: where the points lie now, LPS mm; matched by name.
        proposed: what the model had said; None where a person placed everything.
        reviewed: whether a person has looked at the points that lie as proposed (without `proposed`: at all points).

    Returns:
        One landmark for each name of the scheme, and how many points belong to no name of it.
    """
    left_out = len(set(corrected.names) - set(scheme.names))
    now = corrected.ordered_as(scheme.names)
    said = (now if not reviewed else corrected.ordered_as(())).ordered_as(scheme.names)
    said = said if proposed is None else proposed.ordered_as(scheme.names)
    return tuple(_landmark(name, now, said, k, reviewed) for k, name in enumerate(scheme.names)), left_out


def _landmark(name: str, now: LandmarkSet, said: LandmarkSet, k: int, reviewed: bool) -> CaseLandmark:
    def stated(values: np.ndarray) -> float | None:
        return float(values[k]) if np.isfinite(values[k]) else None

    position = now.positions[k] if now.present[k] else None
    proposed = said.positions[k] if said.present[k] else None
    if position is not None:
        state = _state_of_position(position, proposed, reviewed)
    elif now.unknown[k]:
        state = ReviewState.UNKNOWN
    else:
        doubtful = proposed is None and not said.unknown[k] and not reviewed
        state = ReviewState.PROPOSED_ABSENT if doubtful else ReviewState.ABSENT
    return CaseLandmark(
        name, state, position, proposed, stated(said.presence), stated(said.confidence), stated(said.radius)
    )


def _state_of_position(position: np.ndarray, proposed: np.ndarray | None, reviewed: bool) -> ReviewState:
    if proposed is None:
        return ReviewState.PLACED
    if np.linalg.norm(position - proposed) > SAME_PLACE_MM:
        return ReviewState.MOVED
    return ReviewState.ACCEPTED if reviewed else ReviewState.PROPOSED
