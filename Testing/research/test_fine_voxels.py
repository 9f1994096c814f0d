"""The study of fine voxels: spreads, what a package learns from them, and the made scans."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Grid, Volume
from H3DELandmarksResearch.composites.mandible_mesh import _affine, read_mandible
from H3DELandmarksResearch.studies.fine_voxels import CANDIDATES, Looks, lattice, learnt, spread, versions

COUNT = len(CANDIDATES.points)


def test_a_spread_is_the_root_mean_square_distance_from_the_mean():
    points = np.array([(1.0, 0, 0), (-1, 0, 0), (0, 2, 0), (0, -2, 0), (np.nan,) * 3])
    assert spread(points) == pytest.approx(np.sqrt(2.5))
    assert np.isnan(spread(points[:2]))


def looks(network, surface):
    """Four fine looks and a coarse one at points that differ by so much; the first landmark alone is placed."""
    steps = np.array([(1.0, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (50, 0, 0)])[:, None]
    placed = np.where(np.arange(COUNT)[:, None] == 0, surface * steps, np.nan)
    return Looks(np.arange(5) < 4, network * np.repeat(steps, COUNT, 1), placed, np.full((COUNT, 3), np.nan))


def test_a_package_learns_pooled_spreads_of_what_was_placed_in_fine_scans():
    entry = learnt([looks(0.3, 0.1), looks(0.4, 0.2)])
    assert [point.landmark for point in entry.points] == [CANDIDATES.points[0].landmark]
    assert entry.points[0].spread_mm == pytest.approx((np.sqrt(0.125), np.sqrt(0.025)), abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(-0.5, 0.5)] * 3), st.tuples(*[st.floats(-5, 5)] * 3))
def test_lattices_move_and_turn_about_the_middle(shift, turn):
    grid = Grid(np.diag([1.0, 1.0, 2.0, 1.0]), (20, 24, 10))
    made = lattice(grid, grid.spacing, shift, turn)
    np.testing.assert_allclose(made.spacing, grid.spacing)
    assert np.linalg.norm(made.center - grid.center) == pytest.approx(np.linalg.norm(shift * grid.spacing))


def test_every_version_shows_the_same_scan():
    ramp = np.indices((24, 24, 24)).sum(axis=0).astype(np.int16) * 10
    volume = Volume(ramp, np.eye(4))
    for version in versions(volume):
        middle = np.round(version.grid.ijk_from_lps(volume.grid.center)).astype(int)
        place = version.grid.lps_from_ijk(middle)
        assert abs(version.array[tuple(middle)] - 10 * place.sum()) < 250


def test_a_mesh_is_deformed_onto_points():
    rng = np.random.default_rng(0)
    source, pose = rng.normal(size=(7, 3)), np.vstack([rng.normal(size=(3, 4)), (0, 0, 0, 1)])
    np.testing.assert_allclose(_affine(source, source @ pose[:3, :3].T + pose[:3, 3]), pose, atol=1e-9)


def write_cube(folder, edge_mm, count):
    """A cube of so many small cubes a side, each of six tetrahedra, as tetgen writes it."""
    nodes = np.indices((count + 1,) * 3).reshape(3, -1).T
    number = {tuple(node): n for n, node in enumerate(nodes, 1)}
    tetrahedra = []
    for cell, order in product(np.indices((count,) * 3).reshape(3, -1).T, permutations(range(3))):
        path = np.vstack([np.zeros(3, int), np.cumsum(np.eye(3, dtype=int)[list(order)], axis=0)])
        tetrahedra.append([number[tuple(cell + step)] for step in path])
    for kind, header, rows in (("node", "0 3 0 0", nodes * edge_mm / count), ("ele", "0 4 0", tetrahedra)):
        lines = [f"{n} {' '.join(map(str, row))}" for n, row in enumerate(rows, 1)]
        (folder / f"CorticalBone.1.{kind}").write_text("\n".join([header, *lines]))


def test_a_mesh_becomes_depths(tmp_path):
    write_cube(tmp_path, 8.0, 4)
    depth = read_mandible(tmp_path)
    inside = depth.grid.lps_from_ijk(np.argwhere(depth.array > 0))
    np.testing.assert_allclose(inside.mean(axis=0), 4.0, atol=0.3)
    np.testing.assert_allclose([inside.min(axis=0), inside.max(axis=0)], [[0.0] * 3, [8.0] * 3], atol=0.5)
    with pytest.raises(InputError, match="node"):
        read_mandible(tmp_path / "nowhere")
