"""What is said about a landmark: found, absent, not examined or not recognised, and whether a scan is recognised."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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


@dataclass(frozen=True)
class Recognition:
    """How strange a scan is among those that a model was calibrated with.

    Attributes:
        p_value: conformal p-value, the share of the calibration scans (with this one) that are as strange or stranger;
            among scans of the model's own anatomy, uniform from 0 to 1.
        false_alarm_rate: share of scans of the model's own anatomy that are refused wrongly; up to this p-value, a scan
            is refused.
    """

    p_value: float
    false_alarm_rate: float

    @property
    def recognised(self) -> bool:
        """Whether the scan looks like what the model knows."""
        return self.p_value > self.false_alarm_rate


@dataclass(frozen=True)
class Miscounted:
    """How likely it is that structures that look alike, as vertebrae, are counted one off as a whole.

    Attributes:
        probability: that more than half of them are.
        doubtful: whether people are to be told.
        hit_rate, false_alarm_rate: share of the wrongly and of the rightly counted scans of which they are, measured
            on scans that this was not fitted to; None where there was none.
        step: by how many landmarks of the scheme the next likely count differs: landmark k has the place of landmark
            k + step there.
    """

    probability: float
    doubtful: bool
    hit_rate: float | None
    false_alarm_rate: float | None
    step: int
