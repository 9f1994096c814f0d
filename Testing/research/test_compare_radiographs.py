"""Radiograph models side by side: the table is that of the points, and differences are paired over subjects."""

import numpy as np
import pytest

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.studies.compare_radiographs import as_text, compare, measure, subject_of, view_of

NAMES = ("a", "b")
POINTS = np.array([[1.0, 2.0, 0.0], [5.0, 6.0, 0.0]])


def case(name):
    picture = Volume(np.zeros((4, 4, 1), np.uint8), np.eye(4))
    return Case(name, picture, LandmarkSet(NAMES, POINTS, np.ones(2)))


def detector(*distances):
    """Finds, one case after another, both points so many mm beside their place; None misses the second point."""
    left = iter(distances)

    def detect(volume):
        distance = next(left)
        beside = POINTS + [distance or 0.0, 0, 0]
        return LandmarkSet(NAMES, beside, np.array([1.0, distance is not None]), radius=np.full(2, 1.5))

    return detect


CASES = [case("one_left-000"), case("one_right-001"), case("two_left-000")]


@pytest.fixture
def figures():
    base = measure(detector(1.0, 1.0, 2.0), CASES, (1.0, 2.0))
    other = measure(detector(0.5, 0.5, None), CASES, (1.0, 2.0))
    return {"command": "test", "thresholds_mm": (1.0, 2.0), **compare({"base": base, "other": other}, 3.0)}


def test_names_tell_subject_and_view():
    assert subject_of("C57BL_6NJ_oblique-left-003") == "C57BL_6NJ"
    assert view_of("C57BL_6NJ_oblique-left-003") == "oblique-left"


def test_figures_are_those_of_the_points(figures):
    base, other = figures["models"]["base"], figures["models"]["other"]
    assert base["mre_mm"] == pytest.approx(4 / 3) and base["success"] == [pytest.approx(4 / 6), 1.0]
    assert other["success"][1] == pytest.approx(5 / 6) and other["presence_accuracy"] == pytest.approx(5 / 6)
    assert base["coverage"] == pytest.approx(4 / 6) and base["views"]["right"]["radiographs"] == 1


def test_a_subject_counts_once_and_a_miss_counts_against_the_model(figures):
    assert figures["models"]["base"]["improvement_mm"] is None
    # One: 0.5 better. Two: one point 2 better, the missed one counts 3 against 2, so 0.5 better. A radiograph more of
    # one subject changes nothing.
    assert figures["models"]["other"]["improvement_mm"][0] == pytest.approx(0.5)
    assert "other is better than the first by 0.500 mm" in as_text(figures)


def test_the_sentence_says_which_of_two_models_is_better(figures):
    figures["models"]["other"]["improvement_mm"][:3] = [-0.25, -0.5, 0.1]
    sentence = "other is worse than the first by 0.250 mm a subject (95 % of the gain -0.500 to 0.100 mm"
    assert sentence in as_text(figures)
