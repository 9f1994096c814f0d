"""What a model has proposed, and a person has accepted, as kept with a point list.

Where a transform is hardened on the list, its points keep their place in the world, and so does the proposal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np

from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet, agreeing_presence
from H3DELandmarksLib.formats.case_record import CauseName, Coordinate
from H3DELandmarksLib.formats.reading import Finite, to_plain
from H3DELandmarksLib.scene.evidence import move_evidence
from H3DELandmarksLib.scene.point_list import (
    POINT_LIST_CLASS,
    has_measurements_of,
    landmarks_from_point_list,
    lps_from_ras,
    matrix_to_world,
    node_position,
    nodes_of,
    parsed,
    point_indices,
    state_measurements,
    world_position,
)
from H3DELandmarksLib.scene.scan_of_points import move_place

ATTRIBUTE = "H3DELandmarks.Review"
KEPT = 4  # proposals, as read


@dataclass(frozen=True)
class ProposedLandmark:
    """What a model said about one landmark.

    Attributes:
        position: (x, y, z) RAS mm in the frame of the node, so that it moves with the points under a parent transform;
            None for an absent or unknown landmark.
        presence, confidence, radius: as in LandmarkSet; None where not stated.
        cause: why the model did not know; None where it did.
        revised_by: what has changed the model's statement since: the name of a corrected landmark, or the remedy of a
            systematic error; None where nothing has.
        before: the statement that corrections of other landmarks revise, again and again; None where none has.
    """

    position: tuple[float, float, float] | None = None
    presence: float | None = None
    confidence: float | None = None
    radius: float | None = None
    cause: Cause | None = None
    revised_by: str | None = None
    before: ProposedLandmark | None = None


@dataclass(frozen=True)
class Proposal:
    """What a model proposed, and which of it a person has accepted.

    Attributes:
        landmarks: by name.
        accepted: names of landmarks that a person has accepted as proposed.
        pairs: (left name, right name) of points that can be mistaken for one another.
        in_bulk: names among the accepted ones that were accepted together with others, without a look at each.
        dismissed: whether a person has said that the points have no systematic error.
    """

    landmarks: dict[str, ProposedLandmark]
    accepted: frozenset[str] = frozenset()
    pairs: tuple[tuple[str, str], ...] = ()
    in_bulk: frozenset[str] = frozenset()
    dismissed: bool = False

    def with_accepted(self, names: Iterable[str], in_bulk: bool = False) -> Proposal:
        """The same with these names accepted as well."""
        more = frozenset(names)
        return replace(
            self, accepted=self.accepted | more, in_bulk=self.in_bulk | more if in_bulk else self.in_bulk - more
        )

    def without_accepted(self, names: Iterable[str]) -> Proposal:
        """The same with these names not accepted any more."""
        fewer = frozenset(names)
        return replace(self, accepted=self.accepted - fewer, in_bulk=self.in_bulk - fewer)

    def partner(self, name: str) -> str | None:
        """The landmark of the other side; None for one of the midline."""
        partners = dict(self.pairs) | {right: left for left, right in self.pairs}
        return partners.get(name)


@dataclass(frozen=True)
class _StoredStatement:
    """What is said of a landmark in the attribute; the names are those of files."""

    position: tuple[Coordinate, Coordinate, Coordinate] | None
    presence: Finite | None
    confidence: Finite | None
    radius90: Finite | None
    cause: CauseName | None = None
    revised_by: str | None = None


@dataclass(frozen=True)
class _StoredLandmark(_StoredStatement):
    before: _StoredStatement | None = None


_Statement = TypeVar("_Statement", bound=_StoredStatement)


@dataclass(frozen=True)
class _Stored:
    """The attribute. The first version knew neither causes nor acceptance in bulk, the second no revision."""

    version: Literal[1, 2, 3]
    landmarks: dict[str, _StoredLandmark]
    accepted: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    in_bulk: tuple[str, ...] = ()
    dismissed: bool | None = None


def proposal_of(
    node, pairs: Sequence[tuple[str, str]] = (), causes: Mapping[str, Cause | None] | None = None
) -> Proposal:
    """The points of a list as they are now as a proposal, with nothing accepted; nothing is written.

    Args:
        node: vtkMRMLMarkupsFiducialNode.
        pairs: (left name, right name).
        causes: by name, why a model did not know.

    Raises:
        InputError: a label is empty or used twice.
    """
    found = landmarks_from_point_list(node)
    found = replace(found, causes=tuple((causes or {}).get(name) for name in found.names))
    names = set(found.names)
    kept = tuple((left, right) for left, right in pairs if {left, right} <= names)
    return Proposal({name: _proposed(node, found, k) for k, name in enumerate(found.names)}, pairs=kept)


def keep_proposal(
    node, pairs: Sequence[tuple[str, str]] = (), causes: Mapping[str, Cause | None] | None = None
) -> None:
    """Remember the points of a list as they are now as a model's proposal; arguments and errors of `proposal_of`."""
    write_proposal(node, proposal_of(node, pairs, causes))


def write_proposal(node, proposal: Proposal) -> None:
    """Keep a proposal in the node's attributes, which scene files save."""
    landmarks = {
        name: _stored(_StoredLandmark, p, before=_stored(_StoredStatement, p.before) if p.before else None)
        for name, p in proposal.landmarks.items()
    }
    is_new = proposal.dismissed or any(p.revised_by for p in proposal.landmarks.values())
    content = _Stored(
        3 if is_new else 2,
        landmarks,
        tuple(sorted(proposal.accepted)),
        proposal.pairs,
        tuple(sorted(proposal.in_bulk)),
        proposal.dismissed or None,
    )
    node.SetAttribute(ATTRIBUTE, json.dumps(to_plain(content)))  # ASCII, as attributes of scene files must be


def _stored(kind: type[_Statement], said: ProposedLandmark, **more: _StoredStatement | None) -> _Statement:
    return kind(
        said.position,
        said.presence,
        said.confidence,
        said.radius,
        said.cause.value if said.cause else None,
        said.revised_by,
        **more,
    )


def _statement(stored: _StoredStatement, before: ProposedLandmark | None = None) -> ProposedLandmark:
    cause = Cause(stored.cause) if stored.cause else None
    values = (stored.position, stored.presence, stored.confidence, stored.radius90)
    return ProposedLandmark(*values, cause, stored.revised_by, before)


def read_proposal(node) -> Proposal | None:
    """The proposal that is kept with a point list; None if there is none, or none that this version can read."""
    return _parsed(node.GetAttribute(ATTRIBUTE) or "")


@lru_cache(maxsize=KEPT)  # a click asks a dozen times
def _parsed(text: str) -> Proposal | None:
    stored = parsed(_Stored, text)
    if stored is None:
        return None
    landmarks = {
        name: _statement(entry, _statement(entry.before) if entry.before else None)
        for name, entry in stored.landmarks.items()
    }
    accepted, in_bulk = frozenset(stored.accepted), frozenset(stored.in_bulk)
    return Proposal(landmarks, accepted, stored.pairs, accepted & in_bulk, bool(stored.dismissed))


def proposed_landmarks(node, proposal: Proposal | None = None) -> LandmarkSet | None:
    """A proposal as a landmark set in LPS world mm, in the order of a list's points.

    Args:
        node: vtkMRMLMarkupsFiducialNode.
        proposal: of this list; by default the one that is kept with it, and None comes back where none is.
    """
    proposal = proposal or read_proposal(node)
    if proposal is None:
        return None
    indices = point_indices(node)
    names = tuple(node.GetNthControlPointLabel(k) for k in indices)
    entries = [proposal.landmarks.get(name, ProposedLandmark()) for name in names]
    nowhere = (np.nan,) * 3
    world = [nowhere if e.position is None else world_position(node, e.position) for e in entries]

    def values(field: str) -> np.ndarray:
        return np.array([getattr(e, field) for e in entries], dtype=float)  # None becomes NaN

    return LandmarkSet(
        names,
        lps_from_ras(np.array(world).reshape(-1, 3)),
        values("presence"),
        values("confidence"),
        values("radius"),
        tuple(node.GetNthControlPointDescription(k) for k in indices),
        tuple(e.cause for e in entries),
    )


def landmarks_of_list(node) -> LandmarkSet:
    """The landmark set of a point list, as `landmarks_from_point_list`, with the values that were stated of each name.

    Slicer keeps values by the places of points in the list, and leaves them there when points are reordered.
    """
    landmarks, proposed = landmarks_from_point_list(node), proposed_landmarks(node)
    if proposed is None:
        return landmarks
    by_status = np.where(landmarks.unknown, np.nan, landmarks.present)
    presence = agreeing_presence(by_status, proposed.presence)
    return replace(landmarks, presence=presence, confidence=proposed.confidence, radius=proposed.radius)


def restate_values(node) -> None:
    """Give the points of a list their own values again after they were reordered, so that files have them right.

    Without a kept proposal, or where two points have one name, nothing is known of the values, and they stay.
    """
    labels = [node.GetNthControlPointLabel(k) for k in point_indices(node)]
    proposed = proposed_landmarks(node) if len(set(labels)) == len(labels) else None
    if proposed is not None and not has_measurements_of(node, proposed):
        state_measurements(node, proposed)


def _proposed(node, found: LandmarkSet, k: int) -> ProposedLandmark:
    position = tuple(node.GetNthControlPointPosition(k)) if found.present[k] else None
    return replace(said_of(node, found, k), position=position)


def said_of(node, found: LandmarkSet, k: int, revised_by: str | None = None) -> ProposedLandmark:
    """What a set in LPS world mm says of its landmark k, in the frame of a node, and what has revised it."""

    def stated(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    position = node_position(node, lps_from_ras(found.positions[k])) if found.present[k] else None
    presence, confidence, radius = (stated(values[k]) for values in (found.presence, found.confidence, found.radius))
    return ProposedLandmark(position, presence, confidence, radius, found.causes[k], revised_by)


SAME_PLACE_MM = 1e-6


@dataclass(frozen=True)
class _Places:
    """Where a point list lies; arrays are (N, 3) mm of its points, whatever their status."""

    local: np.ndarray
    world: np.ndarray
    proposed: dict[str, np.ndarray]  # RAS world mm by name
    before: dict[str, np.ndarray]  # the same of what was said before a revision
    to_world: np.ndarray | None  # see `matrix_to_world`


class HardeningWatch:
    """Notices that a transform is hardened on a point list, and leaves the proposal at its place in the world then."""

    def __init__(self, node) -> None:
        """Args: the vtkMRMLMarkupsFiducialNode."""
        self.node = node
        self._places = _places(node)
        self._has_moved = False
        # No event of single points: Slicer sends them in the midst of hardening, when points are moved twice.
        events = (node.TransformModifiedEvent, node.PointEndInteractionEvent)
        self._tags = [node.AddObserver(event, self._look) for event in events]

    def follow(self) -> bool:
        """Whether a transform was hardened since the last call."""
        self._look()
        has_moved, self._has_moved = self._has_moved, False
        return has_moved

    def close(self) -> None:
        """Let go of the list."""
        for tag in self._tags:
            self.node.RemoveObserver(tag)
        self._tags = []

    def _look(self, caller=None, event=None) -> None:
        """Hardening changes all positions in the frame of the node and none in the world."""
        before, self._places = self._places, _places(self.node)
        now = self._places
        if not len(now.local) or now.local.shape != before.local.shape:
            return
        stayed = np.abs(now.world - before.world).max() < SAME_PLACE_MM * max(1.0, np.abs(now.world).max())
        if not stayed or np.array_equal(now.local, before.local):
            return
        self._move_proposal(before)
        move_evidence(self.node, before.to_world)
        move_place(self.node, before.to_world)
        self._places = _places(self.node)
        self._has_moved = True

    def _move_proposal(self, places: _Places) -> None:
        proposal = read_proposal(self.node)
        if proposal is None:
            return
        landmarks = {
            name: replace(
                self._at(entry, places.proposed.get(name)),
                before=entry.before and self._at(entry.before, places.before.get(name)),
            )
            for name, entry in proposal.landmarks.items()
        }
        write_proposal(self.node, replace(proposal, landmarks=landmarks))

    def _at(self, said: ProposedLandmark, world: np.ndarray | None) -> ProposedLandmark:
        return said if world is None else replace(said, position=node_position(self.node, world))


class HardeningWatches:
    """A watch for every point list of a scene that keeps a proposal, whether or not it is under review."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._watches: dict[str, HardeningWatch] = {}

    def look(self, scene) -> None:
        """Watch lists of a vtkMRMLScene that are new, and let go of those that it does not have any more."""
        for key, watch in list(self._watches.items()):
            if not scene.IsNodePresent(watch.node):
                self._watches.pop(key).close()
        for node in nodes_of(scene, POINT_LIST_CLASS):
            if node.GetAttribute(ATTRIBUTE):
                self.of(node)

    def of(self, node) -> HardeningWatch:
        """The watch of a vtkMRMLMarkupsFiducialNode, which begins now where it was not watched."""
        watch = self._watches.get(node.GetID())
        if watch is None or watch.node is not node:
            watch = self._watches[node.GetID()] = HardeningWatch(node)
        return watch

    def close(self) -> None:
        """Let go of all lists."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()


def _places(node) -> _Places:
    indices = range(node.GetNumberOfControlPoints())
    proposal = read_proposal(node)
    said = proposal.landmarks if proposal else {}
    before = {name: entry.before for name, entry in said.items() if entry.before}
    proposed, first = (
        {n: world_position(node, e.position) for n, e in each.items() if e.position} for each in (said, before)
    )
    return _Places(
        np.array([node.GetNthControlPointPosition(k) for k in indices]).reshape(-1, 3),
        np.array([node.GetNthControlPointPositionWorld(k) for k in indices]).reshape(-1, 3),
        proposed,
        first,
        matrix_to_world(node),
    )
