"""What revision learns of a model saves a reader corrections, and costs none."""

from dataclasses import replace

import numpy as np
import pytest

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.revision import Evidence
from H3DELandmarksLib.core.shape_model import Pose
from H3DELandmarksResearch.training.revision import Reviewed, learn_anatomy, read_through

K = 8
NAMES = tuple(f"p{k}" for k in range(K))
MEAN = np.random.default_rng(0).normal(0, 25, (K, 3))


def cases_of(number, seed, together):
    """Shapes that vary, in which a model errs along one line; by the same length at all points, or at each alone."""
    rng, cases = np.random.default_rng(seed), []
    for _ in range(number):
        truth = MEAN * rng.normal(1, 0.05) + rng.normal(0, 1, (K, 3))
        length = rng.normal(0, 1.5, (1 if together else K, 1))
        found = truth + np.where(np.arange(K)[:, None] % 2, 1, -1) * length * (0, 1, 0) + rng.normal(0, 0.2, (K, 3))
        points = LandmarkSet(NAMES, found, np.full(K, 0.9), np.full(K, 0.6), np.full(K, 2.5))
        evidence = Evidence(points, Pose(np.eye(3), np.zeros(3)))
        cases.append(Reviewed(evidence, LandmarkSet(NAMES, truth)))
    return cases


def learnt(together):
    shapes = np.stack([case.truth.positions for case in cases_of(40, 1, together)])
    return learn_anatomy(shapes, cases_of(12, 2, together), 1.0)


def corrections(anatomy, cases):
    return [sum(list(read_through(c, anatomy, helped))[-1].corrections for c in cases) for helped in (False, True)]


def test_errors_that_go_together_need_few_corrections():
    without, helped = corrections(learnt(True), cases_of(15, 3, True))
    assert helped < 0.5 * without


def test_errors_of_each_alone_need_no_more_than_without():
    without, helped = corrections(learnt(False), cases_of(15, 3, False))
    assert helped == without
    assert np.isinf(learnt(False).caution)


def test_radii_are_as_they_were_until_something_is_corrected():
    anatomy = replace(learnt(True), scales=(1.2, 1.4, 1.6))
    assert [anatomy.scale(number) for number in (0, 1, 2, 3, 4, 9)] == pytest.approx([1, 1.2, 1.4, 1.5, 1.6, 1.6])


def test_a_slip_of_the_reader_moves_the_others_but_a_little():
    cases, anatomy = cases_of(15, 4, True), learnt(True)
    alone, slip = (
        sum(list(read_through(case, anatomy, helped, slip=10.0))[-1].corrections for case in cases)
        for helped in (False, True)
    )
    assert alone == corrections(anatomy, cases)[0]
    assert slip <= alone


def test_a_reader_stops_where_all_is_within_tolerance():
    anatomy = replace(learnt(True), tolerance_mm=100.0)
    (only,) = read_through(cases_of(1, 3, True)[0], anatomy, True)
    assert only.corrections == 0


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_readers_own_noise_is_borne(noise):
    steps = list(read_through(cases_of(1, 4, True)[0], learnt(True), True, noise, np.random.default_rng(1)))
    assert steps[-1].corrections <= K
    assert not steps[-1].undecided.all()
