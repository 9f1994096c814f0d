"""Models for radiographs whose pixels have no known size: lengths are shares of the picture's height."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from flat_cases import radiograph
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import write_tiny_radiograph_package

from H3DELandmarksLib.cases import open_project
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import ModelPackageError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.formats.provenance import read_provenance
from H3DELandmarksLib.formats.reading import build
from H3DELandmarksLib.formats.results import DetectionResult
from H3DELandmarksLib.io.markups import read_markups, stated_unit, unit_of_points, write_markups
from H3DELandmarksLib.models import open_package, registry
from H3DELandmarksLib.models.fit import ScanFacts
from H3DELandmarksLib.training.cases import Case


def with_height(folder, height):
    """The tiny package as a model for which each picture is so many mm high."""
    package = write_tiny_radiograph_package(folder)
    path = package.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "height_mm": height}))
    return open_package(package.path)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector(with_height(tmp_path_factory.mktemp("model") / "tiny", 40.0), device="cpu")


@settings(max_examples=8, deadline=None)
@given(st.floats(0.02, 30))
def test_points_lie_on_the_same_pixels_whatever_size_is_stated(detector, factor):
    picture, _ = radiograph(1)
    affine = picture.affine.copy()
    affine[:3] *= factor
    first, other = detector.detect(picture), detector.detect(Volume(picture.array, affine))
    np.testing.assert_array_equal(first.present, other.present)
    np.testing.assert_allclose(other.positions, first.positions * factor, rtol=1e-4, atol=1e-3 * factor)
    np.testing.assert_allclose(other.radius, first.radius * factor, rtol=1e-6)


def test_training_sees_a_case_in_the_model_s_lengths():
    picture, _ = radiograph(1)
    points = np.array([[3.0, 4, 0], [5, 6, 0]])
    case = Case("a", picture, LandmarkSet(("a", "b"), points)).laid_flat()
    seen = case.counted_as_high(40.0)
    assert seen.volume.grid.extent[1] == pytest.approx(40)
    np.testing.assert_allclose(
        seen.volume.grid.ijk_from_lps(seen.landmarks.positions), case.volume.grid.ijk_from_lps(case.landmarks.positions)
    )
    assert case.counted_as_high(None) is case


def test_facts_of_a_picture_are_counted_in_the_same_lengths():
    facts = ScanFacts((300, 500, 1), (0.2, 0.2, 1.0))
    assert facts.counted_as_high(1000.0).extent.tolist() == pytest.approx([600, 1000])
    assert facts.counted_as_high(None) == facts


def test_a_model_for_volumes_has_no_height(tmp_path):
    from tiny_model import write_tiny_package

    package = write_tiny_package(tmp_path / "tiny")
    path = package.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "height_mm": 40.0}))
    with pytest.raises(ModelPackageError, match="height_mm"):
        open_package(package.path)


def detect_films(tmp_path, capsys, package, name, *more, count=1):
    """What ``detect --json`` says of pictures without a pixel size; results lie in the folder of that name."""
    for number in range(count):
        shades = radiograph(number + 1)[0].array[..., 0].T.astype(float)
        image = sitk.GetImageFromArray((255 * shades / shades.max()).astype(np.uint8))
        sitk.WriteImage(image, str(tmp_path / f"film{number}.png"))
    films = [str(tmp_path / f"film{number}.png") for number in range(count)]
    out = str(tmp_path / name)
    arguments = ["detect", *films, "--model", str(package.path), "--output", out, "--json", "--show-doubtful", *more]
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


def names_in(content):
    """All names of entries."""
    if isinstance(content, dict):
        return set(content).union(*map(names_in, content.values()))
    return set().union(*map(names_in, content)) if isinstance(content, list) else set()


def columns_of(path):
    with path.open(newline="") as file:
        return next(csv.reader(file))


def test_the_command_needs_no_pixel_size_and_tells_pixels(tmp_path, capsys):
    package = with_height(tmp_path / "tiny", 40.0)
    found = {
        name: detect_films(tmp_path, capsys, package, name, *more)
        for name, more in (("unknown", ()), ("stated", ("--spacing", "0.5")))
    }
    (unknown,), (stated,) = (document["scans"] for document in found.values())
    assert (unknown["unit"], stated["unit"]) == ("px", "mm") and found["stated"]["length_unit"] == "px"
    assert "lengths are pixels" in unknown["summary"] and "pixels" not in stated["summary"]
    for one, other in zip(unknown["landmarks"], stated["landmarks"]):
        assert np.array(other["position_lps_mm"]) == pytest.approx(0.5 * np.array(one["position_lps_px"]), abs=1e-3)
        assert other["radius90_mm"] == pytest.approx(0.5 * one["radius90_px"])
    document = build(DetectionResult, found["unknown"])
    assert document.scans[0].landmarks[0].radius90_mm == unknown["landmarks"][0]["radius90_px"], (
        "read as it was written"
    )


def test_no_file_of_a_result_calls_pixels_mm(tmp_path, capsys):
    pytest.importorskip("pyarrow", exc_type=ImportError)
    package, out = with_height(tmp_path / "tiny", 40.0), tmp_path / "out"
    printed = detect_films(tmp_path, capsys, package, "out", "--picture", "--parquet", count=3)
    origin = json.loads((out / "film0.provenance.json").read_text())
    assert not [name for name in names_in([printed, origin]) if name.endswith("_mm")]
    assert printed["confidence_within_px"] == origin["model"]["confidence_within_px"]
    assert columns_of(out / "film0.csv")[:8] == [
        *("name", "state", "left_px", "posterior_px", "superior_px", "presence", "confidence", "radius90_px")
    ]
    assert columns_of(out / "cohort.csv")[6:12] == ["x_px", "y_px", "z_px", "presence", "confidence", "radius90_px"]
    assert not [name for path in out.glob("*.csv") for name in columns_of(path) if name.endswith("_mm")]
    rows = pytest.importorskip("pyarrow.parquet").read_table(out / "cohort.parquet").to_pylist()
    first = printed["scans"][0]["landmarks"][0]
    assert rows[0]["x_px"] == pytest.approx(first["position_lps_px"][0], abs=1e-3)
    assert rows[0]["radius90_px"] == pytest.approx(first["radius90_px"], abs=1e-3)
    with (out / "film0.csv").open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["name"] == first["name"])
    place = [float(row[column]) for column in ("left_px", "posterior_px", "superior_px")]
    assert place == pytest.approx(first["position_lps_px"], abs=1e-3)
    assert (
        read_provenance(out / "film0.provenance.json").unit == "px" and unit_of_points(out / "film0.mrk.json") == "px"
    )
    measured = json.loads((out / "film0.mrk.json").read_text())["markups"][0]["measurements"]
    assert [one.get("units") for one in measured if one["name"] == "radius90"] == ["px"]


def test_a_table_of_scans_with_and_without_a_size_has_columns_for_both(tmp_path, capsys):
    package = with_height(tmp_path / "tiny", 40.0)
    detect_films(tmp_path, capsys, package, "out", "--resume", count=2)
    (tmp_path / "film0.png").rename(tmp_path / "sized.png")
    listed = str(tmp_path / "sized.png")
    arguments = ["detect", listed, "--model", str(package.path), "--output", str(tmp_path / "out"), "--resume"]
    assert main([*arguments, "--spacing", "0.5", "--show-doubtful"]) == 0
    with (tmp_path / "out" / "cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    filled = {(row["scan"].endswith("sized.png"), bool(row["x_mm"]), bool(row["x_px"])) for row in rows}
    assert filled == {(True, True, False), (False, False, True)}
    assert {bool(row["radius90_mm"]) != bool(row["radius90_px"]) for row in rows} == {True}


def test_the_picture_of_a_result_has_a_bar_of_pixels(tmp_path):
    pytest.importorskip("matplotlib")
    from H3DELandmarksResearch.figures.detection import detection_figure

    volume, points = radiograph(1)
    for unit, other in (("px", " mm"), ("mm", " px")):
        said = [text.get_text() for text in detection_figure(volume, points, points, "t", unit=unit).axes[0].texts]
        assert [text for text in said if text.endswith(f" {unit}")] and not [text for text in said if other in text]


def test_the_sidecar_of_a_bids_data_set_tells_pixels(tmp_path, capsys):
    package = with_height(tmp_path / "tiny", 40.0)
    detect_films(tmp_path, capsys, package, "out")
    (tmp_path / "bids" / "sub-01" / "xr").mkdir(parents=True)
    (tmp_path / "film0.png").rename(tmp_path / "bids" / "sub-01" / "xr" / "sub-01_xr.png")
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    words = ["detect", str(tmp_path / "bids"), "--model", str(package.path), "--output", str(tmp_path / "results")]
    assert main(words) == 0
    (sidecar,) = (tmp_path / "results").rglob("*_xr.json")
    assert json.loads(sidecar.read_text(encoding="utf-8"))["Description"].endswith(", in pixels")


def test_what_is_made_of_results_tells_pixels_too(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    package, out = with_height(tmp_path / "tiny", 40.0), tmp_path / "out"
    printed = detect_films(tmp_path, capsys, package, "out", count=3)
    truth = tmp_path / "truth"
    truth.mkdir()
    for path in out.glob("*.mrk.json"):
        found = read_markups(path)
        write_markups(truth / path.name, found.with_positions(found.positions + (3.0, 0, 0)))
    folders = ["evaluate", "--predictions", str(out), "--reference", str(truth)]
    assert main([*folders, "--report", str(tmp_path / "e.html")]) == 0
    said = capsys.readouterr().out
    assert "3.00 +- 0.00 px over cases" in said and "mean_px" in said and not re.search(r"\bmm\b|_mm\b", said)
    assert main([*folders, "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["unit"] == "px" and evaluated["mre_px"] == pytest.approx(3)
    assert not [name for name in names_in(evaluated) if name.endswith("_mm")]
    assert main(["report", str(out), "--output", str(tmp_path / "r.html")]) == 0
    assert "could not be read" not in capsys.readouterr().err
    for page, words in (("e.html", "distance to the reference, px"), ("r.html", "90 % radius, median, px")):
        text = re.sub(r"data:[^\"]*", "", (tmp_path / page).read_text(encoding="utf-8"))
        assert words in text and not re.findall(r"\d mm\b|, mm\b|_mm\b", re.sub(r"(?s)<style>.*?</style>", "", text))
    assert main(["export", str(out), "--form", "table-long", "--output", str(tmp_path / "x")]) == 0
    with (tmp_path / "x" / "landmarks.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["left_px"]) == pytest.approx(printed["scans"][0]["landmarks"][0]["position_lps_px"][0], abs=1e-3)
    assert json.loads((tmp_path / "x" / "export.json").read_text())["cases"][0]["length_unit"] == "px"


def test_cases_with_and_without_a_size_are_not_averaged(tmp_path, capsys):
    package, out = with_height(tmp_path / "tiny", 40.0), tmp_path / "out"
    detect_films(tmp_path, capsys, package, "out", count=2)
    detect_films(tmp_path, capsys, package, "sized", "--spacing", "0.5", count=2)
    for path in (tmp_path / "sized").glob("film1.*"):
        shutil.copy(path, out)
    assert main(["evaluate", "--predictions", str(out), "--reference", str(out)]) != 0
    assert "film0" in capsys.readouterr().err


def test_other_models_still_need_the_size(tmp_path, capsys):
    package = write_tiny_radiograph_package(tmp_path / "tiny")
    film = tmp_path / "film.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(4000, dtype=np.uint8).reshape(80, 50)), str(film))
    assert main(["detect", str(film), "--model", str(package.path), "--output", str(tmp_path / "out")]) != 0
    assert "--spacing" in capsys.readouterr().err


def test_a_scan_that_was_finished_before_tells_its_unit_again(tmp_path, capsys):
    package = with_height(tmp_path / "tiny", 40.0)
    for spacing, unit in (((), "px"), (("--spacing", "0.5"), "mm")):
        for _ in range(2):
            (said,) = detect_films(tmp_path, capsys, package, f"out {unit}", "--resume", *spacing)["scans"]
            assert said["unit"] == unit and said["ok"]
    assert "landmarks" not in said or said["landmarks"] is None, "it was not looked at again"


@pytest.mark.parametrize("has_radii", [True, False])
def test_a_point_list_alone_tells_pixels(tmp_path, has_radii):
    points = LandmarkSet(("a", "b"), np.eye(3)[:2], radius=np.ones(2) if has_radii else None)
    for unit, stated in (("px", "px"), ("mm", None)):
        write_markups(tmp_path / "film.mrk.json", points, unit=unit)
        assert stated_unit(tmp_path / "film.mrk.json") == stated
        assert unit_of_points(tmp_path / "film.mrk.json") == unit
        read = read_markups(tmp_path / "film.mrk.json")
        assert np.isfinite(read.radius).all() == has_radii and read.present.all()
    for content in ('{"markups": [{"type": "Fiducial", "measurements": [1]}]}', "no point list"):
        (tmp_path / "film.mrk.json").write_text(content, encoding="utf-8")
        assert stated_unit(tmp_path / "film.mrk.json") is None


def test_copies_and_exports_of_a_result_tell_pixels(tmp_path, capsys):
    package, alone = with_height(tmp_path / "tiny", 40.0), tmp_path / "alone"
    detect_films(tmp_path, capsys, package, "out")
    alone.mkdir()
    shutil.copy(tmp_path / "out" / "film0.mrk.json", alone)
    assert main(["export", str(alone), "--form", "mrk.json", "--output", str(tmp_path / "x")]) == 0
    assert main(["export", str(tmp_path / "x"), "--form", "table-long", "--output", str(tmp_path / "y")]) == 0
    assert "left_px" in columns_of(tmp_path / "y" / "landmarks.csv")
    capsys.readouterr()


def test_pixels_are_not_compared_with_millimeters(tmp_path, capsys):
    package = with_height(tmp_path / "tiny", 40.0)
    for name, more in (("px", ()), ("mm", ("--spacing", "0.5"))):
        detect_films(tmp_path, capsys, package, name, *more)
        (tmp_path / f"placed in {name}").mkdir()
        placed = LandmarkSet((found := read_markups(tmp_path / name / "film0.mrk.json")).names, found.positions)
        write_markups(tmp_path / f"placed in {name}" / "film0.mrk.json", placed)

    def evaluate(predictions, reference, *more):
        folders = ["--predictions", str(tmp_path / predictions), "--reference", str(tmp_path / reference)]
        code = main(["evaluate", *folders, *more, "--json"])
        said = capsys.readouterr()
        return json.loads(said.out).get("unit") if code == 0 else said.err

    assert evaluate("px", "placed in px") == "px" and evaluate("placed in px", "px") == "px"
    assert evaluate("mm", "placed in mm") == "mm" and evaluate("placed in mm", "mm") == "mm"
    assert evaluate("placed in px", "placed in px", "--pixels") == "px"
    for words in (("px", "mm"), ("mm", "px"), ("placed in mm", "mm", "--pixels")):
        assert "millimeters" in evaluate(*words)
    report = ("--report", str(tmp_path / "e.html"), "--compare-with")
    assert "millimeters" in evaluate("px", "placed in px", *report, str(tmp_path / "mm"))
    assert not (tmp_path / "e.html").exists()


def test_what_cannot_be_read_of_the_predictions_to_compare_with_is_told_in_the_document(tmp_path, capsys):
    folders = [tmp_path / name for name in ("found", "other", "truth")]
    for folder in folders:
        folder.mkdir()
        for name in "ab":
            write_markups(folder / f"{name}.mrk.json", LandmarkSet(("p",), np.ones((1, 3))))
    (tmp_path / "other" / "b.mrk.json").write_text("cut", encoding="utf-8")
    words = [
        *("--predictions", str(folders[0])),
        *("--compare-with", str(folders[1])),
        *("--reference", str(folders[2])),
    ]
    assert main(["evaluate", *words, "--report", str(tmp_path / "e.html"), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert not document["ok"] and [error for error in document["errors"] if "b.mrk.json" in error]


def test_a_case_of_such_a_picture_is_added_in_its_pixels_and_its_points_are_not_taken_for_mm(tmp_path, capsys):
    package = with_height(tmp_path / "tiny", 40.0)
    for name, more in (("px", ()), ("mm", ("--spacing", "0.5"))):
        detect_films(tmp_path, capsys, package, name, *more)
    project, film = str(tmp_path / "project"), str(tmp_path / "film0.png")
    assert main(["cases", "new", project, "--scheme", str(package.path)]) == 0

    def add(unit, *more):
        return main(["cases", "add", project, film, str(tmp_path / unit / "film0.mrk.json"), *more])

    assert add("px", "--spacing", "0.5") == 2 and "pixels" in capsys.readouterr().err
    assert add("mm") == 2 and "--spacing" in capsys.readouterr().err
    assert add("px") == 0 and add("mm", "--spacing", "0.5") == 0
    pixels = read_markups(tmp_path / "px" / "film0.mrk.json").positions
    cases = open_project(project).cases()
    for case in cases:
        points = case.revision().corrected(package.scheme).positions
        np.testing.assert_allclose(case.volume().grid.ijk_from_lps(points), pixels, atol=1e-3)
    assert sorted(case.volume().spacing[0] for case in cases) == [0.5, 1.0]


def test_such_pictures_are_ranked_and_models_named_that_read_them(tmp_path, capsys, monkeypatch):
    (tmp_path / "models").mkdir()
    package = with_height(tmp_path / "models" / "tiny", 40.0)
    manifest = write_tiny_radiograph_package(tmp_path / "models" / "sized").path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "id": "sized"}))
    detect_films(tmp_path, capsys, package, "out", count=2)
    (tmp_path / "films").mkdir()
    for number in range(2):
        (tmp_path / f"film{number}.png").rename(tmp_path / "films" / f"film{number}.png")
    ranking = ["--model", str(package.path), "--output", str(tmp_path / "rank.csv"), "--json"]
    assert main(["cases", "rank", str(tmp_path / "films"), *ranking]) == 0
    assert len(json.loads(capsys.readouterr().out)["scans"]) == 2
    monkeypatch.setattr(registry, "bundled_folder", lambda: tmp_path / "models")
    monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / "none")
    assert main(["models", "list", "--scan", str(tmp_path / "films" / "film0.png"), "--json"]) == 0
    unfit = {model["id"]: model["unfit"] for model in json.loads(capsys.readouterr().out)["models"]}
    assert unfit[package.id] == "" and "pixels" in unfit["sized"]
