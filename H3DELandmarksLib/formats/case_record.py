"""What a corrected case says: for each landmark what a model proposed and what a person decided.

Only what is listed here is ever written. There is no field for the names of patients, files, folders or nodes, for
descriptions or for anything else that a person types freely, and a record with any other field cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet, ReviewState
from H3DELandmarksLib.formats import strict_json as strict

FORMAT_VERSION = 1
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
MOST_LANDMARKS = 10_000
# What ids and versions of models, schemes and software may look like; no blanks, so no sentence and no full name.
TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
CASE_ID = re.compile(r"case-[0-9a-f]{16}(-[2-9])?")


_WITH_POSITION = (ReviewState.PROPOSED, ReviewState.ACCEPTED, ReviewState.MOVED, ReviewState.PLACED)


@dataclass(frozen=True)
class CaseLandmark:
    """One landmark of a revision.

    Attributes:
        name: of the scheme.
        state: what a person has decided.
        position: (3,) LPS mm where it lies now; None without a position.
        proposed: (3,) LPS mm where the model saw it; None where it did not.
        presence, confidence, radius: what the model said of it, as in LandmarkSet; None where not stated.
    """

    name: str
    state: ReviewState
    position: np.ndarray | None = None
    proposed: np.ndarray | None = None
    presence: float | None = None
    confidence: float | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        if (self.position is not None) != (self.state in _WITH_POSITION):
            raise InputError(
                f"The landmark '{self.name}' cannot be '{self.state.value}' with or without its position: "
                "place it again, or mark it as absent."
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "name": self.name,
            "state": self.state.value,
            "position": None if self.position is None else [float(x) for x in self.position],
            "proposed": None if self.proposed is None else [float(x) for x in self.proposed],
            "presence": self.presence,
            "confidence": self.confidence,
            "radius90": self.radius,
        }

    @classmethod
    def from_dict(cls, data: Any) -> CaseLandmark:
        """Read the form written by `to_dict`; raises Malformed."""
        names = ("name", "state", "position", "proposed", "presence", "confidence", "radius90")
        entry = strict.fields(data, names)
        if entry["state"] not in {state.value for state in ReviewState}:
            raise strict.Malformed("an unknown state")

        def stated(name: str, high: float) -> float | None:
            return None if entry[name] is None else strict.number(entry[name], 0, high)

        try:
            return cls(
                strict.text(entry["name"], 200),
                ReviewState(entry["state"]),
                strict.point(entry["position"]),
                strict.point(entry["proposed"]),
                stated("presence", 1),
                stated("confidence", 1),
                stated("radius90", 1e6),
            )
        except InputError as error:
            raise strict.Malformed("a state that does not fit its position") from error


@dataclass(frozen=True)
class ModelName:
    """Which model proposed the landmarks."""

    id: str
    version: str

    def __post_init__(self) -> None:
        if not (TOKEN.fullmatch(self.id) and TOKEN.fullmatch(self.version)):
            raise InputError(f"'{self.id}@{self.version}' is no model: give its id and version, as mouse-skull@1.0.0.")

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read ``ID@VERSION``."""
        return cls(*text.partition("@")[::2])


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
    """

    landmarks: tuple[CaseLandmark, ...]
    scheme: tuple[str, str]
    model: ModelName | None
    software: str
    time: datetime
    subject: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "format_version": FORMAT_VERSION,
            "time": self.time.astimezone(timezone.utc).strftime(TIME_FORMAT),
            "software": self.software,
            "scheme": {"id": self.scheme[0], "version": self.scheme[1]},
            "model": None if self.model is None else {"id": self.model.id, "version": self.model.version},
            "subject": self.subject,
            "landmarks": [landmark.to_dict() for landmark in self.landmarks],
        }

    @classmethod
    def from_dict(cls, data: Any) -> Revision:
        """Read the form written by `to_dict`; raises Malformed."""
        names = ("format_version", "time", "software", "scheme", "model", "subject", "landmarks")
        entry = strict.fields(data, names)
        if entry["format_version"] != FORMAT_VERSION:
            raise strict.Malformed("another format")
        landmarks = tuple(map(CaseLandmark.from_dict, strict.listed(entry["landmarks"], MOST_LANDMARKS)))
        if len({landmark.name for landmark in landmarks}) != len(landmarks):
            raise strict.Malformed("a landmark twice")
        subject = entry["subject"]
        if subject is not None and not CASE_ID.fullmatch(strict.text(subject, 64)):
            raise strict.Malformed("a subject that is no case")
        model = None if entry["model"] is None else ModelName(*_named(entry["model"]))
        try:
            time = datetime.strptime(strict.text(entry["time"], 32), TIME_FORMAT).replace(tzinfo=timezone.utc)
        except ValueError as error:
            raise strict.Malformed("no time") from error
        return cls(landmarks, _named(entry["scheme"]), model, _token(entry["software"]), time, subject)

    def says_the_same(self, other: Revision) -> bool:
        """Whether both say the same of every landmark, whenever and with which version they were kept."""
        mine, theirs = self.to_dict(), other.to_dict()
        return all(mine[key] == theirs[key] for key in ("scheme", "model", "subject", "landmarks"))

    def corrected(self, scheme: LandmarkScheme) -> LandmarkSet:
        """What a person decided: unknown wherever nobody has; LPS mm, in the order of `scheme`."""
        presence = {True: 1.0, False: 0.0}
        return _landmark_set(
            scheme,
            [p for p in self.landmarks if p.state.is_decided],
            lambda p: p.position,
            lambda p: presence[p.position is not None],
        )

    def proposed(self, scheme: LandmarkScheme) -> LandmarkSet:
        """What the model said; LPS mm, in the order of `scheme`."""

        def presence(p: CaseLandmark) -> float:
            if p.presence is not None:
                return p.presence
            return np.nan if p.proposed is None else 1.0

        return _landmark_set(scheme, self.landmarks, lambda p: p.proposed, presence)

    def counts(self) -> dict[str, int]:
        """How many landmarks there are of each state that occurs."""
        found = [landmark.state for landmark in self.landmarks]
        return {state.value: found.count(state) for state in ReviewState if state in found}


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


def _landmark_set(scheme: LandmarkScheme, landmarks: Sequence[CaseLandmark], position, presence) -> LandmarkSet:
    """A set in the order of a scheme; landmarks that are not given are unknown."""
    nowhere = np.full(3, np.nan)
    names = tuple(p.name for p in landmarks)
    points = np.array([nowhere if position(p) is None else position(p) for p in landmarks]).reshape(-1, 3)

    def values(field: str) -> np.ndarray:
        return np.array([getattr(p, field) for p in landmarks], dtype=float)

    found = LandmarkSet(
        names, points, np.array([presence(p) for p in landmarks], dtype=float), values("confidence"), values("radius")
    )
    definitions = tuple(landmark.definition for landmark in scheme.landmarks)
    ordered = found.ordered_as(scheme.names)
    return LandmarkSet(
        ordered.names, ordered.positions, ordered.presence, ordered.confidence, ordered.radius, definitions
    )


def _named(data: Any) -> tuple[str, str]:
    entry = strict.fields(data, ("id", "version"))
    return _token(entry["id"]), _token(entry["version"])


def _token(data: Any) -> str:
    if not TOKEN.fullmatch(strict.text(data, 64)):
        raise strict.Malformed("no id or version")
    return data
