"""A model tells scans of its anatomy from others, at the false-alarm rate that it states."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.recognition import NO_SHAPE, Recognizer, recognition_features
from H3DELandmarksLib.formats.manifest import RecognitionCalibration
from H3DELandmarksLib.formats.reading import build, to_plain
from H3DELandmarksLib.training.recognition import fit_recognition, is_telling

K = 14
SHAPE = ShapeModel(np.random.default_rng(0).uniform(-40, 40, (K, 3)), np.full(K, 2.0))
CALIBRATION = Calibration(1.0, 0.0, np.zeros(4), 2.0, np.full(K, 3.0))
NAMES = tuple(f"p{k}" for k in range(K))
IN_VIEW = K // 2


def own_scan(rng, in_view=K, spread=1.5):
    """Sharp peaks where the anatomy has them, in any pose; landmarks out of view give weak ones anywhere."""
    pose = Pose(Rotation.random(random_state=int(rng.integers(2**31))).as_matrix(), rng.normal(0, 100, 3))
    positions = pose.to_lps(SHAPE.mean * rng.uniform(0.95, 1.05)) + rng.normal(0, spread, (K, 3))
    seen = np.arange(K) < in_view
    positions = np.where(seen[:, None], positions, pose.translation + rng.uniform(-60, 60, (K, 3)))
    logit = np.where(seen, rng.normal(4, 1, K), rng.normal(-5, 1, K))
    return RawPredictions(positions, logit, np.where(seen, rng.uniform(0.6, 0.95, K), 0.3), pose)


def strange_scan(rng):
    """Peaks anywhere, some of them as strong as real ones."""
    positions = rng.uniform(-60, 60, (K, 3))
    pose = SHAPE.fit(positions, np.ones(K))[0]
    return RawPredictions(positions, rng.normal(0, 3, K), rng.uniform(0.2, 0.7, K), pose)


def features(scans):
    return np.array([recognition_features(scan, SHAPE, CALIBRATION) for scan in scans])


def scans(make, count, seed, **options):
    rng = np.random.default_rng(seed)
    return [make(rng, **options) for _ in range(count)]


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    own = [*scans(own_scan, 60, 1), *scans(own_scan, 60, 2, in_view=IN_VIEW)]
    subjects = [f"subject {number % 60}" for number in range(120)]
    strange = scans(strange_scan, 60, 3)
    fitted = fit_recognition(features(own), subjects, features(strange), subjects[:60])
    assert fitted is not None
    return Recognizer(fitted, SHAPE, CALIBRATION)


def refused(recognizer, found):
    return np.mean([not recognizer.judge(scan).recognised for scan in found])


@pytest.mark.parametrize("in_view", [K, IN_VIEW])
def test_new_scans_of_the_anatomy_are_refused_no_more_often_than_stated(recognizer, in_view):
    """300 scans: with a rate of 3 %, 15 refusals or more would come by chance once in thirty times."""
    assert refused(recognizer, scans(own_scan, 300, 4, in_view=in_view)) < 0.05


def test_p_values_of_new_scans_are_uniform(recognizer):
    """Among whole and cut scans as they were calibrated with; the largest distance of 400 from uniform is 0.08."""
    found = [*scans(own_scan, 200, 5), *scans(own_scan, 200, 6, in_view=IN_VIEW)]
    p_values = np.sort([recognizer.judge(scan).p_value for scan in found])
    assert np.abs(p_values - np.linspace(0, 1, 400)).max() < 0.16


def test_scans_of_something_else_are_refused(recognizer):
    assert refused(recognizer, scans(strange_scan, 200, 7)) > 0.97


def test_a_scan_in_which_nothing_is_found_is_the_strangest(recognizer):
    nothing = replace(scans(own_scan, 1, 8)[0], presence_logit=np.full(K, -3.0))
    judged = recognizer.judge(nothing)
    assert judged.p_value == pytest.approx(1 / 121) and not judged.recognised
    air = RawPredictions.nothing(K, Pose(np.eye(3), np.zeros(3)))
    assert recognizer.judge(air) == judged


@settings(max_examples=25)
@given(st.integers(0, 2**31 - 1))
def test_where_and_how_the_patient_lies_makes_no_difference(seed):
    rng = np.random.default_rng(seed)
    found = own_scan(rng)
    motion = Pose(Rotation.random(random_state=seed).as_matrix(), rng.normal(0, 300, 3))
    before, after = (recognition_features(scan, SHAPE, CALIBRATION) for scan in (found, found.moved(motion)))
    np.testing.assert_allclose(before, after, atol=1e-6)


@settings(max_examples=25)
@given(st.floats(0.5, 2.0))
def test_proportions_do_not_depend_on_size(size):
    pose = Pose(np.eye(3), np.zeros(3))
    found = RawPredictions(SHAPE.mean * size, np.full(K, 5.0), np.full(K, 0.9), pose)
    assert recognition_features(found, SHAPE, CALIBRATION)[1] == pytest.approx(0, abs=1e-9)


def test_without_two_points_the_shape_says_nothing():
    alone = RawPredictions(np.full((K, 3), np.nan), np.full(K, -np.inf), np.zeros(K), Pose(np.eye(3), np.zeros(3)))
    alone.positions[0], alone.presence_logit[0], alone.concentration[0] = 0.0, 5.0, 0.9
    assert recognition_features(alone, SHAPE, CALIBRATION)[1:3].tolist() == [NO_SHAPE, NO_SHAPE]


def test_points_that_are_not_there_do_not_count():
    found = own_scan(np.random.default_rng(9))
    absent = np.arange(K) < 3
    moved = np.where(absent[:, None], 500.0, found.positions)
    logit = np.where(absent, -np.inf, found.presence_logit)
    before, after = (
        recognition_features(replace(found, positions=p, presence_logit=logit), SHAPE, CALIBRATION)
        for p in (found.positions, moved)
    )
    np.testing.assert_allclose(before, after)


def test_one_subject_or_nothing_strange_teaches_nothing():
    own = features(scans(own_scan, 4, 10))
    strange = features(scans(strange_scan, 4, 11))
    assert fit_recognition(own, ["a"] * 4, strange, ["a"] * 4) is None
    assert fit_recognition(own, ["a", "a", "b", "b"], strange[:0], []) is None


def test_no_scan_is_scored_by_weights_that_know_its_subject():
    """A subject without any likeness to the others gets a low score, though weights fitted with it would know it."""
    own = [*scans(own_scan, 20, 12), *scans(strange_scan, 5, 13)]
    subjects = [*(f"s{number}" for number in range(20)), *["odd"] * 5]
    strange = scans(strange_scan, 20, 14)
    fitted = fit_recognition(features(own), subjects, features(strange), [f"s{number}" for number in range(20)])
    scores = features(own) @ np.array(fitted.weights)
    assert min(fitted.scores) < scores.min()


def test_what_was_learnt_survives_the_manifest(recognizer):
    assert build(RecognitionCalibration, to_plain(recognizer.fitted)) == recognizer.fitted
    assert list(recognizer.fitted.scores) == sorted(recognizer.fitted.scores)


@pytest.mark.parametrize(
    ("in_view", "wrong_mm", "telling"), [(K, 50.0, True), (3, 0.0, True), (3, 50.0, False), (0, 0.0, False)]
)
def test_a_scan_tells_what_it_shows_by_points_that_are_right_or_many(in_view, wrong_mm, telling):
    found = own_scan(np.random.default_rng(15), in_view=in_view, spread=0.1)
    present = np.arange(K) < in_view
    positions = np.where(present[:, None], found.positions + [wrong_mm, 0, 0], np.nan)
    assert is_telling(found, LandmarkSet(NAMES, positions, present.astype(float)), CALIBRATION) is telling
