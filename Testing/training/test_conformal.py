"""Radii hold nine of ten errors of cases that had no part in them, also where the errors of a case go together."""

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.training.calibration import radii
from H3DELandmarksResearch.training.evaluation import radii_without


def errors_of(cases: int, seed: int, landmarks: int = 12) -> np.ndarray:
    """(N, K) mm: landmarks differ in difficulty, cases in quality; some points are missing."""
    rng = np.random.default_rng(seed)
    quality = rng.lognormal(0, 0.3, (cases, 1))
    error = quality * rng.gamma(2.0, np.linspace(0.1, 0.4, landmarks), (cases, landmarks))
    return np.where(rng.random(error.shape) < 0.15, np.nan, error)


def share_within(error: np.ndarray, radius: np.ndarray) -> float:
    return (error <= radius)[np.isfinite(error)].mean()


@pytest.mark.parametrize("cases", [6, 12, 40])
def test_the_mean_coverage_of_new_cases_is_ninety_percent_from_few_and_many_cases(cases):
    fresh = errors_of(400, 99)
    covered = [share_within(fresh, radii(errors_of(cases, seed))) for seed in range(40)]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.03)


def test_each_case_is_covered_by_the_radii_of_the_others():
    error = errors_of(40, 3)
    assert share_within(error, radii_without(error)) == pytest.approx(0.9, abs=0.03)


def test_the_radii_without_a_case_do_not_depend_on_it():
    error = errors_of(8, 5)
    changed = error.copy()
    changed[2] *= 50
    assert np.array_equal(radii_without(error)[2], radii_without(changed)[2])
    assert not np.allclose(radii_without(error)[3], radii_without(changed)[3])


def test_harder_landmarks_get_larger_radii_and_larger_shares_larger_ones():
    error = errors_of(40, 1)
    assert radii(error)[-1] > 1.5 * radii(error)[0]
    assert (radii(error, 0.95) > radii(error, 0.85)).all()


def test_radii_are_no_larger_than_the_share_asks_for():
    """Eight of ten left-out errors that are held are enough for four fifths, and not for more."""
    error = np.arange(1.0, 11.0)[:, None]
    assert radii(error, 0.8)[0] < radii(error, 0.8001)[0]


@pytest.mark.parametrize(("cases", "low", "high"), [(2, 1.2, 2.0), (200, 10.0, 19.0)])
def test_few_cases_hardly_tell_landmarks_apart_and_many_do(cases, low, high):
    error = np.tile([0.1, 1.9], (cases, 1))
    easy, hard = radii(error)
    assert low < hard / easy < high


def test_a_landmark_weighs_as_ten_more_cases_with_the_error_of_all():
    error = np.tile([0.1, 1.9], (2, 1))
    easy, hard = radii(error)
    assert hard / easy == pytest.approx((2 * 1.9 + 10) / (2 * 0.1 + 10))


def test_radii_scale_with_the_errors():
    error = errors_of(10, 2)
    assert np.allclose(radii(3 * error), 3 * radii(error))


def test_a_landmark_without_any_error_gets_the_radius_of_a_usual_one():
    error = errors_of(20, 4)
    error[:, 5] = np.nan
    assert radii(error)[5] == pytest.approx(np.median(radii(error)), rel=0.5)


def test_a_single_case_is_enough_and_none_is_not():
    assert (radii(errors_of(1, 6)) > 0).all()
    with pytest.raises(InputError, match="train for more steps"):
        radii(np.full((3, 4), np.nan))
