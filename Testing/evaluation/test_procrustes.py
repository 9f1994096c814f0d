"""Shapes are compared whatever their place, size and turn, and with gaps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksResearch.evaluation.procrustes import align, lay_on

seeds = st.integers(0, 2**32 - 1)


def names(letter, count):
    return [f"{letter}{k}" for k in range(count)]


def cohort(seed, count=8, landmarks=9, noise=0.02, flat=False):
    """(N, K, 3) variants of one shape at random places, sizes and turns, and their sizes."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(landmarks, 3)) * (1, 1, 0 if flat else 1)
    shapes = base + noise * rng.normal(size=(count, landmarks, 3)) * (1, 1, 0 if flat else 1)
    turns = Rotation.from_rotvec(rng.uniform(-3, 3, (count, 1)) * (0, 0, 1)) if flat else Rotation.random(count, rng)
    scale = rng.uniform(20, 90, count)
    moved = np.einsum("nij,nkj->nki", turns.as_matrix(), shapes) * scale[:, None, None]
    return moved + rng.normal(0, 50, (count, 1, 3)) * (1, 1, 0 if flat else 1), scale


def centroid_size(points):
    return np.linalg.norm(points - points.mean(axis=-2, keepdims=True), axis=(-2, -1))


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_two_shapes_are_laid_on_each_other_as_scipy_does(seed):
    points, _ = cohort(seed, 2)
    reference, laid, disparity = procrustes(points[0], points[1])
    ours, _ = lay_on(points[1], reference)
    np.testing.assert_allclose(ours, laid / np.linalg.norm(laid), atol=1e-9)
    cosine = float((ours * reference).sum())
    assert 1 - cosine**2 == pytest.approx(disparity, abs=1e-9)


def test_a_mirror_image_is_another_shape():
    points, _ = cohort(0, 1)
    mirrored = points[0] * (-1, 1, 1)
    laid, _ = lay_on(mirrored, points[0])
    assert np.abs(laid - points[0]).max() > 1


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_place_size_and_turn_do_not_count(seed):
    points, _ = cohort(seed, noise=0.05)
    other, _ = cohort(seed + 1)
    turn = Rotation.from_rotvec([0.3, -0.9, 0.4]).as_matrix()
    moved = points @ turn.T * 3.0 + [10, -40, 5]
    here, there = (align(names("s", 8), names("l", 9), p) for p in (points, moved))
    np.testing.assert_allclose(here.distance, there.distance, atol=1e-8)
    np.testing.assert_allclose(3 * here.size, there.size, rtol=1e-8)
    np.testing.assert_allclose(here.shares, there.shares, atol=1e-8)
    np.testing.assert_allclose(np.abs(here.scores[:, 0]), np.abs(there.scores[:, 0]), atol=1e-7)


def test_without_gaps_sizes_are_centroid_sizes_and_the_mean_has_size_one():
    points, _ = cohort(3)
    found = align(names("s", 8), names("l", 9), points)
    np.testing.assert_allclose(found.size, centroid_size(points), rtol=1e-9)
    assert centroid_size(found.mean) == pytest.approx(1)
    np.testing.assert_allclose(centroid_size(found.aligned), 1, rtol=1e-9)
    # No turn of any subject brings it nearer to the mean (scipy's solution).
    for shape in found.aligned:
        turn, _ = Rotation.align_vectors(found.mean, shape)
        np.testing.assert_allclose(turn.as_matrix(), np.eye(3), atol=1e-7)
    mean = found.aligned.mean(axis=0)
    np.testing.assert_allclose(mean / centroid_size(mean), found.mean, atol=1e-8)


def test_components_rebuild_the_shapes_and_match_the_covariance():
    points, _ = cohort(4, count=12)
    found = align(names("s", 12), names("l", 9), points)
    center = found.aligned.mean(axis=0)
    rebuilt = center + np.einsum("nc,ckd->nkd", found.scores, found.components)
    np.testing.assert_allclose(rebuilt, found.aligned, atol=1e-9)
    values = np.linalg.eigvalsh(np.cov(found.aligned.reshape(12, -1).T))[::-1]
    np.testing.assert_allclose(found.shares, values[: len(found.shares)] / values.sum(), atol=1e-9)
    assert found.shares.sum() == pytest.approx(1)


def test_one_direction_of_change_is_the_first_component():
    base = np.random.default_rng(5).normal(size=(7, 3))
    change = np.zeros((7, 3))
    change[2] = 0.02, 0.05, -0.03
    points = np.stack([base + t * change for t in (-2, -1, 0, 1, 2)])
    found = align(names("s", 5), names("l", 7), points)
    assert found.shares[0] > 0.99
    assert np.abs(found.components[0]).sum(axis=1).argmax() == 2
    assert (np.diff(found.scores[:, 0]) > 0).all() or (np.diff(found.scores[:, 0]) < 0).all()


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_gaps_change_little_and_never_pull_a_subject(seed):
    points, _ = cohort(seed, count=10, noise=0.001)
    gaps = points.copy()
    gaps[np.arange(5), np.arange(5)] = np.nan
    full, partial = (align(names("s", 10), names("l", 9), p) for p in (points, gaps))
    np.testing.assert_allclose(partial.size, full.size, rtol=0.01)
    assert partial.gaps.tolist() == [1] * 5 + [0] * 5
    assert np.isnan(partial.aligned[0, 0]).all() and np.isfinite(partial.scores).all()
    np.testing.assert_allclose(partial.distance, full.distance, atol=0.01)


def test_no_subject_needs_to_be_complete():
    points, _ = cohort(6, count=9, noise=0.0)
    for k in range(9):
        points[k, k] = np.nan
    found = align(names("s", 9), names("l", 9), points)
    np.testing.assert_allclose(found.distance, 0, atol=1e-6)


def test_what_is_left_out_is_named():
    points, _ = cohort(7, count=8)
    points[1, 3:] = np.nan
    points[3:, 8] = np.nan
    found = align(names("s", 8), names("l", 9), points)
    assert found.few_points == ("s1",) and found.often_missing == ("l8",)
    assert len(found.subjects) == 7 and found.mean.shape == (8, 3)


def test_points_at_one_place_are_no_shape_and_hide_no_outlier():
    points, scale = cohort(8, count=20, noise=0.01)
    points[13, 4] += 0.6 * scale[13]
    points[2] = 5.0
    found = align(names("s", 20), names("l", 9), points)
    assert found.few_points == ("s2",)
    assert [name for name, is_far in zip(found.subjects, found.outliers) if is_far] == ["s13"]


def test_an_odd_shape_is_an_outlier():
    points, scale = cohort(8, count=20, noise=0.01)
    points[13, 4] += 0.6 * scale[13]
    found = align(names("s", 20), names("l", 9), points)
    assert np.flatnonzero(found.outliers).tolist() == [13]
    assert found.spread.argmax() == 4


@pytest.mark.parametrize("plane", [(0, 1, 2), (0, 2, 1), (2, 0, 1)])
def test_points_of_radiographs_turn_within_their_plane_only(plane):
    points, _ = cohort(9, flat=True)
    found = align(names("s", 8), names("l", 9), (points * (1, 1 if plane[1] == 1 else -1, 1))[..., plane])
    assert found.mean.shape == (9, 2) and found.distance.max() < 0.1
    np.testing.assert_allclose(found.mean, align(names("s", 8), names("l", 9), points).mean)
    mirrored = points * (1, 1, 1)
    mirrored[0] *= (-1, 1, 1)
    assert align(names("s", 8), names("l", 9), mirrored[..., plane]).distance[0] > 0.3


@pytest.mark.parametrize("count, landmarks", [(2, 9), (5, 3)])
def test_too_little_is_refused_in_a_sentence(count, landmarks):
    points, _ = cohort(10, count, landmarks)
    with pytest.raises(InputError, match="subjects"):
        align(names("s", count), names("l", landmarks), points)


def test_equal_shapes_have_no_components():
    points, _ = cohort(11, 1)
    found = align(names("s", 4), names("l", 9), np.repeat(points, 4, axis=0))
    assert found.distance.max() < 1e-9 and not found.outliers.any() and found.scores.shape[0] == 4
