"""Errors without systematic offsets: what is removed, and what is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.evaluation import evaluate_sets
from H3DELandmarksLib.evaluation.metrics import offset_free_errors

SHAPE = np.random.default_rng(0).normal(size=(9, 3)) * 8
seeds = st.integers(0, 2**31 - 1)


def in_poses(shapes, seed):
    """Each (K, 3) shape turned and shifted its own way, prediction and reference alike."""
    random = np.random.default_rng(seed)
    turns = Rotation.random(len(shapes[0]), random_state=seed).as_matrix()
    shifts = random.normal(size=(len(turns), 1, 3)) * 30
    return [np.einsum("nij,nkj->nki", turns, shape) + shifts for shape in shapes]


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_a_habit_at_every_landmark_is_no_error_in_any_pose(seed):
    random = np.random.default_rng(seed)
    habit = random.normal(size=SHAPE.shape)
    truth = np.repeat(SHAPE[None], 6, axis=0)
    predicted, reference = in_poses([truth + habit, truth], seed)
    assert np.linalg.norm(predicted - reference, axis=2).mean() > 0.5
    np.testing.assert_allclose(offset_free_errors(predicted, reference), 0, atol=1e-9)


@pytest.mark.parametrize(("points", "told"), [(2, False), (3, True)])
def test_three_common_points_are_enough_for_a_fit(points, told):
    reference = np.repeat(SHAPE[None, :points], 3, axis=0)
    errors = offset_free_errors(reference + 1.0, reference)
    assert np.isfinite(errors).all() == told == np.isfinite(errors).any()


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_another_pose_of_all_points_is_no_error(seed):
    reference, _ = in_poses([np.repeat(SHAPE[None], 4, axis=0)] * 2, seed)
    predicted, _ = in_poses([np.repeat(SHAPE[None], 4, axis=0)] * 2, seed // 2 + 1)
    np.testing.assert_allclose(offset_free_errors(predicted, reference), 0, atol=1e-9)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_scatter_stays_and_is_told_beside_the_habit(seed):
    random = np.random.default_rng(seed)
    many = np.repeat(np.random.default_rng(1).normal(size=(1, 60, 3)) * 8, 40, axis=0)
    scatter = random.normal(size=many.shape) * 0.1
    habit = random.normal(size=(60, 3)) * 0.3
    predicted, reference = in_poses([many + habit + scatter, many], seed)
    left = offset_free_errors(predicted, reference).mean()
    # six of 180 coordinates go into the fit, the mean of 39 others adds as much as 1 in 39
    assert left == pytest.approx(np.linalg.norm(scatter, axis=2).mean(), rel=0.06)


def test_a_case_cannot_explain_its_own_error():
    reference = np.repeat(SHAPE[None], 3, axis=0)
    predicted = reference.copy()
    predicted[0, 4] += (0, 0, 3.0)
    errors = offset_free_errors(predicted, reference)
    assert errors[0, 4] > 1.5  # less than 3: the fit takes a part
    assert errors[1, 4] == pytest.approx(errors[2, 4]) and 0.5 < errors[1, 4] < 1.6


def test_where_an_offset_cannot_be_known_there_is_no_figure():
    reference = np.repeat(SHAPE[None], 3, axis=0)
    assert np.isnan(offset_free_errors(reference[:1], reference[:1])).all()
    predicted = reference.copy()
    predicted[1:, 5] = np.nan  # one case alone has it
    predicted[2, 2:] = np.nan  # two points do not fix a pose
    errors = offset_free_errors(predicted, reference)
    assert np.isnan(errors[:, 5]).all() and np.isnan(errors[2]).all()
    np.testing.assert_allclose(np.delete(errors[:2], 5, axis=1), 0, atol=1e-9)


def test_the_report_states_both_figures():
    names = tuple("abcdefghi")
    habit = np.random.default_rng(2).normal(size=SHAPE.shape)
    sets = {f"case{n}": LandmarkSet(names, SHAPE + n) for n in range(3)}
    found = {name: LandmarkSet(names, one.positions + habit) for name, one in sets.items()}
    evaluation = evaluate_sets(found, sets)
    document = evaluation.to_dict()
    assert document["mre_mm"] == pytest.approx(np.linalg.norm(habit, axis=1).mean())
    assert document["offset_free"]["mre_mm"] == pytest.approx(0, abs=1e-9)
    assert "offset-free" in evaluation.text()
    alone = evaluate_sets({"case0": found["case0"]}, {"case0": sets["case0"]})
    assert alone.to_dict()["offset_free"] is None and "offset-free" not in alone.text()
