"""Radii by a point's own evidence hold in every condition, and are large where errors are."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.detection.calibration import MOST_FACTOR, Calibration
from H3DELandmarksLib.detection.point_evidence import point_features
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.recognition import Variation
from H3DELandmarksLib.formats.manifest import PointCalibration, RecognitionCalibration
from H3DELandmarksLib.training.recognition import Sighting
from H3DELandmarksResearch.training.point_calibration import PointErrors, fit_points, point_errors

K = 12
NAMES = tuple(f"p{k}" for k in range(K))
MEAN = np.random.default_rng(0).uniform(-40, 40, (K, 3))
MEAN -= MEAN.mean(axis=0)
SHAPE = ShapeModel(MEAN, np.full(K, 4.0))
ANATOMY = Variation(MEAN, np.zeros((0, K, 3)), 2.0)
ALL_KNOWN = RecognitionCalibration(ANATOMY.to_manifest(), (0.0,) * 6, (0.0,), 0.05)
USUAL = np.linspace(2.0, 5.0, K)
CALIBRATION = Calibration(1.0, 0.0, np.zeros(4), 4.0, USUAL, ALL_KNOWN)
GRID = Grid(np.diag([1.0, 1, 1, 1]) - np.pad([[60.0], [60], [60]], ((0, 1), (3, 0))), (121, 121, 121))
# Of each condition: how blurred peaks are on average, in logarithms.
CONDITIONS = {"whole": 0.0, "metal": 0.7, "cut": 0.4}


def sighting(subject: str, condition: str, rng: np.random.Generator) -> Sighting:
    """Errors grow with the blur of a peak, which its concentration tells with noise."""
    pose = Pose(Rotation.random(random_state=int(rng.integers(2**31))).as_matrix(), rng.normal(0, 5, 3))
    truth = pose.to_lps(MEAN + rng.normal(0, 1, (K, 3)))
    blur = np.exp(rng.normal(CONDITIONS[condition], 0.5, K))
    found = truth + rng.normal(0, 1, (K, 3)) * (USUAL / 2.5 * blur)[:, None]
    logit = 2.0 - 1.5 * np.log(blur) + rng.normal(0, 0.3, K)
    raw = RawPredictions(found, np.full(K, 5.0), 1 / (1 + np.exp(-logit)), pose)
    return Sighting(subject, condition, raw, LandmarkSet(NAMES, truth), GRID)


def sightings(subjects: int, seed: int) -> list[Sighting]:
    rng = np.random.default_rng(seed)
    return [sighting(f"subject {n}", condition, rng) for n in range(subjects) for condition in CONDITIONS]


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    return replace(CALIBRATION, points=fit_points(sightings(25, 1), SHAPE, CALIBRATION))


@pytest.fixture(scope="module")
def fresh(fitted) -> tuple[PointErrors, np.ndarray]:
    points = point_errors(sightings(60, 2), SHAPE, CALIBRATION)
    return points, fitted.radius_of(points.features, points.usual)


def test_radii_hold_in_every_condition_where_those_of_landmarks_do_not(fresh):
    points, radius = fresh
    for condition in CONDITIONS:
        rows = points.condition == condition
        assert 0.85 < (points.error <= radius)[rows].mean() < 0.95, condition
    metal = points.condition == "metal"
    assert (points.error <= points.usual)[metal].mean() < 0.75


def test_radii_are_large_where_errors_are(fresh):
    points, radius = fresh
    large = points.error > 2 * np.median(radius)
    assert large.sum() > 20 and (radius > np.median(radius))[large].mean() > 0.9
    assert np.median(radius[points.condition == "metal"]) > 1.5 * np.median(radius[points.condition == "whole"])


def test_of_landmarks_that_are_not_there_or_unknown_no_error_is_known():
    one = sighting("s", "whole", np.random.default_rng(3))
    presence = np.ones(K)
    presence[:3] = 0.0, np.nan, 0.0
    points = point_errors([replace(one, truth=replace(one.truth, presence=presence))], SHAPE, CALIBRATION)
    assert len(points.error) == K - 1 and np.isnan(points.error).sum() == 2


def test_few_subjects_teach_nothing():
    assert fit_points(sightings(4, 1), SHAPE, CALIBRATION) is None
    assert fit_points(sightings(25, 1), SHAPE, Calibration.neutral(K, 4.0)) is None


def features(found: RawPredictions, grid: Grid | None = GRID) -> np.ndarray:
    return point_features(found, SHAPE, CALIBRATION, grid)


def exact() -> RawPredictions:
    return RawPredictions(MEAN.copy(), np.full(K, 5.0), np.full(K, 0.8), Pose(np.eye(3), np.zeros(3)))


def test_features_tell_a_point_that_does_not_fit_to_the_others_and_one_near_the_scan_s_end():
    moved = exact()
    moved.positions[4] += [0, 0, 20.0]
    far, usual = features(moved), features(exact())
    assert far[4, 4] == pytest.approx(np.log1p(20 / 2.0), abs=0.05)
    assert far[4, 3] > usual[4, 3] and np.allclose(far[:, :3], usual[:, :3])
    assert np.allclose(usual[:, 4], 0, atol=1e-3)
    affine = GRID.affine.copy()
    affine[2, 3] = MEAN[7, 2] + 0.5  # the scan begins at the point
    near = features(exact(), Grid(affine, GRID.shape))[:, 5]
    assert near[7] == pytest.approx(1.0) and near.max() <= 1 and usual[:, 5].max() < 0.5
    assert not features(exact(), None)[:, 5].any()


def test_motion_and_a_single_slice_make_no_difference_where_they_should_not():
    motion = Pose(Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix(), np.array([10.0, -4, 7]))
    assert np.allclose(features(exact().moved(motion), None), features(exact(), None))
    flat = Grid(GRID.affine, (121, 121, 1))
    assert np.isfinite(features(exact(), flat)).all() and features(exact(), flat)[:, 5].max() < 0.5


def test_factors_are_limited_and_survive_the_manifest():
    points = PointCalibration((50.0, 0, 0, 0, 0, 0))
    wide = replace(CALIBRATION, points=points)
    again = Calibration.from_manifest(wide.to_manifest())
    assert again.points == points
    assert np.allclose(again.radius_of(features(exact()), USUAL), MOST_FACTOR * USUAL)
    assert np.array_equal(CALIBRATION.radius_of(features(exact()), USUAL), USUAL)
