"""Crops cut out by PyTorch, as on a GPU, are those that SimpleITK cuts out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Grid, Volume, canonical, crop_grid, resample
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.training.sampling import SENT, resample_by_torch, resample_on

CPU = torch.device("cpu")


def smooth(shape: tuple[int, int, int], seed: int, kind: type = np.float32) -> np.ndarray:
    """A scan of waves of 0 to 200, several voxels long, so that a tiny shift is a small difference."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    waves = sum(np.sin(places @ rng.uniform(-0.5, 0.5, 3) + rng.uniform(0, 6)) for _ in range(3))
    return (100 + 33 * waves).astype(kind)


@st.composite
def scans_and_grids(draw: st.DrawFn) -> tuple[Volume, Grid]:
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    shape = tuple(draw(st.tuples(*[st.integers(1, 24)] * 3)))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() @ np.diag(rng.uniform(0.3, 2.0, 3))
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    kind = draw(st.sampled_from([np.uint8, np.int16, np.float32, np.float64]))
    volume = canonical(Volume(smooth(shape, seed, kind), affine))
    center = volume.grid.lps_from_ijk(rng.uniform(-3, np.array(volume.array.shape) + 2))
    axes = Rotation.random(random_state=seed + 1).as_matrix() @ np.diag([rng.choice([-1, 1]), 1, 1])
    size = tuple(draw(st.tuples(*[st.integers(1, 12)] * 3)))
    return volume, crop_grid(center, axes, rng.uniform(0.3, 5.0, 3), size)


@given(scans_and_grids())
def test_both_give_the_same_crop(pair):
    volume, grid = pair
    expected = resample(volume, grid, -7.0).array
    made = resample_by_torch(volume, grid, -7.0, CPU)
    assert made.dtype == torch.float32 and tuple(made.shape) == grid.shape
    different = np.abs(to_array(made) - expected) > 0.05
    # A sample on the very edge of the scan may fall to either side.
    assert different.sum() <= 0.02 * different.size + (different.size < 50)
    on_edge = ~np.isclose(to_array(made)[different], expected[different], atol=0.05)
    assert all(-7.0 in pair for pair in zip(to_array(made)[different][on_edge], expected[different][on_edge]))


def test_a_grid_beside_the_scan_shows_what_lies_outside():
    volume = Volume(smooth((5, 5, 5), 0), np.eye(4))
    made = resample_by_torch(volume, crop_grid(np.full(3, 100.0), np.eye(3), 1.0, (4, 3, 2)), 12.5, CPU)
    assert tuple(made.shape) == (4, 3, 2) and bool((made == 12.5).all())


@pytest.mark.parametrize("kind", [*SENT, np.uint16, np.float64, ">i2"])
def test_every_type_of_voxel_can_be_read(kind):
    values = np.arange(64).reshape(4, 4, 4)
    volume = Volume(values.astype(kind), np.eye(4))
    np.testing.assert_allclose(to_array(resample_by_torch(volume, volume.grid, 0.0, CPU)), values, atol=1e-4)


def test_a_processor_gets_what_simpleitk_gives():
    volume = Volume(smooth((9, 8, 7), 1), np.eye(4))
    grid = crop_grid(np.full(3, 4.2), np.eye(3), 0.7, (6, 6, 6))
    assert np.array_equal(to_array(resample_on(volume, grid, 0.0, CPU)), resample(volume, grid, 0.0).array)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_gives_the_same_crop():
    volume = Volume(smooth((40, 30, 20), 2, np.int16), np.eye(4))
    grid = crop_grid(np.full(3, 10.0), Rotation.random(random_state=1).as_matrix(), 0.8, (24, 24, 24))
    made = resample_on(volume, grid, 0.0, torch.device("cuda"))
    assert made.is_cuda
    np.testing.assert_allclose(to_array(made), resample(volume, grid, 0.0).array, atol=0.1)
