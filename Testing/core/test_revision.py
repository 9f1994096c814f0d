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
from H3DELandmarksLib.core.landmarks import LandmarkSet
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


def test_nothing_decided_changes_nothing():
    evidence, _ = case_of(anatomy_of(), 1)
    assert revise(evidence, anatomy_of(), Decisions.none(K)) is evidence.found


@pytest.mark.parametrize("axes", [2, 3])
def test_is_gaussian_conditioning_where_no_point_is_strange(monkeypatch, axes):
    monkeypatch.setattr(revision, "FREEDOM", 1e9)
    anatomy = anatomy_of(axes=axes)
    evidence, truth = case_of(anatomy, 2)
    result = posterior(evidence, anatomy, decided_as(truth, 4))
    lie, true = (result.frame.to_model(points)[:, :axes] for points in (evidence.found.positions, truth))

    size, mean = K * axes, anatomy.mean[:, :axes].ravel()
    motions = anatomy.motions()
    motions = motions * revision.FREE_MOTION / np.abs(motions).max(axis=1, keepdims=True)
    prior = np.zeros((2 * size, 2 * size))
    prior[:size, :size] = anatomy.shape.covariance(axes) + motions.T @ motions
    prior[size:, size:] = anatomy.errors.covariance(axes)
    one = np.eye(size)
    row = slice(4 * axes, 5 * axes)
    free = np.delete(one, np.r_[row], axis=0)
    look = np.vstack([np.hstack([free, free]), np.hstack([one, 0 * one])[row], np.hstack([0 * one, one])[row]])
    persons = np.full(2 * axes, (revision.PERSONS_ERROR * 0.4) ** 2)
    noise = np.concatenate([np.zeros(len(free)), persons])
    value = np.concatenate([free @ lie.ravel(), true[4], lie[4] - true[4]])
    gain = prior @ look.T @ np.linalg.inv(look @ prior @ look.T + np.diag(noise))
    expected = np.concatenate([mean, np.zeros(size)]) + gain @ (value - look @ np.concatenate([mean, np.zeros(size)]))
    undecided = [k for k in range(K) if k != 4]
    np.testing.assert_allclose(result.mean[undecided], expected[:size].reshape(K, axes)[undecided], atol=1e-6)
    covariance = (prior - gain @ look @ prior)[:size, :size].reshape(K, axes, K, axes)[range(K), :, range(K)]
    np.testing.assert_allclose(result.covariance[undecided], covariance[undecided], atol=1e-6)


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
    moved = Evidence(
        evidence.found.with_positions(turn.to_lps(evidence.found.positions)), Pose(turn.rotation, turn.translation)
    )
    here = revise(evidence, anatomy, decided_as(truth, 0, 3))
    there = revise(moved, anatomy, decided_as(turn.to_lps(truth), 0, 3))
    np.testing.assert_allclose(there.positions, turn.to_lps(here.positions), atol=1e-6)
    np.testing.assert_allclose(there.radius, here.radius, atol=1e-6)


def test_corrections_help_the_others_and_radii_shrink():
    anatomy, before, after, radii = anatomy_of(), [], [], []
    for seed in range(40):
        evidence, truth = case_of(anatomy, seed)
        revised = revise(evidence, anatomy, decided_as(truth, 0, 1, 2))
        before.append(np.linalg.norm(evidence.found.positions - truth, axis=1)[3:])
        after.append(np.linalg.norm(revised.positions - truth, axis=1)[3:])
        radii.append(revised.radius[3:])
    assert np.mean(after) < 0.75 * np.mean(before)
    assert np.mean(radii) < 2.7


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
