"""A second look: other crops of the same scan, and points that move only as far as the network is unsure."""

import numpy as np
import pytest
from tiny_model import MANIFEST, write_tiny_package, write_tiny_radiograph_package

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.second_look import second_look


@pytest.fixture
def detector(tmp_path):
    return Detector(write_tiny_package(tmp_path / "tiny"), "cpu", "torch", "fp32")


def test_another_crop_is_looked_at_and_what_was_found_stays(detector):
    array = np.random.default_rng(0).normal(300, 400, (40, 40, 40)).astype(np.float32)
    volume = Volume(array, np.diag([1.5, 1.5, 1.5, 1.0]))
    found = detector.findings(volume)
    before = found.positions.copy()
    again = second_look(detector, volume, found)
    np.testing.assert_array_equal(found.positions, before)
    apart = np.linalg.norm(again.positions - before, axis=1)
    assert (apart > 0).all(), "a network of random weights is sure of nothing"
    assert (apart < 2 * 32 * MANIFEST["stages"][0]["spacing_mm"]).all()
    np.testing.assert_array_equal(second_look(detector, volume, found).positions, again.positions)


def test_a_point_that_is_not_looked_for_again_has_no_second_position(detector):
    volume = Volume(np.full((40, 40, 40), -1000.0, np.float32), np.eye(4))
    found = detector.findings(volume)
    assert np.isneginf(found.presence_logit).all()
    assert np.isnan(second_look(detector, volume, found).positions).all()


def test_radiographs_are_looked_at_within_their_plane(tmp_path):
    detector = Detector(write_tiny_radiograph_package(tmp_path / "flat"), "cpu", "torch", "fp32")
    array = np.random.default_rng(1).integers(0, 255, (64, 1, 64)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = [3, 77, -5]
    volume = Volume(array, affine)
    again = second_look(detector, volume, detector.findings(volume))
    np.testing.assert_allclose(again.positions[:, 1], 77, atol=1e-6)
