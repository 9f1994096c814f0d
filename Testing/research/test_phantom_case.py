"""The volumes: reproducible, in the given spacing, with the tissues around the points that are defined."""

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import crop_grid
from H3DELandmarksResearch.phantom import draw_anatomy, generate_phantom
from H3DELandmarksResearch.phantom.anatomy import random_streams
from H3DELandmarksResearch.phantom.framing import Framing, draw_framing
from H3DELandmarksResearch.phantom.scene import render
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME, MOLARS


@pytest.fixture(scope="module")
def cases():
    return {seed: generate_phantom(seed, spacing=0.8) for seed in range(3)}


def test_same_seed_gives_the_same_case(cases):
    again = generate_phantom(2, spacing=0.8)
    np.testing.assert_array_equal(again.volume.array, cases[2].volume.array)
    np.testing.assert_array_equal(again.volume.affine, cases[2].volume.affine)
    np.testing.assert_array_equal(again.landmarks.positions, cases[2].landmarks.positions)
    assert again.description == cases[2].description


def test_seeds_differ(cases):
    arrays = [case.volume.array[20:40, 40:60, 20:40] for case in cases.values()]
    assert all((a != b).mean() > 0.5 for a, b in zip(arrays, arrays[1:]))


def test_volume_is_a_plausible_ct(cases):
    for case in cases.values():
        array = case.volume.array
        assert array.dtype == np.int16 and array.min() >= -1024 and array.max() <= 3071
        np.testing.assert_allclose(case.volume.spacing, 0.8)
        assert ((case.volume.grid.extent > 55) & (case.volume.grid.extent < 135)).all()
        assert (array < -700).mean() > 0.03
        assert 0.1 < ((array > -250) & (array < 350)).mean() < 0.95
        assert 0.005 < (array > 900).mean() < 0.25
        np.testing.assert_array_equal(np.sign(np.diag(case.volume.affine)[:3]), 1)


def test_points_that_are_present_lie_in_view(cases):
    for case in cases.values():
        present = case.landmarks.present
        assert case.landmarks.names == MOLAR_SCHEME.names
        assert case.volume.grid.contains(case.landmarks.positions[present]).all()
        assert np.isnan(case.landmarks.positions[~present]).all()
        assert set(np.unique(case.landmarks.presence)) <= {0.0, 1.0}


def test_missing_molars_have_no_points():
    case = generate_phantom(3, missing=("L-M3", "R-M2"), spacing=1.2)
    absent = [name for name, there in zip(case.landmarks.names, case.landmarks.present) if not there]
    assert {"Ld", "Le", "Lf", "R0", "Ra", "Rb", "Rc"} <= set(absent)
    assert case.description["missing"] == ["L-M3", "R-M2"]
    assert not {"L-M3", "R-M2"} & set(case.description["teeth"])
    assert generate_phantom(3, missing=MOLARS, spacing=1.2).landmarks.present.sum() == 0


def test_spacing_changes_voxels_but_not_points():
    fine, coarse = (generate_phantom(5, spacing=spacing) for spacing in (0.9, 1.5))
    np.testing.assert_allclose(fine.volume.spacing, 0.9)
    np.testing.assert_allclose(coarse.volume.spacing, 1.5)
    both = fine.landmarks.present & coarse.landmarks.present
    assert both.sum() >= 7
    np.testing.assert_allclose(fine.landmarks.positions[both], coarse.landmarks.positions[both], atol=1e-9)
    np.testing.assert_allclose(fine.volume.grid.center, coarse.volume.grid.center, atol=1.5)


def test_unknown_molars_are_refused():
    with pytest.raises(InputError, match="choose the missing molars from L-M2"):
        generate_phantom(0, missing=["L-M4"])


def _view_of(tooth, spacing=0.25):
    """A small field of view along the axes of a tooth, in jaw coordinates."""
    return Framing(np.eye(4), crop_grid(tooth.to_jaw([0, 0, -4]), tooth.axes, spacing, (64, 56, 128)), None)


@pytest.mark.parametrize("seed, name", [(1, "L-M2"), (5, "R-M2"), (2, "L-M3"), (8, "R-M3")])
def test_tissues_around_the_points_of_a_molar(seed, name):
    anatomy = draw_anatomy(seed, ())
    tooth = next(t for t in anatomy.lower if t.name == name)
    framing = _view_of(tooth)
    hu = render(anatomy, framing, random_streams(seed)["texture"])
    points = {key[1:]: framing.grid.ijk_from_lps(p) for key, p in tooth.landmarks().items()}
    fossa = points["0" if name.endswith("M2") else "d"]
    assert _mean(hu, fossa + (0, 0, -3)) > 2200 and _mean(hu, fossa + (0, 0, 4)) < 400
    for key in "bc" if name.endswith("M2") else "ef":
        assert _mean(hu, points[key] + (0, 0, 5)) > 1100
        assert _mean(hu, points[key] - (0, 0, 2)) < 1450
    if name.endswith("M2"):
        assert _mean(hu, points["a"] + (0, 0, 3)) > 1500
        assert _mean(hu, points["a"] - (0, 0, 1)) < 1200


def _mean(array, center, reach=1):
    i, j, k = np.round(center).astype(int)
    return array[i - reach : i + reach + 1, j - reach : j + reach + 1, k].mean()


def test_spacing_does_not_move_the_view():
    for seed in range(30):
        fine, coarse, drawn = (draw_framing(random_streams(seed)["framing"], spacing) for spacing in (0.5, 1.0, None))
        assert (drawn.grid.spacing > 0.2).all() and (drawn.grid.spacing < 0.8).all()
        np.testing.assert_array_equal(fine.pose, coarse.pose)
        assert fine.radius == coarse.radius
        np.testing.assert_allclose(fine.grid.extent, coarse.grid.extent, atol=1.0)


def test_metal_leaves_streaks():
    seed = next(
        s for s in range(60) if sum(t.restoration in ("filling", "crown") for t in draw_anatomy(s, ()).lower) >= 3
    )
    case = generate_phantom(seed, missing=(), spacing=1.0)
    assert (case.volume.array >= 3000).sum() > 5
