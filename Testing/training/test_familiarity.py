"""A scan whose points do not fit the anatomy loses trust; a scan that shows it loses none."""

from dataclasses import replace

import numpy as np
import pytest

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection.calibration import Calibration, scan_features
from H3DELandmarksLib.training.calibration import Evidence, fit_calibration
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.training.evaluation import MAX_CASES, inverted, ood_cases, scrambled, shuffled

K = 12


def familiar_evidence(cases: int, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    present = (rng.random((cases, K)) < 0.8).astype(float)
    logit = np.where(present == 1, rng.normal(4, 1, present.shape), rng.normal(-4, 1, present.shape))
    error = np.where(present == 1, rng.gamma(2.0, 0.2, present.shape), np.nan)
    residual = rng.gamma(4.0, 0.25, present.shape)
    return Evidence(logit, rng.uniform(0.6, 0.95, present.shape), residual, error, present, np.zeros(cases, bool))


def foreign_evidence(cases: int, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    shape = (cases, K)
    nothing = np.full(shape, np.nan)
    residual, concentration = rng.gamma(4.0, 4.0, shape), rng.uniform(0.2, 0.7, shape)
    return Evidence(rng.normal(1, 2, shape), concentration, residual, nothing, np.zeros(shape), np.zeros(cases, bool))


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    return fit_calibration(familiar_evidence(30, 0), 1.0, foreign_evidence(30, 1))


def trusts(calibration: Calibration, evidence: Evidence) -> np.ndarray:
    rows = zip(calibration.presence(evidence.logit), evidence.concentration, evidence.residual)
    return np.array([calibration.trust(*row) for row in rows])


def test_new_scans_of_the_anatomy_keep_their_trust(fitted):
    assert (trusts(fitted, familiar_evidence(200, 2)) == 1).mean() > 0.95


def test_new_foreign_scans_lose_it(fitted):
    assert (trusts(fitted, foreign_evidence(200, 3)) < 0.5).mean() > 0.95


def test_presence_confidence_and_radii_are_those_without_foreign_scans(fitted):
    alone = fit_calibration(familiar_evidence(30, 0), 1.0)
    assert alone.familiarity_weights is None
    assert (alone.presence_scale, alone.presence_bias) == (fitted.presence_scale, fitted.presence_bias)
    assert np.array_equal(alone.radius90, fitted.radius90)


def test_a_package_that_knows_no_foreign_scans_trusts_every_scan(fitted):
    known = fitted.to_manifest()
    old = Calibration.from_manifest(replace(known, familiarity=None))
    assert (trusts(old, foreign_evidence(5, 4)) == 1).all()
    assert old.to_manifest().familiarity is None


def test_trust_survives_the_manifest(fitted):
    again = Calibration.from_manifest(fitted.to_manifest())
    assert np.array_equal(trusts(again, foreign_evidence(5, 4)), trusts(fitted, foreign_evidence(5, 4)))


def test_nothing_is_learnt_where_no_foreign_scan_misleads():
    clear = foreign_evidence(10, 5)
    silent = Evidence(
        np.full_like(clear.logit, -20.0),
        *(getattr(clear, name) for name in ("concentration", "residual", "error", "present", "truncated")),
    )
    assert fit_calibration(familiar_evidence(30, 0), 1.0, silent).familiarity_weights is None


def test_without_trust_no_confidence_and_no_shown_point_is_left_but_presence_is_not_denied(fitted):
    presence, confidence = fitted.doubted(np.array([1.0, 0.6, 0.1]), np.array([0.9, 0.5, 0.1]), trust=0.0)
    assert (confidence == 0).all() and (presence < 0.5).all() and (presence > 0).all()
    assert [values.tolist() for values in fitted.doubted(np.array([0.9]), np.array([0.8]), 1.0)] == [[0.9], [0.8]]


def test_where_nothing_is_found_there_is_nothing_to_doubt(fitted):
    assert fitted.trust(np.full(K, 0.4), np.full(K, 0.2), np.full(K, 50.0)) == 1


def test_features_are_finite_where_no_stage_has_looked():
    nothing = scan_features(np.zeros(K), np.zeros(K), np.full(K, np.nan))
    assert np.isfinite(nothing).all() and nothing[0] == 1


@pytest.fixture(scope="module")
def case() -> Case:
    rng = np.random.default_rng(7)
    array = rng.normal(0, 30, (33, 40, 26)).astype(np.int16)
    array[10:20, 10:30, 5:15] += 1000
    return Case("case", Volume(array, np.diag([1, 2, 3, 1.0])), LandmarkSet(("a", "b"), np.ones((2, 3))))


@pytest.mark.parametrize("disturb", [shuffled, scrambled, inverted])
def test_a_disturbed_scan_is_another_of_the_same_kind(disturb, case):
    before = case.volume.array.copy()
    made = disturb(case.volume.array, np.random.default_rng(0))
    assert made.shape == before.shape and made.dtype == before.dtype
    assert (made != before).mean() > 0.3
    assert before.min() <= made.min() and made.max() <= before.max()
    assert np.array_equal(case.volume.array, before)


def test_scrambling_keeps_every_value(case):
    made = scrambled(case.volume.array, np.random.default_rng(0))
    assert np.array_equal(np.sort(made, axis=None), np.sort(case.volume.array, axis=None))


def test_radiographs_are_disturbed_in_their_plane():
    array = np.random.default_rng(1).integers(0, 255, (40, 30, 1)).astype(np.uint8)
    for disturb in (shuffled, scrambled, inverted):
        assert disturb(array, np.random.default_rng(0)).shape == (40, 30, 1)


def test_ood_cases_hold_no_landmark_and_are_not_too_many(case):
    made = list(ood_cases([case] * (MAX_CASES + 3), np.random.default_rng(0)))
    assert len(made) == 3 * MAX_CASES
    assert not any(one.landmarks.present.any() or one.landmarks.unknown.any() for one in made)
