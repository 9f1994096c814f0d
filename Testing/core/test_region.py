"""Boxes in patient space: which voxels they cut out, without Slicer."""

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.region import Region, region_around

VOXELS = np.arange(12 * 10 * 8).reshape(12, 10, 8)


def box(low, high):
    """A box along the axes of LPS."""
    low, high = np.array(low, dtype=float), np.array(high, dtype=float)
    affine = np.diag([*(high - low), 1.0])
    affine[:3, 3] = (low + high) / 2
    return Region(affine)


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [
        ((2.5, 3.5, 4.5), (5.5, 6.5, 6.5), (3, 4, 5), (5, 6, 6)),  # whole voxels
        ((2.6, 3.6, 4.6), (5.4, 6.4, 6.4), (3, 4, 5), (5, 6, 6)),  # parts of the outer ones
        ((2.4, 3.4, 4.4), (5.6, 6.6, 6.6), (2, 3, 4), (6, 7, 7)),  # a little of the next ones
        ((4.1, 4.1, 4.1), (4.2, 4.2, 4.2), (4, 4, 4), (4, 4, 4)),  # within one voxel
        ((-9, -9, -9), (99, 99, 99), (0, 0, 0), (11, 9, 7)),  # beyond the scan
    ],
)
def test_a_crop_has_every_voxel_that_the_box_touches(low, high, first, last):
    crop = box(low, high).crop(Volume(VOXELS, np.eye(4)))
    expected = VOXELS[tuple(slice(a, b + 1) for a, b in zip(first, last))]
    np.testing.assert_array_equal(crop.array, expected)
    np.testing.assert_allclose(crop.affine[:3, 3], first)


def test_a_crop_of_a_flipped_scan_has_the_same_voxels_at_the_same_places():
    flipped = Volume(VOXELS[::-1], np.array([[-1.0, 0, 0, 11], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    crop = box((2.5, 3.5, 4.5), (5.5, 6.5, 6.5)).crop(flipped)
    np.testing.assert_array_equal(crop.array[::-1], VOXELS[3:6, 4:7, 5:7])


def test_a_box_outside_is_refused():
    with pytest.raises(InputError, match="outside"):
        box((20, 0, 0), (22, 5, 5)).crop(Volume(VOXELS, np.eye(4)))


def test_a_box_around_landmarks_keeps_its_margin():
    points = LandmarkSet(("a", "b", "c", "absent"), [[1, 2, 3], [4, 9, 3], [2, 2, 8], [np.nan] * 3])
    laid = region_around(points, 2.5)
    np.testing.assert_allclose(np.diag(laid.affine)[:3], (8, 12, 10))
    np.testing.assert_allclose(laid.affine[:3, 3], (2.5, 5.5, 5.5))
    assert region_around(points, 2.5, fewest=4) is None


def test_the_faces_of_a_box_belong_to_it():
    box = Region(np.array([[4.0, 0, 0, 10], [0, 4, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]]))
    points = np.array([[12.0, 20, 30], [8, 22, 32], [12.001, 20, 30], [np.nan, 20, 30]])
    assert box.contains(points).tolist() == [True, True, False, False]


def test_where_a_landmark_is_found_decides_and_where_it_is_expected_only_for_others():
    names = ("found here", "found aside", "absent here", "absent aside")
    points = LandmarkSet(names, [[2, 2, 2], [9, 2, 2], [np.nan] * 3, [np.nan] * 3])
    expected = np.array([[9.0, 2, 2], [2, 2, 2], [2, 2, 2], [9, 2, 2]])
    limited = box((0, 0, 0), (5, 5, 5)).limit(points, expected)
    assert limited.causes == (None, Cause.OUTSIDE_REGION, None, Cause.OUTSIDE_REGION)
    assert limited.presence[[0, 2]].tolist() == [1, 0]
    assert box((0, 0, 0), (5, 5, 5)).limit(points).unknown.tolist() == [False, True, True, True]
