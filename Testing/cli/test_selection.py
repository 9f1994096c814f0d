"""The command's choice of landmarks and region."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_model import NAMES, write_tiny_package

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.region import Region, region_around
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection import detector as detection
from H3DELandmarksLib.detection.predictions import Detection
from H3DELandmarksLib.formats.provenance import read_provenance
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups, write_region
from H3DELandmarksLib.models import open_package


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
    status = [
        p["positionStatus"] for p in json.loads((tmp_path / "scan.mrk.json").read_text())["markups"][0]["controlPoints"]
    ]
    assert [s == "defined" for s in status] == found.present.tolist() and "missing" not in status


def test_a_region_beside_the_scan_is_refused_with_advice(folder, tmp_path, capsys):
    affine = np.diag([10.0, 10, 10, 1])
    affine[0, 3] = 900
    write_region(tmp_path / "roi.mrk.json", Region(affine))
    assert detect(folder, tmp_path, "--roi", tmp_path / "roi.mrk.json") == 2
    assert "region of interest lies outside the scan: move it over the anatomy" in capsys.readouterr().err


def test_a_region_around_points_has_its_margin_on_all_sides_and_leaves_absent_points_out():
    points = np.array([[0.0, 10, -5], [20, 10, 5], [4, 30, 0], [500, 500, 500]])
    region = region_around(LandmarkSet(tuple("abcd"), points, np.array([1.0, 0.9, 0.6, 0.1])), 7.0)
    corners = np.array([[-7.0, 3, -12], [27, 37, 12]])
    assert region.contains(corners * (1 - 1e-9) + corners.mean(axis=0) * 1e-9).all()
    assert not region.contains(corners + [[-0.01, 0, 0], [0, 0.01, 0]]).any()


def test_two_points_make_no_region():
    assert region_around(LandmarkSet(tuple("abc"), np.eye(3), np.array([1.0, 0.9, 0.1])), 7.0) is None


def test_of_what_a_region_does_not_show_the_right_cause_is_told(folder, tmp_path, monkeypatch):
    """Absent from the region, expected elsewhere in the scan, and expected beyond the scan."""
    center = read_volume(folder / "scan.nrrd").grid.center
    expected = center + [[0, 0, 0], [0, 0, 20], [0, 0, 500]]

    def examine(self, volume, progress=None, cancelled=None, beyond=None):
        found = LandmarkSet(NAMES, np.full((3, 3), np.nan), [0.1] * 3).unknown_where([False, True, True], beyond)
        return Detection(found, None, found, expected=expected)

    monkeypatch.setattr(Detector, "examine", examine)
    affine = np.diag([20.0, 20, 20, 1])
    affine[:3, 3] = center
    write_region(tmp_path / "roi.mrk.json", Region(affine))
    detect(folder, tmp_path, "--roi", tmp_path / "roi.mrk.json")
    points = read_provenance(tmp_path / "scan.provenance.json").points
    assert [(point.state, point.cause) for point in points] == [
        ("proposed absent", None),
        ("not examined", "outside the region"),
        ("not examined", "outside the scan"),
    ]


def test_another_model_finds_where_to_search(folder, tmp_path):
    volume, detector = read_volume(folder / "scan.nrrd"), Detector(open_package(folder / "tiny"), device="cpu")
    first = detector.detect(volume)
    assert first.present.all()
    expected = detector.detect(region_around(first, 4.0).crop(volume))
    assert not np.allclose(expected.confidence, first.confidence)
    found = detect(folder, tmp_path, "--roi-from", folder / "tiny", "--roi-margin", 4)
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-6)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)
    region = read_provenance(tmp_path / "scan.provenance.json").settings.region
    assert region.startswith("4 mm around points of tiny@")


def test_a_landmark_that_the_other_model_misses_is_expected_where_its_shape_has_it(folder, monkeypatch):
    """Otherwise the region would end short of what was missed."""
    detector, volume = Detector(open_package(folder / "tiny"), device="cpu"), read_volume(folder / "scan.nrrd")
    found = replace(detector.findings(volume), presence_logit=np.array([9.0, -9, 9]))
    detector.calibration = replace(detector.calibration, presence_scale=1.0, presence_bias=0.0)
    monkeypatch.setattr(detector, "findings", lambda *_: found)
    assert detector.landmark_set(found).present.tolist() == [True, False, True]
    assert detector.likely_places(volume) is None
    monkeypatch.setattr(detection, "FEWEST", 2)
    places = detector.likely_places(volume).positions
    np.testing.assert_allclose(places[[0, 2]], found.positions[[0, 2]])
    np.testing.assert_allclose(places[1], found.pose.to_lps(detector.shape.mean)[1])


def test_where_the_other_model_finds_too_little_the_whole_scan_is_searched(folder, tmp_path, capsys):
    everything = detect(folder, tmp_path / "all")
    air = Volume(np.full((20, 22, 24), -1000, np.int16), read_volume(folder / "scan.nrrd").affine)
    write_volume(folder / "air.nrrd", air)
    assert everything.present.any()
    model, out = str(folder / "tiny"), str(tmp_path / "air")
    assert main(["detect", str(folder / "air.nrrd"), "--model", model, "--output", out, "--roi-from", model]) == 0
    assert not read_markups(tmp_path / "air" / "air.mrk.json").present.any()
    assert "finds too few points here: the whole scan is searched" in capsys.readouterr().err
    assert read_provenance(tmp_path / "air" / "air.provenance.json").settings.region is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--roi-points", "Left"], "--roi-points belongs to --roi-from"),
        (["--roi-from", "{tiny}", "--roi-points", "Nobody"], "has no landmark 'Nobody'"),
        (["--roi-from", "no-such-model"], "no-such-model"),
    ],
)
def test_what_names_no_region_is_refused_before_anything_is_searched(folder, tmp_path, capsys, words, sentence):
    assert detect(folder, tmp_path, *(word.format(tiny=folder / "tiny") for word in words)) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "scan.mrk.json").exists()


@pytest.mark.parametrize("words", [["--roi-margin", "0"], ["--roi-from", "{tiny}", "--roi", "box.mrk.json"]])
def test_wrong_usage_of_regions_ends_with_help(folder, tmp_path, words):
    with pytest.raises(SystemExit, match="2"):
        detect(folder, tmp_path, *(word.format(tiny=folder / "tiny") for word in words))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--roi-margin", "3"], "--roi-from"),
        (["--consent", "gpu.clinic.example"], "--scheduler"),
        (["--shared-paths"], "--scheduler"),
        (["--tls-ca", "none.pem"], "--scheduler"),
        (["--tls-cert", "none.pem", "--local-cluster", "1"], "--scheduler"),
        (["--local-cluster", "1", "--jobs", "2"], "--jobs"),
        (["--scheduler", "tcp://127.0.0.1:1", "--jobs", "2"], "--jobs"),
    ],
)
def test_options_that_would_do_nothing_are_refused(folder, tmp_path, capsys, words, named):
    assert detect(folder, tmp_path, *words) == 2
    assert named in capsys.readouterr().err and not (tmp_path / "scan.mrk.json").exists()


def test_a_list_s_boxes_and_another_model_s_region_are_not_both_searched(folder, tmp_path, capsys):
    write_region(tmp_path / "box.mrk.json", Region(np.diag([900.0, 900, 900, 1])))
    scan, out = folder / "scan.nrrd", tmp_path / "out"
    (tmp_path / "list.csv").write_text(f"path,region\n{scan},box.mrk.json\n", encoding="utf-8")
    words = [
        "detect",
        tmp_path / "list.csv",
        "--model",
        folder / "tiny",
        "--output",
        out,
        "--roi-from",
        folder / "tiny",
    ]
    assert main([*map(str, words)]) == 2
    assert "region" in capsys.readouterr().err and not (out / "scan.mrk.json").exists()
    assert main([*map(str, words[:-2])]) == 0
