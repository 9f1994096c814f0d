"""Undecided points follow decided ones: by Gaussian conditioning, within bounds, and never a decided one."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core import revision
from H3DELandmarksLib.core.anatomy import Anatomy, Factors
from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.revision import Decisions, Evidence, posterior, revise
from H3DELandmarksLib.core.shape_model import Pose

K = 9


def anatomy_of(count=K, axes=3, seed=0):
    rng = np.random.default_rng(seed)
    flat = np.array([1, 1, axes == 3])
    mean = rng.normal(0, 20, (count, 3)) * flat
    shape = Factors(rng.normal(0, 1.5, (3, count, 3)) * flat, np.full(count, 1.0))
    errors = Factors(rng.normal(0, 1.0, (2, count, 3)) * flat, np.full(count, 0.4))
    return Anatomy(mean - mean.mean(axis=0), shape, errors, 1.0)


def drawn(factors, rng, axes=3):
    flat = np.array([1, 1, axes == 3])
    each = rng.normal(0, 1, factors.modes.shape[1:]) * factors.noise[:, None]
    return (np.tensordot(rng.normal(0, 1, len(factors.modes)), factors.modes, 1) + each) * flat


def case_of(anatomy, seed):
    pose = Pose(np.eye(3), np.zeros(3))
    rng = np.random.default_rng(seed)
    truth = anatomy.mean + drawn(anatomy.shape, rng, anatomy.axes)
    found = truth + drawn(anatomy.errors, rng, anatomy.axes)
    count = len(truth)
    names = tuple(f"p{k}" for k in range(count))
    points = LandmarkSet(names, pose.to_lps(found), np.full(count, 0.95), np.full(count, 0.7), np.full(count, 3.0))
    return Evidence(points, pose), pose.to_lps(truth)


def decided_as(truth, *rows):
    decided = Decisions.none(len(truth))
    decided.positions[list(rows)] = truth[list(rows)]
    return decided


@pytest.mark.parametrize("axes", [2, 3])
def test_what_no_mode_tells_is_the_deviation_of_each_coordinate_in_which_points_can_lie(axes):
    deviations = np.random.default_rng(0).normal(0, 2, (300, K, 3)) * (1, 1, axes == 3)
    fitted = Factors.of(deviations, 0, np.full(K, 2.0), 1.0)
    np.testing.assert_allclose(fitted.noise, 2, rtol=0.15)


def test_nothing_decided_changes_nothing():
    evidence, _ = case_of(anatomy_of(), 1)
    assert revise(evidence, anatomy_of(), Decisions.none(K)) is evidence.found


def conditioned(evidence, anatomy, decided, frame):
    """(K, a) mm and (K, a, a) mm^2 of the landmarks, by the textbook's formula for all that was said of them."""
    axes, found = anatomy.axes, evidence.found
    lie, said = (frame.to_model(points)[:, :axes] for points in (found.positions, decided.positions))
    count, size = len(lie), len(lie) * axes
    motions = anatomy.motions()
    motions = motions * revision.FREE_MOTION / np.abs(motions).max(axis=1, keepdims=True)
    prior = np.zeros((2 * size, 2 * size))
    prior[:size, :size] = anatomy.shape.covariance(axes) + motions.T @ motions
    prior[size:, size:] = anatomy.errors.covariance(axes)
    place, error = (one.reshape(count, axes, -1) for one in np.split(np.eye(2 * size), 2))
    moved, seen = (revision.PERSONS_ERROR * anatomy.errors.noise) ** 2, (anatomy.tolerance_mm / 2) ** 2
    said_of = []
    for k in range(count):
        agreed = decided.accepted[k] and found.present[k]
        if found.present[k] and (agreed or not decided.made[k]):
            said_of.append((place[k] + error[k], lie[k], 0.0))
        if decided.present[k] and not agreed:
            said_of.append((place[k], said[k], moved[k]))
        if decided.present[k] and found.present[k]:
            said_of.append((error[k], lie[k] - said[k], seen if agreed else moved[k]))
    look, value = (np.concatenate([one[n] for one in said_of]) for n in range(2))
    noise = np.repeat([one[2] for one in said_of], axes)
    expected = np.concatenate([anatomy.mean[:, :axes].ravel(), np.zeros(size)])
    gain = prior @ look.T @ np.linalg.inv(look @ prior @ look.T + np.diag(noise))
    mean = (expected + gain @ (value - look @ expected))[:size].reshape(count, axes)
    covariance = (prior - gain @ look @ prior)[:size, :size].reshape(count, axes, count, axes)
    return mean, covariance[range(count), :, range(count)]


@pytest.mark.parametrize("axes", [2, 3])
def test_is_gaussian_conditioning_where_no_point_is_strange(monkeypatch, axes):
    monkeypatch.setattr(revision, "FREEDOM", 1e9)
    anatomy = anatomy_of(axes=axes)
    evidence, truth = case_of(anatomy, 2)
    lost = np.isin(np.arange(K), (2, 3, 6))
    found = replace(evidence.found, positions=np.where(lost[:, None], np.nan, evidence.found.positions), presence=~lost)
    evidence = replace(evidence, found=found)
    decided = decided_as(truth, 0, 2, 3)  # moved, placed, and what was proposed later and accepted
    decided.positions[1] = found.positions[1]
    decided.accepted[[1, 3]] = decided.absent[5] = True
    result = posterior(evidence, anatomy, decided)
    mean, covariance = conditioned(evidence, anatomy, decided, result.frame)
    np.testing.assert_allclose(result.mean, mean, atol=1e-6)
    np.testing.assert_allclose(result.covariance, covariance, atol=1e-6)
    np.testing.assert_allclose(result.frame.to_model(result.lps)[:, :axes], mean, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.sets(st.integers(0, K - 1), min_size=1))
def test_decided_points_never_move(seed, rows):
    anatomy = anatomy_of()
    evidence, truth = case_of(anatomy, seed)
    revised = revise(evidence, anatomy, decided_as(truth, *rows))
    np.testing.assert_array_equal(revised.positions[list(rows)], truth[list(rows)])
    assert np.isfinite(revised.positions).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_moves_with_the_patient(seed):
    anatomy = anatomy_of()
    evidence, truth = case_of(anatomy, seed)
    turn = Pose(Rotation.random(random_state=seed).as_matrix(), np.array([30.0, -20, 50]))
    moved = Evidence(evidence.found.with_positions(turn.to_lps(evidence.found.positions)), evidence.pose)
    here = revise(evidence, anatomy, decided_as(truth, 0, 3))
    there = revise(moved, anatomy, decided_as(turn.to_lps(truth), 0, 3))
    np.testing.assert_allclose(there.positions, turn.to_lps(here.positions), atol=1e-6)
    np.testing.assert_allclose(there.radius, here.radius, atol=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_corrections_help_the_others_and_radii_shrink(axes):
    anatomy, before, after, radii = anatomy_of(axes=axes), [], [], []
    for seed in range(40):
        evidence, truth = case_of(anatomy, seed)
        revised = revise(evidence, anatomy, decided_as(truth, 0, 1, 2))
        before.append(np.linalg.norm(evidence.found.positions - truth, axis=1)[3:])
        after.append(np.linalg.norm(revised.positions - truth, axis=1)[3:])
        radii.append(revised.radius[3:])
    assert np.mean(after) < 0.75 * np.mean(before)
    assert np.mean(radii) < 2.7


def test_of_decided_landmarks_stays_what_the_model_has_said_of_its_own_point():
    anatomy = replace(anatomy_of(), presence=np.ones((40, K)))
    evidence, truth = case_of(anatomy, 1)
    found = replace(evidence.found, definitions=tuple("abcdefghi"), radius=np.arange(K) + 1.0)
    found = found.unknown_where(np.arange(K) == 8, Cause.OUTSIDE_REGION)
    revised = revise(replace(evidence, found=found), anatomy, decided_as(truth, 0, 4))
    for name in ("confidence", "radius"):
        same = getattr(revised, name)[[0, 4]] == getattr(found, name)[[0, 4]]
        assert same.all() and (getattr(revised, name)[1:4] != getattr(found, name)[1:4]).all()
    assert revised.presence[[0, 4]].tolist() == [1, 1]
    assert revised.definitions == found.definitions and revised.causes == found.causes


def test_a_point_that_stays_where_it_is_not_expected_has_a_radius_that_reaches_as_far():
    evidence, truth = case_of(anatomy_of(), 1)
    decided, free = decided_as(truth, 0, 4), np.delete(np.arange(K), [0, 4])
    moved, stayed = (revise(evidence, replace(anatomy_of(), caution=c), decided) for c in (0.0, 1e9))
    after = posterior(evidence, anatomy_of(), decided)
    np.testing.assert_allclose(moved.positions[free], after.lps[free])
    np.testing.assert_array_equal(stayed.positions[free], evidence.found.positions[free])
    far = np.linalg.norm(after.lps - evidence.found.positions, axis=1)
    np.testing.assert_allclose((stayed.radius / moved.radius)[free], (np.hypot(after.spread, far) / after.spread)[free])


@pytest.mark.parametrize(("accepted", "factor"), [(False, 2.0), (True, 1.0)])
def test_radii_are_scaled_by_corrections_and_not_by_points_that_were_only_looked_at(accepted, factor):
    evidence, truth = case_of(anatomy_of(), 1)
    decided = decided_as(truth, 0, 4)
    decided.accepted[[0, 4]] = accepted
    plain, scaled = (revise(evidence, replace(anatomy_of(), scales=(s,) * 3), decided) for s in (1.0, 2.0))
    np.testing.assert_allclose((scaled.radius / plain.radius)[1:4], factor)


def test_no_place_is_trusted_more_than_that_the_landmark_exists():
    evidence, truth = case_of(anatomy_of(), 1)
    unsure = replace(evidence.found, presence=np.full(K, 0.6), confidence=np.full(K, 0.59))
    revised = revise(replace(evidence, found=unsure), anatomy_of(), decided_as(truth, 0, 1, 2, 3))
    assert (revised.confidence[4:] <= revised.presence[4:]).all() and (revised.confidence[4:] == 0.6).any()


@pytest.mark.parametrize("wrong_mm", [10.0, 100.0, 1000.0])
def test_a_wild_correction_does_not_spoil_the_rest(wrong_mm):
    anatomy = anatomy_of(20)
    evidence, truth = case_of(anatomy, 3)
    wild = decided_as(truth, 5)
    wild.positions[5] += (wrong_mm, 0, 0)
    others = np.arange(20) != 5
    off = np.linalg.norm(revise(evidence, anatomy, wild).positions - truth, axis=1)[others]
    assert off.mean() < np.linalg.norm(evidence.found.positions - truth, axis=1)[others].mean()
    right = revise(evidence, anatomy, decided_as(truth, 5)).positions
    assert np.linalg.norm(revise(evidence, anatomy, wild).positions - right, axis=1)[others].max() < 1.5


def test_takes_the_other_place_where_all_others_expect_the_landmark():
    anatomy = replace(anatomy_of(), errors=Factors(np.zeros((0, K, 3)), np.full(K, 0.3)))
    evidence, truth = case_of(anatomy, 4)
    places = np.full((K, 4, 3), np.nan)
    places[:, 0], share = evidence.found.positions, np.tile([0.9, 0, 0, 0], (K, 1))
    places[6, 0] = truth[6] + (25, 0, 0)
    places[6, 1], share[6, 1] = truth[6], 0.05
    found = evidence.found.with_positions(places[:, 0])
    evidence = Evidence(found, evidence.pose, Candidates(places, share, np.tile(np.eye(3) * 0.1, (K, 4, 1, 1))))
    revised = revise(evidence, anatomy, decided_as(truth, 0, 1))
    assert np.linalg.norm(revised.positions[6] - truth[6]) < 1


def test_a_found_point_counts_as_much_as_the_likeliest_of_other_places():
    anatomy = replace(anatomy_of(), errors=Factors(np.zeros((0, K, 3)), np.full(K, 0.3)))
    evidence, truth = case_of(anatomy, 4)
    places = np.full((K, 4, 3), np.nan)
    places[:, 0] = truth + (6, 0, 0)
    places = Candidates(places, np.tile([0.9, 0, 0, 0], (K, 1)), np.tile(np.eye(3) * 0.1, (K, 4, 1, 1)))
    revised = revise(replace(evidence, candidates=places), anatomy, decided_as(truth, 0, 1))
    assert (np.linalg.norm(revised.positions - truth, axis=1) < 2).all()


def test_decided_points_alone_tell_where_the_others_are():
    anatomy = anatomy_of()
    evidence, truth = case_of(anatomy, 4)
    nothing = evidence.found.unknown_where(np.ones(K, bool), Cause.UNLIKE)
    turn = Pose(Rotation.from_euler("y", 140, degrees=True).as_matrix(), np.array([30.0, -20, 50]))
    told = posterior(replace(evidence, found=nothing), anatomy, decided_as(turn.to_lps(truth), 0, 1, 2, 3, 4))
    off = np.linalg.norm(told.lps - turn.to_lps(truth), axis=1)
    assert (off < 3 * told.spread).all() and off.max() < 10


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("away", [0.0, 1.5])
def test_the_share_within_the_tolerance_is_that_of_drawn_places(axes, away):
    spread, anatomy = 1.3, replace(anatomy_of(axes=axes), tolerance_mm=1.6)
    drawn_places = np.random.default_rng(0).normal(0, spread / np.sqrt(axes), (100_000, axes))
    drawn_places[:, 0] += away
    share = revision._share_within(anatomy, np.array([spread]), np.array([away]))[0]
    assert share == pytest.approx((np.linalg.norm(drawn_places, axis=1) <= 1.6).mean(), abs=0.01)


def test_an_absent_landmark_takes_its_companion_along():
    present = np.ones((40, K))
    present[:20, [2, 3]] = 0
    anatomy = replace(anatomy_of(), presence=present)
    evidence, _ = case_of(anatomy, 5)
    decided = Decisions.none(K)
    decided.absent[2] = True
    revised = revise(evidence, anatomy, decided)
    assert revised.presence[2] == 0
    assert revised.presence[3] < 0.5 < revised.presence[4]


def test_the_companion_of_a_placed_landmark_is_proposed_where_the_others_let_expect_it():
    present = np.ones((40, K))
    present[:20, [2, 3]] = 0
    anatomy = replace(anatomy_of(), presence=present)
    evidence, truth = case_of(anatomy, 5)
    lost = np.isin(np.arange(K), (2, 3))
    found = LandmarkSet(
        evidence.found.names, np.where(lost[:, None], np.nan, evidence.found.positions), 0.7 - 0.3 * lost
    )
    found = replace(found, confidence=np.where(lost, np.nan, 0.7), radius=np.where(lost, np.nan, 3.0))
    decided = decided_as(truth, 2)
    revised = revise(replace(evidence, found=found), anatomy, decided)
    expected = posterior(replace(evidence, found=found), anatomy, decided)
    assert revised.present[3] and np.isnan(revised.radius[3])
    np.testing.assert_allclose(revised.positions[3], expected.lps[3])
    assert 0 < revised.confidence[3] <= revised.presence[3]


def test_a_point_that_is_placed_where_nothing_was_found_moves_no_other():
    anatomy = anatomy_of()
    evidence, truth = case_of(anatomy, 1)
    nothing = replace(evidence.found, positions=np.full((K, 3), np.nan), presence=np.zeros(K))
    decided = Decisions.none(K)
    decided.positions[2] = truth[2]
    after = revise(replace(evidence, found=nothing), anatomy, decided)
    np.testing.assert_array_equal(after.positions[2], truth[2])
    assert not after.present[np.arange(K) != 2].any()


def test_is_quick_for_a_spine():
    anatomy = anatomy_of(68, axes=2)
    evidence, truth = case_of(anatomy, 6)
    decided = decided_as(truth, 3, 30)
    revise(evidence, anatomy, decided)
    begun = time.process_time()
    for _ in range(3):
        revise(evidence, anatomy, decided)
    assert (time.process_time() - begun) / 3 < 0.1
