"""Learning what revision needs: how an anatomy varies, how a model errs, and by how much radii must grow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.anatomy import CORRECTIONS, Anatomy, Factors
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Decisions, Evidence, posterior, revise
from H3DELandmarksLib.core.shape_model import rigid_fit

SHAPE_MODES, ERROR_MODES = 12, 8
# As so many cases counts that points vary and err on their own.
SHAPE_SHRINKAGE, ERROR_SHRINKAGE = 10.0, 5.0
# Errors beyond so many usual ones are cut: they are no errors, but other structures.
GROSS = 2.5
CAUTIONS = (0.5, 1.0, 2.0, 4.0)
SHARE = 0.9


@dataclass(frozen=True)
class Reviewed:
    """A case with what a model says of it and what is true, LPS mm and in the scheme's order."""

    evidence: Evidence
    truth: LandmarkSet


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
    case: Reviewed, anatomy: Anatomy, helped: bool, noise_mm: float = 0.0, rng: np.random.Generator | None = None
) -> Iterator[Step]:
    """A reader who takes the most doubtful point first, accepts it or corrects it, until all are within tolerance.

    Args:
        case: what is reviewed.
        anatomy: its `tolerance_mm` is the reader's.
        helped: whether the other points follow corrections.
        noise_mm: standard deviation of each coordinate of the reader's own points.
        rng: of that noise.
    """
    evidence, truth = case.evidence, case.truth
    decided, now, corrections = Decisions.none(len(truth)), evidence.found, 0
    reachable = truth.present & evidence.found.present
    rng, before = rng or np.random.default_rng(0), None
    while True:
        undecided = reachable & ~decided.made
        error = np.linalg.norm(now.positions - truth.positions, axis=1)
        yield Step(corrections, undecided, error, now)
        if (error[undecided] <= anatomy.tolerance_mm).all():
            return
        certain = np.where(undecided, np.nan_to_num(now.confidence, nan=-1.0), np.inf)
        next_one = int(certain.argmin())
        if error[next_one] <= anatomy.tolerance_mm:
            decided.positions[next_one], decided.accepted[next_one] = now.positions[next_one], True
            continue
        axes = np.arange(3) < anatomy.axes
        decided.positions[next_one] = truth.positions[next_one] + rng.normal(0, noise_mm, 3) * axes
        corrections += 1
        if helped:
            before = before or posterior(evidence, anatomy, Decisions.none(len(truth)))
            now = revise(evidence, anatomy, decided, before)


def learn_anatomy(shapes: np.ndarray, cases: Sequence[Reviewed], tolerance_mm: float) -> Anatomy:
    """What revision needs of a model, with as much caution as cases ask for.

    Args:
        shapes: (N, K, 3) LPS mm of cases that may be those of training, NaN where a landmark is missing.
        cases: that training never saw.
        tolerance_mm: what counts as right.
    """
    base = replace(_variation(shapes, tolerance_mm), presence=np.isfinite(shapes).all(axis=2).astype(float))
    halves = [(cases[0::2], cases[1::2]), (cases[1::2], cases[0::2])] if len(cases) > 3 else [(cases, cases)]
    pairs = [(replace(base, errors=_errors(base, learnt)), held) for learnt, held in halves]
    best = _caution(pairs)
    ratios = [list[float]() for _ in CORRECTIONS]
    for anatomy, held in pairs:
        for case in held:
            _gather(replace(anatomy, caution=best), case, ratios)
    scales = [float(np.quantile(each, SHARE)) if len(each) >= 20 else 1.0 for each in ratios]
    first, second, third = np.maximum(scales, 1.0)
    return replace(base, errors=_errors(base, cases), caution=best, scales=(first, second, third))


def anatomy_without_caution(shapes: np.ndarray, cases: Sequence[Reviewed], tolerance_mm: float) -> Anatomy:
    """How shapes vary and how a model errs; parameters as for `learn_anatomy`."""
    base = _variation(shapes, tolerance_mm)
    return replace(base, errors=_errors(base, cases))


def _caution(pairs: Sequence[tuple[Anatomy, Sequence[Reviewed]]]) -> float:
    """The caution that saves most corrections, if it surely saves any; else the greatest that costs none."""
    without = np.array([_corrections(anatomy, case, False) for anatomy, held in pairs for case in held])
    saved = {}
    for caution in CAUTIONS:
        cautious = [(replace(anatomy, caution=caution), held) for anatomy, held in pairs]
        saved[caution] = without - [_corrections(anatomy, case, True) for anatomy, held in cautious for case in held]
    doubt = {c: 1.64 * each.std() / np.sqrt(max(len(each), 1)) for c, each in saved.items()}
    sure = [c for c in CAUTIONS if saved[c].mean() > doubt[c]]
    if sure:
        return max(sure, key=lambda c: (saved[c].sum(), c))
    return max((c for c in CAUTIONS if saved[c].sum() >= 0), default=np.inf)


def _corrections(anatomy: Anatomy, case: Reviewed, helped: bool) -> int:
    return list(read_through(case, anatomy, helped))[-1].corrections


def _gather(anatomy: Anatomy, case: Reviewed, ratios: list[list[float]]) -> None:
    """Errors over radii of undecided points after each of the numbers of `CORRECTIONS`."""
    steps = {step.corrections: step for step in reversed(list(read_through(case, anatomy, True)))}
    for each, corrections in zip(ratios, CORRECTIONS):
        if corrections in steps:
            step = steps[corrections]
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
