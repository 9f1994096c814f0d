"""Errors of many points at once are found unasked, and mended by another assignment."""

import numpy as np
import pytest

from H3DELandmarksLib.core.anatomy import Anatomy, Factors
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Evidence
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.core.systematic import Systematic, mended, systematic_errors

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


def test_of_two_landmarks_on_one_structure_the_wrong_one_moves():
    true, anatomy = noisy(head()), anatomy_of(head())
    wrong = true.copy()
    wrong[2] = true[8] + (0.5, 0, 0)
    (finding,) = systematic_errors(evidence_of(wrong), anatomy, PAIRS)
    assert finding.kind is Systematic.TOGETHER
    assert set(finding.landmarks) == {"p2", "p8"}
    assert np.linalg.norm(mended(evidence_of(wrong), anatomy, finding).found.positions[2] - true[2]) < 3
