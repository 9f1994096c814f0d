"""What a scheme and a set of landmarks promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import (
    Cause,
    LandmarkDefinition,
    LandmarkScheme,
    LandmarkSet,
    ReviewState,
    review_state,
)
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.formats.results import RecognitionResult

NAN = np.nan

names = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8, unique=True)
coordinates = st.floats(-1e4, 1e4)


@st.composite
def schemes(draw) -> LandmarkScheme:
    """Schemes with some landmarks paired, some lateral, the rest in the midline."""
    given_names = draw(names)
    pairs = draw(st.integers(0, len(given_names) // 2))
    lateral = draw(st.integers(2 * pairs, len(given_names)))
    return LandmarkScheme(
        "any",
        "1",
        tuple(LandmarkDefinition(name, name.upper()) for name in given_names),
        tuple(zip(given_names[:pairs], given_names[pairs : 2 * pairs])),
        tuple(given_names[2 * pairs : lateral]),
    )


@st.composite
def landmark_sets(draw) -> LandmarkSet:
    """Sets with present, absent and unknown landmarks."""
    given_names = draw(names)
    count = len(given_names)

    def numbers(values):
        return draw(st.lists(values, min_size=count, max_size=count))

    return LandmarkSet(
        tuple(given_names),
        np.array(numbers(st.tuples(coordinates, coordinates, coordinates))),
        presence=numbers(st.floats(0, 1) | st.just(NAN)),
        confidence=numbers(st.floats(0, 1) | st.just(NAN)),
        radius=numbers(st.floats(0, 50) | st.just(NAN)),
        definitions=tuple(numbers(st.text(max_size=3))),
    )


def assert_equal(one: LandmarkSet, other: LandmarkSet) -> None:
    assert one.names == other.names and one.definitions == other.definitions
    for name in ("positions", "presence", "confidence", "radius"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# Schemes


@given(schemes())
def test_mirroring_twice_changes_nothing(scheme):
    order = scheme.mirror_order()
    known = order >= 0
    np.testing.assert_array_equal(order[order[known]], np.flatnonzero(known))


@given(schemes())
def test_mirroring_exchanges_pairs_keeps_the_midline_and_does_not_know_lateral_points(scheme):
    mirrored = dict(zip(scheme.names, scheme.mirror_order()))
    index = {name: k for k, name in enumerate(scheme.names)}
    sides = {name for pair in scheme.pairs for name in pair} | set(scheme.lateral)
    assert all(mirrored[left] == index[right] and mirrored[right] == index[left] for left, right in scheme.pairs)
    assert all(mirrored[name] == -1 for name in scheme.lateral)
    assert all(mirrored[name] == index[name] for name in set(scheme.names) - sides)


@given(schemes())
def test_a_scheme_survives_json(scheme):
    assert build(LandmarkScheme, scheme.to_dict()) == scheme


@pytest.mark.parametrize(
    ("labels", "pairs", "lateral"),
    [
        ("", (), ()),
        ("AA", (), ()),
        ("AB", (("A", "C"),), ()),
        ("ABC", (("A", "B"), ("B", "C")), ()),
        ("AB", (("A", "A"),), ()),
        ("ABC", (("A", "B"),), ("B",)),
        ("AB", (), ("C",)),
    ],
)
def test_a_contradictory_scheme_is_refused(labels, pairs, lateral):
    with pytest.raises(InputError, match="scheme 'x'"):
        LandmarkScheme("x", "1", tuple(LandmarkDefinition(label, "") for label in labels), pairs, lateral)


# Sets


@given(landmark_sets())
def test_exactly_the_present_landmarks_have_positions(landmarks):
    np.testing.assert_array_equal(np.isfinite(landmarks.positions).all(axis=1), landmarks.present)
    assert np.isnan(landmarks.positions[~landmarks.present]).all()
    assert not (landmarks.present & landmarks.unknown).any()


@given(landmark_sets())
def test_every_array_has_one_row_per_landmark(landmarks):
    count = len(landmarks)
    assert landmarks.positions.shape == (count, 3)
    for values in (landmarks.presence, landmarks.confidence, landmarks.radius, landmarks.present, landmarks.unknown):
        assert values.shape == (count,)
    assert len(landmarks.definitions) == count


def test_without_a_statement_a_point_is_present_and_a_hole_is_absent():
    landmarks = LandmarkSet(("a", "b"), [[1, 2, 3], [NAN, NAN, NAN]])
    np.testing.assert_array_equal(landmarks.presence, [1, 0])
    assert np.isnan(landmarks.confidence).all() and np.isnan(landmarks.radius).all()
    assert landmarks.definitions == ("", "")


def test_a_landmark_that_is_present_needs_a_position():
    with pytest.raises(InputError, match="present but has no finite position"):
        LandmarkSet(("a",), [[1, NAN, 3]], presence=[1.0])


def test_the_given_array_is_not_changed():
    positions = np.array([[1.0, 2, 3]])
    LandmarkSet(("a",), positions, presence=[0.2])
    np.testing.assert_array_equal(positions, [[1, 2, 3]])


@given(landmark_sets(), st.randoms())
def test_reordering_moves_every_value_with_its_name(landmarks, random):
    shuffled = list(landmarks.names)
    random.shuffle(shuffled)
    again = landmarks.ordered_as(tuple(shuffled)).ordered_as(landmarks.names)
    assert_equal(again, landmarks)
    k = shuffled.index(landmarks.names[0])
    np.testing.assert_array_equal(landmarks.ordered_as(tuple(shuffled)).presence[k], landmarks.presence[0])


@given(landmark_sets())
def test_names_that_a_set_lacks_become_unknown_and_others_are_dropped(landmarks):
    ordered = landmarks.ordered_as(("not in the set", landmarks.names[-1]))
    assert ordered.names == ("not in the set", landmarks.names[-1])
    assert ordered.unknown[0] and ordered.definitions[0] == ""
    np.testing.assert_array_equal(ordered.positions[1], landmarks.positions[-1])


def test_new_positions_keep_everything_else():
    landmarks = LandmarkSet(("a", "b"), [[1, 2, 3], [NAN] * 3], presence=[0.8, 0.1], radius=[1, 2])
    moved = landmarks.with_positions(np.array([[4.0, 5, 6], [7, 8, 9]]))
    np.testing.assert_array_equal(moved.positions, [[4, 5, 6], [NAN] * 3])
    np.testing.assert_array_equal(moved.presence, [0.8, 0.1])
    np.testing.assert_array_equal(moved.radius, [1, 2])


def test_what_networks_saw_goes_with_the_position():
    networks = [[1, 2, 4], [5, 5, 5]]
    landmarks = LandmarkSet(("a", "gone"), [[1, 2, 3], [NAN] * 3], presence=[0.8, 0.1], networks=networks)
    np.testing.assert_array_equal(landmarks.networks, [[1, 2, 4], [NAN] * 3])
    np.testing.assert_array_equal(landmarks.moved_mm, [1, NAN])
    assert np.isnan(landmarks.with_positions(landmarks.positions + 9).networks).all()


HERE, NEAR, ELSEWHERE = np.zeros(3), np.array([5e-4, 0, 0]), np.array([2e-3, 0, 0])


@pytest.mark.parametrize(
    ("position", "proposed", "more", "state"),
    [
        (HERE, None, {}, ReviewState.PLACED),
        (HERE, None, {"accepted": True, "proposed_absent": True}, ReviewState.PLACED),
        (HERE, ELSEWHERE, {"accepted": True}, ReviewState.MOVED),
        (HERE, NEAR, {"accepted": True}, ReviewState.ACCEPTED),
        (HERE, HERE, {}, ReviewState.PROPOSED),
        (None, HERE, {}, ReviewState.ABSENT),
        (None, None, {}, ReviewState.ABSENT),
        (None, None, {"proposed_absent": True}, ReviewState.PROPOSED_ABSENT),
        (None, None, {"proposed_absent": True, "accepted": True}, ReviewState.ABSENT),
        (None, None, {"proposed_absent": True, "accepted": True, "in_bulk": True}, ReviewState.ABSENT_IN_BULK),
        (HERE, HERE, {"accepted": True, "in_bulk": True}, ReviewState.ACCEPTED_IN_BULK),
        (None, HERE, {"accepted": True, "in_bulk": True}, ReviewState.ABSENT),
        (None, HERE, {"unknown": True}, ReviewState.UNKNOWN),
        (None, None, {"unknown": True, "accepted": True, "proposed_absent": True}, ReviewState.UNKNOWN),
    ],
)
def test_where_a_point_lies_says_what_was_decided(position, proposed, more, state):
    assert review_state(position, proposed, **more) is state


# Statements


def test_a_landmark_is_found_absent_not_examined_or_not_recognised():
    some = LandmarkSet(
        tuple("abcde"),
        np.zeros((5, 3)),
        presence=[0.5, 0.4, NAN, NAN, NAN],
        causes=(None, None, None, Cause.TOO_COARSE, Cause.UNLIKE),
    )
    assert [s.value for s in some.statements] == ["found", "absent", "not examined", "not examined", "not recognised"]
    assert [s.is_known for s in some.statements] == [True, True, False, False, False]


def test_the_doubt_about_a_statement_is_that_of_the_place_or_of_the_absence():
    some = LandmarkSet(tuple("abcd"), np.zeros((4, 3)), presence=[0.9, 0.1, NAN, 1.0], confidence=[0.7, 0.6, 0.5, NAN])
    np.testing.assert_allclose(some.doubts, [0.3, 0.1, NAN, NAN])


@given(landmark_sets(), st.data())
def test_where_nothing_is_known_there_is_no_number_and_the_first_cause_stays(some, data):
    rows = np.array(data.draw(st.lists(st.booleans(), min_size=len(some), max_size=len(some))))
    first = some.unknown_where(rows, Cause.OUTSIDE_REGION)
    again = first.unknown_where(np.ones(len(some), bool), Cause.UNLIKE)
    for name in ("presence", "confidence", "radius"):
        assert np.isnan(getattr(first, name)[rows]).all()
        np.testing.assert_array_equal(getattr(first, name)[~rows], getattr(some, name)[~rows])
    assert np.isnan(first.positions[rows]).all()
    expected = [Cause.OUTSIDE_REGION if row else Cause.UNLIKE for row in rows]
    assert list(again.causes) == expected and not again.present.any()


@given(landmark_sets())
def test_no_cause_stands_where_something_is_known(some):
    known = LandmarkSet(some.names, some.positions, some.presence, causes=(Cause.NOT_ASKED_FOR,) * len(some))
    assert [c is None for c in known.causes] == list(~some.unknown)
    assert known.ordered_as(some.names[::-1]).causes == known.causes[::-1]


def test_a_scan_is_refused_up_to_the_false_alarm_rate():
    assert [RecognitionResult.of(p, 0.05).recognised for p in (0.01, 0.05, 0.06)] == [False, False, True]
