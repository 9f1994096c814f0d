"""Errors of many points at once are found unasked, and mended by another assignment."""

from dataclasses import replace

import numpy as np
import pytest

from H3DELandmarksLib.core.anatomy import Anatomy, Factors
from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.revision import Evidence
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.core.systematic import Finding, Systematic, mended, misfit_of, systematic_errors

HERE = Pose(np.eye(3), np.zeros(3))


def anatomy_of(mean, noise=1.0):
    count = len(mean)
    single = Factors(np.zeros((0, count, 3)), np.full(count, noise))
    return Anatomy(mean - mean.mean(axis=0), single, Factors(single.modes, np.full(count, 0.5)), 1.0)


def evidence_of(points):
    names = tuple(f"p{k}" for k in range(len(points)))
    return Evidence(LandmarkSet(names, points, np.ones(len(points)), np.full(len(points), 0.8)), HERE)


def head(seed=0):
    """Four pairs, and four points of the midline that tell front from back and top from bottom."""
    rng = np.random.default_rng(seed)
    right = rng.uniform(5, 40, (4, 3)) * (1, 1, 1) + (0, -20, -20)
    middle = np.array([[0, 40, 0], [0, 30, 35], [0, -45, 10], [0, 5, -40.0]])
    return np.concatenate([right * (-1, 1, 1), right, middle])


PAIRS = [(f"p{k}", f"p{k + 4}") for k in range(4)]


def spine():
    """Nine vertebrae of four corners, which grow towards the lower end, on a radiograph."""
    rows = []
    for vertebra in range(9):
        width, height = 20 + 1.5 * vertebra, 14 + vertebra
        center = np.array([8 * np.sin(vertebra / 2), 22.0 * vertebra + vertebra**2, 0])
        corners = np.array([[-1, -1, 0], [1, -1, 0], [-1, 1, 0], [1, 1, 0]]) * (width / 2, height / 2, 0)
        rows.append(center + corners)
    return np.concatenate(rows)


def noisy(points, seed=1, flat=False):
    return points + np.random.default_rng(seed).normal(0, 0.5, points.shape) * (1, 1, not flat)


@pytest.mark.parametrize("seed", range(8))
def test_says_nothing_of_ordinary_points(seed):
    assert systematic_errors(evidence_of(noisy(head(), seed)), anatomy_of(head()), PAIRS) == []
    assert systematic_errors(evidence_of(noisy(spine(), seed, True)), anatomy_of(spine())) == []


def test_exchanged_sides_are_exchanged_back():
    order = np.array([4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11])
    true = noisy(head())
    wrong, anatomy = evidence_of(true[order]), anatomy_of(head())
    (finding,) = systematic_errors(wrong, anatomy, PAIRS)
    assert finding.kind is Systematic.SIDES
    np.testing.assert_allclose(mended(wrong, anatomy, finding).found.positions, true)


def test_one_exchanged_pair_is_named():
    order = np.arange(12)
    order[[1, 5]] = 5, 1
    (finding,) = systematic_errors(evidence_of(noisy(head())[order]), anatomy_of(head()), PAIRS)
    assert (finding.kind, set(finding.landmarks)) == (Systematic.SIDES, {"p1", "p5"})


def test_a_mirrored_scan_is_told_from_exchanged_sides():
    mean = np.random.default_rng(3).normal(0, 20, (10, 3))
    (finding,) = systematic_errors(evidence_of(noisy(mean) * (-1, 1, 1)), anatomy_of(mean))
    assert finding.kind is Systematic.MIRRORED
    assert finding.order is None


@pytest.mark.parametrize("start", [3, 5])
def test_a_lower_spine_that_is_one_vertebra_off_is_put_right(start):
    true, anatomy = noisy(spine(), flat=True), anatomy_of(spine())
    wrong = true.copy()
    wrong[4 * start : -4] = true[4 * start + 4 :]
    wrong[-4:] = true[-4:] + (0, 36, 0)
    (finding,) = systematic_errors(evidence_of(wrong), anatomy)
    assert finding.kind is Systematic.SHIFTED
    right = mended(evidence_of(wrong), anatomy, finding).found.positions
    known = np.ones(36, bool)
    known[4 * start : 4 * start + 4] = False  # nobody found this vertebra
    np.testing.assert_allclose(right[known], true[known])
    assert np.linalg.norm(right - true, axis=1)[~known].max() < 6


@pytest.mark.parametrize("start", [3, 5])
def test_an_upper_spine_that_is_one_vertebra_off_is_put_right(start):
    true, anatomy = noisy(spine(), flat=True), anatomy_of(spine())
    wrong = true.copy()
    wrong[4 : 4 * start] = true[: 4 * start - 4]
    wrong[:4] = true[:4] - (0, 22, 0)
    (finding,) = systematic_errors(evidence_of(wrong), anatomy)
    assert finding.kind is Systematic.SHIFTED
    right = mended(evidence_of(wrong), anatomy, finding).found.positions
    known = np.ones(36, bool)
    known[4 * start - 4 : 4 * start] = False  # nobody found this vertebra
    np.testing.assert_allclose(right[known], true[known])


def test_a_mirrored_scan_whose_pairs_are_nearly_alike_is_told_from_exchanged_sides():
    heart = np.array([[30.0, 10, 5], [25, -15, 12], [35, 5, -20], [28, 18, -8]])  # on the left alone
    mean = np.concatenate([head(), heart])
    (finding,) = systematic_errors(evidence_of(noisy(mean) * (-1, 1, 1)), anatomy_of(mean), PAIRS)
    assert finding.kind is Systematic.MIRRORED


def test_an_assignment_gains_nothing_by_leaving_points_out():
    points = noisy(head())
    fewer = points.copy()
    fewer[[2, 9]] = np.nan
    assert misfit_of(anatomy_of(head()), fewer) > misfit_of(anatomy_of(head()), points)


def test_a_remedy_moves_all_that_was_said_with_the_points():
    evidence, anatomy = evidence_of(noisy(head())), anatomy_of(head())
    found = replace(evidence.found, presence=np.linspace(0.6, 0.99, 12), confidence=np.linspace(0.1, 0.5, 12))
    found = replace(found, radius=np.arange(12.0)).unknown_where(np.arange(12) == 5, Cause.OUTSIDE_SCAN)
    places = Candidates.nothing(12)
    places.positions[:, 0], places.share[:, 0] = found.positions, 0.5
    order = np.array([1, 0, -1, 3, 5, 4, 6, 7, 8, 9, 10, 11])
    after = mended(replace(evidence, found=found, candidates=places), anatomy, Finding(Systematic.SIDES, (), order))
    kept = np.delete(np.arange(12), 2)
    for name in ("positions", "presence", "confidence", "radius"):
        np.testing.assert_array_equal(getattr(after.found, name)[kept], getattr(found, name)[order[kept]])
    np.testing.assert_array_equal(after.candidates.positions[kept, 0], found.positions[order[kept]])
    assert after.found.causes == (*[None] * 4, Cause.OUTSIDE_SCAN, *[None] * 7)
    assert after.found.presence[2] == 0.5 and np.isnan([after.found.confidence[2], after.found.radius[2]]).all()
    assert not after.candidates.share[2].any()
    assert np.linalg.norm(after.found.positions[2] - found.positions[2]) < 3


def test_landmarks_that_may_lie_close_to_each_other_are_not_on_one_structure():
    mean = np.concatenate([head(), head()[8:9] + (0, 3, 0)])
    points = noisy(mean)
    points[12] = points[8] + (0.3, 0, 0)
    assert systematic_errors(evidence_of(points), anatomy_of(mean), PAIRS) == []


def test_of_two_landmarks_on_one_structure_the_wrong_one_moves():
    true, anatomy = noisy(head()), anatomy_of(head())
    wrong = true.copy()
    wrong[2] = true[8] + (0.5, 0, 0)
    (finding,) = systematic_errors(evidence_of(wrong), anatomy, PAIRS)
    assert finding.kind is Systematic.TOGETHER
    assert set(finding.landmarks) == {"p2", "p8"}
    assert np.linalg.norm(mended(evidence_of(wrong), anatomy, finding).found.positions[2] - true[2]) < 3
