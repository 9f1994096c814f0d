"""Landmarks from contours that many lattices agree on, marked with their spread; others are unknown."""

import numpy as np
import pytest
from synthetic_jaw import bars, covering_grid, draw, flesh, truth

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksResearch.head_neck import HEAD_NECK_SCHEME, derive_stable
from H3DELandmarksResearch.head_neck.stability import MOST_SPREAD_MM, _middle, shifted

PLANNING = (3.9, 3.9, 2.5)


@pytest.fixture(scope="module")
def jaw():
    parts, turn = bars()
    labels = draw(parts, *covering_grid(PLANNING))
    return labels, flesh(labels), truth(turn)


def test_another_lattice_shows_the_same_anatomy_in_place(jaw):
    labels, scan, _ = jaw
    same = shifted(labels, scan, (0, 0, 0))
    assert np.array_equal(same[0].array, labels.array) and np.allclose(same[1].array, scan.array)
    moved, _ = shifted(labels, scan, (0.5, 0.5, 0.5))
    assert np.allclose(moved.affine[:3, 3] - labels.affine[:3, 3], np.array(PLANNING) / 2)
    places = [v.grid.lps_from_ijk(np.argwhere(v.array == 7)).mean(axis=0) for v in (labels, moved)]
    assert np.linalg.norm(places[0] - places[1]) < 1.0
    assert (moved.array == 7).sum() == pytest.approx((labels.array == 7).sum(), rel=0.15)


def test_points_of_a_whole_jaw_lie_where_they_are_and_tell_their_spread(jaw):
    labels, scan, points = jaw
    found = derive_stable(labels, scan)
    by_name = {name: k for k, name in enumerate(found.names)}
    for name, point in points.items():
        if found.present[by_name[name]]:
            assert np.linalg.norm(found.positions[by_name[name]] - point) < 3.5, name
    assert found.present[[by_name[n] for n in ("menton", "gonion-L", "gonion-R", "condylion-L", "condylion-R")]].all()
    assert ((found.radius[found.present] > 0) & (found.radius[found.present] <= MOST_SPREAD_MM)).all()
    assert np.isnan(found.radius[~found.present]).all() and found.unknown[by_name["larynx"]]


def test_without_a_contour_nothing_is_known():
    empty = Volume(np.zeros((20, 20, 20), np.uint8), np.diag([3.0, 3, 3, 1]))
    found = derive_stable(empty, Volume(np.zeros((20, 20, 20), np.int16), empty.affine))
    assert found.names == HEAD_NECK_SCHEME.names and found.unknown.all()


def test_the_middle_holds_out_against_an_outlier_and_few_points_have_none():
    points = np.tile([1.0, 2, 3], (8, 1)) + np.random.default_rng(0).normal(0, 0.2, (8, 3))
    usual, spread = _middle(points)
    points[0] += [17.0, 0, 0]
    middle, wide = _middle(points)
    assert np.linalg.norm(middle - usual) < 0.3 and spread < 0.6 < 5 < wide
    points[1:4] = np.nan
    assert np.isnan(_middle(points)[0]).all() and np.isnan(_middle(points)[1])
