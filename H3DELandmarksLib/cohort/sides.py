"""Left and right through a change of the scheme: a point of one side must never become one of the middle unseen."""

from __future__ import annotations

from H3DELandmarksLib.cohort.scheme_history import SchemeStep, is_redefined
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.landmarks import LandmarkScheme


def check_sides(old: LandmarkScheme, new: LandmarkScheme, step: SchemeStep) -> None:
    """Refuse a new version in which a landmark that keeps its definition changes its side.

    Args:
        old: version so far.
        new: the next version.
        step: between them.

    Raises:
        InputError: which landmark it is, and what to do.
    """
    before = step.old_names(old, new)
    now = {old_name: name for name, old_name in before.items() if old_name is not None}
    new_sides, paired = _sides(new), {name for pair in new.pairs for name in pair}
    for pair in old.pairs:
        for old_name, other in (pair, pair[::-1]):
            name = now.get(old_name)
            if name is None or is_redefined(name, old_name, step, old, new):
                continue
            if name not in new_sides and other in now:
                raise InputError(f"'{name}' and '{now[other]}' were a pair and are none in the new scheme: list them "
                                 "under 'pairs'.")
            if name not in new_sides:
                raise InputError(f"'{name}' lost its other side '{other}': keep that one, drop both, or list '{name}' "
                                 "under 'lateral'.")
            if name in paired and new_sides[name] != _sides(old)[old_name]:
                raise InputError(f"'{name}' was {_sides(old)[old_name]} of its pair and is {new_sides[name]} of it in "
                                 "the new scheme: exchange the two names of the pair.")
    for old_name in old.lateral:
        name = now.get(old_name)
        if name is not None and name not in new_sides and not is_redefined(name, old_name, step, old, new):
            raise InputError(f"'{name}' lies on one side, but the new scheme has it in the middle: list it under "
                             "'lateral', or under 'pairs' with its other side.")


def _sides(scheme: LandmarkScheme) -> dict[str, str]:
    """"the left" or "the right" of paired landmarks, "lateral" of those without a counterpart; others are left out."""
    sides = {name: "lateral" for name in scheme.lateral}
    for left, right in scheme.pairs:
        sides |= {left: "the left", right: "the right"}
    return sides
