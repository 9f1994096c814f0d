"""A radiograph on its sheet: one picture whatever its storage, and points that stay in its plane."""

from itertools import permutations, product

import numpy as np
import pytest
from flat_cases import distance_to_plane, radiograph, stored_otherwise
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Volume, crop_grid, field_of_view_grid, resample, transform_points
from H3DELandmarksLib.core.image_plane import has_unknown_pixels, is_radiograph, lay_flat, points_on_sheet

STORAGE = st.tuples(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
# Directions of the patient on the sheet, x to the right and y down.
SEEN = {"axial": ("L", "P"), "coronal": ("L", "I"), "sagittal": ("P", "I")}
LPS = {"L": (1, 0, 0), "P": (0, 1, 0), "I": (0, 0, -1)}


@st.composite
def radiographs(draw) -> Volume:
    """One slice of noise in any pose, with any pixels, sometimes without right angles."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = [int(n) for n in rng.integers(2, 9, 2)] + [1]
    axes = Rotation.random(random_state=rng.integers(2**31)).as_matrix() @ (np.eye(3) + rng.uniform(-0.1, 0.1, (3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = axes * rng.uniform(0.1, 2, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return Volume(rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32), affine)


@settings(max_examples=60, deadline=None)
@given(radiographs(), STORAGE)
def test_every_storage_of_a_radiograph_gives_one_picture(volume, storage):
    flat, lps_from_sheet = lay_flat(volume)
    other, lps_from_other = lay_flat(stored_otherwise(volume, *storage))
    np.testing.assert_array_equal(other.array, flat.array)
    np.testing.assert_allclose(other.affine, flat.affine, atol=1e-9)
    np.testing.assert_allclose(lps_from_other, lps_from_sheet, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(radiographs())
def test_every_pixel_keeps_its_value_and_position(volume):
    flat, lps_from_sheet = lay_flat(volume)
    assert flat.array.shape[2] == 1 and not flat.affine[2, [0, 1, 3]].any()
    index = np.indices(flat.array.shape).reshape(3, -1).T
    back = volume.grid.ijk_from_lps(transform_points(lps_from_sheet, flat.grid.lps_from_ijk(index)))
    np.testing.assert_allclose(back, np.rint(back), atol=1e-6)
    np.testing.assert_array_equal(volume.array[tuple(np.rint(back).astype(int).T)], flat.array.ravel())


@settings(max_examples=60, deadline=None)
@given(radiographs())
def test_the_sheet_is_moved_rigidly_and_never_mirrored(volume):
    rotation = lay_flat(volume)[1][:3, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) > 0


@settings(max_examples=30, deadline=None)
@given(radiographs(), st.tuples(*[st.floats(-50, 50)] * 3))
def test_points_are_brought_into_the_plane(volume, point):
    _, lps_from_sheet = lay_flat(volume)
    flat = points_on_sheet(lps_from_sheet, np.array([point, (np.nan,) * 3]))
    assert flat[0, 2] == 0 and np.isnan(flat[1]).all()
    assert distance_to_plane(volume, transform_points(lps_from_sheet, flat[:1]))[0] < 1e-9


@pytest.mark.parametrize("plane", SEEN)
def test_the_picture_is_seen_as_a_radiologist_holds_it(plane):
    directions = lay_flat(radiograph(plane=plane)[0])[1][:3, :3]
    np.testing.assert_allclose(directions[:, :2].T, [LPS[letter] for letter in SEEN[plane]], atol=1e-12)


def test_a_file_without_orientation_is_seen_as_it_is_stored():
    array = np.arange(12.0).reshape(4, 3, 1)
    flat, lps_from_sheet = lay_flat(Volume(array, np.diag([0.2, 0.3, 1, 1])))
    np.testing.assert_array_equal(flat.array, array)
    np.testing.assert_array_equal(lps_from_sheet, np.eye(4))
    np.testing.assert_allclose(flat.spacing[:2], (0.2, 0.3))


def test_a_picture_on_its_sheet_stays_as_it_is():
    flat, _ = lay_flat(radiograph(plane="oblique")[0])
    again, motion = lay_flat(flat)
    np.testing.assert_array_equal(again.array, flat.array)
    np.testing.assert_allclose(again.affine, flat.affine, atol=1e-12)
    np.testing.assert_allclose(motion, np.eye(4), atol=1e-12)


def test_one_slice_makes_a_radiograph():
    assert all(is_radiograph(Volume(np.zeros(s), np.eye(4))) for s in permutations((1, 4, 5)))
    assert not is_radiograph(Volume(np.zeros((2, 4, 5)), np.eye(4)))


# Resampling of a single slice


@pytest.mark.parametrize(("spacing", "turn"), list(product([0.2, 0.45, 0.9], [0.0, 0.7])))
def test_a_ramp_is_sampled_exactly_and_does_not_fade(spacing, turn):
    affine = np.diag([0.3, 0.5, 1, 1])
    index = np.indices((80, 50, 1))
    flat, _ = lay_flat(Volume((2.0 * index[0] * 0.3 - 3 * index[1] * 0.5), affine))
    axes = Rotation.from_rotvec([0, 0, turn]).as_matrix()
    grid = crop_grid(flat.grid.center, axes, spacing, (16, 12, 1))
    positions = grid.lps_from_ijk(np.moveaxis(np.indices(grid.shape), 0, -1))
    sampled = resample(flat, grid, -1e6).array
    np.testing.assert_allclose(sampled, 2 * positions[..., 0] - 3 * positions[..., 1], atol=1e-3)


def test_coarse_pixels_are_means_so_that_fine_noise_does_not_alias():
    array = np.random.default_rng(0).normal(size=(120, 120, 1)).astype(np.float32)
    flat, _ = lay_flat(Volume(array, np.diag([0.1, 0.2, 1, 1])))
    sampled = resample(flat, field_of_view_grid(flat.grid, 0.4), 0.0)
    assert sampled.array.shape == (30, 60, 1)
    np.testing.assert_allclose(sampled.array, array.reshape(30, 4, 60, 2, 1).mean(axis=(1, 3)), atol=1e-5)


@pytest.mark.parametrize("spacing", [0.05, 0.3, 5.0])
def test_a_grid_around_a_sheet_has_one_layer(spacing):
    flat, _ = lay_flat(radiograph()[0])
    assert field_of_view_grid(flat.grid, spacing).shape[2] == 1


@pytest.mark.parametrize(
    ("shape", "spacing", "unknown"),
    [
        ((9, 8, 1), (1, 1, 3), True),
        ((1, 9, 8), (0.2, 1, 1), True),
        ((9, 8, 1), (1, 0.9, 1), False),
        ((9, 8, 7), (1, 1, 1), False),
    ],
)
def test_pixels_of_one_millimeter_are_of_unknown_size(shape, spacing, unknown):
    assert has_unknown_pixels(shape, spacing) is unknown
