"""Scans as users have them keep the truth about their landmarks; disturbed ones keep nothing of the anatomy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conditions import CONDITIONS, DISTURBANCES, disturbed_cases, scrambled

PLACES = np.array([[8, 12, 6], [25, 20, 18], [14, 31, 12], [20, 9, 20]])
FLAT = PLACES * (1, 1, 0)


def made_case(flat: bool) -> Case:
    """A scan, or a radiograph, with a bright spot of its own value at each landmark."""
    rng = np.random.default_rng(7)
    array = rng.normal(0, 30, (36, 42, 1 if flat else 28)).astype(np.int16)
    places = FLAT if flat else PLACES
    array[tuple(places.T)] = 1000 + 100 * np.arange(len(places))
    volume = Volume(array, np.array([[0, 1.5, 0, 5], [-1, 0, 0, 8], [0, 0, 2, -3], [0, 0, 0, 1.0]]))
    points = volume.grid.lps_from_ijk(places.astype(float))
    return Case("case", volume, LandmarkSet(tuple("abcd"), points, np.array([1, 1, 1, np.nan])))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1))
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", CONDITIONS)
def test_landmarks_of_a_changed_scan_lie_where_they_lay_or_are_absent(name, flat, seed):
    case = made_case(flat)
    before = case.volume.array.copy()
    made = CONDITIONS[name](case, np.random.default_rng(seed))
    np.testing.assert_array_equal(case.volume.array, before)
    there = made.landmarks.present
    np.testing.assert_allclose(made.landmarks.positions[there], case.landmarks.positions[there])
    assert made.landmarks.unknown.tolist() == case.landmarks.unknown.tolist()
    assert made.volume.grid.contains(made.landmarks.positions[there]).all()
    if name not in ("cut", "small part", "cone beam"):
        assert there.tolist() == case.landmarks.present.tolist()
    assert (1 in made.volume.array.shape) == flat


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1))
@pytest.mark.parametrize("name", ["cut", "small part", "stored otherwise"])
def test_voxels_stay_where_they_are(name, seed):
    case = made_case(flat=False)
    made = CONDITIONS[name](case, np.random.default_rng(seed))
    for k in np.flatnonzero(made.landmarks.present):
        place = np.rint(made.volume.grid.ijk_from_lps(case.landmarks.positions[k])).astype(int)
        assert made.volume.array[tuple(place)] == 1000 + 100 * k


def test_a_small_part_shows_a_landmark_and_not_all_of_the_scan():
    sizes = []
    for seed in range(30):
        made = CONDITIONS["small part"](made_case(flat=False), np.random.default_rng(seed))
        assert made.landmarks.present.any() and min(made.volume.array.shape) >= 16
        sizes.append(made.volume.array.size)
    assert max(sizes) < made_case(flat=False).volume.array.size


def test_coarser_voxels_cover_the_same_part_of_the_patient():
    case = made_case(flat=False)
    made = CONDITIONS["coarser"](case, np.random.default_rng(1)).volume
    before = canonical(case.volume)
    assert (made.spacing / before.spacing).min() >= 1.3 and (made.spacing / before.spacing).max() <= 1.7
    np.testing.assert_allclose(made.grid.center, before.grid.center, atol=made.spacing.max())
    np.testing.assert_allclose(made.grid.extent, before.grid.extent, atol=made.spacing.max())


def test_metal_and_noise_change_brightness_as_they_say():
    case = made_case(flat=False)
    noise = CONDITIONS["noise"](case, np.random.default_rng(2)).volume.array - case.volume.array.astype(float)
    span = np.diff(np.percentile(case.volume.array, (0.5, 99.9)))[0]
    assert 0.035 * span < noise.std() < 0.11 * span
    metal = CONDITIONS["metal"](case, np.random.default_rng(2)).volume.array
    assert metal.dtype == np.int16 and metal.max() > case.volume.array[case.volume.array < 900].max() + 0.4 * span


def test_metal_in_a_radiograph_hides_what_lies_behind_it_and_casts_no_streaks():
    case = made_case(flat=True)
    before = canonical(case.volume).array.astype(float)
    low, high = np.percentile(before, (0.5, 99.9))
    for seed in range(8):
        changed = CONDITIONS["metal"](case, np.random.default_rng(seed)).volume.array
        is_metal = changed != before
        assert 0 < is_metal.mean() < 0.3
        np.testing.assert_allclose(changed[is_metal], high + 0.5 * (high - low), atol=1)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_disturbed_scan_is_another_of_the_same_kind(name, flat):
    array = made_case(flat).volume.array
    before = array.copy()
    made = DISTURBANCES[name](array, np.random.default_rng(0))
    assert made.shape == before.shape and made.dtype == before.dtype
    assert (made != before).mean() > 0.3
    assert before.min() <= made.min() and made.max() <= before.max()
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_constant_scan_can_be_disturbed(name):
    made = DISTURBANCES[name](np.full((20, 24, 18), 7, np.uint8), np.random.default_rng(0))
    assert made.shape == (20, 24, 18)


def test_scrambling_keeps_every_value():
    array = made_case(flat=False).volume.array
    made = scrambled(array, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(made, axis=None), np.sort(array, axis=None))


def test_disturbed_cases_hold_no_landmark():
    made = list(disturbed_cases(made_case(flat=False), np.random.default_rng(0)))
    assert len(made) == len(DISTURBANCES) == len({case.name for case in made})
    assert not any(one.landmarks.present.any() or one.landmarks.unknown.any() for one in made)


def test_a_cone_beam_scan_is_blank_outside_a_cylinder_and_its_landmarks_there_are_absent():
    shown, absent = [], 0
    for seed in range(30):
        made = CONDITIONS["cone beam"](made_case(flat=False), np.random.default_rng(seed))
        array = made.volume.array
        blank = (array == array[0, 0, 0]).all(axis=2)  # columns along the patient's axis
        shown.append(1 - blank.mean())
        index = made.volume.grid.ijk_from_lps(made_case(flat=False).landmarks.positions[:3])
        for place, present in zip(np.rint(index).astype(int), made.landmarks.present[:3]):
            inside = (place >= 0).all() and (place < array.shape).all()
            assert not (present and blank[tuple(place[:2])])
            absent += inside and not present
    assert 0.2 < min(shown) < np.pi / 4 + 0.1 and absent > 0
