"""The review of detected landmarks: what a person has decided about each, and the steps that change it.

A decision is seen in the points themselves wherever it can be: a point that lies elsewhere than proposed was moved,
whoever moved it. Only acceptance is stored. Nothing here needs a window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import slicer.util

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet, ReviewState, review_state
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.scene.point_list import lps_from_ras, point_indices, state_measurements, world_position
from H3DELandmarksLib.scene.proposal import (
    Proposal,
    ProposedLandmark,
    proposal_of,
    proposed_landmarks,
    read_proposal,
    restate_values,
    write_proposal,
)

FEWEST_PLACED = 3  # that give a shape its place


@dataclass(frozen=True)
class ReviewedLandmark:
    """One landmark as a review sees it; positions are RAS world mm.

    Attributes:
        name, definition: of the control point.
        index: of the control point.
        state: what a person has decided.
        position: (3,) where it lies, None where it has no position.
        proposed: (3,) where the model saw it, None where it did not.
        presence: probability that the landmark is in the scan, as the model said; NaN where it did not say.
        confidence: probability that the proposed position is right; NaN where the model proposed none, or did not say.
        radius: mm around the proposed position that hold 90 % of errors; NaN where there is none, or none was measured.
        moved: distance from the proposal in mm, NaN without either position.
        locked: whether the mouse cannot move the point.
        partner: name of the same point of the other side, None for one of the midline.
        cause: why the model did not know; None where it did.
        revised_by: what has changed the model's proposal: the name of a corrected landmark, or the remedy of a
            systematic error; None where nothing has.
    """

    name: str
    definition: str
    index: int
    state: ReviewState
    position: np.ndarray | None
    proposed: np.ndarray | None
    presence: float
    confidence: float
    radius: float
    moved: float
    locked: bool
    partner: str | None
    cause: Cause | None = None
    revised_by: str | None = None

    @property
    def certainty(self) -> float:
        """Probability that the model's statement is right: confidence of a point, of an absence 1 - presence."""
        return 1.0 - self.presence if self.proposed is None else self.confidence

    @property
    def doubt(self) -> float:
        """From 0 to 1, how likely the proposal is wrong; the same before and after a decision."""
        return 1.0 if np.isnan(self.certainty) else 1.0 - self.certainty


class Review:
    """The review of one point list."""

    def __init__(self, node) -> None:
        """Begin or continue the review of a point list.

        Nothing is written into the list before the first decision, or `keep`.

        Args:
            node: vtkMRMLMarkupsFiducialNode; one without a kept proposal, such as one loaded from a .mrk.json file, is
                taken as it is now for the proposal.

        Raises:
            InputError: the node has no kept proposal, and labels that are empty or used twice.
        """
        self.node = node
        self._implied = proposal_of(node) if read_proposal(node) is None else Proposal({})

    def keep(self) -> None:
        """Keep the proposal with the list, so that a point that is moved is known to have been moved from there.

        Points that were reordered take their values along.
        """
        if read_proposal(self.node) is None:
            self._write(self._implied)
        restate_values(self.node)

    def proposed(self) -> LandmarkSet:
        """What was proposed, in LPS world mm and in the order of the points."""
        proposed = proposed_landmarks(self.node, self.proposal)
        assert proposed is not None
        return proposed

    def landmarks(self) -> list[ReviewedLandmark]:
        """All landmarks in the order of the points."""
        proposal = self.proposal
        return [self._landmark(proposal, k) for k in point_indices(self.node)]

    def by_doubt(self) -> list[ReviewedLandmark]:
        """All landmarks: those that wait for a decision first, the most doubtful at the top."""
        return sorted(self.landmarks(), key=lambda p: (not p.state.is_waiting, -p.doubt, p.index))

    def landmark(self, name: str) -> ReviewedLandmark | None:
        """The landmark of this name, None if there is none."""
        return next((p for p in self.landmarks() if p.name == name), None)

    def repeated_names(self) -> list[str]:
        """Names that several points have; what is done to a landmark is done to the first of them."""
        names = Counter(self.node.GetNthControlPointLabel(k) for k in point_indices(self.node))
        return [name for name, count in names.items() if count > 1]

    def doubtful_after(
        self, name: str | None, backward: bool = False, order: Sequence[str] | None = None
    ) -> str | None:
        """The next landmark that waits for a decision in the order of doubt, from the other end after the last.

        Args:
            name: where to go on; None begins with the most doubtful.
            backward: go toward more doubtful ones.
            order: names of all landmarks, where another order than that of doubt is to be kept.

        Returns:
            A name; None when everything is decided.
        """

        def place(p: ReviewedLandmark) -> tuple[float, int]:
            return (-p.doubt, p.index) if order is None else (0.0, order.index(p.name))

        landmarks = self.landmarks()
        here = next((place(p) for p in landmarks if p.name == name), None)
        waiting = sorted((p for p in landmarks if p.state.is_waiting), key=place, reverse=backward)
        if here is not None:
            beyond = [p for p in waiting if (place(p) < here if backward else place(p) > here)]
            waiting = beyond or waiting
        return waiting[0].name if waiting else None

    def accept(self, *names: str) -> None:
        """Accept landmarks after a look at each, as they were proposed, present or absent; others are left alone.

        What was accepted in bulk before counts as looked at from now on.
        """
        states = {p.name: p.state for p in self.landmarks()}
        seen = [name for name in names if name in states and (states[name].is_proposal or states[name].in_bulk)]
        self._write(self.proposal.with_accepted(seen))

    def certain_above(self, certainty: float) -> list[str]:
        """Names of proposals that are right with at least this probability.

        Landmarks that the model did not examine, or in a scan that it did not recognise, are no proposals.
        """
        return [p.name for p in self.landmarks() if p.state.is_proposal and p.certainty >= certainty]

    def accept_in_bulk(self, *names: str) -> None:
        """Accept proposals together, without a look at each; other landmarks are left alone."""
        proposals = {p.name for p in self.landmarks() if p.state.is_proposal}
        self._write(self.proposal.with_accepted(proposals.intersection(names), in_bulk=True))

    @property
    def free(self) -> set[str]:
        """Names of landmarks that nobody has decided about or protected, by itself or with the whole list."""
        if self.node.GetLocked():
            return set()
        return {p.name for p in self.landmarks() if not (p.state.is_decided or p.locked or p.state.is_unexamined)}

    def revise(self, revised: Mapping[str, ProposedLandmark]) -> None:
        """Propose something else of free landmarks, by name; others are left alone. It decides nothing."""
        proposal, free = self.proposal, self.free
        said = {name: entry for name, entry in revised.items() if name in free}
        with slicer.util.NodeModify(self.node):
            self._write(replace(proposal, landmarks={**proposal.landmarks, **said}))
            for k in range(self.node.GetNumberOfControlPoints()):
                entry = said.get(self.node.GetNthControlPointLabel(k))
                if entry is not None:
                    self._set_position(k, entry.position, entry.presence is None)
            state_measurements(self.node, self.proposed())

    def dismiss(self) -> None:
        """Keep with the list that its points have no systematic error."""
        self._write(replace(self.proposal, dismissed=True))

    def mark_absent(self, name: str) -> None:
        """State that a landmark is not in the scan."""
        self._change(lambda k: self.node.SetNthControlPointPositionMissing(k), name)
        if self._proposed(name).position is None and name in self.proposal.landmarks:
            self._write(self.proposal.with_accepted([name]))

    def back_to_proposal(self, name: str) -> None:
        """Take back every decision about a landmark."""
        if name not in self.proposal.landmarks:
            return  # a person added it: there is nothing to go back to
        proposed = self._proposed(name)
        self._write(self.proposal.without_accepted([name]))
        self._change(lambda k: self._set_position(k, proposed.position, proposed.presence is None), name)

    def swap_sides(self, name: str) -> None:
        """Exchange the positions of a landmark and its partner on the other side.

        Raises:
            InputError: one of both is locked by itself.
        """
        partner = self.proposal.partner(name)
        if partner is None:
            return
        indices = [index for index in (self._index(name), self._index(partner)) if index is not None]
        if len(indices) < 2:
            return
        if any(self.node.GetNthControlPointLocked(k) for k in indices):
            raise InputError(f"'{name}' or '{partner}' is locked: unlock both to exchange them.")
        places = [self._place(k) for k in indices]
        with slicer.util.NodeModify(self.node):
            for k, (position, unknown) in zip(indices, reversed(places)):
                self._set_position(k, position, unknown)
        self._write(self.proposal.without_accepted([name, partner]))

    def set_locked(self, name: str, locked: bool) -> None:
        """Protect a point from the mouse, or not."""
        self._change(lambda k: self.node.SetNthControlPointLocked(k, locked), name)

    @property
    def proposal(self) -> Proposal:
        """What the model has proposed, and which of it was accepted."""
        return read_proposal(self.node) or self._implied

    def _proposed(self, name: str) -> ProposedLandmark:
        return self.proposal.landmarks.get(name, ProposedLandmark())

    def _write(self, proposal: Proposal) -> None:
        write_proposal(self.node, proposal)

    def _index(self, name: str | None) -> int | None:
        labels = [self.node.GetNthControlPointLabel(k) for k in range(self.node.GetNumberOfControlPoints())]
        return labels.index(name) if name in labels else None

    def _change(self, change: Callable[[int], None], name: str) -> None:
        index = self._index(name)
        if index is not None:
            change(index)

    def _place(self, k: int) -> tuple[Sequence[float] | None, bool]:
        """Position in the frame of the node or None, and whether nobody knows if the landmark exists."""
        status = self.node.GetNthControlPointPositionStatus(k)
        position = tuple(self.node.GetNthControlPointPosition(k))
        return (position if status == self.node.PositionDefined else None), status == self.node.PositionUndefined

    def _set_position(self, k: int, position: Sequence[float] | None, unknown: bool) -> None:
        if position is not None:
            self.node.SetNthControlPointPosition(k, *position)
        elif unknown:
            self.node.UnsetNthControlPointPosition(k)
        else:
            self.node.SetNthControlPointPositionMissing(k)

    def _landmark(self, proposal: Proposal, k: int) -> ReviewedLandmark:
        node, name = self.node, self.node.GetNthControlPointLabel(k)
        said = proposal.landmarks.get(name, ProposedLandmark())
        defined = node.GetNthControlPointPositionStatus(k) == node.PositionDefined
        position = np.array(node.GetNthControlPointPositionWorld(k)) if defined else None
        proposed = None if said.position is None else world_position(node, said.position)
        moved = np.nan if position is None or proposed is None else float(np.linalg.norm(position - proposed))
        state = review_state(
            position,
            proposed,
            unknown=node.GetNthControlPointPositionStatus(k) != node.PositionMissing,
            proposed_absent=said.position is None and said.presence is not None,
            accepted=name in proposal.accepted,
            in_bulk=name in proposal.in_bulk,
            cause=said.cause,
        )
        return ReviewedLandmark(
            name,
            node.GetNthControlPointDescription(k),
            k,
            state,
            position,
            proposed,
            np.nan if said.presence is None else said.presence,
            np.nan if said.confidence is None or proposed is None else said.confidence,
            np.nan if said.radius is None or proposed is None else said.radius,
            moved,
            bool(node.GetNthControlPointLocked(k)),
            proposal.partner(name),
            said.cause,
            said.revised_by,
        )


def expected_position(landmarks: Sequence[ReviewedLandmark], name: str, package: ModelPackage) -> np.ndarray | None:
    """Where the others let one expect a landmark.

    Args:
        landmarks: all of a list.
        name: of one without a position.
        package: model of the list, whose mean shape is laid over the landmarks that have a position.

    Returns:
        (3,) RAS world mm; None where fewer than three landmarks have a position, the model does not know the name, or
        it is one for radiographs.
    """
    names = package.scheme.names
    placed = {p.name: p.position for p in landmarks if p.position is not None}
    if package.manifest.is_2d or name not in names or sum(other in placed for other in names) < FEWEST_PLACED:
        return None
    shape = package.load_shape()
    points = lps_from_ras(np.array([placed.get(other, [np.nan] * 3) for other in names]))
    pose, _ = shape.fit(points, np.ones(len(names)))
    return lps_from_ras(pose.to_lps(shape.mean[names.index(name)]))
