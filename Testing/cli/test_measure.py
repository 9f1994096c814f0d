"""The command ``measure``, and measurements beside the results of detection and in exports."""

import csv
import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from cohorts import write_result
from test_cli import make_scan
from tiny_model import MANIFEST, write_tiny_package

from H3DELandmarksLib.cases.export import MEASUREMENT_TABLE
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.measurements import bundled_measurements
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.formats.results import DetectionResult, MeasurementResult
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksLib.io.tables import write_measurements

DEFINITIONS = {
    "measurements": [
        {
            "name": "width",
            "kind": "distance",
            "of": ["Left", "Right"],
            "norm": {"mean": 10, "sd": 2, "source": "nobody"},
            "classes": [{"name": "any"}],
        },
        {"name": "=bend", "kind": "angle", "of": ["Left", "Middle", "Right"]},
    ]
}
SQUARE = LandmarkSet(("Left", "Middle", "Right"), [[0, 3, 5], [0, 0, 5], [4, 0, 5]], radius=[1, 1, 1])


@pytest.fixture
def measuring(tmp_path, monkeypatch):
    """Path of a tiny model whose scheme defines measurements."""
    manifest = deepcopy(MANIFEST)
    manifest["scheme"]["measurements"] = DEFINITIONS
    monkeypatch.setattr("tiny_model.MANIFEST", manifest)
    return write_tiny_package(tmp_path / "tiny").path


@pytest.fixture
def scheme(tmp_path):
    path = tmp_path / "scheme.json"
    path.write_text(json.dumps({**MANIFEST["scheme"], "measurements": DEFINITIONS}))
    return path


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(capsys, *words):
    code = main([str(word) for word in words])
    output = capsys.readouterr()
    return code, json.loads(output.out) if "--json" in words else output.out, output.err


def test_a_point_list_is_measured_by_a_scheme(tmp_path, scheme, capsys):
    write_markups(tmp_path / "square.mrk.json", SQUARE)
    code, document, _ = run(
        capsys, "measure", tmp_path / "square.mrk.json", "--scheme", scheme, "--output", tmp_path / "m.csv", "--json"
    )
    (case,) = document["cases"]
    width, bend = case["measurements"]
    assert code == 0 and case["case"] == "square"
    assert (width["name"], width["value"], width["unit"], width["category"]) == ("width", 5, "mm", "any")
    assert width["low90"] < 5 < width["high90"] and width["z"] == -2.5 and width["within_norm"] is False
    assert bend["value"] == pytest.approx(90) and "norm" not in bend
    rows = table(tmp_path / "m.csv")
    assert [(row["case"], row["value"], row["unit"], row["within_norm"]) for row in rows] == [
        ("square", "5", "mm", "false"),
        ("square", "90", "degrees", ""),
    ]
    assert rows[1]["measurement"] == "'=bend", "no spreadsheet takes it for a formula"


def test_labels_that_differ_in_case_are_those_of_the_scheme(tmp_path, scheme, capsys):
    write_markups(tmp_path / "square.mrk.json", replace(SQUARE, names=tuple(name.upper() for name in SQUARE.names)))
    code, document, told = run(capsys, "measure", tmp_path / "square.mrk.json", "--scheme", scheme, "--json")
    assert code == 0 and document["cases"][0]["measurements"][0]["value"] == 5 and "'LEFT' as 'Left'" in told


def test_the_models_radius_says_nothing_of_a_point_that_was_moved_since(tmp_path, scheme, capsys):
    (tmp_path / "in").mkdir()
    write_result(tmp_path / "in", "a", SQUARE)
    moved = SQUARE.with_positions(SQUARE.positions + [[0, 0, 9], [0, 0, 0], [0, 0, 0]])
    write_markups(tmp_path / "in" / "a.mrk.json", moved)
    _, document, _ = run(capsys, "measure", tmp_path / "in", "--scheme", scheme, "--json")
    assert "no radius is known of Left" in document["cases"][0]["measurements"][0]["reason"]
    assert run(capsys, "export", tmp_path / "in", "--form", "mrk.json", "--output", tmp_path / "out")[0] == 0
    np.testing.assert_array_equal(read_markups(tmp_path / "out" / "a.mrk.json").radius, [np.nan, 1, 1])


def test_a_table_of_somebody_is_not_replaced(tmp_path, scheme, capsys):
    write_markups(tmp_path / "square.mrk.json", SQUARE)
    (tmp_path / "m.csv").write_text("mine")
    words = ("measure", tmp_path / "square.mrk.json", "--scheme", scheme, "--output", tmp_path / "m.csv")
    code, _, told = run(capsys, *words)
    assert code == 2 and "--overwrite" in told and (tmp_path / "m.csv").read_text() == "mine"
    assert run(capsys, *words, "--overwrite")[0] == 0 and len(table(tmp_path / "m.csv")) == 2
    code, _, told = run(capsys, *words[:-1], tmp_path, "--overwrite")
    assert code == 2 and f"'{tmp_path}' is a folder: choose the name of a file" in told


def test_a_reason_that_begins_with_a_landmark_is_no_formula(tmp_path):
    write_measurements(tmp_path / "m.csv", {"a": [MeasurementResult("width", "mm", None, reason="=1+1: absent")]})
    assert [row["reason"] for row in table(tmp_path / "m.csv")] == ["'=1+1: absent"]


def test_pixels_are_no_millimeters(tmp_path, scheme, capsys):
    write_markups(tmp_path / "square.mrk.json", SQUARE)
    _, text, _ = run(capsys, "measure", tmp_path / "square.mrk.json", "--scheme", scheme, "--pixels")
    assert "px" in text and "mm" not in text


def test_names_say_what_is_measured_and_unknown_ones_are_told(tmp_path, capsys):
    names = tuple(sorted(bundled_measurements()["isbi2015-19"].landmarks))
    points = np.column_stack([np.random.default_rng(0).uniform(0, 200, (len(names), 2)), np.zeros(len(names))])
    write_markups(tmp_path / "head.mrk.json", LandmarkSet(names, points))
    write_markups(tmp_path / "other.mrk.json", SQUARE)
    code, document, told = run(capsys, "measure", tmp_path, "--json")
    assert code == 2 and "--scheme" in told
    (case,) = document["cases"]
    assert case["case"] == "head" and {"SNA", "ODI", "FMA"} <= {m["name"] for m in case["measurements"]}
    assert all("radius" in m["reason"] for m in case["measurements"]), "nobody says how certain the points are"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "isbi2015-19"),
        (MANIFEST["scheme"], "measurements"),
        ({**MANIFEST["scheme"], "measurements": 3}, "scheme"),
    ],
)
def test_a_scheme_that_says_nothing_is_refused(tmp_path, content, word, capsys):
    write_markups(tmp_path / "square.mrk.json", SQUARE)
    scheme = tmp_path / "isbi2015-91"
    if content:
        scheme.write_text(json.dumps(content))
    code, _, told = run(capsys, "measure", tmp_path / "square.mrk.json", "--scheme", scheme if content else scheme.name)
    assert code == 2 and word in told


def test_detection_writes_measurements_beside_the_points(tmp_path, measuring, capsys):
    scan = make_scan(tmp_path / "scans" / "good.nrrd")
    words = ("detect", scan, "--model", measuring, "--output", tmp_path / "out", "--json")
    code, document, _ = run(capsys, *words)
    result = build(DetectionResult, document)
    (found,) = result.scans
    assert code == 0 and [m.name for m in found.measurements] == ["width", "=bend"]
    points = {landmark.name: np.array(landmark.position_lps_mm) for landmark in found.landmarks}
    width = found.measurements[0]
    assert width.value == pytest.approx(np.linalg.norm(points["Left"] - points["Right"]), abs=1e-3)
    assert width.low90 is not None
    rows = table(tmp_path / "out" / "good.measured.csv")
    assert found.measurement_table == str(tmp_path / "out" / "good.measured.csv")
    assert float(rows[0]["value"]) == pytest.approx(width.value) and rows[0]["case"] == "good"
    assert run(capsys, *words)[0] == 0, "its own results are replaced"
    (tmp_path / "out" / "good.measured.csv").write_text("mine")
    code, document, told = run(capsys, *words)
    assert code == 2 and "good.measured.csv" in told, "what somebody has edited is kept"


def test_a_model_that_measures_nothing_leaves_no_table(tmp_path, measuring, monkeypatch, capsys):
    scan = make_scan(tmp_path / "scans" / "good.nrrd")
    assert run(capsys, "detect", scan, "--model", measuring, "--output", tmp_path / "out")[0] == 0
    monkeypatch.setattr("tiny_model.MANIFEST", MANIFEST)
    plain = write_tiny_package(tmp_path / "plain").path
    code, document, _ = run(capsys, "detect", scan, "--model", plain, "--output", tmp_path / "out", "--json")
    assert code == 0 and "measurements" not in document["scans"][0]
    assert not (tmp_path / "out" / "good.measured.csv").exists(), "that of the older points has gone with them"


def test_an_export_of_points_holds_their_measurements(tmp_path, capsys):
    names = tuple(sorted(bundled_measurements()["head-neck-11"].landmarks))
    points = np.random.default_rng(1).uniform(-60, 60, (len(names), 3))
    points[-1] = np.nan
    (tmp_path / "in").mkdir()
    for name in ("one", "two"):
        write_markups(tmp_path / "in" / f"{name}.mrk.json", LandmarkSet(names, points, radius=np.ones(len(names))))
    target = tmp_path / "export"
    assert run(capsys, "export", tmp_path / "in", "--form", "table-long", "--output", target)[0] == 0
    rows = table(target / MEASUREMENT_TABLE)
    assert {row["case"] for row in rows} == {"one", "two"}
    absent = [row for row in rows if row["measurement"] == "left body length"]
    assert all(row["value"] == "" and "menton: absent" in row["reason"] for row in absent)
    record = json.loads((target / "export.json").read_text(encoding="utf-8"))
    assert MEASUREMENT_TABLE in json.dumps(record), "the record knows the table"
