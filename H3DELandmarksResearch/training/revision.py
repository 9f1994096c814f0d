"""Learning what revision needs: how an anatomy varies, how a model errs, and by how much radii must grow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.anatomy import CORRECTIONS, Anatomy, Factors
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Decisions, Evidence, posterior
from H3DELandmarksLib.core.shape_model import rigid_fit
from H3DELandmarksLib.core.systematic import follow, mended, revealed, systematic_errors
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.formats.manifest import FollowingCalibration
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.recognition import Finder

SHAPE_MODES, ERROR_MODES = 12, 8
# As so many cases counts that points vary and err on their own.
SHAPE_SHRINKAGE, ERROR_SHRINKAGE = 10.0, 5.0
# Errors beyond so many usual ones are cut: they are no errors, but other structures.
GROSS = 2.5
CAUTIONS = (0.5, 1.0, 2.0, 4.0)
SHARE = 0.9
# The radii of what is left never shrink by what calibration cases show: they were fitted to these very cases.
LEAST_SCALE = 1.0
RESAMPLES = 2000
MOST_COMPARED = 24  # cases by which a caution is chosen


@dataclass(frozen=True)
class Reviewed:
    """A case with what a model says of it and what is true, LPS mm and in the scheme's order.

    Attributes:
        evidence: what the model says.
        truth: what is true.
        tolerance: (K,) mm up to which a reader takes each point for right; None for the anatomy's own.
    """

    evidence: Evidence
    truth: LandmarkSet
    tolerance: np.ndarray | None = None

    def tolerances(self, anatomy: Anatomy) -> np.ndarray:
        """(K,) mm."""
        return np.full(len(self.truth), anatomy.tolerance_mm) if self.tolerance is None else self.tolerance


def reviewed_case(detector: Detector, finder: Finder, case: Case, tolerance: np.ndarray | None = None) -> Reviewed:
    """A case with what a model says of it.

    Args:
        detector: of the model.
        finder: what looks at the scan: the same, or a model that stands in for it.
        case: scan and true points.
        tolerance: see `Reviewed`.
    """
    found = finder.findings(case.volume)
    said = detector.conclude(found, case.volume)
    evidence = Evidence(said.doubtful, found.pose, said.candidates)
    return Reviewed(evidence, case.landmarks.ordered_as(said.doubtful.names), tolerance)


@dataclass(frozen=True)
class Step:
    """What a simulated reader sees after some corrections.

    Attributes:
        corrections: made so far.
        undecided: (K,) bool, landmarks that wait and whose truth is known.
        error: (K,) mm of the points as they are now.
        landmarks: as they are now.
    """

    corrections: int
    undecided: np.ndarray
    error: np.ndarray
    landmarks: LandmarkSet


def read_through(
    case: Reviewed,
    anatomy: Anatomy,
    helped: bool,
    noise_mm: float = 0.0,
    rng: np.random.Generator | None = None,
    pairs: Sequence[tuple[str, str]] = (),
    remedies: bool = False,
    slip: float = 0.0,
) -> Iterator[Step]:
    """A reader who takes the most doubtful point first, accepts it or corrects it, until all are within tolerance.

    Args:
        case: what is reviewed.
        anatomy: its `tolerance_mm` is the reader's, where the case has none.
        helped: whether the other points follow corrections.
        noise_mm: standard deviation of each coordinate of the reader's own points.
        rng: of that noise.
        pairs: (left name, right name).
        remedies: whether the reader uses the remedies of systematic errors where they are right; each counts as one
            correction.
        slip: by how many tolerances the first correction is wrong; the reader does not notice.
    """
    evidence, truth = case.evidence, case.truth
    decided, now, corrections = Decisions.none(len(truth)), evidence.found, 0
    reachable = truth.present & evidence.found.present
    rng, before, tolerance = rng or np.random.default_rng(0), None, case.tolerances(anatomy)
    asked = -1
    while True:
        undecided = reachable & ~decided.made
        error = np.linalg.norm(now.positions - truth.positions, axis=1)
        yield Step(corrections, undecided, error, now)
        if (error <= tolerance)[undecided].all():
            return
        if remedies and asked != corrections:
            asked = corrections
            better = _remedied(evidence, anatomy, decided, pairs, np.where(undecided, tolerance, np.inf), truth)
            if better is not None:
                evidence, before, corrections = better, None, corrections + 1
                now = follow(evidence, anatomy, decided, pairs) if helped else evidence.found
                continue
        certain = np.where(undecided, np.nan_to_num(now.confidence, nan=-1.0), np.inf)
        next_one = int(certain.argmin())
        if error[next_one] <= tolerance[next_one]:
            decided.positions[next_one], decided.accepted[next_one] = now.positions[next_one], True
            continue
        axes = np.arange(3) < anatomy.axes
        decided.positions[next_one] = truth.positions[next_one] + rng.normal(0, noise_mm, 3) * axes
        if slip and not corrections:
            decided.positions[next_one] += wrong_by(slip * tolerance[next_one], anatomy.axes, rng)
        corrections += 1
        if helped:
            before = before or posterior(evidence, anatomy, Decisions.none(len(truth)))
            now = follow(evidence, anatomy, decided, pairs, before)


def wrong_by(distance: float, axes: int, rng: np.random.Generator) -> np.ndarray:
    """(3,) mm of that length in any direction, in the picture where `axes` is 2."""
    away: np.ndarray = rng.normal(size=3) * (np.arange(3) < axes)
    return away * distance / np.linalg.norm(away)


def _remedied(
    evidence: Evidence,
    anatomy: Anatomy,
    decided: Decisions,
    pairs: Sequence[tuple[str, str]],
    tolerance: np.ndarray,
    truth: LandmarkSet,
) -> Evidence | None:
    """The evidence after the remedy that is offered, if it brings more points within the tolerances than it loses."""
    if decided.made.any():
        finding = revealed(evidence, anatomy, decided, pairs)
    else:
        finding = next(iter(systematic_errors(evidence, anatomy, pairs)), None)
    if finding is None or finding.order is None:
        return None
    better = mended(evidence, anatomy, finding)
    wrong = [
        (np.linalg.norm(one.found.positions - truth.positions, axis=1) > tolerance).sum() for one in (better, evidence)
    ]
    return better if wrong[0] < wrong[1] else None


def learn_anatomy(
    shapes: np.ndarray, cases: Sequence[Reviewed], tolerance_mm: float, pairs: Sequence[tuple[str, str]] = ()
) -> Anatomy:
    """What revision needs of a model, with as much caution as cases ask for.

    Args:
        shapes: (N, K, 3) LPS mm of cases that may be those of training, NaN where a landmark is missing.
        cases: that training never saw.
        tolerance_mm: what counts as right.
        pairs: (left name, right name).
    """
    base = replace(_variation(shapes, tolerance_mm), presence=np.isfinite(shapes).all(axis=2).astype(float))
    learnt = learn_following(base, cases, errs=True, pairs=pairs)
    caution = np.inf if learnt.caution is None else learnt.caution
    return replace(base, errors=_errors(base, cases), caution=caution, scales=learnt.scales)


def learn_following(
    anatomy: Anatomy, cases: Sequence[Reviewed], errs: bool, pairs: Sequence[tuple[str, str]] = ()
) -> FollowingCalibration:
    """Whether corrections are saved where undecided points follow, how careful these must be, and how far radii grow.

    Args:
        anatomy: of the model.
        cases: that training never saw.
        errs: whether the model's errors are learnt from these cases; each half is then judged by those of the other.
        pairs: (left name, right name).
    """
    halves = [(cases[0::2], cases[1::2]), (cases[1::2], cases[0::2])] if errs and len(cases) > 3 else [(cases, cases)]
    judged = [
        (replace(anatomy, errors=_errors(anatomy, learnt)) if errs else anatomy, case)
        for learnt, held in halves
        for case in held
    ]

    def runs(caution: float, every: int = 1) -> list[list[Step]]:
        return [
            list(read_through(case, replace(each, caution=caution), True, pairs=pairs))
            for each, case in judged[::every]
        ]

    without = np.array([list(read_through(case, each, False))[-1].corrections for each, case in judged])
    every = -(-len(judged) // MOST_COMPARED)
    best = _caution(without[::every], {c: _corrections(runs(c, every)) for c in CAUTIONS})
    kept = runs(best)
    ratios = [list[float]() for _ in CORRECTIONS]
    for steps in kept:
        _gather(steps, ratios)
    scales = [float(np.quantile(each, SHARE)) if len(each) >= 20 else 1.0 for each in ratios]
    first, second, third = (round(max(scale, LEAST_SCALE), 4) for scale in scales)
    helped = _corrections(kept)
    return FollowingCalibration(
        len(cases),
        int(without.sum()),
        int(helped.sum()),
        saved_interval(without, helped, 0.9),
        None if np.isinf(best) else best,
        (first, second, third),
    )


def saved_interval(without: np.ndarray, helped: np.ndarray, level: float) -> tuple[float, float]:
    """Ends of the bootstrap interval, over cases, of the share of corrections saved.

    Args:
        without, helped: (N,) corrections of each case.
        level: such as 0.9.
    """
    drawn = np.random.default_rng(0).integers(len(without), size=(RESAMPLES, len(without)))
    saved = 1 - helped[drawn].sum(axis=1) / np.maximum(without[drawn].sum(axis=1), 1)
    low, high = np.quantile(saved, [(1 - level) / 2, (1 + level) / 2])
    return round(float(low), 4), round(float(high), 4)


def anatomy_without_caution(shapes: np.ndarray, cases: Sequence[Reviewed], tolerance_mm: float) -> Anatomy:
    """How shapes vary and how a model errs; parameters as for `learn_anatomy`."""
    base = _variation(shapes, tolerance_mm)
    return replace(base, errors=_errors(base, cases))


def _corrections(runs: Sequence[Sequence[Step]]) -> np.ndarray:
    return np.array([steps[-1].corrections for steps in runs])


def _caution(without: np.ndarray, helped: Mapping[float, np.ndarray]) -> float:
    """The caution that saves most corrections, if it surely saves any; else infinite, so that no point is moved."""
    saved = {caution: without - each for caution, each in helped.items()}
    doubt = {c: 1.64 * each.std() / np.sqrt(max(len(each), 1)) for c, each in saved.items()}
    sure = [c for c in saved if saved[c].mean() > doubt[c]]
    return max(sure, key=lambda c: (saved[c].sum(), c), default=np.inf)


def _gather(steps: Sequence[Step], ratios: list[list[float]]) -> None:
    """Errors over radii of undecided points after each of the numbers of `CORRECTIONS`."""
    first = {step.corrections: step for step in reversed(steps)}
    for each, corrections in zip(ratios, CORRECTIONS):
        if corrections in first:
            step = first[corrections]
            ratio = (step.error / step.landmarks.radius)[step.undecided]
            each.extend(ratio[np.isfinite(ratio)].tolist())


def _variation(shapes: np.ndarray, tolerance_mm: float) -> Anatomy:
    """Mean and variation of shapes laid over each other; errors are yet unknown."""
    seen = np.isfinite(shapes).all(axis=2)
    shapes = shapes[seen.sum(axis=1) >= 3]
    mean = shapes[np.isfinite(shapes).all(axis=2).sum(axis=1).argmax()]
    mean = np.nan_to_num(mean - np.nanmean(mean, axis=0))
    for _ in range(10):
        laid = np.stack([_laid_over(mean, points) for points in shapes])
        mean = np.where(np.isfinite(laid).any(axis=0), np.nanmean(laid, axis=0), mean)
    center = mean.mean(axis=0)
    flat = not mean[:, 2].any()
    deviations = laid - mean
    usual = np.sqrt(np.nanmean((deviations**2).sum(axis=2), axis=0) / (2 if flat else 3))
    shape = Factors.of(deviations, SHAPE_MODES, usual, SHAPE_SHRINKAGE)
    nothing = Factors(np.zeros((0, *mean.shape)), np.ones(len(mean)))
    return Anatomy(mean - center, shape, nothing, tolerance_mm)


def _laid_over(mean: np.ndarray, points: np.ndarray) -> np.ndarray:
    known = np.isfinite(points).all(axis=1)
    return rigid_fit(mean[known], points[known]).to_model(points)


def _errors(anatomy: Anatomy, cases: Sequence[Reviewed]) -> Factors:
    """How found points err, along the axes of the model frame."""
    errors = np.stack(
        [(case.evidence.found.positions - case.truth.positions) @ case.evidence.pose.rotation for case in cases]
    )
    length = np.linalg.norm(errors, axis=2)
    overall = float(np.nanmedian(length))
    typical = np.nanmedian(np.concatenate([length, np.full((3, length.shape[1]), overall)]), axis=0)
    typical = typical / (1.18 if anatomy.axes == 2 else 1.54)  # the median length of a vector of unit variances
    limit = GROSS * typical * np.sqrt(anatomy.axes)
    cut = errors * np.minimum(1.0, limit / np.maximum(length, 1e-9))[..., None]
    return Factors.of(cut, ERROR_MODES, typical, ERROR_SHRINKAGE)
