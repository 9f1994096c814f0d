"""Lower molars of the wide variety: exact points, seen by measures that know only the solid; other varieties kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksResearch.phantom import MOLARS, draw_anatomy
from H3DELandmarksResearch.phantom.mesh_teeth import STEP, MeshTooth
from H3DELandmarksResearch.phantom.teeth import Tooth
from H3DELandmarksResearch.phantom.training_cases import is_wide, phantom_case
from H3DELandmarksResearch.phantom.wide_molars import RANGES, draw_wide_molar

RING = np.linspace(0, 2 * np.pi, 24, endpoint=False)
shapes = st.tuples(st.sampled_from(sorted(RANGES)), st.integers(0, 2**31))


def drawn(kind, seed):
    """A molar at the origin."""
    return Tooth(f"L-{kind}", np.zeros(3), np.eye(3), *draw_wide_molar(kind, 1.0, np.random.default_rng(seed)))


def lattice(tooth):
    """The same tooth as voxels, which know nothing of its formulas."""
    low, high = tooth.bounds(2.0)
    axes = [np.arange(a, b, STEP, dtype=np.float32) for a, b in zip(low, high)]
    depth = tooth.depths(*np.meshgrid(*axes, indexing="ij")).solid
    return MeshTooth(tooth.name, tooth.origin, tooth.axes, 0.0, depth, low)


def solid_at(tooth, points):
    return tooth.depths(*np.asarray(points, dtype=np.float32).T).solid


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_the_fossa_is_the_deepest_point_of_the_basin_and_no_facet_reaches_it(shape):
    tooth = drawn(*shape)
    u, v, level = tooth.crown.fossa()
    assert abs(solid_at(tooth, [(u, v, level)])[0]) < 0.05
    for radius in (0.15, 0.4, 0.8):
        around = np.column_stack([u + radius * np.cos(RING), v + radius * np.sin(RING), np.full(24, level)])
        assert (solid_at(tooth, around) > 0).all()  # the surface there is higher
    enamel = tooth.depths(*np.float32([[u], [v], [level - 0.4]])).enamel
    assert enamel[0] > 0


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_the_roots_end_in_their_apices(shape):
    tooth = drawn(*shape)
    solid = lattice(tooth)
    low = solid.low[2] + np.flatnonzero((solid.depth > 0).any(axis=(0, 1)))[0] * STEP
    apices = np.array([root.apex for root in tooth.roots])
    assert apices[0, 0] > apices[1, 0]  # mesial before distal
    assert low == pytest.approx(apices[:, 2].min(), abs=2.5 * STEP)
    assert np.abs(solid_at(tooth, apices)).max() < 0.05
    assert solid_at(tooth, apices - (0, 0, 0.4)).max() < -0.1


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["M1", "M2"]), st.integers(0, 2**31))
def test_the_furcation_is_the_roof_between_the_roots(kind, seed):
    tooth = drawn(kind, seed)
    above, at, below, deeper = solid_at(tooth, tooth.trunk.furcation + np.outer((0.4, 0, -0.3, -0.8), (0, 0, 1)))
    assert above > 0.1 and abs(at) < 0.05 and below < -0.1 and deeper < -0.1


def test_second_molars_are_as_various_as_published_ones():
    teeth = [drawn("M2", seed) for seed in range(300)]
    total = np.array([t.crown.top + max(root.length for root in t.roots) for t in teeth])
    apart = np.array([np.linalg.norm(t.roots[0].apex - t.roots[1].apex) for t in teeth])
    basin = np.array([t.crown.top - t.crown.fossa()[2] for t in teeth])
    assert total.mean() == pytest.approx(18.15, abs=0.8)  # Wei et al. 2020
    assert (apart < 2.5).mean() > 0.1 and (apart > 6).mean() > 0.03
    assert (basin < 0.5).mean() > 0.1 and (basin > 2).mean() > 0.2
    assert 0.03 < np.mean([t.trunk.web is not None for t in teeth]) < 0.46


@pytest.mark.parametrize("seed", range(6))
def test_molars_stand_in_the_jaw_and_hide_no_point_of_a_neighbor(seed):
    anatomy = draw_anatomy(seed, (), wide=True)
    assert len(anatomy.landmarks()) == 14
    teeth = {tooth.name: tooth for tooth in anatomy.lower}
    for name in MOLARS:
        tooth = teeth[name]
        points = np.array([tooth.crown.fossa(), *(root.apex for root in tooth.roots)])
        for other in (f"{name[0]}-{kind}" for kind in RANGES if f"{name[0]}-{kind}" in teeth and kind != tooth.kind):
            assert solid_at(teeth[other], teeth[other].from_jaw(tooth.to_jaw(points))).max() < 0


def test_the_variety_leaves_other_phantoms_as_they_are():
    usual, again, wide = draw_anatomy(4, ()), draw_anatomy(4, (), wide=False), draw_anatomy(4, (), wide=True)
    assert all((usual.landmarks()[name] == again.landmarks()[name]).all() for name in usual.landmarks())
    assert usual.upper[3].origin == pytest.approx(wide.upper[3].origin)
    assert np.linalg.norm(usual.landmarks()["Lb"] - wide.landmarks()["Lb"]) > 0.5


def test_the_same_seed_gives_the_same_teeth():
    first, second = (draw_anatomy(5, (), wide=True).landmarks() for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)


@given(st.floats(0, 1), st.integers(0, 10_000))
def test_a_share_of_the_cases_is_wide(share, first):
    count = sum(is_wide(number, share) for number in range(first, first + 100))
    assert count == pytest.approx(100 * share, abs=1.01)


def test_wide_cases_are_kept_apart_from_others(tmp_path):
    usual, wide = (phantom_case(9, 1.5, tmp_path, share) for share in (0.0, 1.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["9-1.5-wide.npz", "9-1.5.npz"]
    assert not np.array_equal(usual.volume.array, wide.volume.array)
    np.testing.assert_array_equal(phantom_case(9, 1.5, tmp_path, 1.0).volume.array, wide.volume.array)


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_ramus_may_rise_closer_where_a_third_molar_is_missing(side):
    def arc(anatomy) -> float:
        """Along the jaw, mm, to where the ramus rises above the level of z = -3."""
        places = np.arange(30, 90, 0.1)
        return float(places[np.argmax(anatomy.jaw.ramus(places if side == "L" else -places) > -3)])

    nearer = []
    for seed in range(12):
        usual, closer = (draw_anatomy(seed, ("L-M3",), wide=True, less_room_mm=room) for room in (0.0, 9.0))
        assert usual.landmarks().keys() == closer.landmarks().keys()
        assert all((usual.landmarks()[name] == place).all() for name, place in closer.landmarks().items())
        nearer.append(arc(usual) - arc(closer))
    assert min(nearer) > -0.2 and max(nearer) < (10.5 if side == "L" else 0.2)
    assert side == "R" or np.ptp(nearer) > 4


def test_every_other_phantom_has_less_room_where_some_is_asked_for(tmp_path):
    full, short = (phantom_case(seed, 1.5, tmp_path, 0.0, 9.0) for seed in (8, 9))
    third = [name[1] in "def" for name in short.landmarks.names]
    assert (short.landmarks.presence[third] == 0).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["8-1.5.npz", "9-1.5-less-9.npz"]
    np.testing.assert_array_equal(full.volume.array, phantom_case(8, 1.5, tmp_path).volume.array)
