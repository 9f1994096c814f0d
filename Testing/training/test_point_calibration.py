"""Radii and confidences by a point's own evidence hold in every condition, and tell where errors are large."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.rows import RowCount
from H3DELandmarksLib.core.shape_model import Pose, ShapeModel
from H3DELandmarksLib.detection.calibration import MOST_FACTOR, Calibration
from H3DELandmarksLib.detection.point_evidence import point_features
from H3DELandmarksLib.detection.predictions import RawPredictions
from H3DELandmarksLib.detection.recognition import Variation
from H3DELandmarksLib.formats.manifest import PointCalibration, RecognitionCalibration
from H3DELandmarksLib.training.recognition import Sighting
from H3DELandmarksResearch.evaluation.reliability import reliability
from H3DELandmarksResearch.studies.recognition import left_out_table
from H3DELandmarksResearch.training.point_calibration import (
    PointErrors,
    as_found,
    fit_confidence,
    fit_counting_by_conditions,
    fit_points,
    left_out,
    left_out_by_condition,
    point_errors,
    stated,
)

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


# What makes a point right in planted points: the log-odds, by feature.
PLANTED = np.array([0.5, 0.6, 1.5, -0.7, -0.4, -1.0, -0.8])


def planted(subjects: int, seed: int, lean: float = 0.0) -> tuple[PointErrors, np.ndarray]:
    """Points whose probability to lie within 4 mm is known, and that probability; ``lean`` of a subject's odds."""
    rng, count = np.random.default_rng(seed), 60
    subject = np.repeat([f"s{n}" for n in range(subjects)], count)
    features = rng.normal(0, 1, (len(subject), 7))
    features[:, 0] = 1.0
    probability = 1 / (1 + np.exp(-(features @ PLANTED)))
    odds = np.log(probability / (1 - probability)) + lean * np.repeat(rng.normal(size=subjects), count)
    error = np.where(rng.random(len(subject)) < 1 / (1 + np.exp(-odds)), 1.0, 9.0)
    nobody = np.zeros(len(subject), bool)
    return PointErrors(features, np.full(len(subject), 5.0), error, nobody.astype(str), subject, nobody), probability


def confidence_by(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    return replace(CALIBRATION, confidence_weights=weights).confidence(features)


def test_planted_probabilities_come_back():
    weights = fit_confidence(planted(60, 1)[0], 4.0)
    points, probability = planted(150, 2)
    assert np.abs(confidence_by(weights, points.features) - probability).mean() < 0.04
    assert reliability(confidence_by(weights, points.features), points.right(4.0).astype(float)).error < 0.03


def test_what_only_seems_to_tell_of_few_subjects_is_hardly_believed():
    """Where errors of a subject go together, features that tell nothing seem to; the penalty grows then."""
    points, _ = planted(6, 3, lean=2.0)
    rng = np.random.default_rng(4)
    fake = np.repeat(rng.normal(size=(6, 6)), 60, axis=0)  # the same in all points of a subject
    told = replace(points, features=np.column_stack([np.ones(360), fake]))
    told = replace(told, error=rng.permuted(points.error.reshape(6, 60), axis=1).ravel())
    weights = fit_confidence(told, 4.0)
    fresh = np.column_stack([np.ones(500), rng.normal(size=(500, 6))])
    assert np.std(confidence_by(weights, fresh)) < 0.25


def test_landmarks_that_are_not_there_and_points_of_doubtful_scans_count_as_they_should():
    points, _ = planted(12, 5)
    absent = replace(points, error=np.where(points.features[:, 1] < 0, np.nan, 1.0))
    weights = fit_confidence(absent, 4.0)
    low, high = (
        confidence_by(weights, points.features[chosen])
        for chosen in (points.features[:, 1] < -0.5, points.features[:, 1] > 0.5)
    )
    assert low.mean() < 0.2 < 0.8 < high.mean()
    half = np.arange(len(points.error)) % 2 == 0
    mixed = replace(points, miscounted=half, error=np.where(half, 50.0, points.error))
    assert np.array_equal(fit_confidence(mixed, 4.0), fit_confidence(points.only(~half), 4.0))


def test_too_few_subjects_or_all_of_one_kind_teach_no_confidence():
    points, _ = planted(12, 6)
    assert fit_confidence(points.only(np.isin(points.subject, ["s1", "s2"])), 4.0) is None
    assert fit_confidence(replace(points, error=np.full(len(points.error), 1.0)), 4.0) is None
    assert fit_confidence(point_errors([], SHAPE, CALIBRATION), 4.0) is None


FINITE = st.floats(-30, 30)


@given(arrays(float, (4, 7), elements=FINITE), st.integers(1, 6), st.floats(0, 10))
@settings(max_examples=60, deadline=None)
def test_confidence_is_a_monotone_probability_of_each_feature(features, number, step):
    weights = fit_confidence_once()
    changed = features.copy()
    changed[:, number] += step
    before, after = (confidence_by(weights, one) for one in (features, changed))
    assert ((before >= 0) & (before <= 1)).all()
    rises = number in (1, 2)
    assert (after >= before - 1e-12).all() if rises else (after <= before + 1e-12).all()


KEPT: list[np.ndarray] = []


def fit_confidence_once() -> np.ndarray:
    """Weights of features that tell nothing, so that only the fit's own rule makes them monotone."""
    if not KEPT:
        points, _ = planted(8, 7)
        rng = np.random.default_rng(8)
        weights = fit_confidence(
            replace(points, features=np.column_stack([np.ones(480), rng.normal(size=(480, 6))])), 4.0
        )
        assert weights is not None
        KEPT.append(weights)
    return KEPT[0]


def test_no_confidence_exceeds_presence():
    weak = [replace(one, found=replace(one.found, presence_logit=np.full(K, 0.2))) for one in sightings(3, 4)]
    sure = replace(CALIBRATION, confidence_weights=np.array([30.0, 0, 0, 0, 0, 0, 0]))
    confidence, _ = stated(point_errors(weak, SHAPE, CALIBRATION), sure)
    assert np.allclose(confidence, CALIBRATION.presence(np.array([0.2])))


def test_confidences_and_radii_of_left_out_subjects_hold():
    points = point_errors(sightings(25, 4), SHAPE, CALIBRATION)
    assert set(points.subject) == {f"subject {n}" for n in range(25)} and not points.miscounted.any()
    table = left_out_table(points.only(points.condition != "cut"), CALIBRATION, CALIBRATION)
    cells = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in table.splitlines()[2:]}
    assert list(cells) == ["whole", "metal", "all"]
    for name, allowed in (("whole", 0.13), ("metal", 0.13), ("all", 0.1)):
        _, _, _, ece, _, _, holds, _ = cells[name]
        assert float(ece) < allowed and 80 < float(holds.split()[0]) < 97
    below, of = cells["all"][-1].split()[0:3:2]
    assert int(of) > 5 and int(below) >= 0.8 * int(of)


def test_figures_of_some_subjects_stand_apart():
    points = point_errors(sightings(25, 4), SHAPE, CALIBRATION)
    table = left_out_table(points, CALIBRATION, CALIBRATION, ["subject 3", "subject 8"])
    counts = {row.split("|")[1].strip(): int(row.split("|")[2]) for row in table.splitlines()[2:]}
    both = np.isin(points.subject, ["subject 3", "subject 8"])
    assert counts["subject 3, subject 8: all"] == both.sum() < counts["all"]
    assert counts["subject 3, subject 8: whole"] == (both & (points.condition == "whole")).sum() > 0


def test_left_out_subjects_tell_by_condition_what_statements_are_worth():
    points = point_errors(sightings(25, 4), SHAPE, CALIBRATION)
    table = left_out_by_condition(points, CALIBRATION)
    assert list(table) == list(CONDITIONS)
    confidence, radius = left_out(points, CALIBRATION)
    metal = points.condition == "metal"
    assert table["metal"]["points"] == metal.sum()
    assert table["metal"]["coverage"] == pytest.approx((points.error <= radius)[metal].mean(), abs=1e-4)
    right = points.right(CALIBRATION.tolerance_mm)[metal].astype(float)
    assert table["metal"]["ece"] == pytest.approx(reliability(confidence[metal], right).error, abs=1e-4)
    assert left_out_by_condition(points.only(points.subject < "subject 12"), CALIBRATION) == {}, "too few subjects"


def test_what_is_stated_of_a_package_of_four_weights_is_read_as_before():
    points = point_errors(sightings(2, 5), SHAPE, CALIBRATION)
    old = replace(CALIBRATION, confidence_weights=np.array([0.1, 1.0, 0.5, -0.5]))
    odds = points.features[:, :4] @ old.confidence_weights
    confidence, radius = stated(points, old)
    assert np.allclose(confidence, np.minimum(1 / (1 + np.exp(-odds)), old.presence(np.full(len(odds), 5.0))))
    assert np.array_equal(radius, points.usual)
    again = Calibration.from_manifest(replace(old, confidence_weights=np.arange(7.0)).to_manifest())
    assert again.confidence_weights.tolist() == [0, 1, 2, 3, 4, 5, 6]


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


STRUCTURES = np.column_stack([np.zeros(K), np.repeat(np.arange(6.0), 2) * 20, np.tile([0.0, 5.0], 6)])


def counted_sighting(subject: int, condition: str, margin: float, is_off: bool) -> Sighting:
    """Six structures of two landmarks; where they are one off, each lies at the place of the next."""
    found = STRUCTURES + (0, 20.0 * is_off, 0)
    pose = Pose(np.eye(3), np.zeros(3))
    raw = RawPredictions(found, np.full(K, 5.0), np.full(K, 0.8), pose, count=RowCount(margin, 1, 2))
    return Sighting(f"subject {subject}", condition, raw, LandmarkSet(NAMES, STRUCTURES), GRID)


def counted_sightings(subjects: int, seed: int) -> list[Sighting]:
    """Whole scans are mostly sure and right; cut ones unsure, and one off more often at the same margin."""
    rng = np.random.default_rng(seed)
    made = []
    for subject in range(subjects):
        for condition, usual, odds in (("whole", 14.0, -0.5), ("cut", 4.0, 1.5)):
            margin = rng.gamma(3, usual / 3)
            is_off = rng.random() < 1 / (1 + np.exp(np.sqrt(margin) - 1 - odds))
            made.append(counted_sighting(subject, condition, margin, is_off))
    return made


def told_of(counting, seen: list[Sighting]) -> np.ndarray:
    known = replace(CALIBRATION, counting=counting)
    return np.array([known.miscounted(one.found.count).probability for one in seen])


def test_cut_scans_teach_how_likely_structures_are_counted_one_off():
    learnt, fresh = counted_sightings(150, 1), counted_sightings(600, 2)
    by_all, by_whole = (
        fit_counting_by_conditions(seen, CALIBRATION, as_found)
        for seen in (learnt, [one for one in learnt if one.condition == "whole"])
    )
    cut = np.array([one.condition == "cut" for one in fresh])
    off = np.array([one.found.positions[0, 1] > one.truth.positions[0, 1] for one in fresh])
    assert abs(told_of(by_all, fresh)[cut].mean() - off[cut].mean()) < 0.15
    assert told_of(by_whole, fresh)[cut].mean() < told_of(by_all, fresh)[cut].mean()
    doubtful = told_of(by_all, fresh) >= by_all.doubt_from
    assert doubtful[off].mean() > doubtful[~off].mean() + 0.3
    assert by_all.hit_rate == pytest.approx(doubtful[off].mean(), abs=0.15)


def test_scans_that_are_refused_teach_nothing_of_counting():
    learnt = counted_sightings(40, 3)
    nothing_known = replace(CALIBRATION, recognition=replace(ALL_KNOWN, scores=(9.0,) * 50))
    assert fit_counting_by_conditions(learnt, nothing_known, as_found) is None
    assert fit_counting_by_conditions(learnt[:6], CALIBRATION, as_found) is None, "too few"
    uncounted = [replace(one, found=replace(one.found, count=None)) for one in learnt]
    assert fit_counting_by_conditions(uncounted, CALIBRATION, as_found) is None
