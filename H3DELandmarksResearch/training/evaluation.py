"""What a model's weights are worth: calibration on cases of its own, then everything measured once on test cases."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.evaluation import Evaluation, evaluate_sets
from H3DELandmarksLib.evaluation.metrics import THRESHOLDS_MM, radius_coverage
from H3DELandmarksLib.evaluation.reliability import compare_statements
from H3DELandmarksLib.formats.training import TrainingConfiguration
from H3DELandmarksLib.training.calibration import (
    Evidence,
    fit_calibration,
    gather_evidence,
    radii,
    radii_without,
    truncated_case,
    usual_errors,
)
from H3DELandmarksLib.training.cases import Case

PARTS = 4
MAX_CASES = 12


def ood_cases(cases: Sequence[Case], rng: np.random.Generator) -> Iterator[Case]:
    """Three disturbed copies of up to `MAX_CASES` cases, one by one, in which no landmark is present."""
    for case in cases[:MAX_CASES]:
        for disturb in (shuffled, scrambled, inverted):
            volume = Volume(disturb(case.volume.array, rng), case.volume.affine)
            nothing = np.full((len(case.landmarks), 3), np.nan)
            yield Case(f"{case.name}-{disturb.__name__}", volume, LandmarkSet(case.landmarks.names, nothing))


def shuffled(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blocks of a scan in another order: every part is real, but nothing is where it belongs."""
    result = array.copy()
    size = [max(1, count // PARTS) for count in array.shape]
    corners = np.stack(np.meshgrid(*(np.arange(min(PARTS, n)) for n in array.shape), indexing="ij"), -1).reshape(-1, 3)
    for here, there in zip(corners, rng.permutation(corners)):
        target, source = (tuple(slice(c * s, (c + 1) * s) for c, s in zip(corner, size)) for corner in (here, there))
        result[target] = array[source]
    return result


def scrambled(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clouds with the spectrum and the values of a scan: its phases are random (Theiler et al., Physica D 58, 1992)."""
    from scipy.fft import irfftn, rfftn

    noise = rfftn(rng.standard_normal(array.shape, dtype=np.float32))
    clouds = irfftn(np.abs(rfftn(array.astype(np.float32))) * noise / np.maximum(np.abs(noise), 1e-12), s=array.shape)
    result = np.empty(array.size, array.dtype)
    result[np.argsort(clouds, axis=None)] = np.sort(array, axis=None)
    return result.reshape(array.shape)


def inverted(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scan whose bright parts are dark and the reverse."""
    low, high = np.percentile(array, (0.5, 99.9))
    return np.clip(low + high - array.astype(np.float32), low, high).astype(array.dtype)


logger = logging.getLogger(__name__)
NOTHING = Volume(np.zeros((1, 1, 1), np.uint8), np.eye(4))
WHOLE, CUT = "whole", "whole_and_cut_off"
SPLIT, CROSS = "split conformal", "cross-conformal"


@dataclass(frozen=True)
class ModelEvaluation:
    """Calibration and test results of a model.

    Attributes:
        calibration: what the package will state probabilities and radii by.
        evaluation: whole test scans.
        predictions: what was found in them, by case.
        reliability: of presence and confidence, see `Statements.summary`, by the test scans that they were stated in:
            `WHOLE` alone, and with as many that have one end cut off, `CUT`.
        cross_coverage: (cases, share) of errors within radii from all other unseen cases; None where radii come from
            calibration cases alone.
        shape: the model's mean shape.
    """

    calibration: Calibration
    evaluation: Evaluation
    predictions: Mapping[str, LandmarkSet]
    reliability: Mapping[str, Mapping[str, Any]]
    cross_coverage: tuple[int, float] | None
    shape: ShapeModel

    @property
    def radii_from(self) -> str:
        """How the radii were found."""
        return SPLIT if self.cross_coverage is None else CROSS

    def accuracy(self) -> dict[str, Any]:
        """The manifest's ``accuracy``."""
        result = {"test": self.evaluation.to_dict(), "reliability": dict(self.reliability)}
        if self.cross_coverage is not None:
            result["cross_conformal"] = dict(zip(("cases", "coverage"), self.cross_coverage))
        return result


def evaluate_model(
    detector: Detector, configuration: TrainingConfiguration, calibration: Sequence[Case], test: Sequence[Case]
) -> ModelEvaluation:
    """Fit a calibration, then measure what the detector says with it.

    Args:
        detector: loaded weights; gets the new calibration.
        configuration: its `tolerance_mm`, `thresholds_mm` and `cross_conformal` count.
        calibration: cases for the calibration; each also serves with one end cut off, and disturbed beyond recognition.
        test: cases for the measurement.
    """
    rng = np.random.default_rng(0)
    logger.info("Looking at %d calibration cases, whole, cut off and disturbed", len(calibration))
    seen = _evidence(detector, chain(calibration, (truncated_case(case, rng) for case in calibration)))
    disturbed = _evidence(detector, ood_cases(calibration, rng))
    fitted = fit_calibration(seen, configuration.tolerance_mm, disturbed)
    logger.info("Looking at %d test cases, whole and cut off", len(test))
    test = [*test, *(truncated_case(case, rng) for case in test)]
    findings = [detector.findings(case.volume) for case in test]
    left_out = cross = None
    if configuration.cross_conformal:
        unseen = gather_evidence(findings, test, detector.shape)
        fitted, left_out, cross = _cross_conformal(fitted, seen, unseen)
    detector.calibration = fitted
    found = {case.name: detector.landmark_set(f) for case, f in zip(test, findings)}
    if left_out is not None:
        found |= {case.name: replace(found[case.name], radius=row) for case, row in zip(test, left_out)}
    truth = {case.name: case.landmarks for case in test}
    whole = {case.name: found[case.name] for case in test[: len(test) // 2]}
    thresholds = configuration.thresholds_mm or THRESHOLDS_MM
    evaluation = evaluate_sets(whole, {name: truth[name] for name in whole}, thresholds)
    reliable = {
        name: compare_statements(part, truth, configuration.tolerance_mm).summary()
        for name, part in ((WHOLE, whole), (CUT, found))
    }
    return ModelEvaluation(fitted, evaluation, whole, reliable, cross, detector.shape)


def _evidence(detector: Detector, cases: Iterable[Case]) -> Evidence:
    """What the detector finds beside the truth; of the cases, only the landmarks are kept in memory."""
    found = [(detector.findings(case.volume), replace(case, volume=NOTHING)) for case in cases]
    return gather_evidence([findings for findings, _ in found], [case for _, case in found], detector.shape)


def _cross_conformal(
    fitted: Calibration, seen: Evidence, unseen: Evidence
) -> tuple[Calibration, np.ndarray, tuple[int, float]]:
    """Radii from calibration and test cases together, for sets with too few specimens to spare.

    Each test case is measured against the radii that all other cases give.

    Returns:
        The calibration with radii from all cases; (N, K) radii of the test cases; how many cases gave errors, and the
        share of errors within radii from all other cases.
    """
    errors = [usual_errors(part, fitted.presence_scale, fitted.presence_bias) for part in (seen, unseen)]
    whole = [rows[~part.truncated] for rows, part in zip(errors, (seen, unseen))]
    every = np.concatenate(whole)
    others = radii_without(every)
    left_out = others[len(whole[0]) :]
    return replace(fitted, radius90=radii(every)), left_out, (len(every), radius_coverage(every, others))
