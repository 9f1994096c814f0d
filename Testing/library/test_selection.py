"""The command's choice of landmarks and region."""

import json

import numpy as np
import pytest
from tiny_model import NAMES, write_tiny_package

from H3DELandmarksLib.cli import main
from H3DELandmarksLib.geometry import Volume
from H3DELandmarksLib.markups_json import read_markups
from H3DELandmarksLib.region import Region, write_region
from H3DELandmarksLib.volume_io import write_volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the tiny model and an oblique scan."""
    folder = tmp_path_factory.mktemp("selection")
    write_tiny_package(folder / "tiny")
    voxels = np.random.default_rng(0).normal(0, 300, (20, 22, 24)).astype(np.int16)
    affine = np.array([[1.6, -1.2, 0, -20], [1.2, 1.6, 0, -30], [0, 0, 2.5, -15], [0, 0, 0, 1.0]])
    write_volume(folder / "scan.nrrd", Volume(voxels, affine))
    return folder


def detect(folder, output, *options):
    model, out = str(folder / "tiny"), str(output)
    code = main(["detect", str(folder / "scan.nrrd"), "--model", model, "--output", out, *map(str, options)])
    return read_markups(output / "scan.mrk.json") if code == 0 else code


def test_chosen_landmarks_are_those_of_the_whole_model_in_its_order(folder, tmp_path):
    everything = detect(folder, tmp_path / "all")
    chosen = detect(folder, tmp_path / "some", "--landmarks", "Right", "Left")
    assert everything.names == NAMES and chosen.names == ("Left", "Right")
    np.testing.assert_array_equal(chosen.positions, everything.positions[[0, 2]])
    np.testing.assert_array_equal(chosen.radius, everything.radius[[0, 2]])


def test_unknown_names_are_refused_before_anything_is_searched(folder, tmp_path, capsys):
    assert detect(folder, tmp_path, "--landmarks", "Left", "Nobody") == 2
    assert "has no landmark 'Nobody': choose among Left, Middle, Right." in capsys.readouterr().err
    assert not (tmp_path / "scan.mrk.json").exists()


def test_a_region_around_everything_changes_nothing(folder, tmp_path):
    write_region(tmp_path / "roi.mrk.json", Region(np.diag([900.0, 900, 900, 1])))
    everything = detect(folder, tmp_path / "all")
    within = detect(folder, tmp_path / "some", "--roi", tmp_path / "roi.mrk.json")
    np.testing.assert_array_equal(within.positions, everything.positions)
    np.testing.assert_array_equal(within.confidence, everything.confidence)


def test_nothing_is_reported_outside_the_region(folder, tmp_path):
    region = Region(np.array([[12.0, 0, 0, -14], [0, 12, 0, 0], [0, 0, 12, 10], [0, 0, 0, 1]]))
    write_region(tmp_path / "roi.mrk.json", region)
    found = detect(folder, tmp_path, "--roi", tmp_path / "roi.mrk.json")
    assert region.contains(found.positions[found.present]).all()
    assert found.unknown[~found.present].all()
    status = [p["positionStatus"] for p in json.loads((tmp_path / "scan.mrk.json").read_text())["markups"][0][
        "controlPoints"]]
    assert [s == "defined" for s in status] == found.present.tolist() and "missing" not in status


def test_a_region_beside_the_scan_is_refused_with_advice(folder, tmp_path, capsys):
    affine = np.diag([10.0, 10, 10, 1])
    affine[0, 3] = 900
    write_region(tmp_path / "roi.mrk.json", Region(affine))
    assert detect(folder, tmp_path, "--roi", tmp_path / "roi.mrk.json") == 2
    assert "region of interest lies outside the scan: move it over the anatomy" in capsys.readouterr().err
