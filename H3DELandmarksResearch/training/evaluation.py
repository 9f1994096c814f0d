"""What a model's weights are worth: calibration on cases of its own, then everything measured once on test cases."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.evaluation import Evaluation, evaluate_sets
from H3DELandmarksLib.evaluation.measures import SHARE, measure
from H3DELandmarksLib.evaluation.metrics import THRESHOLDS_MM, radius_coverage
from H3DELandmarksLib.evaluation.readers import human_floor
from H3DELandmarksLib.formats.comparison import HumanFloor, floor_entry
from H3DELandmarksLib.formats.measurements import measurements_of
from H3DELandmarksLib.training.calibration import (
    TRUNCATED,
    Evidence,
    fit_calibration,
    gather_evidence,
    radii,
    truncated_case,
    usual_errors,
)
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conditions import CONDITIONS, WHOLE
from H3DELandmarksLib.training.recognition import Finder, Sighting, fit_recognition, look_at_disturbed, look_at_own
from H3DELandmarksResearch.evaluation.reliability import compare_statements
from H3DELandmarksResearch.training.cross_fitting import Part
from H3DELandmarksResearch.training.point_calibration import (
    Placed,
    PointErrors,
    fit_confidence,
    fit_counting_by_conditions,
    fit_points,
    left_out_by_condition,
    point_errors,
)
from H3DELandmarksResearch.training.record import TrainingConfiguration

# Cases that are looked at in many ways, and those that are also disturbed beyond recognition.
MAX_CASES, MAX_DISTURBED = 50, 8


logger = logging.getLogger(__name__)
NOTHING = Volume(np.zeros((1, 1, 1), np.uint8), np.eye(4))
CUT = "whole_and_cut_off"
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
        left_out: of calibration scans by condition, see `left_out_by_condition`.
        floor: the model beside the readers of the test cases; None where they have one reader each.
    """

    calibration: Calibration
    evaluation: Evaluation
    predictions: Mapping[str, LandmarkSet]
    reliability: Mapping[str, Mapping[str, Any]]
    cross_coverage: tuple[int, float] | None
    shape: ShapeModel
    left_out: Mapping[str, Mapping[str, float]]
    floor: HumanFloor | None = None

    @property
    def radii_from(self) -> str:
        """How the radii were found."""
        return SPLIT if self.cross_coverage is None else CROSS

    def accuracy(self) -> dict[str, Any]:
        """The manifest's ``accuracy``."""
        test = {**self.evaluation.to_dict(), **floor_entry(self.floor)}
        result: dict[str, Any] = {"test": test, "reliability": dict(self.reliability)}
        if self.left_out:
            result["left_out_by_condition"] = dict(self.left_out)
        if self.cross_coverage is not None:
            result["cross_conformal"] = dict(zip(("cases", "coverage"), self.cross_coverage))
        return result


def evaluate_model(
    detector: Detector,
    configuration: TrainingConfiguration,
    calibration: Sequence[Part],
    test: Sequence[Case],
    placed: Placed | None = None,
) -> ModelEvaluation:
    """Fit a calibration, then measure what the detector says with it.

    Args:
        detector: loaded weights; gets the new calibration.
        configuration: its `tolerance_mm`, `thresholds_mm` and `cross_conformal` count.
        calibration: cases for the calibration; each also serves with one end cut off, about `MAX_CASES` under all
            conditions and about `MAX_DISTURBED` disturbed beyond recognition.
        test: cases for the measurement.
        placed: what the model makes of findings in calibration cases; None for `Detector.placed`.
    """
    rng = np.random.default_rng(0)
    placed = placed or (lambda one: detector.placed(one.found))
    count = sum(len(part.cases) for part in calibration)
    logger.info("Looking at %d calibration cases, whole and cut off", count)
    looked_at = [one for part in calibration for one in _looked_at(part.finder, part.cases, placed)]
    for part in calibration:
        looked_at += _looked_at(part.finder, (truncated_case(case, rng) for case in part.cases), placed)
    seen = gather_evidence([found for found, _ in looked_at], [case for _, case in looked_at], detector.shape)
    fitted = fit_calibration(seen, configuration.tolerance_mm)
    logger.info("Learning to recognise the anatomy")
    own, rest, strange = _looks(calibration)
    known = fit_recognition([*own, *strange], fitted)
    detector.calibration = fitted = replace(fitted, recognition=known)
    logger.info("Looking at %d test cases, whole and cut off", len(test))
    test = [*test, *(truncated_case(case, rng) for case in test)]
    findings = [detector.findings(case.volume) for case in test]
    shown = [detector.placed(one) for one in findings]
    left_out = cross = None
    if configuration.cross_conformal:
        unseen = gather_evidence(shown, test, detector.shape)
        fitted, left_out, cross = _cross_conformal(fitted, seen, unseen)
    if configuration.joint:  # errors of rows that are one off would make all radii wide
        detector.calibration = fitted
        fitted = replace(fitted, reaches=interval_reaches(detector, looked_at[:count]))
        fitted = replace(fitted, counting=fit_counting_by_conditions(own, fitted, placed))
    else:
        fitted = replace(fitted, points=fit_points(own, detector.shape, fitted, placed))
    points = point_errors([*own, *rest], detector.shape, fitted, placed)
    detector.calibration = fitted = _with_confidence(fitted, points)
    found = {case.name: detector.landmark_set(f, detector.grid_of(case.volume)) for case, f in zip(test, shown)}
    if left_out is not None:
        found = _with_radii(found, left_out / fitted.radius90)
    truth = {case.name: case.landmarks for case in test}
    whole = {case.name: found[case.name] for case in test[: len(test) // 2]}
    thresholds = configuration.thresholds_mm or THRESHOLDS_MM
    evaluation = evaluate_sets(whole, {name: truth[name] for name in whole}, thresholds)
    reliable = {
        name: compare_statements(part, truth, configuration.tolerance_mm).summary()
        for name, part in ((WHOLE, whole), (CUT, found))
    }
    floor = human_floor(list(whole.values()), [case.readers for case in test[: len(whole)]])
    judged = {} if configuration.joint else left_out_by_condition(points, fitted)
    return ModelEvaluation(fitted, evaluation, whole, reliable, cross, detector.shape, judged, floor)


def _with_confidence(calibration: Calibration, points: PointErrors) -> Calibration:
    """The calibration with confidences by what is known of points; as it is where too little is known."""
    weights = fit_confidence(points, calibration.tolerance_mm)
    return calibration if weights is None else replace(calibration, confidence_weights=weights)


def _with_radii(found: Mapping[str, LandmarkSet], factors: np.ndarray) -> dict[str, LandmarkSet]:
    """Landmark sets by name with their radii times the (N, K) factors of the first N."""
    scaled = {name: replace(one, radius=one.radius * row) for (name, one), row in zip(found.items(), factors)}
    return {**found, **scaled}


def _looks(calibration: Sequence[Part]) -> tuple[list[Sighting], list[Sighting], list[Sighting]]:
    """About `MAX_CASES` under all conditions, all further ones whole, and about `MAX_DISTURBED` disturbed."""
    most, few = (-(-limit // len(calibration)) for limit in (MAX_CASES, MAX_DISTURBED))
    whole_alone = {WHOLE: CONDITIONS[WHOLE]}
    own = [one for part in calibration for one in look_at_own(part.finder, part.cases[:most])]
    rest = [one for p in calibration for one in look_at_own(p.finder, p.cases[most:], conditions=whole_alone)]
    return own, rest, [one for part in calibration for one in look_at_disturbed(part.finder, part.cases[:few])]


def _looked_at(finder: Finder, cases: Iterable[Case], placed: Placed) -> list[tuple[RawPredictions, Case]]:
    """What is found beside the truth; of cases, only landmarks stay in memory."""
    return [
        (
            placed(Sighting(case.name.removesuffix(TRUNCATED), WHOLE, finder.findings(case.volume), case.landmarks)),
            replace(case, volume=NOTHING),
        )
        for case in cases
    ]


def interval_reaches(
    detector: Detector, looked_at: Sequence[tuple[RawPredictions, Case]], share: float = SHARE
) -> dict[str, float]:
    """How many times as far as by independent errors intervals must reach to hold a share of new cases (conformal).

    Args:
        detector: with its final radii.
        looked_at: whole calibration cases, and what was found in them.
        share: from 0 to 1.
    """
    definitions = measurements_of(detector.scheme)
    times: dict[str, list[float]] = {}
    for found, case in looked_at if definitions else ():
        exact = measure(case.landmarks, definitions, flat=detector.is_2d)
        for said, true in zip(measure(detector.landmark_set(found), definitions, flat=detector.is_2d), exact):
            if said.low90 is not None and true.value is not None:
                reach = max(said.high90 - said.value, said.value - said.low90, 1e-9)
                times.setdefault(said.name, []).append(abs(said.value - true.value) / reach)
    result = {}
    for name, each in times.items():
        rank = math.ceil((len(each) + 1) * share)
        if rank <= len(each):
            result[name] = round(max(sorted(each)[rank - 1], 1e-3), 4)
    return result


def radii_without(error: np.ndarray, share: float = SHARE) -> np.ndarray:
    """(N, K) mm: for each case the radii that all other cases give (cross-conformal, Vovk, Ann. Math. AI 74:9, 2015).

    Args:
        error: as for `radii`, of two cases at least.
        share: from 0 to 1.
    """
    return np.stack([radii(np.delete(error, case, axis=0), share) for case in range(len(error))])


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
