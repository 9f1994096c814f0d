"""Paired comparison of two models: against brute force, scipy and what a fair comparison must not do."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from H3DELandmarksLib.evaluation.paired import (
    bootstrap_interval,
    counted_errors,
    holm,
    improvement,
    signed_rank_p,
    subject_means,
)

NAN = np.nan
differences = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=2, max_size=9)


# Misses


def test_a_missed_point_counts_as_far_off_and_never_as_missing():
    base, candidate = np.array([1.0, NAN, 7.0, NAN, NAN]), np.array([2.0, 1.0, NAN, NAN, NAN])
    present = np.array([True, True, True, True, False])
    counted = counted_errors(base, candidate, present, miss_mm=4.0)
    np.testing.assert_array_equal(counted[0], [1, 4, 7, 4, NAN])
    np.testing.assert_array_equal(counted[1], [2, 1, 7, 4, NAN])


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=12), st.data())
def test_no_model_gains_by_missing_a_point(pairs, data):
    base, candidate = np.array(pairs).T
    present = np.ones(len(pairs), bool)
    before = np.subtract(*counted_errors(base, candidate, present, 4.0)).mean()
    left_out = candidate.copy()
    left_out[data.draw(st.integers(0, len(pairs) - 1))] = NAN
    after = np.subtract(*counted_errors(base, left_out, present, 4.0)).mean()
    worse_than_base = (candidate > np.maximum(base, 4.0)).any()
    assert after <= before + 1e-9 or worse_than_base


# Subjects


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.just(NAN), st.floats(-9, 9))), min_size=1, max_size=9))
def test_the_mean_of_a_subject_is_over_its_cases(rows):
    subjects, values = [s for s, _ in rows], np.array([v for _, v in rows])
    for subject, mean in zip(dict.fromkeys(subjects), subject_means(values, subjects)):
        own = [v for s, v in rows if s == subject and np.isfinite(v)]
        assert mean == pytest.approx(np.mean(own)) if own else np.isnan(mean)


def test_a_subject_with_many_scans_counts_once():
    np.testing.assert_allclose(subject_means(np.array([[1.0], [3.0], [9.0]]), ["a", "a", "b"]), [[2.0], [9.0]])


# Interval


@pytest.mark.parametrize("values", [(0.3, 0.1, -0.2, 0.9, 0.4), (1.0, 2.0, 4.0, 8.0, 16.0)])
def test_the_interval_is_that_of_all_possible_resamples(values):
    values = np.array(values)
    n = len(values)
    every = np.array(list(itertools.product(values, repeat=n))).mean(axis=1)
    tail = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
    exact = np.quantile(every, (tail, 1 - tail))
    np.testing.assert_allclose(bootstrap_interval(values, draws=200_000), exact, atol=0.06 * np.ptp(values))


@settings(deadline=None, max_examples=40)
@given(differences, st.floats(-3, 3))
def test_an_interval_moves_and_turns_with_its_values(values, shift):
    values = np.array(values)
    low, high = bootstrap_interval(values)
    assert low <= values.mean() + 1e-9 and values.mean() - 1e-9 <= high
    np.testing.assert_allclose(bootstrap_interval(values + shift), (low + shift, high + shift), atol=1e-9)
    np.testing.assert_allclose(bootstrap_interval(-values), (-high, -low), atol=1e-9)
    assert len(values) < 5 or (values.min() - 1e-9 <= low and high <= values.max() + 1e-9)


def test_the_same_seed_gives_the_same_interval_and_one_value_tells_nothing():
    values = np.random.default_rng(3).normal(size=12)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    assert bootstrap_interval(np.array([3.0])) == (-np.inf, np.inf)
    assert bootstrap_interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_intervals_of_few_subjects_hold_the_truth_about_as_often_as_they_say():
    rng, held, better, rounds = np.random.default_rng(0), 0, 0, 400
    for _ in range(rounds):
        low, high = bootstrap_interval(rng.normal(0, 1, 6), draws=2000)
        held += low <= 0 <= high
        better += low > 0
    assert held / rounds > 0.90  # plain percentiles: 0.86
    assert better / rounds < 0.055  # plain percentiles: 0.07


@pytest.mark.parametrize("count", [8, 15])
def test_the_interval_of_evenly_spread_subjects_is_as_wide_as_student_s(count):
    values = norm.ppf((np.arange(count) + 0.5) / count)
    low, high = bootstrap_interval(values, draws=50_000)
    reach = t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    assert (high - low) / 2 == pytest.approx(reach, rel=0.025)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_interval_of_very_few_subjects_is_as_wide_as_it_must_be(count):
    rng = np.random.default_rng(1)
    held = [low <= 0 <= high for low, high in (bootstrap_interval(rng.normal(size=count)) for _ in range(400))]
    assert 0.92 < np.mean(held) < 0.98
    assert bootstrap_interval(np.array([1.0, 2.0])) == pytest.approx((1.5 - 6.353, 1.5 + 6.353), abs=1e-3)


# Tests


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-60, 60).filter(bool), min_size=1, max_size=8, unique_by=abs))
def test_the_signed_rank_test_is_that_of_all_signs(values):
    ranks = np.argsort(np.argsort(np.abs(values))) + 1
    seen = ranks[np.array(values) > 0].sum()
    sums = np.array([ranks[list(signs)].sum() for signs in itertools.product((False, True), repeat=len(values))])
    expected = min(1.0, 2 * min((sums <= seen).mean(), (sums >= seen).mean()))
    assert signed_rank_p(np.array(values, float)) == pytest.approx(expected)


def test_equal_errors_are_no_evidence():
    assert signed_rank_p(np.zeros(6)) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_holm_rejects_what_the_procedure_rejects(p, alpha):
    rejected = set()
    for step, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] * (len(p) - step) > alpha:
            break
        rejected.add(int(index))
    assert {k for k, value in enumerate(holm(p)) if value <= alpha} == rejected


def test_a_corrected_p_is_no_smaller_than_that_of_a_smaller_one():
    np.testing.assert_allclose(holm([0.9, 0.03, 0.031]), [0.9, 0.09, 0.09])


def test_an_improvement_leaves_out_subjects_without_a_value():
    found = improvement(np.array([0.2, NAN, 0.4, 0.3]))
    assert (found.subjects, found.mean) == (3, pytest.approx(0.3))
    assert (found.low, found.high) == pytest.approx((0.0516, 0.5484), abs=1e-4)
    nothing = improvement(np.array([NAN]))
    assert nothing.subjects == 0 and np.isnan(nothing.mean) and (nothing.low, nothing.p) == (-np.inf, 1.0)
