"""The model card shows every point, the errors, the reliability and the worst cases, and no scan that is private."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from tiny_model import NAMES, write_tiny_package

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.evaluation import evaluate_sets
from H3DELandmarksLib.formats.manifest import Manifest
from H3DELandmarksLib.models.card import NETWORKS
from H3DELandmarksLib.networks import ARCHITECTURES
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.evaluation.reliability import compare_statements
from H3DELandmarksResearch.training.card import trained_card
from H3DELandmarksResearch.training.card_pictures import card_pictures, worst_cases
from H3DELandmarksResearch.training.evaluation import CUT, WHOLE, ModelEvaluation

SHAPE = ShapeModel(np.array([[12.0, 0, 3], [0, 6, 0], [-12, 0, 3]]), np.ones(3))
OFFSETS = {"near": 0.2, "far": 3.0, "middle": 1.0, "missed": 0.3}


def test_case(name: str) -> Case:
    rng = np.random.default_rng(len(name))
    array = rng.normal(0, 40, (40, 40, 30)).astype(np.int16)
    array[8:32, 10:30, 5:25] += 900
    volume = Volume(array, np.diag([1.0, 1.0, 1.0, 1.0]))
    return Case(name, volume, LandmarkSet(NAMES, SHAPE.mean + (20, 20, 15)))


test_case.__test__ = False


@pytest.fixture(scope="module")
def test() -> list[Case]:
    return [test_case(name) for name in OFFSETS]


@pytest.fixture(scope="module")
def verdict(test) -> ModelEvaluation:
    found = {}
    for case in test:
        presence = np.array([0.9, 0.8, 0.2 if case.name == "missed" else 0.95])
        positions = case.landmarks.positions + (0, OFFSETS[case.name], 0)
        found[case.name] = LandmarkSet(NAMES, positions, presence, np.array([0.5, 0.7, 0.9]), np.full(3, 1.5))
    truth = {case.name: case.landmarks for case in test}
    calibration = Calibration(1.0, 0.0, np.zeros(4), 2.0, np.array([1.5, 1.5, 2.0]))
    summary = dict.fromkeys((WHOLE, CUT), compare_statements(found, truth, 2.0).summary())
    return ModelEvaluation(calibration, evaluate_sets(found, truth), found, summary, None, SHAPE, {})


@pytest.fixture(scope="module")
def manifest(verdict, tmp_path_factory) -> Manifest:
    split = {"train": [f"t{k}" for k in range(40)], "test": list(OFFSETS)}
    calibration = verdict.calibration.to_manifest({"subset": "validation", "scans": 7, "radii": verdict.radii_from})
    training = {"data": {"split": split}, "date": "2026-01-01", "software": "H3DELandmarksLib"}
    tiny = write_tiny_package(tmp_path_factory.mktemp("tiny") / "model").manifest
    return replace(tiny, training=training, calibration=calibration, accuracy=verdict.accuracy())


@pytest.fixture(scope="module")
def pictures(manifest, verdict, test) -> list:
    return card_pictures(manifest, verdict, test, show_scans=False)


@pytest.fixture(scope="module")
def card(manifest, verdict, pictures) -> str:
    return trained_card(manifest, accuracy=verdict.evaluation.text(), pictures=pictures)


def test_pictures_are_what_their_names_say_and_small(manifest, verdict, test, pictures):
    for made in (pictures, card_pictures(manifest, verdict, test, show_scans=True)):
        for picture in made:
            start = b"\x89PNG" if picture.file.endswith(".png") else b"\xff\xd8\xff"
            assert picture.data.startswith(start) and len(picture.data) > 1000
        assert sum(len(picture.data) for picture in made) <= 400_000
        assert len({picture.file for picture in made}) == len(made)


def test_the_card_shows_every_picture_that_is_there_and_no_other(card, pictures):
    assert re.findall(r"!\[[^]]*]\(([^)]*)\)", card) == [picture.file for picture in pictures]


def test_scans_are_drawn_only_where_they_may_be_shown(manifest, verdict, test, pictures):
    changed = [Case(case.name, Volume(case.volume.array[::-1], case.volume.affine), case.landmarks) for case in test]
    again = card_pictures(manifest, verdict, changed, show_scans=False)
    assert [picture.data for picture in again] == [picture.data for picture in pictures]
    shown = card_pictures(manifest, verdict, test, show_scans=True)
    others = card_pictures(manifest, verdict, changed, show_scans=True)
    assert shown[0].data != others[0].data and shown[-1].data != others[-1].data


def test_a_phantom_shows_the_points_where_other_scans_may_not(manifest, verdict, test):
    simulated = [Case(f"phantom-{number}", case.volume, case.landmarks) for number, case in enumerate(test[:1])]
    made = card_pictures(manifest, verdict, [*test, *simulated], show_scans=False)
    assert [picture.file for picture in made[:2]] == ["landmarks.jpg", "points.jpg"]
    assert all("simulated" in picture.caption for picture in made[:2])


def test_a_radiograph_is_shown_as_one_and_not_in_slices(manifest, verdict, test):
    slices = [(case, Volume(case.volume.array[:, :, 15:16], case.volume.affine)) for case in test]
    flat = [Case(case.name, volume, case.landmarks) for case, volume in slices]
    texts = {picture.file: picture.caption for picture in card_pictures(manifest, verdict, flat, show_scans=True)}
    assert texts["landmarks.jpg"] == "The points in one radiograph." and "points.jpg" not in texts


def test_the_worst_cases_come_first_and_a_missed_point_counts(verdict):
    names = [verdict.evaluation.cases[row] for row in worst_cases(verdict)]
    assert names[0] == "far" and "missed" in names and "near" not in names


def test_failures_say_what_went_wrong(card):
    assert "far: mean error 3.00 mm; worst " in card
    assert "missed: mean error 0.30 mm" in card and "missed: Right." in card


def test_the_card_says_what_a_user_must_know(card):
    for part in (
        "Not for clinical use",
        "## Use",
        "## Data",
        "## Landmarks",
        "## Accuracy",
        "## Confidence",
        "## Failure cases",
        "CC0-1.0",
        "the left point",
        "within 2 mm of the right place",
        "Calibrated on the 7 validation cases",
        "90 % of errors",
        "ECE",
    ):
        assert part in card


def test_long_lists_of_cases_are_left_to_the_manifest(card):
    assert "40 cases (listed in manifest.json, training.data.split.train)" in card and "t39" not in card
    assert "4 cases (near, far, middle, missed)" in card


def test_own_calibration_cases_are_named_as_such(manifest, verdict):
    cases = {"subset": "calibration", "scans": 40, "radii": "split conformal"}
    text = trained_card(replace(manifest, calibration=replace(manifest.calibration, cases=cases)))
    assert "Calibrated on 40 cases of its own" in text and "too hopeful" not in text


def test_without_matplotlib_the_card_has_its_tables_alone(manifest, verdict, test, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert card_pictures(manifest, verdict, test, show_scans=True) == []
    assert "matplotlib" in caplog.text
    assert "![" not in trained_card(manifest)


def test_a_card_names_every_network_that_can_be_trained():
    assert set(NETWORKS) == set(ARCHITECTURES)
