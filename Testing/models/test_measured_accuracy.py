"""A model that was measured and found wanting says so wherever it is used."""

import json

import numpy as np
import pytest
from tiny_model import write_tiny_package

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.models.card import model_card

GOOD = {"cases": 9, "median_mm": 1.9, "coverage": 0.9}


@pytest.fixture
def package_with(tmp_path):
    """A tiny model, which counts 2 mm as right, with figures of accuracy."""

    def make(**accuracy):
        path = write_tiny_package(tmp_path / "tiny").path
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**manifest, "accuracy": accuracy}))
        return open_package(path)

    return make


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        ({"held-out": GOOD}, []),
        ({"held-out": {**GOOD, "median_mm": 2.0, "coverage": 0.8}}, []),
        ({"held-out": {**GOOD, "median_mm": 11.0}}, ["9 held-out cases", "more than 11.0 mm off"]),
        ({"test": {**GOOD, "coverage": 0.375}}, ["9 test cases", "held 38 % of errors"]),
        ({"test": GOOD, "held-out": {**GOOD, "median_mm": 11.0}}, []),
    ],
)
def test_what_was_measured_is_told_in_a_sentence(package_with, accuracy, words):
    caution = package_with(**accuracy).manifest.measured.caution()
    assert all(word in caution for word in words) and bool(caution) == bool(words)


@pytest.mark.parametrize("accuracy", [{}, {"test": {"cases": 2}}, {"test": {**GOOD, "median_mm": None}}])
def test_nothing_is_said_of_what_nobody_has_measured(package_with, accuracy):
    assert package_with(**accuracy).manifest.measured is None


@pytest.mark.parametrize(("coverage", "shown"), [(0.5, False), (0.85, True)])
def test_radii_that_do_not_hold_are_not_shown_and_the_command_says_so(package_with, tmp_path, capsys, coverage, shown):
    package = package_with(**{"held-out": {**GOOD, "coverage": coverage}})
    voxels = np.random.default_rng(0).normal(0, 300, (24, 22, 20)).astype(np.int16)
    write_volume(tmp_path / "scan.nrrd", Volume(voxels, np.diag([2.0, 2, 2, 1])))
    words = ["detect", str(tmp_path / "scan.nrrd"), "--model", str(package.path), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    assert ("This model is not accurate" in capsys.readouterr().err) is not shown
    found = read_markups(tmp_path / "out" / "scan.mrk.json")
    assert found.present.all() and np.isfinite(found.radius).all() == shown == np.isfinite(found.radius).any()


def test_a_model_that_a_list_names_says_so_too(package_with, tmp_path, capsys):
    package = package_with(**{"held-out": {**GOOD, "coverage": 0.5}})
    voxels = np.random.default_rng(0).normal(0, 300, (24, 22, 20)).astype(np.int16)
    write_volume(tmp_path / "scan.nrrd", Volume(voxels, np.diag([2.0, 2, 2, 1])))
    (tmp_path / "list.csv").write_text("path,model\nscan.nrrd,tiny\nscan.nrrd,nowhere\n", encoding="utf-8")
    words = ["detect", str(tmp_path / "list.csv"), "--model", "mandibular-molar-phantom"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 2
    assert f"The model '{package.id}': This model is not accurate" in capsys.readouterr().err


def test_the_card_begins_with_it(package_with):
    manifest = package_with(**{"held-out": {**GOOD, "median_mm": 11.0}}).manifest
    assert "**This model is not accurate" in model_card(manifest).split("## ")[0]
