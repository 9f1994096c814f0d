"""Proposals of a point list that are revised: a systematic error is mended, undecided points follow corrections.

What was revised stays a proposal: nobody has decided it, and it says by what it was revised.
"""

from __future__ import annotations

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Evidence
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.core.systematic import Finding, mended, systematic_errors
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.models.anatomy import anatomy_of
from H3DELandmarksLib.scene.proposal import Proposal, ProposedLandmark, proposed_landmarks, said_of
from H3DELandmarksLib.scene.review import Review

_NO_POSE = Pose(np.eye(3), np.zeros(3))  # is asked for where too few points are known to tell one


def evidence_of(review: Review, package: ModelPackage) -> Evidence:
    """What the model said of a list, without what corrections of other points have changed, in the scheme's order."""
    proposal = review.proposal
    first = {name: said.before or said for name, said in proposal.landmarks.items()}
    found = proposed_landmarks(review.node, Proposal(first))
    assert found is not None
    return Evidence(found.ordered_as(package.scheme.names), _NO_POSE)


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
    evidence = evidence_of(review, package)
    findings = systematic_errors(evidence, anatomy_of(package), package.scheme.pairs)
    return next((finding for finding in findings if set(finding.landmarks) <= review.free), None)


def mend(review: Review, package: ModelPackage, finding: Finding) -> None:
    """Apply the remedy of a systematic error to the proposals that it concerns.

    Raises:
        H3DELandmarksError: the model cannot be read.
    """
    after = mended(evidence_of(review, package), anatomy_of(package), finding).found
    review.revise(_said(review, after, finding.landmarks, finding.kind.value))


def _said(review: Review, found: LandmarkSet, names: tuple[str, ...], by: str) -> dict[str, ProposedLandmark]:
    rows = {name: k for k, name in enumerate(found.names)}
    return {name: said_of(review.node, found, rows[name], by) for name in names}
