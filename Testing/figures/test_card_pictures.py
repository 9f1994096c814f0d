"""The model card shows every point, the errors, the reliability and the worst cases, and no scan that is private."""

import re
import sys
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from tiny_model import MANIFEST, NAMES

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection.calibration import Calibration
from H3DELandmarksLib.evaluation import evaluate_sets
from H3DELandmarksLib.evaluation.reliability import compare_statements
from H3DELandmarksLib.formats.manifest import UNKNOWN_SHA256, Manifest
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.models.card import model_card
from H3DELandmarksLib.training.cases import Case
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
def measured(test) -> ModelEvaluation:
    found = {}
    for case in test:
        presence = np.array([0.9, 0.8, 0.2 if case.name == "missed" else 0.95])
        positions = case.landmarks.positions + (0, OFFSETS[case.name], 0)
        found[case.name] = LandmarkSet(NAMES, positions, presence, np.array([0.5, 0.7, 0.9]), np.full(3, 1.5))
    truth = {case.name: case.landmarks for case in test}
    calibration = Calibration(1.0, 0.0, np.zeros(4), 2.0, np.array([1.5, 1.5, 2.0]))
    summary = dict.fromkeys((WHOLE, CUT), compare_statements(found, truth, 2.0).summary())
    return ModelEvaluation(calibration, evaluate_sets(found, truth), found, summary, None, SHAPE)


@pytest.fixture(scope="module")
def manifest(measured) -> Manifest:
    content = deepcopy(MANIFEST)
    for entry in (content["stages"][0]["weights"], content["shape_model"]):
        entry["sha256"] = UNKNOWN_SHA256
    cases = {"subset": "validation", "scans": 7, "radii": measured.radii_from}
    calibration = measured.calibration.to_manifest(cases)
    return replace(build(Manifest, content), calibration=calibration, accuracy=measured.accuracy())


@pytest.fixture(scope="module")
def pictures(manifest, measured, test) -> list:
    return card_pictures(manifest, measured, test, show_scans=False)


@pytest.fixture(scope="module")
def card(manifest, measured, pictures) -> str:
    return model_card(manifest, accuracy=measured.evaluation.text(), pictures=pictures)


def test_pictures_are_what_their_names_say_and_small(manifest, measured, test, pictures):
    for made in (pictures, card_pictures(manifest, measured, test, show_scans=True)):
        for picture in made:
            start = b"\x89PNG" if picture.file.endswith(".png") else b"\xff\xd8\xff"
            assert picture.data.startswith(start) and len(picture.data) > 1000
        assert sum(len(picture.data) for picture in made) <= 400_000
        assert len({picture.file for picture in made}) == len(made)


def test_the_card_shows_every_picture_that_is_there_and_no_other(card, pictures):
    assert re.findall(r"!\[[^]]*]\(([^)]*)\)", card) == [picture.file for picture in pictures]


def test_scans_are_drawn_only_where_they_may_be_shown(manifest, measured, test, pictures):
    changed = [Case(case.name, Volume(case.volume.array[::-1], case.volume.affine), case.landmarks) for case in test]
    again = card_pictures(manifest, measured, changed, show_scans=False)
    assert [picture.data for picture in again] == [picture.data for picture in pictures]
    shown = card_pictures(manifest, measured, test, show_scans=True)
    others = card_pictures(manifest, measured, changed, show_scans=True)
    assert shown[0].data != others[0].data and shown[-1].data != others[-1].data


def test_a_radiograph_is_shown_as_one_and_not_in_slices(manifest, measured, test):
    slices = [(case, Volume(case.volume.array[:, :, 15:16], case.volume.affine)) for case in test]
    flat = [Case(case.name, volume, case.landmarks) for case, volume in slices]
    texts = {picture.file: picture.caption for picture in card_pictures(manifest, measured, flat, show_scans=True)}
    assert texts["landmarks.jpg"] == "The points in one radiograph." and "points.jpg" not in texts


def test_the_worst_cases_come_first_and_a_missed_point_counts(measured):
    names = [measured.evaluation.cases[row] for row in worst_cases(measured)]
    assert names[0] == "far" and "missed" in names and "near" not in names


def test_failures_say_what_went_wrong(card):
    assert "far: mean error 3.00 mm; worst " in card
    assert "missed: mean error 0.30 mm" in card and "missed: Right." in card


def test_without_matplotlib_the_card_has_its_tables_alone(manifest, measured, test, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert card_pictures(manifest, measured, test, show_scans=True) == []
    assert "matplotlib" in caplog.text
    assert "![" not in model_card(manifest, accuracy=measured.evaluation.text())
