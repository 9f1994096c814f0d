"""The places at which a network sees a landmark, in compact form."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.candidates import COUNT, Candidates, pooled
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


def test_turns_with_the_patient():
    turn = Pose(Rotation.from_euler("z", 90, degrees=True).as_matrix(), np.array([1.0, 2, 3]))
    places = one_landmark((5, 0.5))
    places.covariance[0, 0] = np.diag([4.0, 1, 1])
    moved = places.moved(turn)
    np.testing.assert_allclose(moved.positions[0, 0], [1, 7, 3], atol=1e-9)
    np.testing.assert_allclose(moved.covariance[0, 0], np.diag([1.0, 4, 1]), atol=1e-9)


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
    assert not places.only_of(np.array([False])).share.any()
