"""A model tells scans of its anatomy from others, at the false-alarm rate that it states."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.recognition import NO_PROPORTIONS, Variation, recognise, recognition_features
from H3DELandmarksLib.formats.manifest import RecognitionCalibration
from H3DELandmarksLib.formats.reading import build, to_plain
from H3DELandmarksLib.training.conditions import WHOLE
from H3DELandmarksLib.training.recognition import (
    Sighting,
    _false_alarm_rate,
    fit_recognition,
    is_telling,
    learn_variation,
)

K = 14
RNG = np.random.default_rng(0)
NAMES = tuple(f"p{k}" for k in range(K))
MEAN = RNG.uniform(-40, 40, (K, 3))
ANATOMY = Variation(MEAN - MEAN.mean(axis=0), RNG.normal(0, 4, (2, K, 3)), 1.0)
CALIBRATION = Calibration(1.0, 0.0, np.zeros(4), 4.0, np.full(K, 3.0))
IN_VIEW = K // 2


def own_scan(rng, in_view=K) -> tuple[RawPredictions, LandmarkSet]:
    """Sharp peaks close to the landmarks, in any pose; landmarks out of view give weak ones anywhere."""
    pose = Pose(Rotation.random(random_state=int(rng.integers(2**31))).as_matrix(), rng.normal(0, 100, 3))
    shape = ANATOMY.mean + np.tensordot(rng.normal(size=2), ANATOMY.modes, 1) + rng.normal(0, ANATOMY.noise, (K, 3))
    seen = np.arange(K) < in_view
    truth = LandmarkSet(NAMES, np.where(seen[:, None], pose.to_lps(shape), np.nan), seen.astype(float))
    positions = pose.to_lps(shape) + rng.normal(0, 0.5, (K, 3))
    positions = np.where(seen[:, None], positions, pose.translation + rng.uniform(-60, 60, (K, 3)))
    logit = np.where(seen, rng.normal(4, 1, K), rng.normal(-5, 1, K))
    return RawPredictions(positions, logit, np.where(seen, rng.uniform(0.6, 0.95, K), 0.3), pose), truth


def strange_scan(rng) -> RawPredictions:
    """Peaks anywhere, some of them as strong as real ones."""
    pose = Pose(np.eye(3), rng.normal(0, 100, 3))
    positions = pose.translation + rng.uniform(-60, 60, (K, 3))
    return RawPredictions(positions, rng.normal(0, 3, K), rng.uniform(0.2, 0.7, K), pose)


def sightings(subjects: int, seed: int) -> list[Sighting]:
    """Of each subject a whole scan, a cut one and something strange."""
    rng, seen = np.random.default_rng(seed), []
    for number in range(subjects):
        name = f"subject {number}"
        seen.append(Sighting(name, WHOLE, *own_scan(rng)))
        seen.append(Sighting(name, "cut", *own_scan(rng, IN_VIEW)))
        seen.append(Sighting(name, "", strange_scan(rng), None))
    return seen


@pytest.fixture(scope="module")
def known() -> Calibration:
    fitted = fit_recognition(sightings(60, 1), CALIBRATION)
    assert fitted is not None
    return replace(CALIBRATION, recognition=fitted)


def features(found: RawPredictions) -> np.ndarray:
    return recognition_features(found, ANATOMY, CALIBRATION)


@pytest.mark.parametrize("in_view", [K, IN_VIEW])
def test_new_scans_of_the_anatomy_are_refused_no_more_often_than_stated(known, in_view):
    """Of 300 scans at a rate of 3 %, 18 refusals or more would come by chance once in a hundred times."""
    rng = np.random.default_rng(4)
    refused = [not recognise(own_scan(rng, in_view)[0], known).recognised for _ in range(300)]
    assert sum(refused) < 18


def test_p_values_of_new_scans_are_uniform(known):
    """Among whole and cut scans as they were calibrated with; both samples are small, so that 0.17 would be rare."""
    rng = np.random.default_rng(5)
    p_values = np.sort([recognise(own_scan(rng, view)[0], known).p_value for _ in range(150) for view in (K, IN_VIEW)])
    assert np.abs(p_values - np.linspace(0, 1, 300)).max() < 0.17


def test_scans_of_something_else_are_refused(known):
    rng = np.random.default_rng(7)
    assert np.mean([recognise(strange_scan(rng), known).recognised for _ in range(200)]) < 0.03


def test_a_scan_in_which_nothing_is_found_is_the_strangest(known):
    found = own_scan(np.random.default_rng(8))[0]
    judged = recognise(replace(found, presence_logit=np.full(K, -3.0)), known)
    assert judged.p_value == pytest.approx(1 / 121) and not judged.recognised
    assert recognise(RawPredictions.nothing(K, Pose(np.eye(3), np.zeros(3))), known) == judged


@settings(max_examples=25)
@given(st.integers(0, 2**31 - 1))
def test_where_and_how_the_patient_lies_makes_no_difference(seed):
    rng = np.random.default_rng(seed)
    found, _ = own_scan(rng)
    motion = Pose(Rotation.random(random_state=seed).as_matrix(), rng.normal(0, 300, 3))
    np.testing.assert_allclose(features(found), features(found.moved(motion)), atol=1e-6)


@settings(max_examples=25)
@given(st.floats(0.5, 2.0))
def test_proportions_do_not_depend_on_size(size):
    pose = Pose(np.eye(3), np.zeros(3))
    found = RawPredictions(ANATOMY.mean * size, np.full(K, 5.0), np.full(K, 0.9), pose)
    assert features(found)[1] == pytest.approx(0, abs=1e-9)


def test_without_two_points_there_are_no_proportions():
    alone = RawPredictions.nothing(K, Pose(np.eye(3), np.zeros(3)))
    assert np.isfinite(features(alone)).all()
    alone.positions[0], alone.presence_logit[0], alone.concentration[0] = 0.0, 5.0, 0.9
    assert features(alone)[1] == NO_PROPORTIONS and np.isfinite(features(alone)).all()


def test_points_that_are_not_there_do_not_count():
    found, _ = own_scan(np.random.default_rng(9))
    absent = np.arange(K) < 3
    logit = np.where(absent, -np.inf, found.presence_logit)
    moved = np.where(absent[:, None], 500.0, found.positions)
    before, after = (features(replace(found, positions=p, presence_logit=logit)) for p in (found.positions, moved))
    np.testing.assert_allclose(before, after)


@settings(max_examples=25)
@given(st.integers(0, 2**31 - 1))
def test_a_shape_that_varies_as_the_anatomy_does_fits_and_another_does_not(seed):
    rng = np.random.default_rng(seed)
    strength, offset = rng.normal(size=2), rng.normal(0, 100, 3)
    shape = ANATOMY.mean + np.tensordot(strength, ANATOMY.modes, 1) + offset
    seen = rng.random(K) < 0.7
    seen[:4] = True
    points = np.where(seen[:, None], shape, np.nan)
    difference, found = ANATOMY.fit(points, seen.astype(float))
    assert np.linalg.norm(difference[seen], axis=1).max() < 1.0
    np.testing.assert_allclose(found, strength, atol=0.5)
    bent = np.where(seen[:, None], shape + rng.normal(0, 15, (K, 3)), np.nan)
    assert np.linalg.norm(ANATOMY.fit(bent, seen.astype(float))[0][seen], axis=1).mean() > 5


def test_the_variation_is_learnt_from_scans_that_lack_points():
    seen = [Sighting(f"s{n}", WHOLE, *own_scan(np.random.default_rng(n), 14 - n % 4)) for n in range(40)]
    learnt = learn_variation(seen)
    assert len(learnt.modes) == 3 and 0.5 < learnt.noise < 1.5
    close = learnt.mean - learnt.mean.mean(axis=0) - ANATOMY.mean
    assert np.sqrt((close**2).sum(axis=1).mean()) < 3.0
    for mode in ANATOMY.modes:  # up to a shift, it is a mixture of the modes learnt
        wanted = (mode - mode.mean(axis=0)).ravel()
        basis = (learnt.modes - learnt.modes.mean(axis=1, keepdims=True)).reshape(3, -1)
        rest = wanted - np.linalg.lstsq(basis.T, wanted, rcond=None)[0] @ basis
        assert np.linalg.norm(rest) < 0.35 * np.linalg.norm(wanted)


def test_few_subjects_have_no_modes():
    seen = [Sighting(f"s{n}", WHOLE, *own_scan(np.random.default_rng(n))) for n in range(2)]
    learnt = learn_variation(seen)
    assert learnt.modes.shape == (0, K, 3) and np.isfinite(learnt.fit(learnt.mean, np.ones(K))[0]).all()


def test_one_subject_or_nothing_strange_teaches_nothing():
    seen = sightings(4, 10)
    assert fit_recognition([one for one in seen if one.subject == "subject 0"], CALIBRATION) is None
    assert fit_recognition([one for one in seen if one.truth is not None], CALIBRATION) is None


def test_no_scan_is_scored_by_what_its_subject_teaches():
    """A subject without any likeness to the others gets a low score, though weights fitted with it would know it."""
    seen = sightings(20, 12)
    rng = np.random.default_rng(13)
    for _ in range(5):
        found = strange_scan(rng)
        found.presence_logit[:] = 3.0
        seen.append(Sighting("odd", "cut", found, LandmarkSet(NAMES, found.positions)))
    fitted = fit_recognition(seen, CALIBRATION)
    variation = Variation.from_manifest(fitted.shape)
    own = [one.found for one in seen if one.truth is not None]
    known = [recognition_features(found, variation, CALIBRATION) @ np.array(fitted.weights) for found in own]
    assert min(fitted.scores) < min(known)


@pytest.mark.parametrize(("strongest", "rate"), [(-5.0, 0.01), (1.5, 0.03), (3.5, 0.05), (6.5, 0.08), (90.0, 0.08)])
def test_the_false_alarm_rate_is_the_least_that_refuses_what_is_strange(strongest, rate):
    own, strange = np.arange(100.0), np.array([-10.0] * 30 + [strongest] * 2)
    assert _false_alarm_rate(own, strange) == rate
    assert _false_alarm_rate(own, np.array([-10.0] * 39 + [strongest])) == 0.01  # one of forty may be missed
    assert _false_alarm_rate(np.arange(45.0), np.full(40, -1.0)) == 0.03  # of 45, none can have a p-value of 0.02
    assert _false_alarm_rate(np.append(-4.0, own[1:]), strange) == max(rate, 0.02)  # a stray one does not decide


def test_what_was_learnt_survives_the_manifest(known):
    assert build(RecognitionCalibration, to_plain(known.recognition)) == known.recognition
    assert list(known.recognition.scores) == sorted(known.recognition.scores)
    again = Variation.from_manifest(ANATOMY.to_manifest())
    np.testing.assert_allclose(again.modes, ANATOMY.modes, atol=1e-3)


@pytest.mark.parametrize(
    ("in_view", "wrong_mm", "telling"), [(K, 50.0, True), (3, 0.0, True), (3, 50.0, False), (0, 0.0, False)]
)
def test_a_scan_tells_what_it_shows_by_points_that_are_right_or_many(in_view, wrong_mm, telling):
    found, truth = own_scan(np.random.default_rng(15), in_view)
    moved = truth.with_positions(truth.positions + [wrong_mm, 0, 0])
    assert is_telling(found, moved, CALIBRATION) is telling
