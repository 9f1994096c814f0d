"""Errors that concern many landmarks at once, each with an assignment that mends it.

They are found without being asked, or revealed by a person's decisions: then exchanged sides and rows that are one off
are put right, and other undecided points are revised.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.anatomy import Anatomy
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.revision import FREEDOM, Decisions, Evidence, Posterior, posterior, revise
from H3DELandmarksLib.core.rows import structure_size
from H3DELandmarksLib.core.shape_model import ShapeModel

# Another assignment must fit better by so much a landmark, as a difference of logarithms, and by so much in all.
BETTER, BETTER_IN_ALL = 0.25, 6.0
# What a landmark that gets no point costs: as one that lies two usual distances off.
NO_POINT = float(np.log1p(4.0))
# Two landmarks are on one structure nearer together than this share of their usual distance.
TOGETHER = 0.25
# Fits are hasty first, and only the best of them are done again with care.
HASTY_ROUNDS, LIKELIEST = 1, 6
# A landmark is decided where the model saw another one, if it lies nearer to that place than so many usual errors.
NEAR = 4.0
UNEXPECTED = 3.0  # spreads of what is expected
FEWEST = 3  # points that tell a pose
ROUNDS = 2  # of fits after decisions, which are many while somebody waits


class Systematic(enum.Enum):
    """What is wrong with many points at once."""

    SIDES = "sides exchanged"
    MIRRORED = "mirrored scan"
    SHIFTED = "one structure off"
    TOGETHER = "two landmarks on one structure"
    MISCOUNTED = "counted one off"


@dataclass(frozen=True)
class Finding:
    """A systematic error.

    Attributes:
        kind: what is wrong.
        landmarks: names of those concerned.
        order: (K,) remedy: landmark k gets the point of landmark ``order[k]``, and -1 the place that all others
            expect; None where no assignment helps, since the scan itself is mirrored.
    """

    kind: Systematic
    landmarks: tuple[str, ...]
    order: np.ndarray | None


def systematic_errors(evidence: Evidence, anatomy: Anatomy, pairs: Sequence[tuple[str, str]] = ()) -> list[Finding]:
    """Sides exchanged, mirrored scan, a part of the order one structure off, two landmarks on one structure.

    A whole order that is one structure off, in anatomy that looks alike all along, is found by nothing but a
    correction.

    Args:
        evidence: what a model says.
        anatomy: of the model.
        pairs: (left name, right name).

    Returns:
        Empty where all is as usual, or fewer than four points are found.
    """
    found = evidence.found
    if found.present.sum() < 4:
        return []
    points = np.where(found.present[:, None], found.positions, np.nan)
    usual = misfit_of(anatomy, points)
    same = np.arange(len(found))
    best: tuple[float, Systematic, np.ndarray] | None = None
    for kind, order in _likeliest(assignments(found, anatomy, pairs), anatomy, points):
        gain = usual - misfit_of(anatomy, taken_in(points, order))
        if best is None or gain > best[0]:
            best = (gain, kind, order)
    mirrored = usual - misfit_of(anatomy, points * (-1, 1, 1))
    enough = max(BETTER_IN_ALL, BETTER * int(found.present.sum()))
    if mirrored > enough and (best is None or mirrored > 1.5 * best[0]):
        return [Finding(Systematic.MIRRORED, found.names, None)]
    least = BETTER_IN_ALL if best is not None and (best[2] == same).mean() > 0.5 else enough
    if best is not None and best[0] > least:
        return [Finding(best[1], tuple(found.names[k] for k in np.flatnonzero(best[2] != same)), best[2])]
    return _on_one_structure(evidence, anatomy)


def mended(evidence: Evidence, anatomy: Anatomy, finding: Finding) -> Evidence:
    """The evidence after a finding's remedy; itself where there is none."""
    if finding.order is None:
        return evidence
    order, found = finding.order, evidence.found
    taken = np.maximum(order, 0)
    there = (order >= 0) & found.present[taken]

    def of(values: np.ndarray) -> np.ndarray:
        return np.where(there, values[taken], np.nan)

    points = taken_in(found.positions, np.where(there, order, -1))
    lost = (order < 0) & found.present
    presence = np.where(lost, 0.0, np.where(order >= 0, found.presence[taken], found.presence))
    moved = replace(
        found,
        positions=points,
        presence=presence,
        causes=tuple(found.causes[k] for k in np.where(order >= 0, order, range(len(order)))),
        confidence=of(found.confidence),
        radius=of(found.radius),
    )
    candidates = evidence.candidates and evidence.candidates.reordered(order)
    result = Evidence(moved, evidence.pose, candidates)
    expected = posterior(result, anatomy, Decisions.none(len(found))).lps
    positions = np.where(lost[:, None], expected, moved.positions)
    return replace(result, found=replace(moved, positions=positions, presence=np.where(lost, 0.5, moved.presence)))


def taken_in(points: np.ndarray, order: np.ndarray) -> np.ndarray:
    taken: np.ndarray = np.concatenate([points, np.full((1, 3), np.nan)])[order]
    return taken


def misfit_of(anatomy: Anatomy, points: np.ndarray, rounds: int = 8) -> float:
    """Misfit of points (K, 3) to the shape, wherever it is laid; a few that lie far off count little each."""
    known = np.isfinite(points).all(axis=1)
    if known.sum() < 4:
        return np.inf
    spread = np.sqrt((anatomy.shape.modes**2).sum(axis=(0, 2)) + anatomy.axes * anatomy.shape.noise**2)
    _, residual = ShapeModel(anatomy.mean, spread).fit(points, known.astype(float), rounds)
    misfit = np.log1p((residual[known] / spread[known]) ** 2)
    return float(misfit.sum() + NO_POINT * (~known).sum())


def assignments(
    found: LandmarkSet, anatomy: Anatomy, pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[Systematic, np.ndarray]]:
    index, count = {name: k for k, name in enumerate(found.names)}, len(found)
    swaps = [(index[left], index[right]) for left, right in pairs]
    for chosen in [swaps, *([swap] for swap in swaps if len(swaps) > 1)]:
        order = np.arange(count)
        for left, right in chosen:
            order[left], order[right] = right, left
        if chosen:
            yield Systematic.SIDES, order
    step = structure_size(anatomy.mean)
    for start in range(0, count, step) if step else ():
        for shift in (step, -step):
            for part in (slice(start, count), slice(0, start)):
                yield Systematic.SHIFTED, shifted(count, part, shift)


def _likeliest(
    orders: Iterable[tuple[Systematic, np.ndarray]], anatomy: Anatomy, points: np.ndarray
) -> list[tuple[Systematic, np.ndarray]]:
    """Those few of which a hasty fit has the least misfit: there are a hundred for a spine."""
    orders = list(orders)
    hasty = [misfit_of(anatomy, taken_in(points, order), HASTY_ROUNDS) for _, order in orders]
    return [orders[k] for k in sorted(np.argsort(hasty, kind="stable")[:LIKELIEST])]


def shifted(count: int, part: slice, shift: int) -> np.ndarray:
    """An order in which each landmark of a part has the point of the one ``shift`` after it, if that is of the part."""
    order = np.arange(count)
    taken = order[part] + shift
    order[part] = np.where((taken >= part.start) & (taken < part.stop), taken, -1)
    return order


def counted_off(names: tuple[str, ...], step: int) -> Finding:
    """The finding that a whole row may be counted one off, which only the detection itself can tell.

    Args:
        names: of all landmarks.
        step: landmark k has the place of landmark k + step there, see `formats.results.MiscountedResult`.
    """
    return Finding(Systematic.MISCOUNTED, names, shifted(len(names), slice(0, len(names)), step))


def _on_one_structure(evidence: Evidence, anatomy: Anatomy) -> list[Finding]:
    found, count = evidence.found, len(anatomy.mean)
    points = np.where(found.present[:, None], found.positions, np.nan)
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    usual = np.linalg.norm(anatomy.mean[:, None] - anatomy.mean, axis=2)
    spread = np.hypot(anatomy.shape.noise[:, None], anatomy.shape.noise)
    close = np.triu((apart < TOGETHER * usual) & (usual - apart > 4 * spread), 1)
    said = posterior(evidence, anatomy, Decisions.none(count))
    off = np.linalg.norm(said.lps - points, axis=1) / np.maximum(said.spread, 1e-9)
    findings = []
    for first, second in np.argwhere(close):
        order = np.arange(count)
        order[first if off[first] > off[second] else second] = -1
        findings.append(Finding(Systematic.TOGETHER, (found.names[first], found.names[second]), order))
    return findings


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
        if gain > BETTER_IN_ALL and (best is None or gain > best[0]):
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
