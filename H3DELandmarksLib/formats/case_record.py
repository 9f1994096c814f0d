"""What a folder of corrected cases holds in JSON: reviews (``revision.json``), contents of scans, index and guides.

Only what is listed here is ever written. There is no entry for the names of patients, files, folders or nodes, for
descriptions or for anything else that a person types freely, and a file with any other entry cannot be read. Each
``...Record`` is a file as it lies on disk; `Revision`, `CaseLandmark` and `ImageContent` are what the library works
with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.landmarks import Cause, LandmarkScheme, LandmarkSet, ReviewState
from H3DELandmarksLib.formats.reading import Finite, Limits, Share, Text

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
MAX_LANDMARKS = 10_000
MAX_READERS = 100
MAX_VOXELS = 2**31
SAME_PLACE = 0.05  # voxels; NIfTI keeps positions to about seven digits
# What ids and versions of models, schemes and software may look like; no blanks, so no sentence and no full name.
TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
CASE_ID = re.compile(r"case-[0-9a-f]{16}(-[2-9])?")

Token = Annotated[str, Limits(pattern=f"^{TOKEN.pattern}$")]
CaseId = Annotated[str, Limits(pattern=f"^{CASE_ID.pattern}$")]
Sha256 = Annotated[str, Limits(pattern=r"^[0-9a-f]{64}$")]
LandmarkName = Annotated[str, Limits(min_length=1, max_length=200)]
Coordinate = Annotated[float, Limits(ge=-1e6, le=1e6, allow_inf_nan=False)]
Position = Annotated[tuple[Coordinate, ...], Limits(min_length=3, max_length=3)]
Radius = Annotated[float, Limits(ge=0, le=1e6, allow_inf_nan=False)]
Time = Annotated[str, Limits(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]

if TYPE_CHECKING:
    StateName = str
    CauseName = str
else:
    StateName, CauseName = (Literal[tuple(known.value for known in kind)] for kind in (ReviewState, Cause))
# What changes proposals beside corrected landmarks, see `core.systematic.Systematic`.
OTHER_CORRECTION = "correction of a landmark that is not of the scheme"
REMEDIES = frozenset(
    {"sides exchanged", "one structure off", "two landmarks on one structure", "counted one off", OTHER_CORRECTION}
)
_SINCE_VERSION_2 = frozenset(state for state in ReviewState if state.in_bulk or state.is_unexamined)


def utc_now() -> str:
    """The time, as ``2026-11-23T08:00:00Z``."""
    return datetime.now(timezone.utc).strftime(TIME_FORMAT)


def require_printable(*texts: str) -> None:
    """Refuse texts with characters that cannot be shown in one line; raises ValueError."""
    for text in texts:
        if not text.isprintable():
            raise ValueError(f"{text!r} holds characters that cannot be printed")


@dataclass(frozen=True)
class ModelName:
    """Id and version of a model."""

    id: Token
    version: Token

    def __post_init__(self) -> None:
        if not (TOKEN.fullmatch(self.id) and TOKEN.fullmatch(self.version)):
            raise InputError(f"'{self.id}@{self.version}' is no model: give its id and version, as mouse-skull@1.0.0.")

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read ``ID@VERSION``.

        Raises:
            InputError: it is written otherwise.
        """
        id_, _, version = text.partition("@")
        return cls(id_, version)

    def __str__(self) -> str:
        return f"{self.id}@{self.version}"


@dataclass(frozen=True)
class SchemeName:
    """Id and version of a scheme."""

    id: Token
    version: Token


@dataclass(frozen=True)
class LandmarkRecord:
    """A landmark in ``revision.json``; entries as in `CaseLandmark`."""

    name: LandmarkName
    state: StateName
    position: Position | None
    proposed: Position | None
    presence: Share | None
    confidence: Share | None
    radius90: Radius | None
    cause: CauseName | None = None
    revised_by: LandmarkName | None = None

    def __post_init__(self) -> None:
        require_printable(self.name)
        _check_state(self.name, ReviewState(self.state), self.position is not None)


@dataclass(frozen=True)
class ReaderPointRecord:
    """A landmark as one reader marked it.

    Attributes:
        name: of the scheme.
        position: (3,) LPS mm; None where the reader states that it is absent.
    """

    name: LandmarkName
    position: Position | None

    def __post_init__(self) -> None:
        require_printable(self.name)


@dataclass(frozen=True)
class ReaderRecord:
    """What one reader said of a scan; landmarks that are not listed the reader said nothing of.

    Attributes:
        reader: a word for the reader, such as "senior"; never a person's name.
    """

    reader: Token
    landmarks: Annotated[tuple[ReaderPointRecord, ...], Limits(max_length=MAX_LANDMARKS)]

    def __post_init__(self) -> None:
        if len({point.name for point in self.landmarks}) != len(self.landmarks):
            raise ValueError(f"the reader '{self.reader}' marked a landmark twice")


@dataclass(frozen=True)
class RevisionRecord:
    """``revision.json``; entries as in `Revision`.

    The first version knew neither causes nor acceptance in bulk, the second no readers, the third no
    revision of proposals.
    """

    format_version: Literal[1, 2, 3, 4]
    time: Time
    software: Token
    scheme: SchemeName
    model: ModelName | None
    subject: CaseId | None
    landmarks: Annotated[tuple[LandmarkRecord, ...], Limits(max_length=MAX_LANDMARKS)]
    readers: Annotated[tuple[ReaderRecord, ...], Limits(max_length=MAX_READERS)] | None = None

    def __post_init__(self) -> None:
        names = {landmark.name for landmark in self.landmarks}
        if len(names) != len(self.landmarks):
            raise ValueError("a landmark stands there twice")
        readers = self.readers or ()
        if readers and self.format_version < 3:
            raise ValueError("this version of the format has no readers")
        if len({entry.reader.casefold() for entry in readers}) != len(readers):
            raise ValueError("a reader stands there twice")
        if any(point.name not in names for entry in readers for point in entry.landmarks):
            raise ValueError("a reader marked a landmark that the review does not have")
        if any(p.revised_by not in names | REMEDIES | {None} for p in self.landmarks):
            raise ValueError("a proposal was revised by what is no landmark of the review and no remedy")
        datetime.strptime(self.time, TIME_FORMAT)


_Side = Annotated[int, Limits(ge=1, le=2**16)]


@dataclass(frozen=True)
class ImageRecord:
    """``image.json``.

    Attributes:
        voxels_sha256: of shape and values, see `ImageContent`.
        shape: (3,) voxels, in the order closest to L, P, S.
        affine: (4, 4) rows, IJK -> LPS mm.
    """

    format_version: Literal[1]
    voxels_sha256: Sha256
    shape: tuple[_Side, _Side, _Side]
    affine: Annotated[
        tuple[Annotated[tuple[Finite, ...], Limits(min_length=4, max_length=4)], ...],
        Limits(min_length=4, max_length=4),
    ]

    def __post_init__(self) -> None:
        if np.prod(self.shape, dtype=np.float64) > MAX_VOXELS:
            raise ValueError(f"a scan has at most {MAX_VOXELS} voxels")
        Grid(np.array(self.affine), self.shape)


@dataclass(frozen=True)
class ImageContent:
    """Values and place of a scan, its axes in the order closest to L, P, S.

    Attributes:
        digest: SHA-256 of shape and values, whatever number type and axis order they were stored in.
        grid: where the voxels lie.
    """

    digest: str
    grid: Grid

    @property
    def case_id(self) -> str:
        """Id of the first case with these voxels; other cases with the same voxels elsewhere get a number behind."""
        return f"case-{self.digest[:16]}"

    def same_voxels(self, other: ImageContent) -> bool:
        """Whether the values are the same."""
        return self.digest == other.digest

    def same_image(self, other: ImageContent) -> bool:
        """Whether values and place are the same."""
        return self.same_voxels(other) and self.same_place(other.grid)

    def same_place(self, grid: Grid) -> bool:
        """Whether the voxels lie where those of a grid do, whose axes have the same order."""
        if self.grid.shape != grid.shape:
            return False
        corners = np.array(np.meshgrid(*([0, n - 1] for n in self.grid.shape), indexing="ij")).reshape(3, -1).T
        apart = self.grid.lps_from_ijk(corners) - grid.lps_from_ijk(corners)
        return bool(np.linalg.norm(apart, axis=1).max() <= SAME_PLACE * self.grid.spacing.min())

    def to_record(self) -> ImageRecord:
        """The file of it."""
        return ImageRecord(1, self.digest, self.grid.shape, tuple(map(tuple, self.grid.affine.tolist())))

    @classmethod
    def from_record(cls, record: ImageRecord) -> ImageContent:
        """The content that a file names."""
        return cls(record.voxels_sha256, Grid(np.array(record.affine), record.shape))


@dataclass(frozen=True)
class CaseLandmark:
    """One landmark of a review.

    Attributes:
        name: of the scheme.
        state: what a person has decided.
        position: (3,) LPS mm where it lies now; None without a position.
        proposed: (3,) LPS mm where the model saw it; None where it did not.
        presence, confidence, radius: what the model said of it, as in LandmarkSet; None where not stated.
        cause: why the model did not know, whatever a person has stated since; None where it did.
        revised_by: what has changed the model's proposal before a person decided: the correction of the landmark of
            this name, or one of `REMEDIES`; None where nothing has.
    """

    name: str
    state: ReviewState
    position: np.ndarray | None = None
    proposed: np.ndarray | None = None
    presence: float | None = None
    confidence: float | None = None
    radius: float | None = None
    cause: Cause | None = None
    revised_by: str | None = None

    def __post_init__(self) -> None:
        _check_state(self.name, self.state, self.position is not None)

    @property
    def is_taught(self) -> bool:
        """Whether a person has decided; nobody has looked at what follows from a correction and is accepted in bulk."""
        return self.state.is_decided and not (self.revised_by and self.state.in_bulk)

    def revised(self, by: str | None, names: Mapping[str, str]) -> CaseLandmark:
        """The same, revised by a remedy or by the correction of a landmark, whose name is looked up."""
        return replace(self, revised_by=by if by is None or by in REMEDIES else names.get(by, OTHER_CORRECTION))

    @classmethod
    def from_sets(
        cls, name: str, state: ReviewState, corrected: LandmarkSet, proposed: LandmarkSet, row: int
    ) -> CaseLandmark:
        """A landmark of two sets in the same order.

        Args:
            name: of the scheme.
            state: what a person has decided.
            corrected: where the points lie now, LPS mm.
            proposed: what the model said.
            row: of the landmark in both.
        """
        position, seen = (points.positions[row] if points.present[row] else None for points in (corrected, proposed))
        values = (proposed.presence[row], proposed.confidence[row], proposed.radius[row])
        presence, confidence, radius = (float(value) if np.isfinite(value) else None for value in values)
        return cls(name, state, position, seen, presence, confidence, radius, proposed.causes[row])

    def to_record(self) -> LandmarkRecord:
        """Its part of the file."""
        position, proposed = map(_plain_position, (self.position, self.proposed))
        said = (self.presence, self.confidence, self.radius)
        cause = self.cause.value if self.cause else None
        return LandmarkRecord(self.name, self.state.value, position, proposed, *said, cause, self.revised_by)

    @classmethod
    def from_record(cls, record: LandmarkRecord) -> CaseLandmark:
        """The landmark that a file names."""
        position, proposed = (None if p is None else np.array(p) for p in (record.position, record.proposed))
        said = (record.presence, record.confidence, record.radius90)
        cause = Cause(record.cause) if record.cause else None
        return cls(record.name, ReviewState(record.state), position, proposed, *said, cause, record.revised_by)


@dataclass(frozen=True)
class Revision:
    """One review of a case.

    Attributes:
        landmarks: in the order of the scheme.
        scheme: (id, version) of the scheme that the landmarks follow.
        model: which model proposed them; None for landmarks that a person placed from the beginning.
        software: version of this software.
        time: when the review was kept, UTC.
        subject: id of another case of the same subject; None where the case stands for a subject of its own.
        readers: what several people marked in the scan, each for himself, LPS mm, by a word for each; unknown where one
            said nothing. `landmarks` is the reference, such as their mean.
    """

    landmarks: tuple[CaseLandmark, ...]
    scheme: tuple[str, str]
    model: ModelName | None
    software: str
    time: datetime
    subject: str | None = None
    readers: Mapping[str, LandmarkSet] = field(default_factory=dict)

    def to_record(self) -> RevisionRecord:
        """The file of it, in the first version where that can hold it, for programs that know no other."""
        landmarks = tuple(landmark.to_record() for landmark in self.landmarks)
        is_simple = all(p.cause is None and ReviewState(p.state) not in _SINCE_VERSION_2 for p in landmarks)
        return RevisionRecord(
            4 if any(p.revised_by for p in landmarks) else 3 if self.readers else 1 if is_simple else 2,
            self.time.astimezone(timezone.utc).strftime(TIME_FORMAT),
            self.software,
            SchemeName(*self.scheme),
            self.model,
            self.subject,
            landmarks,
            tuple(_reader_record(name, points) for name, points in sorted(self.readers.items())) or None,
        )

    @classmethod
    def from_record(cls, record: RevisionRecord) -> Revision:
        """The review that a file holds."""
        return cls(
            tuple(map(CaseLandmark.from_record, record.landmarks)),
            (record.scheme.id, record.scheme.version),
            record.model,
            record.software,
            datetime.strptime(record.time, TIME_FORMAT).replace(tzinfo=timezone.utc),
            record.subject,
            {entry.reader: _points_of_reader(entry) for entry in record.readers or ()},
        )

    def says_the_same(self, other: Revision) -> bool:
        """Whether both say the same of every landmark, whenever and with which version they were kept."""
        mine, theirs = self.to_record(), other.to_record()
        said = ("scheme", "model", "subject", "landmarks", "readers")
        return all(getattr(mine, name) == getattr(theirs, name) for name in said)

    def positions(self, scheme: LandmarkScheme) -> np.ndarray:
        """(K, 3) LPS mm of all points, reviewed or not, in the order of `scheme`; NaN where there is none."""
        by_name = {p.name: p.position for p in self.landmarks if p.position is not None}
        return np.array([by_name.get(name, np.full(3, np.nan)) for name in scheme.names], dtype=float).reshape(-1, 3)

    def corrected(self, scheme: LandmarkScheme) -> LandmarkSet:
        """What a person decided: unknown wherever nobody has; LPS mm, in the order of `scheme`.

        Confidence and radius are the model's, and stand with the places that it has seen and a person has accepted.
        """
        accepted = (ReviewState.ACCEPTED, ReviewState.ACCEPTED_IN_BULK)
        taught = [p for p in self.landmarks if p.is_taught]
        decided = tuple(p if p.state in accepted else replace(p, confidence=None, radius=None) for p in taught)
        presence = [float(p.position is not None) for p in decided]
        return _landmark_set(scheme, decided, [p.position for p in decided], presence)

    def proposed(self, scheme: LandmarkScheme) -> LandmarkSet:
        """What the model said; LPS mm, in the order of `scheme`."""
        seen = [np.nan if p.proposed is None else 1.0 for p in self.landmarks]
        presence = [s if p.presence is None else p.presence for p, s in zip(self.landmarks, seen)]
        said = _landmark_set(scheme, self.landmarks, [p.proposed for p in self.landmarks], presence)
        causes = {p.name: p.cause for p in self.landmarks}
        return replace(said, causes=tuple(causes.get(name) for name in said.names))

    def counts(self) -> dict[str, int]:
        """How many landmarks there are of each state that occurs."""
        found = [landmark.state for landmark in self.landmarks]
        return {state.value: found.count(state) for state in ReviewState if state in found}


@dataclass(frozen=True)
class CaseSummary:
    """A line of the index.

    Attributes:
        id: of the case.
        revision: number of the newest review.
        subject: id of the case that stands for the subject.
        time: of the newest review, UTC.
        model: ID@VERSION, or None.
        scheme: ID@VERSION of the scheme that the newest review follows.
        shape: voxels along the axes of the scan, in the order closest to L, P, S.
        spacing_mm: along the same axes.
        states: how many landmarks of the newest scheme there are of each state.
    """

    id: str
    revision: int
    subject: str
    time: str
    model: str | None
    scheme: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    states: Mapping[str, int]


@dataclass(frozen=True)
class IndexRecord:
    """``index.json``, which is made again wherever it does not fit the cases.

    Attributes:
        scheme: ID@VERSION of the newest scheme.
    """

    format_version: Literal[2]
    scheme: str
    cases: tuple[CaseSummary, ...]


def complete(scheme: LandmarkScheme, landmarks: Iterable[CaseLandmark]) -> tuple[CaseLandmark, ...]:
    """The landmarks in the order of the scheme; those that are not given are unknown.

    Raises:
        InputError: one is not of the scheme, or given twice.
    """
    given: dict[str, CaseLandmark] = {}
    for landmark in landmarks:
        if landmark.name not in scheme.names or landmark.name in given:
            raise InputError(f"A point is not of the scheme '{scheme.id}' or given twice: use the scheme's own names.")
        given[landmark.name] = landmark
    return tuple(given.get(name) or CaseLandmark(name, ReviewState.UNKNOWN) for name in scheme.names)


def _reader_record(reader: str, points: LandmarkSet) -> ReaderRecord:
    positions = [_plain_position(p if there else None) for p, there in zip(points.positions, points.present)]
    said = zip(points.names, positions, points.unknown)
    return ReaderRecord(reader, tuple(ReaderPointRecord(name, p) for name, p, unknown in said if not unknown))


def _points_of_reader(record: ReaderRecord) -> LandmarkSet:
    nowhere = (np.nan,) * 3
    positions = np.array([point.position or nowhere for point in record.landmarks], dtype=float)
    presence = np.array([float(point.position is not None) for point in record.landmarks])
    return LandmarkSet(tuple(point.name for point in record.landmarks), positions.reshape(-1, 3), presence)


def _check_state(name: str, state: ReviewState, has_position: bool) -> None:
    if has_position != state.has_position:
        raise InputError(
            f"The landmark '{name}' cannot be '{state.value}' {'with' if has_position else 'without'} a position: "
            "place it again, or mark it as absent."
        )


def _plain_position(position: np.ndarray | None) -> tuple[float, ...] | None:
    return None if position is None else tuple(float(x) for x in position)


def _landmark_set(
    scheme: LandmarkScheme,
    landmarks: tuple[CaseLandmark, ...],
    positions: list[np.ndarray | None],
    presence: list[float],
) -> LandmarkSet:
    """A set in the order of a scheme, with its definitions; landmarks that are not given are unknown."""
    nowhere = np.full(3, np.nan)
    found = LandmarkSet(
        tuple(p.name for p in landmarks),
        np.array([nowhere if position is None else position for position in positions]).reshape(-1, 3),
        np.array(presence, dtype=float),
        np.array([p.confidence for p in landmarks], dtype=float),
        np.array([p.radius for p in landmarks], dtype=float),
    )
    definitions = tuple(landmark.definition for landmark in scheme.landmarks)
    return replace(found.ordered_as(scheme.names), definitions=definitions)


Point = tuple[Finite, Finite, Finite]


@dataclass(frozen=True)
class GuidePoint:
    """A point that a model has found."""

    name: Text
    position_lps_mm: Point


@dataclass(frozen=True, kw_only=True)
class GuideRecord:
    """Made again wherever it is missing, damaged or of other models.

    Attributes:
        asked: ``id@version`` of the models that could have looked at the scan.
        model: ``id@version`` of the one that guides; None where none recognises the scan.
        points: what it has found; none where it does not recognise the scan.
    """

    format: Literal["h3delandmarks-guide"] = "h3delandmarks-guide"
    format_version: Literal[1] = 1
    asked: tuple[Text, ...]
    model: Text | None
    points: tuple[GuidePoint, ...]

    @property
    def landmarks(self) -> LandmarkSet:
        """The points, LPS mm."""
        positions = np.array([p.position_lps_mm for p in self.points], dtype=float).reshape(-1, 3)
        return LandmarkSet(tuple(p.name for p in self.points), positions)

    @classmethod
    def of(cls, asked: tuple[str, ...], model: str | None, found: LandmarkSet | None) -> GuideRecord:
        """What a model has found, LPS mm."""
        rows = [] if found is None else [k for k in range(len(found)) if found.present[k]]
        points = tuple(GuidePoint(found.names[k], tuple(found.positions[k].tolist())) for k in rows) if found else ()
        return cls(asked=asked, model=model, points=points)
