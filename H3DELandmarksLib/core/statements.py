"""What is said about a landmark: found, absent, not examined or not recognised."""

from __future__ import annotations

import enum


class Statement(enum.Enum):
    """What is said about one landmark. Only the first two are knowledge, which can be accepted and teaches.

    FOUND: it is in the scan, at a stated position. ABSENT: somebody looked where it should be and it is not there.
    NOT_EXAMINED: nobody looked, or could have seen it. NOT_RECOGNISED: the scan does not look like those that the
    model knows, so that what it says of a landmark means nothing, or it can't tell whether the landmark is there.
    """

    FOUND = "found"
    ABSENT = "absent"
    NOT_EXAMINED = "not examined"
    NOT_RECOGNISED = "not recognised"

    @property
    def is_known(self) -> bool:
        """Whether it says something about the patient."""
        return self in (Statement.FOUND, Statement.ABSENT)


class Cause(enum.Enum):
    """Why nothing is known about a landmark; the values complete "not examined: ..." and "not recognised: ...".

    NO_PLACE: the points that were found do not tell where in the scan it should be. UNSURE: it is neither likely enough
    to be shown nor unlikely enough to be absent.
    """

    TOO_COARSE = "voxels too coarse"
    OUTSIDE_REGION = "outside the region"
    OUTSIDE_SCAN = "outside the scan"
    NOT_ASKED_FOR = "not asked for"
    NO_PLACE = "place not found"
    UNSURE = "neither surely there nor surely absent"
    UNLIKE = "the scan does not look like what the model knows"

    @property
    def statement(self) -> Statement:
        """The statement that it is a cause of."""
        return Statement.NOT_RECOGNISED if self in (Cause.UNLIKE, Cause.UNSURE) else Statement.NOT_EXAMINED
