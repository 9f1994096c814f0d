"""A second look goes where decided points place the anatomy."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tiny_model import write_tiny_package

from H3DELandmarksLib.core.errors import Cancelled, InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.revision import Decisions
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.second_look import look_again

THERE = np.array([30.0, 20, 10])


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector(write_tiny_package(tmp_path_factory.mktemp("model") / "tiny"), device="cpu")


@pytest.fixture(scope="module")
def volume():
    array = np.random.default_rng(0).integers(-500, 1500, (60, 50, 40)).astype(np.int16)
    return Volume(array, np.diag([2.0, 2, 2, 1]))


def decided_at(points):
    return Decisions(np.asarray(points, float), np.zeros(3, bool), np.zeros(3, bool))


def first_search():
    return RawPredictions(np.zeros((3, 3)), np.full(3, 5.0), np.full(3, 0.5), Pose(np.eye(3), np.zeros(3)))


def test_crops_lie_around_the_decided_points(detector, volume, monkeypatch):
    centers = []
    network, find = detector.networks[0], detector.networks[0].find

    def spy(image, grid, *rest):
        centers.append(grid.center)
        return find(image, grid, *rest)

    monkeypatch.setattr(network, "find", spy)
    found = look_again(detector, volume, first_search(), decided_at(detector.shape.mean + THERE))
    np.testing.assert_allclose(centers[0], THERE, atol=1e-6)
    assert found.landmarks.names == detector.scheme.names
    assert found.candidates is not None
    # A crop has edges of 64 mm.
    assert (np.abs(found.doubtful.positions - THERE) <= 33).all()


def test_an_oblique_scan_is_looked_at_again_along_the_axes_that_it_was_searched_along(detector, volume):
    points = detector.shape.mean + THERE + 0.3  # so that no voxel lies exactly at the end of a crop
    upright = look_again(detector, volume, first_search(), decided_at(points)).doubtful
    motion = Pose(Rotation.from_euler("xyz", [30, 20, 40], degrees=True).as_matrix(), np.array([5.0, 6, 7]))
    affine = volume.affine.copy()
    affine[:3] = motion.rotation @ affine[:3]
    affine[:3, 3] += motion.translation
    decided = decided_at(motion.to_lps(points))
    turned = look_again(detector, Volume(volume.array, affine), first_search().moved(motion), decided).doubtful
    np.testing.assert_allclose(turned.positions, motion.to_lps(upright.positions), atol=1e-3)


def test_can_be_cancelled(detector, volume):
    with pytest.raises(Cancelled):
        look_again(detector, volume, first_search(), decided_at(detector.shape.mean), lambda: True)


def test_needs_enough_points_for_a_pose(detector, volume):
    points = detector.shape.mean + THERE
    points[1] = np.nan
    with pytest.raises(InputError, match="3 decided points"):
        look_again(detector, volume, first_search(), decided_at(points))


def test_a_detection_keeps_the_places_of_its_landmarks(detector, volume):
    small = Volume(volume.array[:24, :24, :24], volume.affine)
    detection = detector.examine(small)
    assert detection.candidates.share.shape[0] == 3
    away = np.linalg.norm(detection.candidates.positions - detection.doubtful.positions[:, None], axis=2)
    assert (np.nanmin(away, axis=1) < 1e-3).all()
