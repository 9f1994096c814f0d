"""Proposals of a point list that are revised: a systematic error is mended, undecided points follow corrections.

What was revised stays a proposal: nobody has decided it, and it says by what it was revised.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from H3DELandmarksLib.core.landmarks import SAME_PLACE_MM, LandmarkSet, ReviewState
from H3DELandmarksLib.core.revision import Decisions, Evidence, Posterior, posterior
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.core.systematic import (
    Finding,
    Systematic,
    counted_off,
    follow,
    is_misplaced,
    mended,
    revealed,
    systematic_errors,
)
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.models.package import anatomy_of
from H3DELandmarksLib.scene.detections import provenance_of_list
from H3DELandmarksLib.scene.evidence import kept_evidence
from H3DELandmarksLib.scene.point_list import lps_from_ras
from H3DELandmarksLib.scene.proposal import Proposal, ProposedLandmark, proposed_landmarks, said_of
from H3DELandmarksLib.scene.review import Review

SECOND_LOOK = "second look"
_NO_POSE = Pose(np.eye(3), np.zeros(3))  # is asked for where too few points are known to tell one


def evidence_of(review: Review, names: tuple[str, ...]) -> Evidence:
    """What the model said of a list, without what corrections of other points have changed, in the order of names.

    What the networks saw counts but for landmarks that a remedy has moved: it was of other landmarks.
    """
    proposal = review.proposal
    first = {name: said.before or said for name, said in proposal.landmarks.items()}
    found = proposed_landmarks(review.node, Proposal(first))
    assert found is not None
    candidates = kept_evidence(review.node, names)
    if candidates is not None:
        candidates = candidates.only_of(np.array([not (name in first and first[name].revised_by) for name in names]))
    return Evidence(found.ordered_as(names), _NO_POSE, candidates)


def systematic_error(review: Review, package: ModelPackage) -> Finding | None:
    """The systematic error that a model's points seem to have; None where they have none, or nothing can be done.

    Args:
        review: of the list; what a person has decided or protected is not put in doubt.
        package: model of the list.

    Raises:
        H3DELandmarksError: the model cannot be read.
    """
    if review.proposal.dismissed:
        return None
    evidence = evidence_of(review, package.scheme.names)
    findings = systematic_errors(evidence, anatomy_of(package), package.scheme.pairs)
    origin = provenance_of_list(review.node)
    is_recounted = any(said.revised_by == Systematic.MISCOUNTED.value for said in review.proposal.landmarks.values())
    if origin and origin.miscounted and origin.miscounted.doubtful and not is_recounted:
        findings.append(counted_off(package.scheme.names, origin.miscounted.step))
    return next((finding for finding in findings if set(finding.landmarks) <= review.free), None)


def revealed_error(review: Review, package: ModelPackage) -> Finding | None:
    """The systematic error that corrections tell of, of those landmarks that nobody has decided about.

    Raises:
        H3DELandmarksError: the model cannot be read.
    """
    if review.proposal.dismissed or not corrections_of(review):
        return None
    names = package.scheme.names
    evidence, decided = evidence_of(review, names), _decisions(review, names)
    finding, free = revealed(evidence, anatomy_of(package), decided, package.scheme.pairs), review.free
    if finding is None or not free.intersection(finding.landmarks):
        return None
    return replace(finding, landmarks=tuple(name for name in finding.landmarks if name in free))


def points_for_second_look(review: Review, package: ModelPackage) -> LandmarkSet | None:
    """The decided points, LPS world mm, where they show that a model has searched in a wrong pose or place.

    Returns:
        None where they do not, where a row that is one off or exchanged sides explain them, or where the model has no
        stage that looks closer and could look again.

    Raises:
        H3DELandmarksError: the model cannot be read.
    """
    if sum(not stage.is_closer for stage in package.manifest.stages) < 2 or len(corrections_of(review)) == 0:
        return None
    names, anatomy = package.scheme.names, anatomy_of(package)
    evidence, decided = evidence_of(review, names), _decisions(review, names)
    if not is_misplaced(evidence, anatomy, decided) or revealed(evidence, anatomy, decided, package.scheme.pairs):
        return None
    return LandmarkSet(names, decided.positions, np.where(decided.absent, 0.0, np.where(decided.present, 1.0, np.nan)))


def take_second_look(review: Review, found: LandmarkSet) -> None:
    """Propose what a second look has found, LPS world mm, of free landmarks that it has looked at."""
    names = [name for name, unknown in zip(found.names, found.unknown) if not unknown]
    review.revise(_said(review, found, names, SECOND_LOOK))


def mend(review: Review, package: ModelPackage, finding: Finding) -> None:
    """Apply the remedy of a systematic error to the proposals that it concerns.

    Raises:
        H3DELandmarksError: the model cannot be read.
    """
    after = mended(evidence_of(review, package.scheme.names), anatomy_of(package), finding).found
    review.revise(_said(review, after, finding.landmarks, finding.kind.value))


def _said(review: Review, found: LandmarkSet, names: Iterable[str], by: str) -> dict[str, ProposedLandmark]:
    rows = {name: k for k, name in enumerate(found.names)}
    return {name: said_of(review.node, found, rows[name], by) for name in names}


def corrections_of(review: Review) -> dict[str, np.ndarray]:
    """(3,) RAS world mm of the points that a person has moved or placed, by name."""
    by_hand = (ReviewState.MOVED, ReviewState.PLACED)
    return {p.name: p.position for p in review.landmarks() if p.state in by_hand and p.position is not None}


class Follower:
    """Lets undecided points follow corrections, as one model's anatomy tells."""

    def __init__(self, package: ModelPackage) -> None:
        """Args: the model of the lists.

        Raises:
            H3DELandmarksError: the model cannot be read.
        """
        self._names, self._pairs = package.scheme.names, package.scheme.pairs
        self._anatomy = anatomy_of(package)
        self._prior: tuple[LandmarkSet, Posterior] | None = None

    def follow(self, review: Review, corrected: str) -> None:
        """Move the proposals of free landmarks to where decided points let one expect them.

        Those that need not move are again as the model has proposed them; all are where no point is moved or placed.

        Args:
            review: of the list.
            corrected: name of the landmark whose correction is the last one.
        """
        said = review.proposal.landmarks
        revised = {name: entry.before for name, entry in said.items() if entry.before}
        if corrections_of(review):
            evidence = evidence_of(review, self._names)
            decided = _decisions(review, self._names)
            after = follow(evidence, self._anatomy, decided, self._pairs, self._before(evidence))
            shift = np.linalg.norm(after.positions - evidence.found.positions, axis=1)
            moved = [name for name, far in zip(self._names, shift) if far > SAME_PLACE_MM and name in said]
            for name, entry in _said(review, after, moved, corrected).items():
                revised[name] = replace(entry, before=said[name].before or said[name])
        review.revise(revised)

    def _before(self, evidence: Evidence) -> Posterior:
        """What is expected where nothing is decided, computed once for the same evidence."""
        found = evidence.found
        if self._prior is None or not np.array_equal(self._prior[0].positions, found.positions, equal_nan=True):
            self._prior = found, posterior(evidence, self._anatomy, Decisions.none(len(found)))
        return self._prior[1]


def _decisions(review: Review, names: tuple[str, ...]) -> Decisions:
    """What a person has decided after a look; what was accepted in bulk is no evidence."""
    decided = Decisions.none(len(names))
    rows = {name: k for k, name in enumerate(names)}
    for p in review.landmarks():
        if p.name not in rows or not p.state.is_decided or p.state.in_bulk:
            continue
        row = rows[p.name]
        decided.accepted[row], decided.absent[row] = p.state is ReviewState.ACCEPTED, p.position is None
        if p.position is not None:
            decided.positions[row] = lps_from_ras(p.position)
    return decided
