"""The places at which a network sees a landmark, in compact form."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.candidates import COUNT, Candidates, in_patient, pooled
from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection.decoding import decode_softmax, likeliest_places


def one_landmark(*places):
    result = Candidates.nothing(1)
    for m, (x, share) in enumerate(places):
        result.positions[0, m], result.share[0, m], result.covariance[0, m] = (x, 0, 0), share, np.eye(3)
    return result


def test_places_of_two_looks_become_one_list():
    looks = [one_landmark((0, 0.6), (50, 0.1)), one_landmark((1, 0.3), (90, 0.2))]
    best, summed = pooled(looks), pooled(looks, summed=True)
    np.testing.assert_allclose(best.positions[0, :3, 0], [0, 90, 50])
    np.testing.assert_allclose(best.share[0], [0.6, 0.2, 0.1, 0])
    np.testing.assert_allclose(summed.share[0], [0.9, 0.2, 0.1, 0])
    assert np.isnan(best.positions[0, 3]).all()


@pytest.mark.parametrize("shares", [(0.6, 0.3), (0.3, 0.6)])
def test_a_place_within_the_spread_of_another_one_is_the_same(shares):
    wide, narrow = one_landmark((0, shares[0])), one_landmark((8, shares[1]))
    wide.covariance[0, 0] *= 25
    np.testing.assert_allclose(pooled([wide, narrow]).share[0], [0.6, 0, 0, 0])


def test_no_place_is_more_than_sure():
    assert pooled([one_landmark((0, 0.8))] * 2, summed=True).share[0, 0] == 1


def test_the_spread_of_a_place_is_that_of_points_about_it_wherever_they_are_seen_from():
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3))

    def about(points):
        mean, covariance = points.mean(axis=0)[None, None], np.cov(points.T)[None, None]
        return Candidates(mean, np.full((1, 1), 0.5), covariance)

    def assert_same(one, other):
        np.testing.assert_allclose(one.positions, other.positions)
        np.testing.assert_allclose(one.covariance, other.covariance)

    turn = Pose(Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix(), np.array([1.0, 2, 3]))
    grid = Grid(np.block([[turn.rotation * (0.5, 1, 3), np.full((3, 1), 7.0)], [0, 0, 0, 1]]), (9, 9, 9))
    assert_same(about(cloud).moved(turn), about(turn.to_lps(cloud)))
    assert_same(about(cloud).magnified(3.0), about(cloud * 3))
    one = about(cloud)
    assert_same(in_patient(grid, one.positions, one.share, one.covariance), about(grid.lps_from_ijk(cloud)))


def test_finds_the_peaks_of_a_map_in_the_order_of_their_height():
    maps = torch.full((2, 20, 24, 16), -12.0)
    for landmark, peaks in enumerate([[((5, 6, 7), 4.0), ((15, 20, 3), 3.0)], [((10, 10, 10), 5.0)]]):
        for place, height in peaks:
            maps[(landmark, *place)] = height
    index, share, covariance = likeliest_places(maps, 2)
    assert index.shape == (2, COUNT, 3)
    np.testing.assert_allclose(index[0, :2], [[10.5, 12.5, 14.5], [30.5, 40.5, 6.5]], atol=0.05)
    np.testing.assert_allclose(index[:, 0], decode_softmax(maps, 2).index, atol=1e-4)
    np.testing.assert_allclose(share[0, 0] / share[0, 1], np.e, rtol=0.01)
    assert (np.linalg.eigvalsh(covariance[share > 0]) > 0).all()
    assert (np.diff(share, axis=1) <= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_places_of_a_map_do_not_share_what_they_have_seen(seed):
    maps = torch.randn(2, 20, 24, 16, generator=torch.Generator().manual_seed(seed)) * 6
    maps[:, 11:14:2, 9, 9] = 30  # two peaks that are not apart
    share = likeliest_places(maps, 1)[1]
    assert (share.sum(axis=1) <= 1 + 1e-6).all() and (share[:, 0] > 0.9).all()


def test_a_landmark_that_is_as_likely_absent_has_half_a_place():
    maps = torch.full((1, 9, 9, 9), -60.0)
    maps[0, 4, 4, 4] = 0
    _, share, covariance = likeliest_places(maps, np.array([4, 2, 1]))
    np.testing.assert_allclose(share[0, 0], 0.5, atol=1e-6)
    np.testing.assert_allclose(covariance[0, 0], np.diag([16, 4, 1]) / 12, atol=1e-6)  # that of a voxel


def test_the_spread_of_a_place_grows_with_the_voxels_of_its_map():
    maps = torch.randn(1, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    one, other = (likeliest_places(maps, np.array(stride))[2][0, 0] for stride in ((1, 1, 1), (4, 2, 1)))
    np.testing.assert_allclose(other, one * np.outer((4, 2, 1), (4, 2, 1)), rtol=1e-5)


def test_flat_maps_of_radiographs_have_places_too():
    maps = torch.zeros(1, 9, 7, 1)
    maps[0, 4, 3, 0] = 9
    index, share, _ = likeliest_places(maps, np.array([4, 4, 1]))
    np.testing.assert_allclose(index[0, 0], [17.5, 13.5, 0], atol=0.1)
    assert share[0, 0] > 0.9


def test_places_are_written_in_short_and_read_again():
    places = one_landmark((1.23456, 0.61), (50, 0.1))
    again = Candidates.of(places.listed())
    np.testing.assert_allclose(again.positions[0, :2, 0], [1.235, 50])
    np.testing.assert_allclose(again.share, places.share)
    np.testing.assert_allclose(np.trace(again.covariance[0, 0]), 3, rtol=1e-3)
    none = places.only_of(np.array([False]))
    assert not none.share.any() and np.isnan(none.positions).all()
