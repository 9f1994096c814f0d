"""Rows of structures: counted by how they follow each other, whichever a network takes each for."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.core.candidates import COUNT, Candidates
from H3DELandmarksLib.core.rows import Row, count, is_off

NUMBER, CORNERS = 9, 4


def subjects(cases=40, seed=0, row=NUMBER):
    """Rows of four corners each, longer structures after shorter ones, at any size and bend."""
    rng, shapes = np.random.default_rng(seed), []
    for _ in range(cases):
        apart = 20 * 1.04 ** np.arange(row) * rng.uniform(0.9, 1.1) * np.exp(rng.normal(0, 0.03, row))
        along = np.cumsum(apart)
        bend = rng.normal(0, 10) * np.sin(along / along[-1] * np.pi)
        corners = [(-8, -3), (8, -3), (-8, 3), (8, 3)]
        sides = [np.stack([bend + aside, along + below, np.zeros(row)], axis=1) for aside, below in corners]
        shapes.append(np.stack(sides, axis=1).reshape(-1, 3))
    return np.stack(shapes)


def seen_in(shape, named):
    """Candidates of a network that sees every structure, and takes structure k for ``named[k]`` (None: for none)."""
    places = Candidates.nothing(len(shape))
    for structure, name in enumerate(named):
        for corner in range(CORNERS if name is not None else 0):
            row = name * CORNERS + corner
            place = int((places.share[row] > 0).sum())
            if place < COUNT:
                places.positions[row, place] = shape[structure * CORNERS + corner]
                places.share[row, place], places.covariance[row, place] = 0.5 / (1 + place), np.eye(3)
    return places


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), skipped=st.integers(1, 3), doubled=st.integers(5, NUMBER - 2))
def test_structures_that_are_all_seen_but_named_wrongly_in_between_are_counted_right(seed, skipped, doubled):
    row, shape = Row.of(subjects()), subjects(1, seed)[0]
    named = [k + (skipped <= k < doubled) for k in range(NUMBER)]  # one name is skipped, another given twice
    places = seen_in(shape, named)
    points = np.where(places.share[:, :1] > 0, np.nan_to_num(places.positions[:, 0, :2]), shape[:, :2])
    counted = count(row, points, np.ones(len(shape), bool), places)
    assert not is_off(np.pad(counted.places, ((0, 0), (0, 1))), shape, CORNERS)
    assert np.median(np.linalg.norm(counted.places - shape[:, :2], axis=1)) < 4
    nearest = counted.candidates.positions[:, 0, :2]
    assert np.nanmax(np.linalg.norm(nearest - shape[:, :2], axis=1)) < 4, "the places are those of its own structure"


def test_a_row_that_is_seen_and_named_well_is_surer_than_one_whose_ends_nobody_sees():
    row, shape = Row.of(subjects()), subjects(1, 5)[0]
    everything = np.ones(len(shape), bool)
    sure = count(row, shape[:, :2], everything, seen_in(shape, range(NUMBER))).count
    unseen = [None, *range(1, NUMBER - 1), None]
    doubtful = count(row, shape[:, :2], everything, seen_in(shape, unseen)).count
    assert sure.margin > doubtful.margin and sure.step == CORNERS and abs(doubtful.shift) == 1


@pytest.mark.parametrize("unseen, shift", [(0, 1), (NUMBER - 1, -1)])
def test_the_other_count_takes_the_structures_on_the_side_where_one_is_not_seen(unseen, shift):
    row, shape = Row.of(subjects()), subjects(1, 5)[0]
    named = [None if k == unseen else k for k in range(NUMBER)]
    counted = count(row, shape[:, :2], np.ones(len(shape), bool), seen_in(shape, named)).count
    assert counted.shift == shift and 0 < counted.margin < 10


@pytest.mark.parametrize("first", [0, 1])
def test_where_all_structures_look_alike_their_names_decide(first):
    row, shape = (
        replace(Row.of(subjects()), spacing=np.full(NUMBER, 20.0)),
        subjects(1, 5)[0].reshape(NUMBER, CORNERS, 3),
    )
    shape = (shape - shape.mean(axis=1, keepdims=True) + np.arange(NUMBER)[:, None, None] * (0, 20, 0)).reshape(-1, 3)
    places = seen_in(shape, [*(k + first for k in range(NUMBER - 1)), None])
    truth = shape - np.array([0, 20 * first, 0])
    points = np.where(places.share[:, :1] > 0, np.nan_to_num(places.positions[:, 0, :2]), truth[:, :2])
    counted = count(row, points, np.ones(len(shape), bool), places)
    assert np.linalg.norm(counted.places - truth[:, :2], axis=1).max() < 4


def test_one_side_of_the_structures_tells_where_the_other_is():
    row, shape = Row.of(subjects()), subjects(1, 5)[0]
    seen = np.isin(np.arange(len(shape)) % CORNERS, (0, 2))
    counted = count(row, shape[:, :2], seen, seen_in(shape, range(NUMBER)).only_of(seen))
    assert np.linalg.norm(counted.places - shape[:, :2], axis=1).max() < 4


@pytest.mark.parametrize("shape", [np.random.default_rng(0).normal(size=(6, 18, 3)), subjects(6, row=4)])
def test_what_is_no_row_in_a_picture_is_not_counted(shape):
    assert Row.of(shape) is None


def test_too_few_structures_say_nothing():
    row, shape = Row.of(subjects()), subjects(1, 5)[0]
    assert count(row, shape[:, :2], np.arange(len(shape)) < 2 * CORNERS, seen_in(shape, range(NUMBER))) is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), spread=st.floats(0.01, 300))
def test_points_of_another_picture_are_counted_within_little_memory_or_not_at_all(seed, spread):
    row, shape, rng = Row.of(subjects()), subjects(1, 5)[0], np.random.default_rng(seed)
    clusters = rng.uniform(0, 1000, (3, 2))
    points = rng.choice(clusters, len(shape)) + rng.normal(0, spread, (len(shape), 2))
    seen = rng.random(len(shape)) < 0.4
    tracemalloc.start()
    counted = count(row, points, seen, seen_in(shape, range(NUMBER)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert counted is None or np.isfinite(counted.places).all()


def test_a_row_survives_its_file_and_one_of_other_landmarks_is_refused():
    row = Row.of(subjects())
    stored = row.to_arrays()
    back = Row.from_arrays(stored, NUMBER * CORNERS)
    assert np.allclose(back.spacing, row.spacing) and back.place.shape == (NUMBER, CORNERS, 2)
    assert Row.from_arrays({}, NUMBER * CORNERS) is None
    with pytest.raises(ValueError, match="landmarks"):
        Row.from_arrays(stored, 10)
    with pytest.raises(ValueError, match="cannot be"):
        Row.from_arrays({**stored, "row_spacing": -stored["row_spacing"]}, NUMBER * CORNERS)


@pytest.mark.parametrize("shift, off", [(0, False), (CORNERS, True)])
def test_a_picture_is_one_off_where_most_structures_lie_on_their_neighbors(shift, off):
    shape = subjects(1, 3)[0]
    assert is_off(np.roll(shape, shift, axis=0), shape, CORNERS) is off


@pytest.mark.parametrize("moved, off", [(4, False), (5, True)])
def test_half_of_the_structures_are_not_most_of_them(moved, off):
    shape = subjects(1, 3, row=8)[0]
    found = shape.copy()
    found[: moved * CORNERS] = shape[CORNERS : (moved + 1) * CORNERS]
    assert is_off(found, shape, CORNERS) is off
