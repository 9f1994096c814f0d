"""Calibrations say what held on the cases that they were fitted to."""

from dataclasses import replace

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.rows import RowCount
from H3DELandmarksLib.detection.calibration import Calibration, confidence_features
from H3DELandmarksLib.training.calibration import Evidence, fit_calibration, radii, truncated_case
from H3DELandmarksLib.training.cases import Case


def simulated_evidence(cases: int, seed: int) -> Evidence:
    """Landmarks of which a third is absent; concentration falls as errors grow."""
    rng = np.random.default_rng(seed)
    shape = (cases, 10)
    present = (rng.random(shape) < 0.67).astype(float)
    logit = np.where(present == 1, rng.normal(3, 2, shape), rng.normal(-3, 2, shape))
    error = np.where(present == 1, rng.gamma(2.0, np.linspace(0.2, 0.8, 10), shape), np.nan)
    concentration = np.clip(np.exp(-np.nan_to_num(error, nan=3.0)) + rng.normal(0, 0.05, shape), 0.01, 0.99)
    uncounted = np.full(cases, np.nan), np.zeros(cases, bool)
    return Evidence(logit, concentration, np.ones(shape), error, present, np.zeros(cases, bool), *uncounted)


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    return fit_calibration(simulated_evidence(60, 0), tolerance_mm=1.0)


def test_presence_probabilities_match_how_often_landmarks_are_there(fitted):
    fresh = simulated_evidence(400, 1)
    probability = fitted.presence(fresh.logit)
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0)):
        chosen = (probability >= low) & (probability <= high)
        assert fresh.present[chosen].mean() == pytest.approx(probability[chosen].mean(), abs=0.07)


def test_confidence_matches_how_often_points_are_within_tolerance(fitted):
    fresh = simulated_evidence(400, 2)
    confidence = fitted.confidence(confidence_features(fresh.concentration, fresh.logit, fresh.residual).reshape(-1, 4))
    right = np.nan_to_num(fresh.error, nan=np.inf).ravel() <= 1.0
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        chosen = (confidence >= low) & (confidence <= high)
        assert right[chosen].mean() == pytest.approx(confidence[chosen].mean(), abs=0.12)


def test_the_radius_holds_nine_of_ten_errors_of_new_cases(fitted):
    fresh = simulated_evidence(400, 3)
    inside = (fresh.error <= fitted.radius90)[np.isfinite(fresh.error)]
    assert 0.86 < inside.mean() < 0.94


def test_harder_landmarks_get_larger_radii():
    values = radii(simulated_evidence(60, 4).error)
    assert values[-1] > 1.5 * values[0]


def test_a_calibration_survives_the_manifest(fitted):
    again = Calibration.from_manifest(fitted.to_manifest())
    logit = np.array([-3.0, 0.0, 4.0, -np.inf])
    assert np.array_equal(again.presence(logit), fitted.presence(logit))
    assert np.array_equal(again.radius90, fitted.radius90)


def test_nothing_looked_at_means_absent(fitted):
    assert fitted.presence(np.array([-np.inf]))[0] < 1e-6


def test_a_truncated_case_keeps_places_and_marks_what_is_cut_off_as_absent():
    rng = np.random.default_rng(5)
    affine = np.diag([-0.7, 0.8, 1.1, 1.0])
    volume = Volume(rng.random((50, 60, 70)).astype(np.float32), affine)
    names = tuple(str(k) for k in range(30))
    points = volume.grid.lps_from_ijk(rng.uniform(5, 45, (30, 3)))
    case = Case("whole", volume, LandmarkSet(names, points))
    for _ in range(5):
        cut = truncated_case(case, rng)
        assert 0 < cut.landmarks.present.sum() < 30
        assert np.array_equal(cut.landmarks.present, cut.volume.grid.contains(points))
        corner = cut.volume.grid.lps_from_ijk(np.zeros(3))
        original = np.round(volume.grid.ijk_from_lps(corner)).astype(int)
        assert cut.volume.array[0, 0, 0] == volume.array[tuple(original)]


def test_a_case_without_any_landmark_is_truncated_too():
    volume = Volume(np.zeros((60, 60, 60), np.float32), np.eye(4))
    case = Case("none", volume, LandmarkSet(("a", "b"), np.full((2, 3), np.nan)))
    cut = truncated_case(case, np.random.default_rng(1))
    assert 0.3 * volume.array.size < cut.volume.array.size < 0.9 * volume.array.size
    assert not cut.landmarks.present.any() and not cut.landmarks.unknown.any()


def test_a_network_that_finds_nothing_gets_no_radii():
    with pytest.raises(InputError, match="train for more steps"):
        radii(np.full((3, 4), np.nan))


@pytest.mark.parametrize("size", [2, 17, 19, 31, 32, 40])
def test_a_short_scan_keeps_half_its_slices_or_16(size):
    points = LandmarkSet(("a", "b"), np.array([[0.0, 0, 0], [size - 1.0] * 3]))
    case = Case("short", Volume(np.zeros((size, size, size), np.int16), np.eye(4)), points)
    for seed in range(12):
        left = truncated_case(case, np.random.default_rng(seed)).volume.array.shape
        assert min(16, size // 2) <= min(left) < size and sorted(left)[1:] == [size, size]


def counted(cases=60, seed=0):
    """Evidence of scans whose count is one off the likelier, the smaller its margin; all points are wrong then."""
    rng, usual = np.random.default_rng(seed), simulated_evidence(cases, seed)
    margin = rng.uniform(0, 20, cases)
    off = rng.random(cases) < np.exp(-margin / 4)
    return replace(usual, margin=margin, off=off, error=np.where(off[:, None], usual.error + 5, usual.error))


def test_small_margins_of_a_count_are_doubted_and_lower_all_confidences():
    known = fit_calibration(counted(), 1.0)
    fresh = counted(400, 1)
    said = [known.miscounted(RowCount(margin, 1, 4)) for margin in fresh.margin]
    probability, doubtful = (np.array([getattr(one, name) for one in said]) for name in ("probability", "doubtful"))
    assert doubtful[fresh.off].mean() > 0.6 > 0.35 > doubtful[~fresh.off].mean()
    for low, high in ((0.0, 0.2), (0.2, 1.0)):
        chosen = (probability >= low) & (probability <= high)
        assert fresh.off[chosen].mean() == pytest.approx(probability[chosen].mean(), abs=0.12)
    features = confidence_features(fresh.concentration[0], fresh.logit[0], fresh.residual[0])
    sure, unsure = (known.confidence(features, RowCount(margin, 1, 4)) for margin in (20.0, 0.0))
    assert (sure > unsure).all() and said[0].step == 4
    assert (unsure <= 1 - known.miscounted(RowCount(0.0, 1, 4)).probability).all()
    assert Calibration.from_manifest(known.to_manifest()).counting == known.counting
    limit = known.miscounted(RowCount(3.0, 1, 4)).probability
    from_there = replace(known, counting=replace(known.counting, doubt_from=limit))
    assert (
        from_there.miscounted(RowCount(3.0, 1, 4)).doubtful and not from_there.miscounted(RowCount(3.1, 1, 4)).doubtful
    )


def test_where_nothing_was_counted_nobody_says_so(fitted):
    assert fitted.counting is None and fitted.miscounted(None) is None
