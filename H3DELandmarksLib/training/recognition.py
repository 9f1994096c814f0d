"""Learning to tell scans of a model's anatomy from others: from calibration cases as users have them, and disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from H3DELandmarksLib.core.geometry import Grid, Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.recognition import Variation, recognition_features
from H3DELandmarksLib.formats.manifest import RecognitionCalibration
from H3DELandmarksLib.training.calibration import logistic_regression
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conditions import CONDITIONS, WHOLE, Condition, disturbed_cases

# A scan can be recognised by its points where at least half of those found lie within this many tolerances of the
# truth, or this share of all landmarks is in view.
ROUGHLY_RIGHT, MOST_IN_VIEW = 2.0, 0.4
# A scan is refused up to the least of these p-values at which no more than this share of what is strange is taken for
# the anatomy; where none is enough, up to the highest.
FALSE_ALARM_RATES, MAX_MISSED = (0.01, 0.02, 0.03, 0.05, 0.08), 0.05
FOLDS = 10
PENALTY = 0.1
# Modes of the shape; each needs so many subjects at least.
MODES, SUBJECTS_PER_MODE = 3, 3
ROUNDS = 30


@dataclass(frozen=True)
class Sighting:
    """What networks find in a scan of the anatomy, or of something else.

    Attributes:
        subject: whose scan it is, or was made from.
        condition: name of one of `CONDITIONS`, or any other for something else.
        found: before calibration.
        truth: LPS mm; None where the scan shows something else.
        grid: of the scan, in the lengths of `found`; None where nobody kept it.
    """

    subject: str
    condition: str
    found: RawPredictions
    truth: LandmarkSet | None
    grid: Grid | None = None


class Finder(Protocol):
    """What looks at a scan: a detector, or another one in its place."""

    def findings(self, volume: Volume) -> RawPredictions:
        """As `Detector.findings`."""

    def grid_of(self, volume: Volume) -> Grid:
        """As `Detector.grid_of`."""


def learn_recognition(
    detector: Detector, calibration: Calibration, cases: Sequence[Case], check: Callable[[], None] = lambda: None
) -> RecognitionCalibration | None:
    """What a detector finds in cases under all conditions, and in disturbed ones, as a calibration.

    Args:
        detector: its networks count.
        calibration: of presence and confidence, fitted before.
        cases: that training never saw.
        check: called before each scan; may raise to cancel.

    Returns:
        None where the cases are too few.
    """
    seen = [*look_at_own(detector, cases, check), *look_at_disturbed(detector, cases, check)]
    return fit_recognition(seen, calibration)


def look_at_own(
    detector: Finder,
    cases: Sequence[Case],
    check: Callable[[], None] = lambda: None,
    conditions: Mapping[str, Condition] = CONDITIONS,
) -> Iterator[Sighting]:
    """What a detector finds in cases under all conditions; parameters as for `learn_recognition`."""
    rng = np.random.default_rng(0)
    for case in cases:
        for condition, change in conditions.items():
            check()
            changed = change(case, rng)
            found = detector.findings(changed.volume)
            yield Sighting(case.name, condition, found, changed.landmarks, detector.grid_of(changed.volume))


def look_at_disturbed(
    detector: Finder, cases: Sequence[Case], check: Callable[[], None] = lambda: None
) -> Iterator[Sighting]:
    """What a detector finds in cases disturbed in every way; parameters as for `learn_recognition`."""
    rng = np.random.default_rng(1)
    for case in cases:
        for disturbed in disturbed_cases(case, rng):
            check()
            yield Sighting(case.name, "", detector.findings(disturbed.volume), None)


def is_telling(found: RawPredictions, truth: LandmarkSet, calibration: Calibration) -> bool:
    """Whether a scan of the anatomy can be recognised by what is found in it.

    Where few landmarks are in view and those found are wrong, refusing the scan takes nothing away.
    """
    judged = (calibration.presence(found.presence_logit) >= 0.5) & ~truth.unknown
    if not judged.any():
        return False
    with np.errstate(invalid="ignore"):
        right = np.linalg.norm(found.positions - truth.positions, axis=1) <= ROUGHLY_RIGHT * calibration.tolerance_mm
    in_view = truth.present.sum() / max(1, (~truth.unknown).sum())
    return bool(right[judged].mean() >= 0.5 or in_view >= MOST_IN_VIEW)


def fit_recognition(seen: Sequence[Sighting], calibration: Calibration) -> RecognitionCalibration | None:
    """A score that is high in scans of the anatomy, and its distribution in scans that it was not fitted to.

    Cross-conformal (Vovk, Ann. Math. AI 74:9, 2015): each scan is scored by what the scans of other subjects teach.

    Args:
        seen: scans of the anatomy, of each subject a whole one, and scans of something else.
        calibration: of presence and confidence.

    Returns:
        None where scans of fewer than two subjects can be recognised, or there are none of something else.
    """
    kept = [one for one in seen if one.truth is None or is_telling(one.found, one.truth, calibration)]
    own = [one for one in kept if one.truth is not None]
    subjects = list(dict.fromkeys(one.subject for one in own))
    if len(subjects) < 2 or len(own) == len(kept):
        return None

    def learnt_without(left_out: Sequence[str]) -> tuple[Variation, np.ndarray]:
        rest = [one for one in kept if one.subject not in left_out]
        variation = learn_variation([one for one in rest if one.condition == WHOLE] or rest)
        features = np.array([recognition_features(one.found, variation, calibration) for one in rest])
        return variation, _score_weights(features, np.array([one.truth is not None for one in rest]))

    scores: dict[bool, list[float]] = {True: [], False: []}
    for fold in range(min(FOLDS, len(subjects))):
        left_out = subjects[fold::FOLDS]
        variation, weights = learnt_without(left_out)
        for one in (one for one in kept if one.subject in left_out):
            found = (calibration.presence(one.found.presence_logit) >= 0.5).any()
            score = recognition_features(one.found, variation, calibration) @ weights if found else -np.inf
            scores[one.truth is not None].append(float(score))
    variation, weights = learnt_without(())
    own_scores, strange_scores = (np.sort(scores[kind]).round(3) for kind in (True, False))
    return RecognitionCalibration(
        variation.to_manifest(),
        tuple(weights.round(6).tolist()),
        tuple(own_scores.tolist()),
        _false_alarm_rate(own_scores, strange_scores),
    )


def _false_alarm_rate(own: np.ndarray, strange: np.ndarray) -> float:
    """The p-value up to which scans are refused, by ascending scores (log-odds) of both kinds."""

    def is_enough(rate: float) -> bool:
        count = int(rate * (1 + len(own)) + 1e-9)  # with a score below so many of the anatomy's, a scan is refused
        if count == 0 or (count == 1 and own[0] < 0):  # no stray one decides alone
            return False
        return bool((strange >= own[count - 1]).sum() <= MAX_MISSED * len(strange))

    return min(filter(is_enough, FALSE_ALARM_RATES), default=FALSE_ALARM_RATES[-1])


def _score_weights(features: np.ndarray, is_own: np.ndarray) -> np.ndarray:
    """(F,) weights of features as they are; scans of both kinds together count alike."""
    spread = features.std(axis=0)
    varies = spread > 1e-6
    center, spread = np.where(varies, features.mean(axis=0), 0.0), np.where(varies, spread, 1.0)
    share = np.clip(is_own.mean(), 0.01, 0.99)
    importance = np.where(is_own, 0.5 / share, 0.5 / (1 - share))
    weights = logistic_regression((features - center) / spread, is_own, PENALTY, importance) / spread
    weights[0] -= (weights * center)[1:].sum()
    return weights


def learn_variation(seen: Sequence[Sighting]) -> Variation:
    """How true landmarks vary around their mean in the frames that were found; some may be missing in every scan.

    Shapes are completed by what is known so far of the variation, which is then learnt anew, in turns.

    Args:
        seen: scans of the anatomy, others are passed over.
    """
    known = [(one, one.truth) for one in seen if one.truth is not None and one.truth.present.any()]
    shapes = np.stack([one.found.pose.to_model(truth.positions) for one, truth in known])
    there = np.isfinite(shapes).all(axis=2)
    shapes = shapes - np.nanmean(shapes, axis=1, keepdims=True)
    seen_once = there.any(axis=0)
    mean = np.zeros(shapes.shape[1:])
    mean[seen_once] = np.nanmean(shapes[:, seen_once], axis=0)
    count = min(MODES, len({one.subject for one, _ in known}) // SUBJECTS_PER_MODE)
    variation = Variation(mean, np.zeros((0, *mean.shape)), float(np.nanstd(shapes - mean)) or 1.0)
    for _ in range(ROUNDS):
        complete = []
        for shape, present in zip(shapes, there):
            difference, modes = variation.fit(shape, present.astype(float))
            fitted = variation.mean + np.tensordot(modes, variation.modes, 1)
            complete.append(fitted + np.where(present[:, None], difference, 0.0))
        rows = np.stack(complete).reshape(len(complete), -1)
        mean, deviation = rows.mean(axis=0), rows - rows.mean(axis=0)
        _, singular, directions = np.linalg.svd(deviation, full_matrices=False)
        modes = directions[:count] * singular[:count, None] / np.sqrt(len(rows))
        rest = deviation - deviation @ directions[:count].T @ directions[:count]
        known_rows = np.repeat(there, 3, axis=1)
        freedom = max(known_rows.sum() - count * len(rows), 1)
        noise = max(np.sqrt((rest[known_rows] ** 2).sum() / freedom), 1e-3)
        mean = mean.reshape(-1, 3)
        variation = Variation(mean, modes.reshape(count, *mean.shape), float(noise))
    return variation
