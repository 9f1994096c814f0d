"""Calibration errors are those of their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.evaluation.reliability import compare_statements, reliability

PROBABILITIES = arrays(float, st.integers(1, 60), elements=st.floats(0, 1))


def test_the_error_is_the_weighted_difference_of_stated_and_observed():
    result = reliability(np.array([0.72, 0.78, 0.1, 0.1]), np.array([1, 0, 0, 0]))
    assert result.count.tolist() == [2, 2]
    assert result.stated.tolist() == pytest.approx([0.1, 0.75])
    assert result.observed.tolist() == pytest.approx([0.0, 0.5])
    assert result.error == pytest.approx(0.5 * 0.1 + 0.5 * 0.25)


@given(PROBABILITIES, st.randoms(use_true_random=False), st.booleans())
def test_bins_hold_every_statement_once_and_the_error_is_a_share(stated, random, equal_mass):
    outcome = np.array([random.random() < 0.5 for _ in stated])
    result = reliability(stated, outcome, equal_mass=equal_mass)
    assert result.total == len(stated)
    assert (result.stated * result.count).sum() == pytest.approx(stated.sum())
    assert (result.observed * result.count).sum() == pytest.approx(outcome.sum())
    assert 0 <= result.error <= 1


@given(PROBABILITIES)
def test_certainty_that_comes_true_has_no_error_and_certainty_that_fails_has_all(stated):
    outcome = stated >= 0.5
    assert reliability(outcome.astype(float), outcome).error == 0
    assert reliability(1 - outcome.astype(float), outcome).error == 1


def test_true_probabilities_have_hardly_any_error_and_exaggerated_ones_have_some():
    rng = np.random.default_rng(0)
    true = rng.beta(0.6, 0.4, 20_000)
    outcome = rng.random(20_000) < true
    odds = true / (1 - true)
    for equal_mass in (False, True):
        assert reliability(true, outcome, equal_mass=equal_mass).error < 0.015
        assert reliability(odds**3 / (1 + odds**3), outcome, equal_mass=equal_mass).error > 0.06


def test_bins_of_equal_mass_hold_equally_many():
    assert set(reliability(np.linspace(0.9, 1, 50), np.ones(50), equal_mass=True).count) == {5}


def test_unknown_statements_are_left_out_and_none_at_all_have_no_error():
    result = reliability(np.array([0.5, np.nan, 0.5]), np.array([1, 1, np.nan]))
    assert result.total == 1
    assert np.isnan(reliability(np.array([]), np.array([])).error)


@pytest.fixture
def statements():
    """Four points: right, too far off, shown though absent, and unknown."""
    found = LandmarkSet(
        ("a", "b", "c", "d"), np.zeros((4, 3)), np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.95, 0.85, 0.75, 0.65])
    )
    truth = LandmarkSet(
        ("d", "c", "b", "a"),
        np.array([[np.nan] * 3, [np.nan] * 3, [0, 0, 5.0], [0, 0, 1.0]]),
        np.array([np.nan, 0.0, 1.0, 1.0]),
    )
    return compare_statements({"x": found}, {"x": truth}, tolerance_mm=2.0)


def test_statements_are_judged_by_name_presence_and_tolerance(statements):
    assert np.array_equal(statements.present, [[1, 1, 0, np.nan]], equal_nan=True)
    assert np.array_equal(statements.right, [[1, 0, 0, np.nan]], equal_nan=True)
    assert np.array_equal(statements.confidence, [[0.95, 0.85, 0.75, np.nan]], equal_nan=True)


def test_the_summary_counts_statements_that_can_be_judged(statements):
    summary = statements.summary()
    assert summary["presence"]["statements"] == summary["confidence"]["statements"] == 3
    assert summary["presence"]["ece"] == pytest.approx((0.1 + 0.2 + 0.7) / 3, abs=1e-4)


def test_points_that_are_not_shown_make_no_statement_of_confidence():
    found = LandmarkSet(("a",), np.full((1, 3), np.nan), np.array([0.2]), np.array([0.1]))
    summary = compare_statements({"x": found}, {"x": LandmarkSet(("a",), np.zeros((1, 3)))}, 1.0).summary()
    assert summary["confidence"] == {
        "statements": 0,
        "ece": None,
        "ece_equal_mass": None,
        "bins": {"stated": [], "observed": [], "count": []},
    }
