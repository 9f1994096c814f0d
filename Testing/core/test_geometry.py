"""Positions survive every way of storing a scan, and resampling samples what lies there."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import (
    Grid,
    Volume,
    average_blocks,
    canonical,
    crop_grid,
    field_of_view_grid,
    orthonormal_axes,
    resample,
    transform_points,
    turn_degrees,
)

STORAGE_ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def affine_of(seed: int, left_handed: bool = False, largest_angle: float = 180.0) -> np.ndarray:
    """An IJK -> LPS affine of a turned, anisotropic, shifted grid."""
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    angle = np.radians(rng.uniform(0, largest_angle))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix() * rng.uniform(0.5, 2, 3)
    affine[:3, 0] *= -1 if left_handed else 1
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    return affine


affines = st.builds(affine_of, st.integers(0, 2**32 - 1), st.booleans())
mildly_turned_affines = st.builds(affine_of, st.integers(0, 2**32 - 1), largest_angle=st.just(40.0))
shapes = st.tuples(*[st.integers(1, 6)] * 3)


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


def stored_as(volume: Volume, order: tuple[int, int, int], directions: tuple[int, int, int]) -> Volume:
    """The same scan with its axes in another order and some of them running backwards."""
    array = volume.array.transpose(order)
    affine = volume.affine[:, [*order, 3]].copy()
    for axis in np.flatnonzero(np.array(directions) < 0):
        affine[:3, 3] = transform_points(affine, np.eye(3)[axis] * (array.shape[axis] - 1))
        affine[:3, axis] *= -1
        array = np.flip(array, axis)
    return Volume(array, affine)


def values_by_position(volume: Volume) -> np.ndarray:
    """(voxels, 4) LPS mm and value of every voxel, in the order of the (distinct) values."""
    index = np.indices(volume.array.shape).reshape(3, -1).T
    table = np.column_stack([volume.grid.lps_from_ijk(index), volume.array.ravel()])
    return table[np.argsort(table[:, 3])]


# Grids


@given(affines, st.lists(st.tuples(*[st.floats(-1000, 1000)] * 3), min_size=1, max_size=5))
def test_indices_to_positions_and_back_is_the_identity(affine, points):
    grid = Grid(affine, (4, 5, 6))
    np.testing.assert_allclose(grid.ijk_from_lps(grid.lps_from_ijk(points)), points, atol=1e-8)
    np.testing.assert_allclose(grid.lps_from_ijk(grid.ijk_from_lps(points)), points, atol=1e-8)


@given(affines)
def test_neighboring_voxels_lie_one_spacing_apart(affine):
    grid = Grid(affine, (4, 5, 6))
    steps = grid.lps_from_ijk(np.eye(3)) - grid.lps_from_ijk(np.zeros(3))
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), grid.spacing)
    np.testing.assert_allclose(grid.extent, grid.spacing * (4, 5, 6))
    np.testing.assert_allclose(grid.center, grid.lps_from_ijk([1.5, 2, 2.5]))


@given(affines)
def test_the_field_of_view_reaches_to_the_outer_edges_of_voxels(affine):
    grid = Grid(affine, (4, 5, 6))
    inside, outside = ([-0.49, 4.49, 2], [3.49, -0.49, 5.49]), ([-0.51, 0, 0], [0, 4.51, 0])
    assert grid.contains(grid.lps_from_ijk(inside)).all()
    assert not grid.contains(grid.lps_from_ijk(outside)).any()
    assert not grid.contains(np.full(3, np.nan))


def test_a_margin_shrinks_the_field_of_view_in_mm():
    grid = Grid(np.diag([0.5, 1, 2, 1]), (10, 10, 10))
    points = np.array([[0.7, 5, 10], [0.8, 5, 10]])
    np.testing.assert_array_equal(grid.contains(points, margin=1.0), [False, True])
    assert grid.contains(np.array([-1.0, 5, 10]), margin=-1.0)


@given(affines, st.tuples(*[st.integers(2, 6)] * 3), st.tuples(*[st.floats(-3, 9)] * 3), st.floats(-2, 2))
def test_a_point_is_as_deep_as_the_margin_that_it_keeps(affine, shape, index, margin):
    grid = Grid(affine, shape)
    point = grid.lps_from_ijk(index)
    depth = grid.depth(point)
    assert grid.contains(point, margin=depth - 1e-6) and not grid.contains(point, margin=depth + 1e-6)
    thin = Grid(affine, (*shape[:2], 1))
    aside = grid.depth(thin.lps_from_ijk([*index[:2], (shape[2] - 1) / 2]))
    assert thin.depth(thin.lps_from_ijk([*index[:2], 0.3])) >= aside - 1e-9


def test_missing_points_stay_missing():
    moved = transform_points(np.eye(4), np.array([[np.nan] * 3, [1, 2, 3]]))
    np.testing.assert_array_equal(moved, [[np.nan] * 3, [1, 2, 3]])


@pytest.mark.parametrize(
    "affine", [np.eye(3), np.full((4, 4), np.nan), np.diag([1.0, 0, 1, 1]), np.diag([1.0, 1, np.inf, 1])]
)
def test_a_geometry_without_volume_is_refused(affine):
    with pytest.raises(InputError, match="geometry|spacing"):
        Grid(affine, (2, 2, 2))


@pytest.mark.parametrize("shape", [(3, 4), (0, 4, 5), (2, 3, 4, 5)])
def test_an_image_without_three_axes_or_voxels_is_refused(shape):
    with pytest.raises(InputError, match="three axes and at least one voxel"):
        Volume(np.zeros(shape), np.eye(4))


# Orientation


@given(affines, shapes)
def test_canonical_keeps_the_position_and_value_of_every_voxel(affine, shape):
    volume = Volume(noise(shape), affine)
    np.testing.assert_allclose(values_by_position(canonical(volume)), values_by_position(volume), atol=1e-9)


@given(affines, shapes)
def test_canonical_axes_run_to_left_posterior_superior(affine, shape):
    turned = canonical(Volume(noise(shape), affine))
    cosines = turned.affine[:3, :3] / turned.spacing
    assert (np.diag(cosines) >= 0).all()
    best = max(np.abs(cosines[[0, 1, 2], order]).sum() for order in itertools.permutations(range(3)))
    np.testing.assert_allclose(np.trace(cosines), best)


def test_canonical_axes_do_not_depend_on_how_large_voxels_are():
    volume = Volume(noise((2, 3, 4)), np.eye(4))
    for turn in Rotation.random(200, random_state=0).as_matrix():
        orders = [
            canonical(Volume(volume.array, np.block([[turn * spacing, np.zeros((3, 1))], [0, 0, 0, 1]]))).array
            for spacing in ((1.0, 1.0, 1.0), (0.2, 0.2, 5.0))
        ]
        assert orders[0].tolist() == orders[1].tolist()


@given(mildly_turned_affines, shapes, st.sampled_from(STORAGE_ORDERS))
def test_a_scan_stored_in_any_axis_order_has_one_canonical_form(affine, shape, storage):
    volume = Volume(noise(shape), affine)
    one, other = canonical(volume), canonical(stored_as(volume, *storage))
    np.testing.assert_array_equal(other.array, one.array)
    np.testing.assert_allclose(other.affine, one.affine, atol=1e-9)


# New grids


@given(affines, shapes, st.floats(0.2, 8), st.booleans())
def test_a_field_of_view_grid_covers_every_corner(affine, shape, spacing, patient_axes):
    grid = Grid(affine, shape)
    cover = field_of_view_grid(grid, spacing, np.eye(3) if patient_axes else None)
    corners = np.array(list(itertools.product(*([-0.5, n - 0.5] for n in shape))))
    assert cover.contains(grid.lps_from_ijk(corners), margin=-1e-3).all()
    np.testing.assert_allclose(cover.spacing, spacing)


@given(affines, shapes)
def test_a_field_of_view_grid_is_no_larger_than_needed(affine, shape):
    cover = field_of_view_grid(Grid(affine, shape), 1.0)
    assert (np.array(cover.shape) < np.maximum(Grid(affine, shape).extent, 1) + 1).all()


def test_rounding_adds_no_layer_to_a_field_of_view_grid():
    affine = np.diag([0.1, 0.1, 0.1, 1])
    affine[:3, 3] = -250.1
    for count in range(1, 10):
        assert field_of_view_grid(Grid(affine, (count,) * 3), 0.1).shape == (count,) * 3


@given(affines)
def test_a_crop_lies_around_its_center(affine):
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    crop = crop_grid(affine[:3, 3], axes, (0.5, 1.0, 2.0), (4, 5, 8))
    np.testing.assert_allclose(crop.center, affine[:3, 3], atol=1e-9)
    np.testing.assert_allclose(crop.affine[:3, :3] / crop.spacing, axes)
    np.testing.assert_allclose(crop.spacing, (0.5, 1, 2))


# Resampling


def ramp(affine: np.ndarray, shape: tuple[int, int, int]) -> tuple[Volume, np.ndarray]:
    """A volume whose value is a linear function of LPS, and that function's (4,) coefficients."""
    slope = np.array([0.3, -0.2, 0.1, 5.0])
    index = np.indices(shape).reshape(3, -1).T
    positions = transform_points(affine, index)
    slope[3] -= slope[:3] @ positions.mean(axis=0)
    return Volume((positions @ slope[:3] + slope[3]).reshape(shape), affine), slope


@settings(max_examples=30)
@given(affines, affines, st.floats(0.3, 3.5))
def test_a_linear_ramp_is_sampled_exactly(affine, pose, spacing):
    volume, slope = ramp(affine, (36, 36, 36))
    axes = pose[:3, :3] / np.linalg.norm(pose[:3, :3], axis=0)
    sampled = resample(volume, crop_grid(volume.grid.center, axes, spacing, (5, 6, 7)), outside=-1e6)
    positions = sampled.grid.lps_from_ijk(np.moveaxis(np.indices((5, 6, 7)), 0, -1))
    interior = volume.grid.contains(positions, margin=spacing + volume.spacing.max())
    assert interior.any()
    np.testing.assert_allclose(sampled.array[interior], (positions @ slope[:3] + slope[3])[interior], atol=1e-3)


@settings(max_examples=30)
@given(mildly_turned_affines, st.sampled_from(STORAGE_ORDERS), st.integers(0, 1000))
def test_finer_samples_do_not_depend_on_how_the_scan_is_stored(affine, storage, seed):
    volume = Volume(noise((5, 6, 7)), affine)
    grid = crop_grid(
        volume.grid.center,
        affine_of(seed)[:3, :3] / Grid(affine_of(seed), (1, 1, 1)).spacing,
        volume.spacing.min() * 0.7,
        (6, 5, 4),
    )
    one, other = resample(volume, grid, -5.0), resample(stored_as(volume, *storage), grid, -5.0)
    np.testing.assert_allclose(other.array, one.array, atol=0.05)


def test_a_mirrored_crop_is_the_mirror_image():
    volume = Volume(noise((8, 8, 8)), np.eye(4))
    plain = resample(volume, crop_grid(volume.grid.center, np.eye(3), 1.0, (6, 6, 6)), 0.0)
    mirrored = resample(volume, crop_grid(volume.grid.center, np.diag([-1, 1, 1]), 1.0, (6, 6, 6)), 0.0)
    np.testing.assert_allclose(mirrored.array, plain.array[::-1], atol=1e-4)


@pytest.mark.parametrize("blocks", [(2, 2, 2), (4, 3, 2), (1, 1, 5)])
def test_coarser_samples_are_means_of_blocks(blocks):
    volume = Volume(noise((24, 24, 20)), np.diag([0.5, 0.5, 0.5, 1]))
    shape = tuple(n // b for n, b in zip(volume.array.shape, blocks))
    grid = crop_grid(volume.grid.center, np.eye(3), 0.5 * np.array(blocks), shape)
    sampled = resample(volume, grid, -1.0).array
    i, j, k = blocks
    expected = volume.array.reshape(shape[0], i, shape[1], j, shape[2], k).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(sampled, expected, rtol=1e-5)
    assert sampled.mean() == pytest.approx(volume.array.mean(), rel=1e-5)


@pytest.mark.parametrize("spacing", [0.7, 2.0, 3.3])
def test_a_sample_does_not_depend_on_the_crop_that_it_lies_in(spacing):
    volume = Volume(noise((30, 30, 30)), np.eye(4))
    whole = field_of_view_grid(volume.grid, spacing)
    low, shape = np.array([5, 7, 2]), (3, 2, 5)
    part = Grid(whole.affine + np.pad(spacing * low[:, np.newaxis], ((0, 1), (3, 0))), shape)
    region = tuple(slice(a, a + n) for a, n in zip(low, shape))
    np.testing.assert_allclose(resample(volume, part, 0).array, resample(volume, whole, 0).array[region], rtol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.integers(0, 3)] * 3),
    st.sampled_from(STORAGE_ORDERS),
    st.integers(1, 500),
)
def test_averaging_the_whole_first_changes_no_sample(blocks, rest, storage, at_once):
    spacing = 2.0 / (np.array(blocks) + 0.3)
    shape = np.array(blocks) * 6 + np.minimum(rest, np.array(blocks) - 1)
    stored = stored_as(Volume(noise(tuple(shape)), np.diag([*spacing, 1])), *storage)
    volume = canonical(stored)
    axes = volume.affine[:3, :3] / volume.spacing
    grid = crop_grid(volume.grid.lps_from_ijk(np.array(volume.array.shape) * 0.4), axes, 2.0, (3, 3, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("H3DELandmarksLib.core.geometry.AVERAGED_AT_ONCE", at_once)
        averaged = average_blocks(volume, 2.0)
    assert max(averaged.spacing) <= 2.0 and min(averaged.spacing) > 1.0
    np.testing.assert_allclose(resample(averaged, grid, 0).array, resample(volume, grid, 0).array, rtol=1e-4, atol=1e-3)


def test_nothing_is_averaged_where_the_samples_are_finer():
    volume = Volume(noise((5, 4, 3)), np.eye(4))
    assert average_blocks(volume, 1.9) is volume


def test_samples_outside_the_scan_get_the_given_value():
    volume = Volume(np.ones((4, 4, 4), np.int16), np.eye(4))
    far = resample(volume, crop_grid(np.full(3, 100.0), np.eye(3), 1.0, (3, 3, 3)), -1000)
    assert (far.array == -1000).all() and far.array.dtype == np.float32
    half = resample(volume, crop_grid(np.array([3.5, 1.5, 1.5]), np.eye(3), 1.0, (8, 4, 4)), -1000).array
    assert (half[:4] == 1).all() and (half[4:] == -1000).all()


def test_only_the_part_under_the_crop_is_touched():
    """A crop of a huge scan costs what the crop costs: the array behind this volume has no memory to be averaged."""
    huge = np.broadcast_to(np.float32(7), (20_000, 20_000, 20_000))
    sampled = resample(Volume(huge, np.eye(4)), crop_grid(np.full(3, 10_000.0), np.eye(3), 3.0, (4, 4, 4)), 0.0)
    np.testing.assert_array_equal(sampled.array, 7)


@pytest.mark.parametrize("voxels", [11, 12, 13, 14])
def test_every_sample_inside_the_scan_gets_a_value(voxels):
    volume = Volume(np.ones((voxels,) * 3, np.float32), np.eye(4))
    grid = field_of_view_grid(volume.grid, 3.0)
    inside = volume.grid.contains(grid.lps_from_ijk(np.moveaxis(np.indices(grid.shape), 0, -1)))
    assert (resample(volume, grid, -1000).array[inside] == 1).all()


@pytest.mark.parametrize("left_handed", [False, True])
def test_axes_of_a_grid_are_a_rotation_whatever_its_handedness(left_handed):
    grid = Grid(affine_of(3, left_handed), (4, 5, 6))
    axes = orthonormal_axes(grid)
    assert np.linalg.det(axes) == pytest.approx(1)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes[:, 1:], (grid.affine[:3, :3] / grid.spacing)[:, 1:], atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0, 180))
def test_the_angle_of_a_turn_does_not_depend_on_its_axis(seed, degrees):
    axis = np.random.default_rng(seed).normal(size=3)
    turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    assert turn_degrees(turn) == pytest.approx(degrees, abs=1e-4)
