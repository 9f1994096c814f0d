"""What the figures of a report mean."""

import json

import numpy as np
import pytest

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.evaluation import evaluate_sets, metrics

NAN = np.nan
NAMES = ("a", "b", "c")


def marked(*positions, names=NAMES, **values) -> LandmarkSet:
    """A set with a position (x, 0, 0) per number; None is absent."""
    points = [[NAN] * 3 if x is None else [x, 0, 0] for x in positions]
    return LandmarkSet(names[: len(points)], points, **values)


@pytest.fixture
def evaluation():
    """Two common cases: errors 1, 3 and a miss; 2, 2.5 and a false alarm on an absent landmark."""
    references = {"one": marked(0, 0, 0), "two": marked(0, 0, None), "three": marked(0, 0, 0)}
    predictions = {
        "one": marked(1, 3, None, radius=[2, 2, 2]),
        "two": marked(2, 2.5, 9, radius=[2, NAN, 2]),
        "four": marked(0, 0, 0),
    }
    return evaluate_sets(predictions, references)


# Functions


def test_an_error_is_a_distance_and_missing_where_a_point_is():
    errors = metrics.radial_errors([[3, 4, 0], [NAN] * 3, [1, 1, 1]], [[0, 0, 0], [0, 0, 0], [NAN] * 3])
    np.testing.assert_array_equal(errors, [5, NAN, NAN])


def test_the_mean_radial_error_is_a_mean_of_case_means():
    errors = np.array([[1, NAN, NAN], [2, 3, 4], [NAN, NAN, NAN]])
    assert metrics.mean_radial_error(errors) == (2.0, pytest.approx(np.std([1, 3], ddof=1)))


def test_one_case_has_no_spread_and_no_case_no_mean():
    np.testing.assert_array_equal(metrics.mean_radial_error(np.array([[1.0, 3.0]])), [2, NAN])
    np.testing.assert_array_equal(metrics.mean_radial_error(np.zeros((0, 3))), [NAN, NAN])


def test_a_missed_landmark_lowers_the_success_rate_but_has_no_error():
    errors, present = np.array([[2.0, 2.1, NAN, NAN]]), np.array([[True, True, True, False]])
    np.testing.assert_allclose(metrics.success_rates(errors, present, (2, 2.5)), [1 / 3, 2 / 3])
    assert metrics.error_summary(errors)["max"] == 2.1


def test_radiograph_papers_count_only_what_lies_below_a_distance():
    """Each landmark weighs alike there, and an error of exactly 2 mm is none below 2 mm."""
    errors, present = np.array([[2.0, 1.0], [1.0, NAN]]), np.array([[True, True], [True, False]])
    np.testing.assert_allclose(metrics.landmark_success_rates(errors, present, (2, 2.5)), [(1 / 2 + 1) / 2, 1])


def test_presence_scores_mask_what_the_reference_does_not_say():
    predicted = np.array([1, 1, 0, 0, 1, 1], bool)
    present = np.array([1, 0, 1, 0, 1, 0], bool)
    known = np.array([1, 1, 1, 1, 1, 0], bool)
    scores = metrics.presence_scores(predicted, present, known)
    assert scores.counts == (2, 1, 1, 1)
    assert (scores.accuracy, scores.precision, scores.recall, scores.f1) == pytest.approx((0.6, 2 / 3, 2 / 3, 2 / 3))


def test_scores_without_a_case_are_nan():
    nothing = np.zeros((0, 3), bool)
    scores = metrics.presence_scores(nothing, nothing, nothing)
    assert np.isnan([scores.accuracy, scores.precision, scores.recall, scores.f1]).all()
    assert np.isnan(metrics.success_rates(np.zeros((0, 3)), nothing)).all()
    assert np.isnan(metrics.radius_coverage(np.zeros(0), np.zeros(0)))


def test_coverage_counts_errors_within_the_stated_radius():
    assert metrics.radius_coverage(np.array([1, 2, 3, NAN, 1]), np.array([1, 1, 9, 9, NAN])) == pytest.approx(2 / 3)


# Reports


def test_cases_without_a_counterpart_are_named(evaluation):
    assert evaluation.cases == ("one", "two")
    assert evaluation.without_prediction == ("three",)
    assert evaluation.without_reference == ("four",)


def test_the_figures_of_a_report(evaluation):
    figures = evaluation.to_dict()
    assert figures["mre_mm"] == pytest.approx((2 + 2.25) / 2)
    assert figures["sd_mm"] == pytest.approx(np.std([2, 2.25], ddof=1))
    assert figures["mre_interval_mm"] is None, "two cases tell of no others"
    assert (figures["n"], figures["missed"]) == (5, 1)
    assert [figures[f"sdr_{t}"] for t in ("2", "2.5", "3", "4")] == pytest.approx([2 / 5, 3 / 5, 4 / 5, 4 / 5])
    assert figures["presence"]["accuracy"] == pytest.approx(4 / 6)
    assert figures["coverage"] == pytest.approx(2 / 3)
    assert figures["per_case"][0] == {"case": "one", "mean_mm": 2, "missed": 1}


def test_one_case_has_a_mean_without_a_spread():
    text = evaluate_sets({"one": marked(1, None)}, {"one": marked(0, 0)}).text()
    assert "Mean radial error  1.00 mm over cases" in text and "+- -" not in text


@pytest.mark.parametrize("count", [4, 5])
def test_fewer_than_five_cases_have_no_interval(count):
    cases = {f"case-{number}": marked(number + 1) for number in range(count)}
    evaluation = evaluate_sets(cases, {name: marked(0) for name in cases})
    interval = evaluation.to_dict()["mre_interval_mm"]
    assert (interval is None) == (count < 5) == ("interval" not in evaluation.text())
    assert interval is None or interval[0] < np.mean([1, 2, 3, 4, 5]) < interval[1]


def test_the_row_of_a_landmark(evaluation):
    row = evaluation.table[1]
    assert (row["landmark"], row["n"], row["missed"]) == ("b", 2, 0)
    assert (row["mean_mm"], row["median_mm"], row["max_mm"], row["sdr_2.5"]) == (2.75, 2.75, 3, 0.5)
    assert row["p90_mm"] == pytest.approx(2.95)
    assert np.isnan(evaluation.table[2]["mean_mm"]) and evaluation.table[2]["sdr_4"] == 0


def test_landmarks_are_matched_by_name_whatever_their_order():
    prediction = marked(5, 1, 7, names=("c", "a", "extra"))
    evaluation = evaluate_sets({"one": prediction}, {"one": marked(0, 0, 0)})
    assert evaluation.landmarks == ("a", "c")
    np.testing.assert_array_equal(evaluation.errors, [[1, 5]])
    assert (evaluation.never_predicted, evaluation.never_marked) == (("b",), ("extra",))


def test_landmarks_that_the_reference_does_not_know_count_nowhere():
    reference = marked(0, 0, presence=[1, NAN])
    evaluation = evaluate_sets({"one": marked(1, 50)}, {"one": reference})
    figures = evaluation.to_dict()
    assert "1 case, 2 landmarks, 1 present" in evaluation.text()
    assert (figures["n"], figures["max_mm"], figures["presence"]["accuracy"]) == (1, 1, 1)


@pytest.mark.parametrize("references", [{}, {"one": marked(None, None, None)}, {"other": marked(0, 0, 0)}])
def test_a_report_without_any_error_has_empty_figures(references):
    evaluation = evaluate_sets({"one": marked(0, 0, 0)}, references)
    figures = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert figures["mre_mm"] is None and figures["sdr_2"] is None and figures["mre_interval_mm"] is None
    assert "Mean radial error  -" in evaluation.text()


def test_the_text_is_aligned_and_names_what_is_missing(evaluation):
    text = evaluation.text()
    assert "2 cases, 3 landmarks, 5 present in the references" in text
    assert "Mean radial error  2.12 +- 0.18 mm over cases\n" in text
    assert "40.0 % within 2 mm, 60.0 % within 2.5 mm" in text
    assert "Missed             1 present landmark, not found" in text
    assert "Without prediction three" in text
    table = text.split("\n\n")[1].splitlines()
    assert len(table) == 5 and len({len(line) for line in table}) == 1


def test_complete_and_incomplete_cases_are_reported_apart_in_the_published_form():
    """Complete: errors 1, 2, 6. Incomplete: 2 and 3 beside a false alarm; 2.5, a miss, a right absence."""
    references = {"one": marked(0, 0, 0), "two": marked(0, 0, None), "three": marked(0, 0, None)}
    predictions = {"one": marked(1, 2, 6), "two": marked(2, 3, 1), "three": marked(2.5, None, None)}
    evaluation = evaluate_sets(predictions, references)
    whole, complete, incomplete = evaluation.to_dict()["published"]
    assert [row["cases"] for row in (whole, complete, incomplete)] == ["whole", "complete", "incomplete"]
    assert [row["n"] for row in (whole, complete, incomplete)] == [3, 1, 2]
    assert (complete["mre_mm"], complete["sd_mm"], complete["accuracy"], complete["f1"]) == (3, None, 1, 1)
    assert [complete[f"sdr_{t}"] for t in ("2", "2.5", "3", "4")] == pytest.approx([2 / 3] * 4)
    assert (incomplete["mre_mm"], incomplete["sd_mm"]) == (2.5, 0)
    assert [incomplete[f"sdr_{t}"] for t in ("2", "2.5", "3", "4")] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 3 / 4])
    assert (incomplete["accuracy"], incomplete["f1"]) == pytest.approx((4 / 6, 3 / 4))
    assert (whole["mre_mm"], whole["sd_mm"]) == pytest.approx((8 / 3, np.std([3, 2.5, 2.5], ddof=1)))
    assert (whole["accuracy"], whole["f1"]) == pytest.approx((7 / 9, 6 / 7))
    lines = evaluation.text().splitlines()
    assert "whole       3  2.67 +- 0.29   42.86 / 57.14 / 71.43 / 71.43  77.78   85.71" in lines
    assert "incomplete  2  2.50 +- 0.00   25.00 / 50.00 / 75.00 / 75.00  66.67   75.00" in lines


def test_where_no_case_is_incomplete_there_is_only_the_whole():
    evaluation = evaluate_sets({"one": marked(1, 2)}, {"one": marked(0, 0, presence=[1, np.nan])})
    (whole,) = evaluation.to_dict()["published"]
    assert (whole["cases"], whole["n"], whole["mre_mm"]) == ("whole", 1, 1)
    assert "incomplete" not in evaluation.text()
