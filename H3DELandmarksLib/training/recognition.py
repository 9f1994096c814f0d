"""Learning to tell scans of a model's anatomy from others: from calibration cases as users may have them, and disturbed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.recognition import recognition_features
from H3DELandmarksLib.formats.manifest import RecognitionCalibration
from H3DELandmarksLib.training.calibration import logistic_regression
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conditions import CONDITIONS, disturbed_cases

# A scan can be recognised by its points where at least half of those found lie within this many tolerances of the
# truth, or this share of all landmarks is in view.
ROUGHLY_RIGHT, MOST_IN_VIEW = 2.0, 0.4
FALSE_ALARM_RATE = 0.03
FOLDS = 10
PENALTY = 0.1


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
    rng = np.random.default_rng(0)

    def find(case: Case) -> RawPredictions:
        check()
        return detector.findings(case.volume)

    def features(found: RawPredictions) -> np.ndarray:
        return recognition_features(found, detector.shape, calibration)

    own, subjects, strange, sources = [], [], [], []
    for case in cases:
        for change in CONDITIONS.values():
            changed = change(case, rng)
            found = find(changed)
            if is_telling(found, changed.landmarks, calibration):
                own.append(features(found))
                subjects.append(case.name)
        for disturbed in disturbed_cases(case, rng):
            strange.append(features(find(disturbed)))
            sources.append(case.name)
    return fit_recognition(np.array(own), subjects, np.array(strange), sources)


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


def fit_recognition(
    own: np.ndarray, subjects: Sequence[str], strange: np.ndarray, strange_from: Sequence[str]
) -> RecognitionCalibration | None:
    """A score that is high in scans of the anatomy, and its distribution in scans that it was not fitted to.

    Cross-conformal (Vovk, Ann. Math. AI 74:9, 2015): each scan is scored by weights from the scans of other subjects.

    Args:
        own: (N, 5) `recognition_features` of scans of the anatomy, as users have them.
        subjects: (N,) whose scans they are.
        strange: (M, 5) features of scans of something else, or of nothing.
        strange_from: (M,) subjects whose scans these were made from.

    Returns:
        None where there are not two subjects, or nothing strange.
    """
    names = list(dict.fromkeys(subjects))
    if len(names) < 2 or not len(strange):
        return None
    features, is_own = np.concatenate([own, strange]), np.arange(len(own) + len(strange)) < len(own)
    whose = np.array([*subjects, *strange_from])
    spread = np.where(features.std(axis=0) > 1e-6, features.std(axis=0), 1.0)
    center = np.where(features.std(axis=0) > 1e-6, features.mean(axis=0), 0.0)

    def weights(chosen: np.ndarray) -> np.ndarray:
        """Of features as they are; both kinds of scan count alike."""
        label = is_own[chosen]
        share = np.clip(label.mean(), 0.01, 0.99)
        importance = np.where(label, 0.5 / share, 0.5 / (1 - share))
        fitted = logistic_regression((features[chosen] - center) / spread, label, PENALTY, importance)
        scaled = fitted / spread
        scaled[0] -= (scaled * center)[1:].sum()
        return scaled

    scores = np.empty(len(own))
    for fold in range(FOLDS):
        left_out = np.isin(whose, names[fold::FOLDS])
        if left_out.any():
            scores[left_out[: len(own)]] = own[left_out[: len(own)]] @ weights(~left_out)
    return RecognitionCalibration(
        tuple(weights(np.ones(len(features), dtype=bool)).round(6).tolist()),
        tuple(np.sort(scores).round(3).tolist()),
        FALSE_ALARM_RATE,
    )
