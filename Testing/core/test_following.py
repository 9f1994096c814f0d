"""A correction that shows a row one off, or exchanged sides, moves all of it; a wrong pose asks for a second look."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.anatomy import Anatomy, Factors
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Decisions, Evidence, posterior
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksLib.core.systematic import Systematic, follow, is_misplaced, revealed

HERE = Pose(np.eye(3), np.zeros(3))
VERTEBRAE = 10
CORNERS = np.array([[-8.0, -7, 0], [8, -7, 0], [-8, 7, 0], [8, 7, 0]])
# One more than the scheme has, nearly alike.
ROW = np.concatenate([CORNERS * (1 + k / 100) + (0, 24.0 * k + k**2 / 20, 0) for k in range(VERTEBRAE + 1)])
COUNT = 4 * VERTEBRAE


def anatomy_of(mean, noise=1.0):
    count = len(mean)
    single = Factors(np.zeros((0, count, 3)), np.full(count, noise))
    return Anatomy(mean - mean.mean(axis=0), single, Factors(single.modes, np.full(count, 0.5)), 1.0)


def evidence_of(points):
    count = len(points)
    names = tuple(f"p{k}" for k in range(count))
    found = LandmarkSet(names, points, np.ones(count), np.full(count, 0.8), np.full(count, 1.5))
    return Evidence(found, HERE)


def noisy(points, seed, flat=False):
    return points + np.random.default_rng(seed).normal(0, 0.4, points.shape) * (1, 1, not flat)


def corrected(truth, *rows):
    decided = Decisions.none(len(truth))
    decided.positions[list(rows)] = truth[list(rows)]
    return decided


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", [4, -4])
def test_one_corner_moves_a_whole_row_that_is_one_off(seed, way):
    rows = noisy(ROW, seed, flat=True)
    truth, found = (rows[:COUNT], rows[4:]) if way > 0 else (rows[4:], rows[:COUNT])
    evidence, anatomy, decided = evidence_of(found), anatomy_of(ROW[:COUNT]), corrected(truth, 17)
    assert revealed(evidence, anatomy, decided).kind is Systematic.SHIFTED
    after = follow(evidence, anatomy, decided)
    away = np.linalg.norm(after.positions - truth, axis=1)
    assert (away < 1.5).mean() > 0.85 and away.max() < 8
    np.testing.assert_array_equal(after.positions[17], truth[17])


def test_an_accepted_point_keeps_its_part_of_the_row():
    rows = noisy(ROW, 5, flat=True)
    truth = rows[:COUNT]
    found = np.concatenate([rows[:20], rows[24:]])  # a vertebra was left out
    decided = corrected(truth, 30, 6)
    decided.accepted[6] = True
    order = revealed(evidence_of(found), anatomy_of(ROW[:COUNT]), decided).order
    assert order[6] == 6 and order[30] == 26


def test_a_point_that_was_only_looked_at_reveals_nothing():
    rows = noisy(ROW, 5, flat=True)
    decided = corrected(rows[:COUNT], 17)
    decided.accepted[17] = True
    assert revealed(evidence_of(rows[4:]), anatomy_of(ROW[:COUNT]), decided) is None


@pytest.mark.parametrize("first", [0, 4])
def test_what_was_known_before_only_saves_time(first):
    rows, anatomy = noisy(ROW, 5, flat=True), anatomy_of(ROW[:COUNT])
    evidence, decided = evidence_of(noisy(rows, 6, flat=True)[first:][:COUNT]), corrected(rows[:COUNT], 17)
    assert (revealed(evidence, anatomy, decided) is None) == (first == 0)
    before = posterior(evidence, anatomy, Decisions.none(COUNT))
    anew, saved = follow(evidence, anatomy, decided), follow(evidence, anatomy, decided, before=before)
    for name in ("positions", "confidence", "radius"):
        np.testing.assert_array_equal(getattr(saved, name), getattr(anew, name))


def test_an_ordinary_correction_reveals_nothing():
    truth = noisy(ROW[:COUNT], 1, flat=True)
    evidence, anatomy = evidence_of(noisy(truth, 2, flat=True)), anatomy_of(ROW[:COUNT])
    assert revealed(evidence, anatomy, corrected(truth, 5)) is None
    wrong = truth + np.eye(1, COUNT, 5).T * (11.0, 0, 0)  # nowhere near another vertebra
    assert revealed(evidence, anatomy, corrected(wrong, 5)) is None
    assert revealed(evidence, anatomy, Decisions.none(COUNT)) is None


def test_a_correction_to_the_other_side_exchanges_the_sides():
    rng = np.random.default_rng(4)
    right = rng.uniform(8, 40, (4, 3))
    truth = np.concatenate([right * (-1, 1, 1), right, rng.normal(0, 20, (3, 3)) * (0, 1, 1)])
    pairs = [(f"p{k}", f"p{k + 4}") for k in range(4)]
    found = noisy(truth, 3)[[4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10]]
    finding = revealed(evidence_of(found), anatomy_of(truth), corrected(truth, 2), pairs)
    assert finding.kind is Systematic.SIDES and len(finding.landmarks) == 8


SCATTERED = np.random.default_rng(7).normal(0, 30, (12, 3))


def test_corrections_that_contradict_the_pose_ask_for_a_second_look():
    anatomy, truth = anatomy_of(SCATTERED), noisy(SCATTERED, 0)
    turned = Rotation.from_euler("x", 90, degrees=True).apply(truth)
    assert is_misplaced(evidence_of(turned), anatomy, corrected(truth, 0, 5, 9))
    assert not is_misplaced(evidence_of(turned), anatomy, corrected(truth, 0, 5))
    accepted = corrected(turned, 0, 5, 9)
    assert not is_misplaced(evidence_of(turned), anatomy, replace(accepted, accepted=accepted.present))
    followed = corrected(truth, 0, 5, 9)  # all of them proposed anew, and accepted
    assert not is_misplaced(evidence_of(turned), anatomy, replace(followed, accepted=followed.present))


@pytest.mark.parametrize("away, asked", [(4, False), (5, True)])
def test_half_of_the_other_points_lying_elsewhere_are_not_most_of_them(away, asked):
    truth = SCATTERED[:11]
    found = truth.copy()
    found[3 : 3 + away] += 200
    assert is_misplaced(evidence_of(found), anatomy_of(truth), corrected(truth, 0, 1, 2)) is asked


@pytest.mark.parametrize("seed", range(4))
def test_ordinary_corrections_ask_for_none(seed):
    anatomy, truth = anatomy_of(SCATTERED), noisy(SCATTERED, seed)
    found = noisy(truth, seed + 10)
    found[:4] += 15
    assert not is_misplaced(evidence_of(found), anatomy, corrected(truth, 0, 1, 2))
