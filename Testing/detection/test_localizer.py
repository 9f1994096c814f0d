"""How a field of view is covered by tiles and how a pose is chosen."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.core.geometry import Grid, field_of_view_grid
from H3DELandmarksLib.detection.search import tiles

sizes = st.tuples(*[st.integers(3, 120)] * 3)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(0, 2**31))
def test_tiles_cover_every_voxel_of_the_field_of_view(shape, seed):
    grid = Grid(np.diag([1.0, 1.5, 0.7, 1.0]), shape)
    points = grid.lps_from_ijk(np.random.default_rng(seed).uniform(-0.5, np.array(shape) - 0.5, (50, 3)))
    covered = np.any([tile.contains(points) for tile in tiles(grid, (32, 40, 24))], axis=0)
    assert covered.all()


def test_a_small_field_of_view_is_one_tile_around_its_center():
    grid = Grid(np.eye(4), (20, 30, 10))
    (tile,) = tiles(grid, (32, 32, 32))
    assert tile.shape == (32, 32, 32)
    assert np.allclose(tile.center, grid.center)


def test_neighboring_tiles_overlap_by_a_quarter():
    grid = field_of_view_grid(Grid(np.eye(4), (100, 32, 32)), 1.0)
    centers = sorted(tile.center[0] for tile in tiles(grid, (32, 32, 32)))
    assert max(np.diff(centers)) <= 0.75 * 32 + 1e-6
