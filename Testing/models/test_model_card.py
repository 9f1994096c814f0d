"""The model card says what the manifest says, whoever made the model, and nothing that it does not say."""

import json
import re

import pytest
from toy_package import MANIFEST

from H3DELandmarksLib.formats.manifest import Manifest
from H3DELandmarksLib.formats.network_settings import SETTINGS
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.models import open_package, registry
from H3DELandmarksLib.models.card import NETWORKS, model_card
from H3DELandmarksResearch.training.card import CardPicture, trained_card

SHA = "a" * 64
BUNDLED = sorted(path.name for path in registry.bundled_folder().iterdir() if path.is_dir())


def manifest(**changes) -> Manifest:
    content = json.loads(json.dumps(MANIFEST))
    for entry in (content["stages"][0]["weights"], content["shape_model"]):
        entry["sha256"] = "0" * 64
    return build(Manifest, {**content, **changes})


def titles(card: str) -> list[str]:
    return re.findall(r"^## (.*)$", card, re.MULTILINE)


def test_a_card_names_every_network_that_can_be_bundled():
    assert set(SETTINGS) >= set(NETWORKS) >= {"h3denet", "hyatt", "han"}


def test_the_least_that_a_card_says():
    card = model_card(manifest())
    assert card.startswith("# Toy\n") and "**Not for clinical use.**" in card and "- finds nothing" in card
    assert titles(card) == ["Use", "Landmarks", "Accuracy", "Confidence", "License", "Method"]
    assert "| L | left | 1.50 |" in card and "| R | right | 2.50 |" in card
    assert "Not measured" in card and "within 2 mm of the right place" in card and "Trained 2026-01-01" in card


def test_a_card_says_whether_radii_are_those_of_points_and_where_they_held():
    assert "90 % of whole scans" in model_card(manifest())
    calibration = {**MANIFEST["calibration"], "points": {"factor_weights": [0.1] * 6}}
    held = {"whole": {"errors": 134, "coverage": 0.91}, "metal": {"errors": 20, "coverage": 0.8271}}
    card = model_card(manifest(calibration=calibration, accuracy={"radius_by_condition": held}))
    assert "each point's own" in card and "whole 91.0 % of 134, metal 82.7 % of 20 errors" in card
    assert "whole scans" not in card


def test_a_card_says_what_statements_are_worth_under_each_condition():
    judged = {"cut": {"points": 120, "ece": 0.0456, "coverage": 0.9012}}
    assert "| cut | 120 | 0.046 | 90.1 % |" in trained_card(manifest(accuracy={"left_out_by_condition": judged}))
    assert "by what the others teach" not in trained_card(manifest())


def test_the_data_of_a_trained_model_are_listed_where_they_are_few():
    split = {"train": [f"t{k}" for k in range(40)], "test": ["one", "two"]}
    card = trained_card(manifest(training={"data": {"split": split}}))
    assert "40 cases (listed in manifest.json" in card and "t39" not in card and "2 cases (one, two)" in card
    assert "seeds 0 to 9" in trained_card(manifest(training={"data": {"seeds": {"train": [0, 10]}}}))


def test_the_data_of_a_model_trained_from_composites_are_these_and_the_phantoms_among_them():
    data = {"reader": "composite", "composites": {"train": 30, "test": 1}, "seeds": {"train": [0, 45]}}
    card = trained_card(manifest(training={"data": data}))
    assert "- train: 30 composites of simulated teeth in real heads; phantoms of seeds 0 to 44\n" in card
    assert "- test: 1 composite of simulated teeth in real heads\n" in card


def test_a_retrained_model_says_base_cases_and_notes():
    base = {"id": "toy", "version": "1.0.0", "digest": "b" * 64}
    cases = [{"sha256": SHA, "revision": 2, "subset": "train", "id": "case-1"}]
    lineage = {"base": base, "cases": cases, "notes": ["Few cases."]}
    card = trained_card(manifest(training={"lineage": lineage, "data": {"split": {"train": ["of the base"]}}}))
    assert "Origin" in titles(card) and "Data" not in titles(card)
    assert "toy@1.0.0" in card and "b" * 64 in card and f"| 2 | train | {SHA} |" in card and "Few cases." in card
    donor = {**lineage, "base": None, "encoder_from": base}
    assert "read the image are those of toy@1.0.0" in trained_card(manifest(training={"lineage": donor}))


def test_results_come_from_the_evaluation_or_from_the_manifest():
    shared = manifest(accuracy={"held-out": {"cases": 5, "mre_mm": 1.25, "coverage": 0.9}})
    assert "- mre_mm: 1.25" in model_card(shared) and "its author's held-out cases" in model_card(shared)
    measured = model_card(shared, accuracy="TABLE\n", measured_on="held-out")
    assert "```text\nTABLE\n```" in measured and "mre_mm" not in measured and "held-out cases: 90.0 %" in measured
    assert "Compared with its base" in titles(model_card(shared, comparison="The new model is better."))


@pytest.mark.parametrize(
    ("cases", "words", "no_words"),
    [
        ({"subset": "calibration", "scans": 40, "radii": "split conformal"}, "40 cases of its own", "hopeful"),
        ({"subset": "validation", "scans": 7, "radii": "cross-conformal"}, "cross-conformal", "of its own"),
        ({"subset": "train", "scans": 3}, "learnt from", "of its own"),
        ({"subset": "cross-fitted", "scans": 35}, "cross-fitting", "of its own"),
        ({"kept_from": "toy 1.0.0", "radii_checked_on": "train", "scans": 3}, "toy 1.0.0", "of its own"),
    ],
)
def test_what_the_calibration_was_fitted_to_is_said(cases, words, no_words):
    card = model_card(manifest(calibration={**MANIFEST["calibration"], "cases": cases}))
    assert words in card and no_words not in card


def test_pictures_stand_in_their_sections_in_order():
    made = [CardPicture(section, f"{section}.png", f"about {section}", b"") for section in ("failures", "definitions")]
    card = trained_card(manifest(), pictures=made)
    assert re.findall(r"!\[[^]]*]\(([^)]*)\)", card) == ["definitions.png", "failures.png"]
    assert "Failure cases" in titles(card)


@pytest.mark.parametrize("model", BUNDLED)
def test_every_bundled_model_can_have_its_card_written_again(model):
    package = open_package(registry.bundled_folder() / model)
    card = trained_card(package.manifest, accuracy="TABLE")
    assert package.manifest.title in card and "{" not in card and "Calibrated on" in card and "ECE" in card
    assert all(landmark.definition in card for landmark in package.scheme.landmarks)


def test_what_readers_differ_by_stands_beside_the_error():
    measured = {"cases": 5, "mre_mm": 1.25, "coverage": 0.9}
    floor = {"readers": 2, "points": 95, "between_mm": 2.34, "model_mm": 1.2}
    told = "The model differs from the readers' mean by 1.20 mm; the two readers differ by 2.34 mm (95 points)."
    for accuracy in (None, "TABLE"):
        card = model_card(manifest(accuracy={"test": {**measured, "human_floor": floor}}), accuracy=accuracy)
        assert told in card
        assert "readers" not in model_card(manifest(accuracy={"test": measured}), accuracy=accuracy)
        wrong = {**measured, "human_floor": {"readers": "two"}}
        assert "readers" not in model_card(manifest(accuracy={"test": wrong}), accuracy=accuracy)
