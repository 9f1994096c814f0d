"""What landmarks are (scheme), where they were found or marked (set), and what is said about them."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.measurements import Measurements


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


# Positions that lie closer together than this count as the same; files keep fewer digits than memory.
SAME_PLACE_MM = 1e-3


class ReviewState(enum.Enum):
    """What is stated about a landmark, and by whom.

    PROPOSED, PROPOSED_ABSENT, NOT_EXAMINED and NOT_RECOGNISED are a model's statements. ACCEPTED and ABSENT are a
    person's, after a look at the landmark; the two IN_BULK were accepted together with others, by their probability
    alone. MOVED and PLACED were positioned by a person. UNKNOWN: nobody has stated anything.
    """

    PROPOSED = "proposed"
    PROPOSED_ABSENT = "proposed absent"
    NOT_EXAMINED = "not examined"
    NOT_RECOGNISED = "not recognised"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    ACCEPTED_IN_BULK = "accepted in bulk"
    MOVED = "moved"
    PLACED = "placed"
    ABSENT = "absent"
    ABSENT_IN_BULK = "absent, accepted in bulk"

    @property
    def is_proposal(self) -> bool:
        """Whether a model states something that a person can accept: found and absent can be, and nothing else."""
        return self in (ReviewState.PROPOSED, ReviewState.PROPOSED_ABSENT)

    @property
    def is_unexamined(self) -> bool:
        """Whether a model states that it does not know."""
        return self in (ReviewState.NOT_EXAMINED, ReviewState.NOT_RECOGNISED)

    @property
    def is_decided(self) -> bool:
        """Whether a person has decided."""
        return not (self.is_proposal or self.is_unexamined or self is ReviewState.UNKNOWN)

    @property
    def is_waiting(self) -> bool:
        """Whether a person is expected to decide: there is no need to, where the model could not look."""
        return self.is_proposal or self is ReviewState.UNKNOWN

    @property
    def in_bulk(self) -> bool:
        """Whether it was accepted together with others, without a look at each."""
        return self in (ReviewState.ACCEPTED_IN_BULK, ReviewState.ABSENT_IN_BULK)

    @property
    def has_position(self) -> bool:
        """Whether the landmark has a position."""
        return self in _WITH_POSITION


_WITH_POSITION = frozenset(
    {ReviewState.PROPOSED, ReviewState.ACCEPTED, ReviewState.ACCEPTED_IN_BULK, ReviewState.MOVED, ReviewState.PLACED}
)


def review_state(
    position: np.ndarray | None,
    proposed: np.ndarray | None,
    *,
    unknown: bool = False,
    proposed_absent: bool = False,
    accepted: bool = False,
    in_bulk: bool = False,
    cause: Cause | None = None,
) -> ReviewState:
    """What has been decided about a landmark, as far as it is seen in where it lies.

    Args:
        position: (3,) mm where it lies now; None without a position.
        proposed: (3,) mm, in the same frame, where a model saw it; None where it did not.
        unknown: without a position: nobody says whether the landmark exists.
        proposed_absent: a model said that it does not exist.
        accepted: a person has agreed with the proposal.
        in_bulk: together with others, without a look at this one.
        cause: why a model did not know.
    """
    if position is not None:
        if proposed is None:
            return ReviewState.PLACED
        if np.linalg.norm(np.asarray(position) - proposed) > SAME_PLACE_MM:
            return ReviewState.MOVED
        accepted_state = ReviewState.ACCEPTED_IN_BULK if in_bulk else ReviewState.ACCEPTED
        return accepted_state if accepted else ReviewState.PROPOSED
    if unknown:
        return ReviewState(cause.statement.value) if cause else ReviewState.UNKNOWN
    if proposed_absent and not accepted:
        return ReviewState.PROPOSED_ABSENT
    return ReviewState.ABSENT_IN_BULK if in_bulk and proposed_absent else ReviewState.ABSENT


@dataclass(frozen=True)
class LandmarkDefinition:
    """A named point and the words that say where it lies.

    Attributes:
        name: short unique label, shown at the control point.
        definition: how an anatomist would find it.
    """

    name: str
    definition: str


@dataclass(frozen=True)
class LandmarkScheme:
    """The ordered list of points that a model finds or a project marks.

    Attributes:
        id: identifier, for example ``mouse-skull-45``.
        version: version of the definitions.
        landmarks: the points, in the order of every array that belongs to the scheme.
        pairs: (left name, right name) of points that a mirror image exchanges.
        lateral: names of points of one side whose counterpart on the other side is not in the scheme; all landmarks
            that are neither paired nor lateral lie in the midline.
        measurements: what is measured on them; None where the scheme does not say.
    """

    id: str
    version: str
    landmarks: tuple[LandmarkDefinition, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    lateral: tuple[str, ...] = ()
    measurements: Measurements | None = None

    def __post_init__(self) -> None:
        where = f"In the scheme '{self.id}', "
        if not self.landmarks:
            raise InputError(f"{where}there are no landmarks: name one at least.")
        counts = Counter(self.names)
        for name, count in counts.items():
            if count > 1:
                raise InputError(f"{where}two landmarks are called '{name}': give each a name of its own.")
        sides = Counter([name for pair in self.pairs for name in pair] + list(self.lateral))
        for name, count in sides.items():
            if name not in counts:
                raise InputError(f"{where}'{name}' under 'pairs' or 'lateral' is no landmark: add or remove it.")
            if count > 1:
                raise InputError(f"{where}'{name}' stands twice under 'pairs' and 'lateral': keep one place.")
        if self.measurements is not None:
            try:
                self.measurements.check(self.names)
            except ValueError as error:
                raise InputError(f"{where}{error}.") from error

    @property
    def names(self) -> tuple[str, ...]:
        """Landmark names in order."""
        return tuple(landmark.name for landmark in self.landmarks)

    def __len__(self) -> int:
        return len(self.landmarks)

    def mirror_order(self) -> np.ndarray:
        """(K,) indices: landmark k of a mirrored subject is landmark ``order[k]`` of the original; -1 where unknown."""
        index = {name: k for k, name in enumerate(self.names)}
        order = np.arange(len(self))
        for left, right in self.pairs:
            order[index[left]], order[index[right]] = index[right], index[left]
        for name in self.lateral:
            order[index[name]] = -1
        return order

    def to_dict(self) -> dict:
        """JSON-ready form of the landmarks, without what is measured on them."""
        return {
            "id": self.id,
            "version": self.version,
            "landmarks": [{"name": p.name, "definition": p.definition} for p in self.landmarks],
            "pairs": [list(pair) for pair in self.pairs],
            "lateral": list(self.lateral),
        }


def agreeing_presence(by_status: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Presence of points that have both a status and a stored probability.

    Args:
        by_status: (K,) 1 defined, 0 missing, NaN neither: what a person sees and may have changed.
        stored: (K,) probability that was written with the points, NaN where none was.

    Returns:
        (K,) the stored probability where it agrees with the status, else what the status says.
    """
    agrees = np.isfinite(stored) & np.isfinite(by_status) & ((stored >= 0.5) == (by_status >= 0.5))
    return np.where(agrees, stored, by_status)


@dataclass(frozen=True)
class LandmarkSet:
    """Positions of landmarks in one scan with what is known about each.

    Every array has one row per landmark, in the order of `names`.

    Attributes:
        names: (K) labels.
        positions: (K, 3) LPS mm; NaN where the landmark is absent or unknown.
        presence: (K,) probability that the landmark is in the scan: 1 or 0 for a human's statement, NaN for unknown.
        confidence: (K,) probability that the stated position is within the model's tolerance of the true one; NaN
            where nobody says.
        radius: (K,) mm around the stated position that hold the true one in 90 % of scans; NaN where nobody says.
        definitions: (K) texts, empty where unknown.
        causes: (K) why nothing is known of a landmark; None where it is known, or where nobody says why not.
        networks: (K, 3) LPS mm where a model's networks have a landmark whose position was placed on the surface of
            bone near by; NaN for all others.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    # None is taken from whoever makes a set, and never found in one.
    presence: np.ndarray = None  # type: ignore[assignment]
    confidence: np.ndarray = None  # type: ignore[assignment]
    radius: np.ndarray = None  # type: ignore[assignment]
    definitions: tuple[str, ...] = None  # type: ignore[assignment]
    causes: tuple[Cause | None, ...] = None  # type: ignore[assignment]
    networks: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(set(self.names)) != count:
            raise InputError("Landmark names of a set must be unique: rename the points that share a name.")
        if self.definitions is not None and len(self.definitions) != count:
            raise InputError(f"{count} landmarks need as many definitions, not {len(self.definitions)}.")
        positions = np.array(self.positions, dtype=np.float64).reshape(count, 3)
        finite = np.isfinite(positions).all(axis=1)
        presence = finite.astype(float) if self.presence is None else np.array(self.presence, dtype=np.float64)
        set_field = object.__setattr__
        set_field(self, "names", tuple(self.names))
        set_field(self, "presence", presence.reshape(count))
        for name in ("confidence", "radius"):
            given = getattr(self, name)
            set_field(self, name, np.full(count, np.nan) if given is None else np.array(given, float).reshape(count))
        set_field(self, "definitions", tuple(self.definitions) if self.definitions else ("",) * count)
        causes = self.causes or (None,) * count
        set_field(
            self, "causes", tuple(c if unknown else None for c, unknown in zip(causes, self.unknown, strict=True))
        )
        networks = np.full((count, 3), np.nan) if self.networks is None else np.array(self.networks, np.float64)
        networks = networks.reshape(count, 3)
        positions[~self.present] = networks[~self.present] = np.nan
        set_field(self, "positions", positions)
        set_field(self, "networks", networks)
        if not np.isfinite(positions[self.present]).all():
            raise InputError("A landmark is marked as present but has no finite position.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def present(self) -> np.ndarray:
        """(K,) bool: presence is at least 0.5. Unknown landmarks are not present."""
        present: np.ndarray = np.nan_to_num(self.presence, nan=0.0) >= 0.5
        return present

    @property
    def unknown(self) -> np.ndarray:
        """(K,) bool: nobody has said whether the landmark exists."""
        unknown: np.ndarray = np.isnan(self.presence)
        return unknown

    @property
    def doubts(self) -> np.ndarray:
        """(K,) probability that what is said of a landmark is wrong; NaN where nobody says anything, or how surely."""
        doubts: np.ndarray = np.clip(np.where(self.present, 1 - self.confidence, self.presence), 0, 1)
        return doubts

    @property
    def moved_mm(self) -> np.ndarray:
        """(K,) mm from the networks' point to that on the surface of bone; NaN where a landmark was not placed."""
        moved: np.ndarray = np.linalg.norm(self.positions - self.networks, axis=1)
        return moved

    @property
    def statements(self) -> tuple[Statement, ...]:
        """(K) what is said of each landmark."""
        return tuple(
            Statement.FOUND
            if present
            else Statement.ABSENT
            if not unknown
            else cause.statement
            if cause
            else Statement.NOT_EXAMINED
            for present, unknown, cause in zip(self.present, self.unknown, self.causes)
        )

    def unknown_where(self, rows: Sequence[bool] | np.ndarray, cause: Cause) -> LandmarkSet:
        """The same set with nothing known of some landmarks: no position, no presence, no confidence, no radius.

        Args:
            rows: (K,) bool: which.
            cause: why not; landmarks of which nothing was known before keep their cause.
        """

        def known(values: np.ndarray) -> np.ndarray:
            return np.where(rows, np.nan, values)

        causes = tuple((old or cause) if row else old for row, old in zip(rows, self.causes))
        return replace(
            self,
            presence=known(self.presence),
            confidence=known(self.confidence),
            radius=known(self.radius),
            causes=causes,
        )

    def ordered_as(self, names: tuple[str, ...]) -> LandmarkSet:
        """The same set with exactly these names in this order; landmarks it lacks become unknown."""
        index = {name: k for k, name in enumerate(self.names)}
        rows = [index.get(name, -1) for name in names]

        def pick(values: np.ndarray) -> np.ndarray:
            padded = np.concatenate([values, np.full((1, *values.shape[1:]), np.nan)])
            return padded[rows]

        definitions = tuple((*self.definitions, "")[row] for row in rows)
        causes = tuple((*self.causes, None)[row] for row in rows)
        arrays = {n: pick(getattr(self, n)) for n in ("positions", "presence", "confidence", "radius", "networks")}
        return LandmarkSet(tuple(names), definitions=definitions, causes=causes, **arrays)

    def with_positions(self, positions: np.ndarray) -> LandmarkSet:
        """The same set with other (K, 3) LPS positions, of which no networks' points are known."""
        return replace(self, positions=positions, networks=np.full((len(self), 3), np.nan))
