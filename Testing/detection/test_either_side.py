"""Radiographs that look to the other side are searched in the mirror, where a model's landmarks have no sides."""

import logging

import numpy as np
import pytest
from flat_cases import PLANES, SCHEME, SPOTS, radiograph
from scipy.ndimage import maximum_filter
from tiny_model import write_tiny_radiograph_package

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.formats.results import RecognitionResult

WITHOUT_SIDES = {**SCHEME.to_dict(), "pairs": [], "lateral": []}


def turn_of(points):
    """Whether the three spots follow each other clockwise, which a mirror image does the other way."""
    (a, b), (c, d) = points[1, :2] - points[0, :2], points[2, :2] - points[0, :2]
    return np.sign(a * d - b * c)


class SpotFinder:
    """Stands for a model's stages, which see the spots of a radiograph and know one side of it alone."""

    def __init__(self, detector: Detector, monkeypatch):
        self.searches = 0
        self.shape = detector.shape
        monkeypatch.setattr(detector, "_search", self.search)
        monkeypatch.setattr(detector, "recognition", self.recognition)

    def search(self, scan, step):
        self.searches += 1
        image = scan.volume.array[..., 0]
        peaks = np.argwhere((image == maximum_filter(image, 9)) & (image > 0.3 * image.max()))
        brightest = sorted(peaks.tolist(), key=lambda place: -image[tuple(place)])[:3]  # as the landmarks are
        points = scan.volume.grid.lps_from_ijk(np.pad(np.array(brightest, float), ((0, 0), (0, 1))))
        pose = self.shape.fit(points, np.ones(3))[0]
        return RawPredictions(points, np.full(3, 5.0), np.full(3, 0.9), pose)

    def recognition(self, found):
        usual = turn_of(np.pad(SPOTS, ((0, 0), (0, 1))))
        known = turn_of(found.pose.to_model(found.positions)) == usual
        return RecognitionResult.of(0.5 if known else 0.001, 0.05)


def detector_of(folder, scheme=WITHOUT_SIDES) -> Detector:
    return Detector(write_tiny_radiograph_package(folder / "tiny", scheme=scheme), device="cpu")


def mirrored(volume: Volume) -> Volume:
    return Volume(volume.array[::-1].copy(), volume.affine)


@pytest.mark.parametrize("plane", PLANES)
def test_a_picture_that_looks_to_the_other_side_has_its_points_in_the_mirror(tmp_path, monkeypatch, caplog, plane):
    detector = detector_of(tmp_path)
    finder = SpotFinder(detector, monkeypatch)
    volume, _ = radiograph(plane=plane, width=2.4)
    found = detector.findings(volume)
    assert finder.searches == 1 and not caplog.records, "what is recognised is searched once"
    with caplog.at_level(logging.WARNING):
        other = detector.findings(mirrored(volume))
    assert finder.searches == 3 and "mirror" in caplog.text
    index = volume.grid.ijk_from_lps(found.positions)
    index[:, 0] = volume.array.shape[0] - 1 - index[:, 0]
    np.testing.assert_allclose(other.positions, volume.grid.lps_from_ijk(index), atol=1e-6)
    expected = other.pose.to_lps(detector.shape.mean)
    np.testing.assert_allclose(expected, other.positions, atol=1)  # the mean shape lies over the points, mirrored
    assert np.linalg.det(other.pose.rotation) * np.linalg.det(found.pose.rotation) < 0


def test_nobody_is_told_of_a_model_that_is_only_asked_about_the_picture(tmp_path, monkeypatch, caplog):
    detector = detector_of(tmp_path)
    SpotFinder(detector, monkeypatch)
    with caplog.at_level(logging.WARNING):
        detector.findings(mirrored(radiograph(width=2.4)[0]), silent=True)
    assert not caplog.records


def test_where_landmarks_have_sides_a_mirror_image_stays_unknown(tmp_path, monkeypatch):
    detector = detector_of(tmp_path, SCHEME.to_dict())
    finder = SpotFinder(detector, monkeypatch)
    found = detector.findings(mirrored(radiograph(width=2.4)[0]))
    assert finder.searches == 1 and not detector.recognition(found).recognised


def test_a_picture_of_something_else_is_the_same_as_before(tmp_path, monkeypatch):
    detector = detector_of(tmp_path)
    finder = SpotFinder(detector, monkeypatch)
    monkeypatch.setattr(detector, "recognition", lambda found: RecognitionResult.of(0.001, 0.05))
    volume, _ = radiograph(width=2.4)
    found = detector.findings(volume)
    assert finder.searches == 2
    lay = [volume.grid.ijk_from_lps(found.positions).round(6).tolist()]
    monkeypatch.setattr(detector, "recognition", lambda found: None)
    assert volume.grid.ijk_from_lps(detector.findings(volume).positions).round(6).tolist() == lay[0]
    assert finder.searches == 3, "a model that cannot tell searches once"
