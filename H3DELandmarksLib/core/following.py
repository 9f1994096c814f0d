"""What follows from a person's decisions: exchanged sides and rows that are one off are put right, others revised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from H3DELandmarksLib.core.anatomy import Anatomy
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import FREEDOM, Decisions, Evidence, Posterior, posterior, revise
from H3DELandmarksLib.core.statements import Cause
from H3DELandmarksLib.core.systematic import Finding, assignments, mended, misfit_of, taken_in

# Another assignment must explain decisions and shape better by so much, as a difference of logarithms.
BETTER = 6.0
# A landmark is decided where the model saw another one, if it lies nearer to that place than so many usual errors.
NEAR = 4.0
UNEXPECTED = 3.0  # spreads of what is expected
FEWEST = 3  # points that tell a pose
ROUNDS = 2  # of fits, which are many while somebody waits


def revealed(
    evidence: Evidence, anatomy: Anatomy, decided: Decisions, pairs: Sequence[tuple[str, str]] = ()
) -> Finding | None:
    """The systematic error that decisions tell of: sides exchanged, or a row of structures that is one off.

    Args:
        evidence: what a model says.
        anatomy: of the model.
        decided: by a person.
        pairs: (left name, right name).

    Returns:
        None where the points as they are explain the decisions best, or nothing was corrected.
    """
    found, count = evidence.found, len(evidence.found)
    usual = np.sqrt(anatomy.axes) * _spread(anatomy)
    away = np.linalg.norm(decided.positions - found.positions, axis=1)
    corrected = np.flatnonzero(decided.present & ~decided.accepted & (away > NEAR * usual))
    if not len(corrected) or found.present.sum() < 4:
        return None
    points = np.where(found.present[:, None], found.positions, np.nan)
    best: tuple[float, Finding] | None = None
    shape = _misfit(anatomy, points, decided)
    errors = _strangeness(away, usual, anatomy.axes)
    for kind, order in assignments(found, anatomy, pairs):
        moved = taken_in(points, order)
        there = np.linalg.norm(decided.positions - moved, axis=1)
        if not (there[corrected] < NEAR * usual[corrected]).any():
            continue
        change = np.flatnonzero(decided.present & (order != np.arange(count)))
        gain = np.nansum(errors[change] - _strangeness(there, usual, anatomy.axes)[change])
        gain += shape - _misfit(anatomy, moved, decided)
        if gain > BETTER and (best is None or gain > best[0]):
            names = tuple(found.names[k] for k in np.flatnonzero(order != np.arange(count)))
            best = float(gain), Finding(kind, names, order)
    return best[1] if best else None


def is_misplaced(evidence: Evidence, anatomy: Anatomy, decided: Decisions) -> bool:
    """Whether decisions show that a model has searched at a wrong place, or in a wrong pose.

    That is so where most other points lie where the decided ones alone let nobody expect them.

    Args:
        evidence: what the model says.
        anatomy: of the model.
        decided: by a person; fewer than three positions show nothing.
    """
    undecided = evidence.found.present & ~decided.made
    if decided.present.sum() < FEWEST or undecided.sum() < FEWEST or not (decided.present & ~decided.accepted).any():
        return False
    alone = Evidence(evidence.found.unknown_where(np.ones(len(undecided), bool), Cause.NOT_ASKED_FOR), evidence.pose)
    expected = posterior(alone, anatomy, decided)
    away = np.linalg.norm(evidence.found.positions - expected.lps, axis=1)[undecided]
    return bool((away > UNEXPECTED * expected.spread[undecided]).mean() > 0.5)


def _spread(anatomy: Anatomy) -> np.ndarray:
    """(K,) mm, usual error of each coordinate."""
    spread: np.ndarray = np.sqrt((anatomy.errors.modes**2).sum(axis=(0, 2)) / anatomy.axes + anatomy.errors.noise**2)
    return spread


def _strangeness(away: np.ndarray, usual: np.ndarray, axes: int) -> np.ndarray:
    """How strange errors are: what is lost of the logarithm of their probability."""
    strange: np.ndarray = (FREEDOM + axes) / 2 * np.log1p((away / usual) ** 2 * axes / FREEDOM)
    return strange


def _misfit(anatomy: Anatomy, points: np.ndarray, decided: Decisions) -> float:
    return misfit_of(anatomy, np.where(decided.present[:, None], decided.positions, points), ROUNDS)


def follow(
    evidence: Evidence,
    anatomy: Anatomy,
    decided: Decisions,
    pairs: Sequence[tuple[str, str]] = (),
    before: Posterior | None = None,
) -> LandmarkSet:
    """Proposals for all undecided landmarks after decisions; parameters as for `revealed` and `revision.revise`."""
    finding = revealed(evidence, anatomy, decided, pairs)
    if finding is None:
        return revise(evidence, anatomy, decided, before)
    return revise(mended(evidence, anatomy, finding), anatomy, decided)
