"""Where undecided landmarks most probably are, given those that a person has decided.

Shape and errors of found points are Gaussian, so that everything follows by conditioning; a point that contradicts all
others counts little (weights of Student's t distribution), whether a model found it or a person placed it, and a
network's other places of a landmark are taken where the others expect it there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.special import chndtr, expit

from H3DELandmarksLib.core.anatomy import Anatomy
from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel

ROUNDS, SETTLED = 6, 0.02
FREEDOM = 4.0  # of Student's t distribution
# Standard deviation in mm, and in radians over the shape's size, of what a robust fit leaves of the pose.
FREE_MOTION = 10.0
# What a person's points err by, in units of the usual error of found ones.
PERSONS_ERROR = 0.3
# Networks are surer of their first choice than they are right: powers of shares are compared.
TEMPER = 0.5


@dataclass(frozen=True)
class Evidence:
    """What a model says of a scan.

    Attributes:
        found: LPS mm.
        pose: of the model frame.
        candidates: of the same landmarks; None where only the points are known.
    """

    found: LandmarkSet
    pose: Pose
    candidates: Candidates | None = None


@dataclass(frozen=True)
class Posterior:
    """Gaussian of each landmark, in the axes of the model frame that the anatomy uses.

    Attributes:
        mean: (K, a) mm.
        covariance: (K, a, a) mm^2.
        frame: in which they stand.
    """

    mean: np.ndarray
    covariance: np.ndarray
    frame: Pose

    @property
    def lps(self) -> np.ndarray:
        """(K, 3) LPS mm of the means."""
        return self.frame.to_lps(np.pad(self.mean, ((0, 0), (0, 3 - self.mean.shape[1]))))

    @property
    def spread(self) -> np.ndarray:
        """(K,) mm, root mean square distance of the landmark from its mean."""
        spread: np.ndarray = np.sqrt(np.trace(self.covariance, axis1=1, axis2=2))
        return spread


@dataclass(frozen=True)
class Decisions:
    """What a person has decided.

    Attributes:
        positions: (K, 3) LPS mm of points that were moved, placed or accepted; NaN elsewhere.
        accepted: (K,) bool, which of these a person has only looked at: about right, but not exact.
        absent: (K,) bool, which landmarks are not in the scan.
    """

    positions: np.ndarray
    accepted: np.ndarray
    absent: np.ndarray

    @classmethod
    def none(cls, count: int) -> Decisions:
        """Nothing was decided about ``count`` landmarks."""
        return cls(np.full((count, 3), np.nan), np.zeros(count, bool), np.zeros(count, bool))

    @property
    def present(self) -> np.ndarray:
        """(K,) bool: which landmarks have a decided position."""
        finite: np.ndarray = np.isfinite(self.positions).all(axis=1)
        return finite

    @property
    def made(self) -> np.ndarray:
        """(K,) bool: which landmarks are decided."""
        made: np.ndarray = self.present | self.absent
        return made


class _Observations:
    """Points that say something of true places, of a model's errors, or of the sum of both: of found places."""

    def __init__(self, evidence: Evidence, anatomy: Anatomy, decided: Decisions, frame: Pose) -> None:
        axes, found = anatomy.axes, evidence.found.present
        lie, said = (frame.to_model(points)[:, :axes] for points in (evidence.found.positions, decided.positions))
        free = np.flatnonzero(found & ~decided.made)
        accepted = np.flatnonzero(found & decided.accepted)
        placed = np.flatnonzero(decided.present & ~(decided.accepted & found))
        erred = np.flatnonzero(decided.present & found)
        self.landmark = np.concatenate([free, accepted, placed, erred])
        kinds = (len(free), len(accepted), len(placed), len(erred))
        self.of_shape, self.of_error = np.repeat([1.0, 1, 1, 0], kinds), np.repeat([1.0, 1, 0, 1], kinds)
        self.value = np.concatenate([lie[free], lie[accepted], said[placed], (lie - said)[erred]])
        self.expected = anatomy.mean[self.landmark, :axes] * self.of_shape[:, None]
        exact = (PERSONS_ERROR * anatomy.errors.noise) ** 2
        seen = np.where(decided.accepted, (anatomy.tolerance_mm / 2) ** 2, exact)
        self.noise = np.concatenate([np.zeros(kinds[0] + kinds[1]), exact[placed], seen[erred]])
        self.free = len(free)

    def covariance(self, shape: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """(N a, N a) mm^2 of the values, without their own noise."""
        axes = self.value.shape[1]
        rows = (self.landmark[:, None] * axes + np.arange(axes)).ravel()
        both = np.ix_(rows, rows)
        seen, erred = np.repeat(self.of_shape, axes), np.repeat(self.of_error, axes)
        covariance: np.ndarray = shape[both] * np.outer(seen, seen) + errors[both] * np.outer(erred, erred)
        return covariance


def revise(evidence: Evidence, anatomy: Anatomy, decided: Decisions, before: Posterior | None = None) -> LandmarkSet:
    """Proposals for all undecided landmarks; decided ones stay exactly where a person has put them.

    A point moves only where it is surely better off: by more than `Anatomy.caution` times what is left of doubt.
    Probabilities and radii are those of the detection, changed by what the decisions tell.

    Args:
        evidence: what a model says; returned as it is where nothing is decided.
        anatomy: of the model.
        decided: by a person.
        before: `posterior` where nothing is decided, if it is known: what is asked again and again takes half as long.

    Returns:
        LPS mm, in the order of the evidence.
    """
    found = evidence.found
    if not decided.made.any():
        return found
    before = before or posterior(evidence, anatomy, Decisions.none(len(found)))
    after = posterior(evidence, anatomy, decided)
    better = after.lps
    shift = np.linalg.norm(better - found.positions, axis=1)
    moves = ~(shift <= anatomy.caution * after.spread)
    left = np.where(moves, 0.0, shift)
    presence = _presence(found.presence, anatomy, decided)
    positions = np.where(moves[:, None], better, found.positions)
    right = [
        _share_within(anatomy, spread, away)
        for spread, away in (
            (before.spread, np.linalg.norm(before.lps - found.positions, axis=1)),
            (after.spread, left),
        )
    ]
    known = np.where(np.isnan(found.confidence) & (presence >= 0.5), right[1], found.confidence)
    confidence = np.minimum(expit(_logit(known) + _logit(right[1]) - _logit(right[0])), presence)
    wider = anatomy.scale(int((decided.made & ~decided.accepted).sum())) * np.hypot(after.spread, left)
    radius = found.radius * wider / before.spread
    made = decided.made
    return LandmarkSet(
        found.names,
        np.where(made[:, None], decided.positions, positions),
        np.where(made, decided.present.astype(float), presence),
        np.where(made, found.confidence, confidence),
        np.where(made, found.radius, radius),
        found.definitions,
        found.causes,
    )


def _share_within(anatomy: Anatomy, spread: np.ndarray, away: np.ndarray) -> np.ndarray:
    """(K,) probability that a place lies within the tolerance of a point at some distance from its mean."""
    variance = np.maximum(spread**2 / anatomy.axes, 1e-12)
    share: np.ndarray = chndtr(anatomy.tolerance_mm**2 / variance, anatomy.axes, np.nan_to_num(away) ** 2 / variance)
    return share


def _presence(said: np.ndarray, anatomy: Anatomy, decided: Decisions) -> np.ndarray:
    """(K,) probability of presence, by the decided landmark that tells most of each in the cases learnt from."""
    seen = anatomy.presence
    if len(seen) == 0:
        return said
    stated = decided.present.astype(float)
    agree = [(seen == value).T.astype(float) for value in (1.0, 0.0)]
    like = [(side @ np.where(seen == stated, 1.0, 0.0) + 0.5) / (side.sum(axis=1, keepdims=True) + 1) for side in agree]
    told = np.where(decided.made, np.log(like[0] / like[1]), 0.0)
    strongest = np.take_along_axis(told, np.abs(told).argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(np.isnan(said), said, expit(_logit(said) + strongest))


def _logit(share: np.ndarray) -> np.ndarray:
    inside = np.clip(share, 1e-6, 1 - 1e-6)
    odds: np.ndarray = np.log(inside / (1 - inside))
    return odds


def posterior(evidence: Evidence, anatomy: Anatomy, decided: Decisions) -> Posterior:
    """Where all landmarks are.

    Args:
        evidence: what a model says.
        anatomy: of the model.
        decided: by a person.
    """
    frame = _frame(evidence, anatomy, decided)
    axes, count = anatomy.axes, len(anatomy.mean)
    motions = anatomy.motions()
    scale = FREE_MOTION / np.abs(motions).max(axis=1, keepdims=True)
    shape = anatomy.shape.covariance(axes) + (motions * scale).T @ (motions * scale)
    errors = anatomy.errors.covariance(axes)
    seen = _Observations(evidence, anatomy, decided, frame)
    inverse = _robust_inverse(seen, seen.covariance(shape, errors), _places(evidence, anatomy, frame, seen))
    rows = (seen.landmark[:, None] * axes + np.arange(axes)).ravel()
    cross = shape[:, rows] * np.repeat(seen.of_shape, axes)
    mean = anatomy.mean[:, :axes] + (cross @ (inverse @ (seen.value - seen.expected).ravel())).reshape(count, axes)
    lines = cross.reshape(count, axes, -1)
    gained = lines @ (cross @ inverse).reshape(count, axes, -1).transpose(0, 2, 1)
    prior = shape.reshape(count, axes, count, axes)[range(count), :, range(count)]
    return Posterior(mean, prior - gained, frame)


def _robust_inverse(seen: _Observations, known: np.ndarray, places: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """Inverse covariance of the values, whose noise is raised where all others expect them elsewhere.

    Values of undecided landmarks become those of their likeliest places.
    """
    number, axes = seen.value.shape
    extra, weight = np.zeros(number), np.ones(number)
    if number == 0:
        return known
    for turn in range(ROUNDS):
        inverse = _inverse(_with_noise(known, seen.noise + extra))
        each = range(number)
        blocks = np.linalg.inv(inverse.reshape(number, axes, number, axes)[each, :, each])
        off = (blocks @ (inverse @ (seen.value - seen.expected).ravel()).reshape(number, axes, 1))[..., 0]
        usual = blocks - extra[:, None, None] * np.eye(axes)
        if places is not None and turn:
            off += _choose(seen, places, seen.value - off, usual)
        strange = np.maximum((off * np.linalg.solve(usual, off[..., None])[..., 0]).sum(axis=1), 0.0)
        last, weight = weight, np.minimum((FREEDOM + axes) / (FREEDOM + strange), 1.0)
        extra = np.trace(usual, axis1=1, axis2=2) / axes * (1 / weight - 1)
        if turn > 1 and np.abs(weight - last).max() < SETTLED:
            break
    return _inverse(_with_noise(known, seen.noise + extra))


def _with_noise(known: np.ndarray, variance: np.ndarray) -> np.ndarray:
    noisy = known.copy()
    noisy[np.diag_indices_from(noisy)] += np.repeat(variance, len(known) // len(variance))
    return noisy


def _inverse(matrix: np.ndarray) -> np.ndarray:
    factor, failed = dpotrf(matrix.T, lower=False, overwrite_a=True)  # twice as fast as solving for the unit matrix
    inverse, _ = dpotri(factor, lower=False, overwrite_c=True)
    if failed:
        raise LinAlgError("The covariance of the points is not positive definite.")
    upper = np.triu(inverse)
    symmetric: np.ndarray = upper + np.triu(upper, 1).T
    return symmetric


def _frame(evidence: Evidence, anatomy: Anatomy, decided: Decisions) -> Pose:
    points = np.where(decided.present[:, None], decided.positions, evidence.found.positions)
    usable = np.isfinite(points).all(axis=1)
    if usable.sum() < 3:
        return evidence.pose
    variance = (anatomy.shape.modes**2).sum(axis=(0, 2)) + anatomy.axes * anatomy.shape.noise**2
    model = ShapeModel(anatomy.mean, np.sqrt(variance))
    return model.fit(points, usable.astype(float))[0]


def _places(
    evidence: Evidence, anatomy: Anatomy, frame: Pose, seen: _Observations
) -> tuple[np.ndarray, np.ndarray] | None:
    """(F, M, a) mm and (F, M) log shares of the places of undecided landmarks; the first is the found one."""
    if evidence.candidates is None or not seen.free:
        return None
    rows = seen.landmark[: seen.free]
    share = evidence.candidates.share[rows]
    places = frame.to_model(np.nan_to_num(evidence.candidates.positions[rows]))[..., : anatomy.axes]
    places = np.concatenate([seen.value[: seen.free, None], places], axis=1)
    likeliest = share.max(axis=1, keepdims=True)
    share = np.concatenate([np.where(likeliest > 0, likeliest, 1.0), share], axis=1)
    with np.errstate(divide="ignore"):
        return places, TEMPER * np.log(share)


def _choose(
    seen: _Observations, places: tuple[np.ndarray, np.ndarray], expected: np.ndarray, usual: np.ndarray
) -> np.ndarray:
    """Take the place of each undecided landmark that is likeliest by the network and by all other points.

    Returns:
        (N, a) by how much values have changed.
    """
    points, logs = places
    axes, free = points.shape[2], seen.free
    off = points - expected[:free, None]
    squared = np.maximum((off @ np.linalg.inv(usual[:free]) * off).sum(axis=2), 0.0)
    best = (logs - (FREEDOM + axes) / 2 * np.log1p(squared / FREEDOM)).argmax(axis=1)
    before = seen.value.copy()
    seen.value[:free] = points[np.arange(free), best]
    change: np.ndarray = seen.value - before
    return change
