"""The whole path on a small random model: what must hold whatever the weights are."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation
from tiny_model import write_tiny_package

from H3DELandmarksLib.core.errors import Cancelled, InputError
from H3DELandmarksLib.core.geometry import Volume, orthonormal_axes
from H3DELandmarksLib.core.landmarks import Cause, Statement
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection import detector as detection
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.formats.manifest import PointCalibration
from H3DELandmarksLib.formats.results import RecognitionResult


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Detector:
    return Detector(write_tiny_package(tmp_path_factory.mktemp("model") / "tiny"), device="cpu")


@pytest.fixture(scope="module")
def scan() -> Volume:
    noise = np.random.default_rng(0).normal(size=(50, 44, 60))
    array = (ndimage.gaussian_filter(noise, 3) * 8000).astype(np.int16)
    affine = np.array([[1.5, 0.1, 0, -40], [-0.1, 1.5, 0.2, -30], [0, -0.2, 2.0, -50], [0, 0, 0, 1.0]])
    return Volume(array, affine)


def stored_otherwise(volume: Volume, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same voxels at the same places, with another order and direction of the array's axes."""
    affine = volume.affine.copy()
    array = volume.array
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
    return Volume(array.transpose(axes), affine[:, [*axes, 3]])


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_the_result_does_not_depend_on_the_axis_order_of_the_file(detector, scan, axes):
    expected = detector.detect(scan)
    for flips in product([False, True], repeat=3):
        found = detector.detect(stored_otherwise(scan, axes, flips))
        assert np.allclose(found.positions, expected.positions, atol=1e-6)
        assert np.allclose(found.confidence, expected.confidence, atol=1e-6)


def test_every_landmark_of_the_scheme_comes_back_with_presence_confidence_and_radius(detector, scan):
    found = detector.detect(scan)
    assert found.names == detector.scheme.names
    assert ((found.presence >= 0) & (found.presence <= 1)).all()
    assert ((found.confidence >= 0) & (found.confidence <= found.presence)).all()
    assert np.array_equal(found.radius, [1.0, 2.0, 3.0])
    assert found.definitions[0] == "the left point"


def test_a_model_that_was_never_calibrated_states_no_radius(detector, scan, monkeypatch):
    monkeypatch.setattr(detector, "calibration", replace(detector.calibration, radius90=np.zeros(3)))
    found = detector.detect(scan)
    assert found.present.any() and np.isnan(found.radius).all()


@pytest.mark.parametrize(("degrees", "is_upright"), [(5, False), (40, False), (40, True)])
def test_an_oblique_scan_is_also_searched_along_its_own_axes(detector, scan, monkeypatch, caplog, degrees, is_upright):
    index, searched = np.array([[5.0, 6, 7], [20, 8, 9], [9, 30, 12]]), []

    def search(seen, step):
        searched.append(seen)
        straight = np.allclose(orthonormal_axes(seen.volume.grid), np.eye(3), atol=0.2)
        strength = np.full(3, 0.9 if straight != is_upright else 0.5)
        return RawPredictions(seen.volume.grid.lps_from_ijk(index), strength, strength, Pose(np.eye(3), np.zeros(3)))

    monkeypatch.setattr(detector, "_search", search)
    monkeypatch.setattr(
        detector, "recognition", lambda found: RecognitionResult.of(float(found.concentration[0]), 0.05)
    )
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [0, 10, degrees], degrees=True).as_matrix()
    oblique = Volume(scan.array, turn @ scan.affine)
    found = detector.findings(oblique)
    np.testing.assert_allclose(found.positions, oblique.grid.lps_from_ijk(index), atol=1e-9)
    is_turned = degrees > 15 and not is_upright
    assert len(searched) == 1 + (degrees > 15) and ("scan's own axes" in caplog.text) == is_turned
    assert np.allclose(found.pose.rotation, np.eye(3)) != is_turned


def test_two_runs_agree_exactly(detector, scan):
    assert np.array_equal(detector.detect(scan).positions, detector.detect(scan).positions)


def test_in_a_scan_of_nothing_but_air_everything_is_absent(detector):
    found = detector.findings(Volume(np.full((40, 40, 40), -1000, np.int16), np.eye(4)))
    assert np.isneginf(found.presence_logit).all()


def test_a_scan_larger_than_one_tile_is_searched_whole(detector, scan):
    large = Volume(np.pad(scan.array, ((60, 60), (0, 0), (0, 0)), constant_values=-1000), scan.affine)
    assert np.isfinite(detector.findings(large).positions).all()


@pytest.mark.parametrize("shape", [(2, 60, 60), (3, 2, 5), (200, 4, 4)])
def test_scans_of_any_shape_are_accepted(detector, shape):
    array = np.random.default_rng(1).integers(-1000, 2000, shape).astype(np.int16)
    assert len(detector.detect(Volume(array, np.diag([0.7, 0.9, 3.0, 1.0])))) == 3


def test_progress_rises_to_one(detector, scan):
    seen = []
    detector.detect(scan, progress=lambda fraction, message: seen.append((fraction, message)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    assert all(message for _, message in seen)


def test_cancelling_ends_the_work(detector, scan):
    with pytest.raises(Cancelled):
        detector.detect(scan, cancelled=lambda: True)


def test_a_scan_that_is_too_coarse_for_the_model_is_searched_with_a_warning(detector, scan, caplog):
    package = replace(detector.package, manifest=replace(detector.package.manifest, max_spacing_mm=1.0))
    coarse = Detector(package, device="cpu")
    coarse.findings(scan)  # as calibration looks at scans that it has made coarser itself
    assert "coarser" not in caplog.text
    coarse.detect(scan)
    assert "2.0" in caplog.text and "coarser" in caplog.text


def test_voxels_of_just_the_limit_are_not_too_coarse(detector, scan, caplog):
    package = replace(detector.package, manifest=replace(detector.package.manifest, max_spacing_mm=scan.spacing.max()))
    Detector(package, device="cpu").detect(scan)
    assert "coarser" not in caplog.text


def test_in_voxels_that_hide_the_landmarks_nothing_is_found_and_nothing_is_searched(detector, scan, caplog):
    package = replace(detector.package, manifest=replace(detector.package.manifest, max_spacing_mm=0.5))
    found = Detector(package, device="cpu").detect(scan)
    assert set(found.statements) == {Statement.NOT_EXAMINED} and set(found.causes) == {Cause.TOO_COARSE}
    assert np.isnan([found.presence, found.confidence, found.radius]).all()
    assert "no landmark can be seen" in caplog.text


def test_a_scan_far_larger_than_the_model_is_made_for_is_refused_with_advice(detector):
    huge = Volume(np.zeros((4, 4, 4), np.int16), np.diag([400.0, 400.0, 400.0, 1.0]))
    with pytest.raises(InputError, match="crop it"):
        detector.detect(huge)


def test_a_device_that_is_not_there_is_named(detector):
    with pytest.raises(InputError, match="quantum"):
        Detector(detector.package, device="quantum")


def test_of_a_scan_that_is_not_recognised_nothing_is_shown(detector, scan, monkeypatch):
    expected = detector.detect(scan)
    monkeypatch.setattr(detector, "recognition", lambda found: RecognitionResult.of(0.2, 0.05))
    assert np.array_equal(detector.detect(scan).positions, expected.positions, equal_nan=True)
    monkeypatch.setattr(detector, "recognition", lambda found: RecognitionResult.of(0.01, 0.05))
    result = detector.examine(scan)
    assert set(result.landmarks.statements) == {Statement.NOT_RECOGNISED}
    for values in (result.landmarks.positions, result.landmarks.confidence, result.landmarks.radius):
        assert np.isnan(values).all()
    assert np.array_equal(result.doubtful.positions, expected.positions, equal_nan=True)


def test_what_is_expected_beyond_the_scan_was_not_examined_and_leaves_no_radius(detector, scan, monkeypatch):
    monkeypatch.setattr(detector, "calibration", replace(detector.calibration, presence_scale=1.0, presence_bias=0.0))
    count, center = len(detector.scheme), scan.grid.center
    monkeypatch.setattr(detection, "FEWEST", 1)
    for logits, shift, expected in (
        ([9.0, 9, 9], (0, 0, 0), ["found"] * 3),
        ([9.0, -9, 9], (0, 0, 0), ["found", "absent", "found"]),
        ([9.0, -9, 9], (900.0, 0, 0), ["found", "not examined", "found"]),
        ([-9.0, -9, -9], (900.0, 0, 0), ["not recognised"] * 3),
    ):
        pose = Pose(np.eye(3), center + shift)
        found = RawPredictions(center + detector.shape.mean, np.array(logits), np.full(count, 0.9), pose)
        monkeypatch.setattr(detector, "findings", lambda *_, found=found: found)
        landmarks = detector.detect(scan)
        assert [s.value for s in landmarks.statements] == expected
        assert (landmarks.causes[1] is Cause.OUTSIDE_SCAN) == (expected[1] == "not examined")
        assert np.isfinite(landmarks.radius).any() == (landmarks.present.any() and not landmarks.unknown.any())
    monkeypatch.setattr(detector, "recognition", lambda found: RecognitionResult.of(0.5, 0.05))
    assert set(detector.detect(scan).causes) == {Cause.NO_PLACE}, "nothing was found that tells where to look"


def test_radii_of_points_are_stated_where_the_scan_ends_and_are_larger_there(detector, scan, monkeypatch):
    points = PointCalibration((0.0, 0.0, 0.0, 0.0, 0.0, 1.0))  # grows by e towards the scan's end
    known = replace(detector.calibration, presence_scale=1.0, presence_bias=0.0, points=points)
    monkeypatch.setattr(detector, "calibration", known)
    monkeypatch.setattr(detection, "FEWEST", 1)
    center, corner = scan.grid.center, scan.grid.lps_from_ijk([0.0, 0.0, 0.0])
    found = RawPredictions(
        np.stack([center, center, corner]), np.array([9.0, -9, 9]), np.full(3, 0.9), Pose(np.eye(3), center + 900.0)
    )
    landmarks = detector.conclude(found, scan).landmarks
    assert [s.value for s in landmarks.statements] == ["found", "not examined", "found"]
    assert 1.0 <= landmarks.radius[0] < 1.2 and np.isnan(landmarks.radius[1])
    assert landmarks.radius[2] == pytest.approx(3.0 * np.exp(np.exp(-0.125)), rel=0.02)  # half of 1.5 mm from the end
    again = detector.conclude(found, stored_otherwise(scan, (2, 0, 1), (True, False, True))).landmarks
    assert np.allclose(again.radius, landmarks.radius, equal_nan=True)


def test_in_a_scan_of_air_nothing_is_recognised(detector):
    found = detector.detect(Volume(np.full((40, 40, 40), -1000, np.int16), np.eye(4)))
    assert set(found.causes) == {Cause.UNLIKE}
