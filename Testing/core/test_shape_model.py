"""Mean shapes and rigid fits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel, cube_rotations, learn_shape_model, rigid_fit

seeds = st.integers(0, 2**31)


def random_pose(rng: np.random.Generator) -> Pose:
    return Pose(Rotation.random(random_state=int(rng.integers(2**31))).as_matrix(), rng.normal(size=3) * 50)


def symmetric_scheme() -> tuple[LandmarkScheme, np.ndarray]:
    names = ("L1", "R1", "L2", "R2", "M1", "M2")
    points = np.array([[8.0, 0, 1], [-8.0, 0, 1], [5.0, 20, 3], [-5.0, 20, 3], [0.0, -15, 4], [0.0, 25, -2]])
    scheme = LandmarkScheme("toy", "1", tuple(LandmarkDefinition(n, n) for n in names), (("L1", "R1"), ("L2", "R2")))
    return scheme, points


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_rigid_motion_is_recovered_exactly(seed):
    rng = np.random.default_rng(seed)
    points, pose = rng.normal(size=(6, 3)) * 10, random_pose(rng)
    fitted = rigid_fit(points, pose.to_lps(points))
    assert np.allclose(fitted.to_lps(points), pose.to_lps(points), atol=1e-8)
    assert np.linalg.det(fitted.rotation) == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_third_of_the_points_may_be_wrong(seed):
    rng = np.random.default_rng(seed)
    mean, pose = rng.normal(size=(15, 3)) * 10, random_pose(rng)
    shape = ShapeModel(mean, np.full(15, 0.3))
    points = pose.to_lps(mean) + rng.normal(size=(15, 3)) * 0.1
    wrong = rng.permutation(15)[:5]
    points[wrong] += rng.normal(size=(5, 3)) * 15
    fitted, residual = shape.fit(points, np.ones(15), rounds=30)
    right = np.setdiff1d(np.arange(15), wrong)
    assert np.linalg.norm(fitted.to_lps(mean) - pose.to_lps(mean), axis=1)[right].max() < 1.5
    assert np.median(residual[right]) < 0.6


def test_a_mirrored_shape_is_not_fitted_by_a_reflection():
    points = np.random.default_rng(0).normal(size=(8, 3))
    assert np.linalg.det(rigid_fit(points, points * [-1, 1, 1]).rotation) == pytest.approx(1.0)


def test_too_few_points_are_refused():
    shape = ShapeModel(np.zeros((4, 3)), np.ones(4))
    with pytest.raises(ValueError, match="three"):
        shape.fit(np.full((4, 3), np.nan), np.ones(4))


@pytest.mark.parametrize("missing", [False, True])
def test_the_mean_shape_of_posed_subjects_is_their_common_shape(missing):
    rng = np.random.default_rng(1)
    scheme, points = symmetric_scheme()
    subjects = np.stack([random_pose(rng).to_lps(points) for _ in range(7)])
    if missing:
        subjects[2, 1] = np.nan
    shape = learn_shape_model(subjects, scheme, own_frame=True)
    fitted = rigid_fit(shape.mean, points)
    assert np.allclose(fitted.to_lps(shape.mean), points, atol=1e-5)
    assert shape.tolerance.max() < 1e-5


def test_the_model_frame_has_left_on_its_positive_first_axis():
    scheme, points = symmetric_scheme()
    mean = learn_shape_model(points[None] @ Rotation.random(random_state=3).as_matrix().T, scheme, own_frame=True).mean
    assert mean[0, 0] > 0 > mean[1, 0] and mean[2, 0] > 0 > mean[3, 0]
    assert np.allclose(mean.mean(axis=0), 0)


def test_without_an_own_frame_the_axes_of_the_patient_stay():
    scheme, points = symmetric_scheme()
    subjects = np.stack([points + shift for shift in np.random.default_rng(2).normal(size=(5, 1, 3)) * 30])
    subjects[0, 0] = np.nan
    shape = learn_shape_model(subjects, scheme, own_frame=False)
    assert np.allclose(shape.mean, points - points.mean(axis=0), atol=1e-3)


def test_there_are_24_cube_rotations():
    rotations = cube_rotations()
    assert len({tuple(np.round(r).astype(int).ravel()) for r in rotations}) == 24
    assert np.allclose(np.abs(rotations).round(9).sum(axis=1), 1) and np.allclose(np.linalg.det(rotations), 1)


# Radiographs: shapes that lie flat


def flat_subjects(count: int, seed: int = 0) -> tuple[np.ndarray, list[Pose]]:
    """Flat points in random poses within the plane."""
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.normal(size=(6, 2)) * 20, np.zeros(6)])
    poses = [
        Pose(Rotation.from_rotvec([0, 0, a]).as_matrix(), np.array([*rng.normal(size=2) * 50, 0]))
        for a in rng.uniform(-np.pi, np.pi, count)
    ]
    return points, poses


@pytest.mark.parametrize("seed", range(5))
def test_flat_points_are_turned_within_their_plane(seed):
    points, (pose,) = flat_subjects(1, seed)
    fitted = rigid_fit(points, pose.to_lps(points))
    assert np.allclose(fitted.rotation, pose.rotation) and np.allclose(fitted.translation, pose.translation)


def test_a_mirrored_flat_shape_is_not_turned_over():
    points, _ = flat_subjects(1)
    fitted = rigid_fit(points, points * [-1, 1, 1])
    assert np.allclose(fitted.rotation[2], [0, 0, 1]) and np.linalg.det(fitted.rotation[:2, :2]) > 0
    assert np.linalg.norm(fitted.to_lps(points) - points * [-1, 1, 1], axis=1).max() > 5


@pytest.mark.parametrize("pairs", [(), (("P0", "P1"),)])
def test_the_frame_of_a_flat_shape_stays_in_its_plane_and_is_not_mirrored(pairs):
    points, poses = flat_subjects(7)
    scheme = LandmarkScheme("flat", "1", tuple(LandmarkDefinition(f"P{k}", "") for k in range(6)), pairs)
    shape = learn_shape_model(np.stack([pose.to_lps(points) for pose in poses]), scheme, own_frame=True)
    assert not shape.mean[:, 2].any() and shape.tolerance.max() < 1e-6
    assert np.allclose(rigid_fit(shape.mean, points).to_lps(shape.mean), points, atol=1e-6)
    if pairs:
        assert shape.mean[0, 0] - shape.mean[1, 0] > 0 and abs(shape.mean[0, 1] - shape.mean[1, 1]) < 1e-6


@settings(max_examples=20, deadline=None)
@given(seeds, st.booleans())
def test_the_error_of_a_place_is_that_of_rigid_fits_to_points_that_vary(seed, flat):
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(7, 3)) * 20 * ([1, 1, 0] if flat else [1, 1, 1])
    tolerance, trust = np.full(7, 0.5), np.array([1, 1, 1, 1, 1, 0, 0.0])
    stated = ShapeModel(mean, tolerance).place_error(trust)
    away = []
    for _ in range(400):
        moved = rng.normal(size=(7, 3)) * 0.5 / np.sqrt(2 if flat else 3) * ([1, 1, 0] if flat else [1, 1, 1])
        away.append(np.linalg.norm(rigid_fit(mean, mean + moved, trust).to_lps(mean) - mean, axis=1))
    assert np.allclose(np.sqrt((np.array(away) ** 2).mean(axis=0)), stated, rtol=0.25)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_the_error_of_a_place_does_not_depend_on_the_frame_and_shrinks_with_trust(seed):
    rng = np.random.default_rng(seed)
    mean, trust, tolerance = rng.normal(size=(8, 3)) * 20, rng.uniform(0.1, 1, 8), rng.uniform(1, 5, 8)
    error = ShapeModel(mean, tolerance).place_error(trust)
    assert np.allclose(ShapeModel(random_pose(rng).to_lps(mean), tolerance).place_error(trust), error, rtol=1e-4)
    assert np.allclose(ShapeModel(mean, 2 * tolerance).place_error(trust), 2 * error, rtol=1e-4)
    assert (ShapeModel(mean, tolerance).place_error(np.minimum(1.5 * trust, 1)) <= error * (1 + 1e-9)).all()


@pytest.mark.parametrize("trusted", [[], [0], [0, 1], [0, 1, 2]])
def test_points_on_a_line_or_fewer_than_three_tell_no_place_beside_it(trusted):
    mean = np.array([[0.0, 0, 0], [10, 0, 0], [20, 0, 0], [10, 30, 5]])
    error = ShapeModel(mean, np.ones(4)).place_error(np.isin(np.arange(4), trusted).astype(float))
    assert error[3] > 1000


@pytest.mark.filterwarnings("error")
@settings(max_examples=50, deadline=None)
@given(seeds, st.floats(-9, 1), st.sampled_from([0, 1e-9, 1e-6, 1]))
def test_the_error_of_a_place_is_a_number_however_little_is_known(seed, tolerance, depth):
    rng = np.random.default_rng(seed)
    mean, trust = rng.normal(size=(6, 3)) * 20 * [1, 1, depth], rng.random(6) * (rng.random(6) < 0.5)
    error = ShapeModel(mean, np.full(6, 10.0**tolerance)).place_error(trust)
    assert np.isfinite(error).all() and (error >= 0).all()
