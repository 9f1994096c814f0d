"""When a landmark that was not found is said to be absent."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet, Statement
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.detection.absence import SURELY_ABSENT, SURELY_KNOWN, on_one_side, only_known_absences
from H3DELandmarksLib.formats.results import RecognitionResult

SIDE = np.array([[25.0, -6, 9], [27, -5, 2], [29, -6, -7], [31, 0, -6], [28, 4, 9], [33, 6, -4], [33, 10, -2]])
MOLARS = ShapeModel(np.concatenate([SIDE, SIDE * [-1, 1, 1]]), np.tile([3.3] * 4 + [5.2] * 3, 2))
SECOND, THIRD = [0, 1, 2, 3, 7, 8, 9, 10], [4, 5, 6, 11, 12, 13]
LARGE = Grid(np.diag([2.0, 2, 2, 1]) + np.array([[0, 0, 0, -100]] * 3 + [[0] * 4]), (100, 100, 100))
HERE = Pose(np.eye(3), np.zeros(3))


def said(found, shape=MOLARS, pose=HERE, grid=LARGE, confidence=0.9, presence=0.03, recognition=None):
    """What is left of a set in which some landmarks were found at their mean places, and no others."""
    is_found = np.isin(np.arange(len(shape.mean)), found)
    names = tuple(f"p{k}" for k in range(len(is_found)))
    before = LandmarkSet(
        names,
        pose.to_lps(shape.mean),
        np.where(is_found, 0.97, presence),
        np.where(is_found, confidence, np.nan),
        np.where(is_found, 1.0, np.nan),
    )
    return before, only_known_absences(before, shape, pose, grid, recognition)


def rows(landmarks, statement):
    return [k for k, said in enumerate(landmarks.statements) if said is statement]


def test_third_molars_are_absent_where_the_second_ones_are_found():
    before, after = said(SECOND)
    assert rows(after, Statement.ABSENT) == THIRD and rows(after, Statement.FOUND) == SECOND
    assert np.array_equal(after.presence, before.presence)


def test_where_one_tooth_is_found_the_next_is_absent_and_those_of_the_other_side_have_no_place():
    _, after = said([0, 1, 2, 3])
    assert rows(after, Statement.ABSENT) == [4, 5, 6]
    assert {after.causes[k] for k in range(7, 14)} == {Cause.NO_PLACE}
    assert rows(after, Statement.NOT_EXAMINED) == list(range(7, 14))


@pytest.mark.parametrize("found", [[], [0], [0, 7], [4, 5]])
def test_in_a_jaw_in_which_hardly_anything_is_found_nothing_is_absent(found):
    _, after = said(found)
    assert rows(after, Statement.ABSENT) == [] and rows(after, Statement.FOUND) == found


def test_points_found_without_confidence_tell_no_place():
    assert rows(said(SECOND, confidence=0.9)[1], Statement.ABSENT) == THIRD
    assert rows(said(SECOND, confidence=0.01)[1], Statement.ABSENT) == []
    assert rows(said(SECOND, confidence=np.nan)[1], Statement.ABSENT) == []


def test_what_is_neither_likely_nor_unlikely_is_not_recognised():
    _, after = said(SECOND, presence=SURELY_ABSENT + 0.01)
    assert {after.causes[k] for k in THIRD} == {Cause.UNSURE} and rows(after, Statement.NOT_RECOGNISED) == THIRD
    assert rows(said(SECOND, presence=SURELY_ABSENT)[1], Statement.ABSENT) == THIRD


def test_in_a_scan_that_is_strange_to_the_model_nothing_is_surely_absent():
    _, after = said(SECOND, recognition=RecognitionResult.of(SURELY_KNOWN, 0.08))
    assert {after.causes[k] for k in THIRD} == {Cause.UNSURE} and rows(after, Statement.FOUND) == SECOND
    assert rows(said(SECOND, recognition=RecognitionResult.of(SURELY_KNOWN + 0.01, 0.08))[1], Statement.ABSENT) == THIRD


def test_near_the_end_of_the_scan_nothing_is_absent():
    for grid_end, expected in ((11.0, [6, 13]), (16.0, [])):  # mm behind the middle; p6 and p13 are expected at 10
        affine = LARGE.affine.copy()
        affine[1, 3] = grid_end - 199  # so that the last voxel ends there
        _, after = said(SECOND, grid=replace(LARGE, affine=affine))
        assert [k for k in rows(after, Statement.NOT_EXAMINED) if k in (6, 13)] == expected


def test_a_radiograph_of_one_slice_is_not_at_the_end_of_the_scan():
    flat = ShapeModel(MOLARS.mean * [1, 1, 0], MOLARS.tolerance)
    affine = np.diag([0.5, 0.5, 1.0, 1.0])
    affine[:2, 3] = -100
    _, after = said(SECOND, shape=flat, grid=Grid(affine, (400, 400, 1)))
    assert rows(after, Statement.ABSENT) == THIRD


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 14), st.floats(0.05, 1.0), st.floats(0, 0.49))
def test_what_was_found_stays_and_more_points_never_take_an_absence_away(seed, count, confidence, presence):
    rng = np.random.default_rng(seed)
    pose = Pose(Rotation.random(random_state=int(seed)).as_matrix(), rng.uniform(-20, 20, 3))
    order = rng.permutation(14)
    fewer, more = sorted(order[:count].tolist()), sorted(order[: count + 1].tolist())
    before, after = said(fewer, pose=pose, confidence=confidence, presence=presence)
    assert rows(after, Statement.FOUND) == fewer
    for name in ("positions", "confidence", "radius"):
        assert np.array_equal(getattr(after, name), getattr(before, name), equal_nan=True)
    absent = set(rows(after, Statement.ABSENT))
    assert not absent or (len(fewer) >= 3 and presence <= SURELY_ABSENT)
    _, still = said(more, pose=pose, confidence=confidence, presence=presence)
    assert absent - set(more) <= set(rows(still, Statement.ABSENT))
    upright = said(fewer, confidence=confidence, presence=presence)[1]
    assert upright.statements == after.statements, "a turned patient is the same patient"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_what_is_unknown_already_keeps_its_cause(seed):
    rng = np.random.default_rng(seed)
    outside = rng.random(14) < 0.5
    assume(outside.any())
    before, _ = said([])
    after = only_known_absences(before.unknown_where(outside, Cause.OUTSIDE_SCAN), MOLARS, HERE, LARGE, None)
    assert [c is Cause.OUTSIDE_SCAN for c in after.causes] == outside.tolist()


def mirrored(shape, wrong, left=0.6, right=0.3, shift=1.0):
    """What `on_one_side` leaves where the right points of some pairs were found beside the left ones."""
    count = len(shape.mean) // 2
    names = (*(f"L{k}" for k in range(count)), *(f"R{k}" for k in range(count)))
    positions = shape.mean.copy()
    positions[np.array(wrong, int) + count] = shape.mean[wrong] + [0, shift, 0]
    confidence = np.repeat([left, right], count)
    seen = LandmarkSet(names, positions, np.full(2 * count, 0.97), confidence, np.ones(2 * count))
    return seen, on_one_side(seen, shape, list(zip(names[:count], names[count:])))


@pytest.mark.parametrize("wrong", [[0], [0, 1, 2], list(range(7))])
@pytest.mark.parametrize(("left", "right", "weaker"), [(0.6, 0.3, 7), (0.3, 0.6, 0)])
def test_points_that_lie_on_those_of_the_other_side_have_no_place(wrong, left, right, weaker):
    before, after = mirrored(MOLARS, wrong, left, right)
    gone = [k + weaker for k in wrong]
    assert [k for k, cause in enumerate(after.causes) if cause] == gone
    assert {after.causes[k] for k in gone} == {Cause.NO_PLACE} and np.isnan(after.positions[gone]).all()
    kept = [k for k in range(14) if k not in gone]
    assert np.array_equal(after.positions[kept], before.positions[kept])


def test_a_single_point_that_is_surer_on_the_weaker_side_goes_with_its_side():
    before, _ = mirrored(MOLARS, [0, 1, 2])
    confidence = before.confidence.copy()
    confidence[[0, 7]] = 0.2, 0.5
    pairs = list(zip(before.names[:7], before.names[7:]))
    after = on_one_side(replace(before, confidence=confidence), MOLARS, pairs)
    assert [k for k, cause in enumerate(after.causes) if cause] == [7, 8, 9]


@pytest.mark.parametrize("shift", [22.0, 30.0])
def test_points_that_lie_apart_stay(shift):
    before, after = mirrored(MOLARS, [0, 1], shift=shift)
    assert after.causes == before.causes and np.array_equal(after.positions, before.positions)


def test_pairs_that_differ_as_much_as_they_lie_apart_and_absent_points_stay():
    loose = ShapeModel(MOLARS.mean, np.full(14, 40.0))  # as the corners of vertebrae do
    before, after = mirrored(loose, list(range(7)))
    assert after.causes == before.causes
    names = ("a", "b")
    one = LandmarkSet(names, np.array([[0.0, 0, 0], [np.nan] * 3]), np.array([0.9, 0.1]))
    shape = ShapeModel(np.array([[25.0, 0, 0], [-25, 0, 0]]), np.ones(2))
    assert on_one_side(one, shape, [names]).causes == one.causes
    assert on_one_side(one, shape, []).causes == one.causes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.8, 1.25))
def test_no_whole_anatomy_loses_a_point(seed, size):
    rng = np.random.default_rng(seed)
    spread = MOLARS.tolerance[:, None] / np.sqrt(3)
    shape = ShapeModel(
        MOLARS.mean * size + spread * rng.normal(size=MOLARS.mean.shape).clip(-2.5, 2.5), MOLARS.tolerance
    )
    seen, _ = mirrored(shape, [])
    assert on_one_side(seen, MOLARS, list(zip(seen.names[:7], seen.names[7:]))).causes == seen.causes
