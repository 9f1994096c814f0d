"""Landmarks from few examples: pictures of blobs that are moved and bent as is known."""

import numpy as np
import pytest
from example_scans import bent, marked, picture_of, still
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.detection.examples import Example, disagreement, propose, robust_middle
from H3DELandmarksLib.detection.registration import Picture, correlations, lay_over, through_points

TOLERANCE_MM = {2: 1.0, 3: 1.0}  # a voxel


def example(axes: int, move=still, name: str = "one", **changes) -> Example:
    landmarks = changes.pop("landmarks", marked(axes, move))
    return Example(name, Picture.of(picture_of(axes, move)), landmarks, **changes)


def worst(found: LandmarkSet, truth: LandmarkSet) -> float:
    return float(np.linalg.norm(found.positions - truth.positions, axis=1).max())


@pytest.mark.parametrize("axes", (2, 3))
def test_points_follow_a_scan_that_is_turned_stretched_and_bent(axes):
    move = bent(axes)
    said = propose([example(axes)], picture_of(axes, move))
    assert said.is_alike and said.landmarks.present.all()
    assert worst(said.landmarks, marked(axes, move)) < TOLERANCE_MM[axes]
    assert np.isnan(said.landmarks.radius).all(), "one example disagrees with none"
    assert np.isnan(said.landmarks.confidence).all()


@pytest.mark.parametrize("axes", (2, 3))
def test_points_of_a_model_lead_where_scans_are_turned_too_far_to_be_aligned_alone(axes):
    move = bent(axes, turn=2.0, shift=0.0)
    scan, truth = picture_of(axes, move), marked(axes, move)
    guides = [marked(axes, m, count=14, prefix="G") for m in (still, move)]
    led = propose([example(axes, guide=guides[0])], scan, guides[1])
    assert led.guided_by == 1 and led.is_alike and worst(led.landmarks, truth) < TOLERANCE_MM[axes]
    few = guides[1].unknown_where(np.arange(14) >= 3, Cause.UNLIKE)
    alone = propose([example(axes, guide=guides[0])], scan, few)
    assert alone.guided_by == 0, "three points do not tell how to get from one scan to another"
    assert not alone.is_alike or worst(alone.doubtful, truth) > 1


@pytest.mark.parametrize("axes", (2, 3))
def test_something_else_is_said_to_be_unlike(axes):
    other = picture_of(axes, still, seed=None)
    said = propose([example(axes), example(axes, bent(axes), "two")], other)
    assert not said.is_alike and not said.landmarks.present.any()
    assert set(said.landmarks.causes) == {Cause.UNLIKE}
    assert said.doubtful.present.any(), "what would have been said can still be asked for"


def test_an_example_that_is_unlike_does_not_count_beside_one_that_is_like():
    move = bent(2)
    foreign = Example("foreign", Picture.of(picture_of(2, still, seed=None)), marked(2, still))
    said = propose([foreign, example(2)], picture_of(2, move))
    assert worst(said.landmarks, marked(2, move)) < TOLERANCE_MM[2]


def test_several_examples_state_radii_that_grow_with_their_disagreement():
    move, rng = bent(2), np.random.default_rng(0)

    def examples(noise):
        for number, own in enumerate((still, bent(2, turn=-0.05), bent(2, shift=-0.02))):
            truth = marked(2, own)
            shift = noise * rng.normal(size=truth.positions.shape) * (1, 1, 0)
            yield example(2, own, str(number), landmarks=truth.with_positions(truth.positions + shift))

    exact, noisy = (propose(list(examples(noise)), picture_of(2, move)).landmarks for noise in (0.0, 4.0))
    assert (exact.radius < 2).all() and np.median(noisy.radius) > 2 * np.median(exact.radius)


def test_a_landmark_that_most_examples_lack_has_no_place_and_one_that_none_knows_stays_unknown():
    names, positions = marked(2, still).names, marked(2, still).positions
    presence = np.ones(6)
    presence[:2] = 0, np.nan
    lacking = LandmarkSet(names, positions, presence)
    said = propose([example(2, landmarks=lacking)], picture_of(2, bent(2))).landmarks
    assert said.causes[:2] == (Cause.NO_PLACE, None) and said.unknown[:2].all() and said.present[2:].all()


def test_a_point_that_would_lie_outside_the_scan_is_not_proposed():
    def away(points):
        return points + (60.0, 0.0, 0.0)

    said = propose([example(2)], picture_of(2, away)).landmarks
    inside = marked(2, away).positions[:, 0] < 179
    if said.causes[0] is not Cause.UNLIKE:
        assert not (said.present & ~inside).any()


@pytest.mark.parametrize(
    ("examples", "word"),
    (
        ([], "no example"),
        ([example(3)], "radiograph"),
        ([example(2), example(2, landmarks=marked(2, still, prefix="Q"), name="two")], "different schemes"),
        ([example(2, landmarks=LandmarkSet(("A",), [[np.nan] * 3], [np.nan]))], "no point"),
    ),
)
def test_what_cannot_serve_as_examples_is_told(examples, word):
    with pytest.raises(InputError, match=word):
        propose(examples, picture_of(2, still))


def test_a_volume_is_not_laid_over_radiographs():
    with pytest.raises(InputError, match="radiographs"):
        propose([example(2)], picture_of(3, still))


@settings(max_examples=10, deadline=None)
@given(order=st.permutations((0, 1, 2)), flips=st.tuples(*[st.booleans()] * 3), axes=st.sampled_from((2, 3)))
def test_proposals_do_not_depend_on_how_a_scan_is_stored(order, flips, axes):
    volume = picture_of(axes, bent(axes))
    array, affine = volume.array.transpose(order), volume.affine[:, [*order, 3]].copy()
    for axis, is_flipped in enumerate(flips):
        if is_flipped:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
    stored, plain = (Picture.of(v) for v in (Volume(array, affine), volume))
    points = marked(axes, still).positions
    np.testing.assert_allclose(stored.lps(stored.own(points)), points, atol=1e-9)
    assert stored.contains(points).all() and not stored.contains(points + 500).any()
    assert np.array_equal(np.asarray(stored.fine.GetSize()), plain.fine.GetSize())


def test_a_deformation_leads_nearly_through_the_points_that_are_known():
    move = bent(3, turn=1.0)
    one, other = Picture.of(picture_of(3, still)), Picture.of(picture_of(3, move))
    here, there = (marked(3, m, count=14).positions for m in (still, move))
    transform = through_points(one, other, here, there)
    moved = np.array([transform.TransformPoint(point.tolist()) for point in one.own(here)])
    assert np.linalg.norm(moved - there, axis=1).max() < 1.5


def test_a_flat_picture_moves_no_point():
    one = Picture.of(Volume(np.zeros((40, 40, 1), np.float32), np.eye(4)))
    laid = lay_over(one, one, np.array([[10.0, 20, 0]]), tuple(marked(2, still).positions[:, :] for _ in range(2)))
    assert laid.likeness == 0 and np.linalg.norm(laid.positions - [10, 20, 0]) < 0.1 and laid.similarity[0] == 0


def test_correlation_is_one_where_a_patch_was_cut_whatever_its_contrast():
    region = np.random.default_rng(1).normal(size=(20, 22, 9))
    match = correlations(3 + 2 * region, region[4:11, 5:12, 2:7])
    assert match.shape == (14, 16, 5) and match.max() == pytest.approx(1)
    assert np.unravel_index(match.argmax(), match.shape) == (4, 5, 2)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(3, 5), shift=st.floats(-50, 50))
def test_the_middle_of_examples_moves_with_them_and_withstands_one_that_is_far_off(seed, count, shift):
    rng = np.random.default_rng(seed)
    positions, weights = rng.normal(size=(count, 4, 3)), rng.uniform(0.5, 1, (count, 4))
    middle = robust_middle(positions, weights)
    np.testing.assert_allclose(robust_middle(positions + shift, weights), middle + shift, atol=1e-6)
    off = positions.copy()
    off[0] += 1000
    assert np.linalg.norm(robust_middle(off, np.ones_like(weights)) - middle, axis=1).max() < 500 / count


def test_the_middle_of_two_lies_between_them_and_of_none_nowhere():
    positions = np.array([[[0.0, 0, 0], [1, 1, 1]], [[2, 0, 0], [1, 1, 1]]])
    middle = robust_middle(positions, np.array([[1.0, 0], [1, 0]]))
    np.testing.assert_allclose(middle[0], [1, 0, 0], atol=1e-9)
    assert np.isnan(middle[1]).all()


@pytest.mark.parametrize(("axes", "count"), ((2, 2), (2, 5), (3, 3), (3, 5)))
def test_radii_of_examples_that_err_alike_hold_the_right_place_in_about_nine_of_ten(axes, count):
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(60):
        positions = rng.normal(size=(count + 1, 30, 3)) * np.where(np.arange(3) < axes, 1.0, 0)
        weights = np.ones((count, 30))
        away = np.linalg.norm(positions[-1] - robust_middle(positions[:-1], weights), axis=1)
        inside.append(away <= disagreement(positions[:-1], weights, axes))
    assert 0.85 < np.mean(inside) < 0.97


def test_radii_are_those_of_the_set_and_of_no_single_point_alone():
    positions = np.random.default_rng(0).normal(size=(2, 8, 3))
    positions[:, 0] = 0  # two examples that happen to agree
    radius = disagreement(positions, np.ones((2, 8)), 3)
    assert radius[0] > 0.3 * np.median(radius)
    assert np.isnan(disagreement(positions[:1], np.ones((1, 8)), 3)).all()
