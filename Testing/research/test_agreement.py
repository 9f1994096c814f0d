"""Agreement of readers and models: statistics against independent values, and what `evaluate` reports of them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.evaluation import metrics
from H3DELandmarksLib.evaluation.readers import human_floor, mean_of_readers
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksResearch.agreement.report import compare_readers, report_text
from H3DELandmarksResearch.agreement.same_pictures import find_pairs, read_pairs
from H3DELandmarksResearch.agreement.statistics import agreement, icc_2_1, resamples
from H3DELandmarksResearch.cases.case_folder import write_readers

NAMES = ("a", "b")
# Shrout and Fleiss 1979, table 2: six targets, four judges; ICC(2,1) = 0.29 in table 4.
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def compared(first, second, patients=None, names=NAMES, absent=None):
    none = np.zeros(first.shape[:2], bool)
    whose = range(len(first)) if patients is None else patients
    return agreement(("x", "y"), names, first, second, absent or (none, none), list(whose), draws=200)


def points(*rows):
    return LandmarkSet(NAMES[: len(rows)], np.array(rows, float))


def test_icc_of_the_published_example():
    assert float(icc_2_1(SHROUT_FLEISS)) == pytest.approx(0.2898, abs=5e-5)


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(3, 12))
@settings(max_examples=40, deadline=None)
def test_icc_is_the_one_of_an_analysis_of_variance_by_hand(seed, k, n):
    x = np.random.default_rng(seed).normal(size=(n, 1)) * 3 + np.random.default_rng(seed + 1).normal(size=(n, k))
    rows, columns, grand = x.mean(1, keepdims=True), x.mean(0, keepdims=True), x.mean()
    bms = k * ((rows - grand) ** 2).sum() / (n - 1)
    jms = n * ((columns - grand) ** 2).sum() / (k - 1)
    ems = ((x - rows - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    expected = (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n)
    assert float(icc_2_1(x)) == pytest.approx(expected, abs=1e-9)
    assert float(icc_2_1(x[:, ::-1] * 5 + 100)) == pytest.approx(expected, abs=1e-9)


def test_a_weight_of_two_is_a_row_written_twice():
    twice = np.concatenate([SHROUT_FLEISS, SHROUT_FLEISS[:2]])
    weighted = icc_2_1(SHROUT_FLEISS, np.array([2.0, 2, 1, 1, 1, 1]))
    assert float(weighted) == pytest.approx(float(icc_2_1(twice)), abs=1e-12)


@pytest.mark.parametrize("ratings", [np.zeros((0, 2)), np.ones((1, 2)), np.ones((5, 2))])
def test_icc_without_variation_is_no_number(ratings):
    assert np.isnan(icc_2_1(ratings))


def test_every_figure_is_that_of_the_formula():
    rng = np.random.default_rng(3)
    first = rng.normal(0, 20, (9, 2, 3))
    second = first + rng.normal(0.5, 1, (9, 2, 3))
    second[4, 1] = np.nan
    d = (first - second)[:, 1][np.isfinite(second[:, 1, 0])]
    row = compared(first, second).landmarks[1]
    distances = np.linalg.norm(d, axis=1)
    assert (row.landmark, row.points) == ("b", 8)
    assert row.mre_mm.value == pytest.approx(distances.mean())
    assert row.sd_mm.value == pytest.approx(distances.std())
    assert row.dahlberg_mm.value == pytest.approx(np.sqrt((d**2).sum() / (2 * 8)))
    along = row.axes[2]
    assert [a.axis for a in row.axes] == ["L", "P", "S"]
    assert along.bias_mm.value == pytest.approx(d[:, 2].mean())
    assert along.sd_mm.value == pytest.approx(d[:, 2].std(ddof=1))
    assert along.low_mm.value == pytest.approx(d[:, 2].mean() - 1.96 * d[:, 2].std(ddof=1))
    assert along.high_mm.value == pytest.approx(d[:, 2].mean() + 1.96 * d[:, 2].std(ddof=1))
    assert along.dahlberg_mm.value == pytest.approx(np.sqrt((d[:, 2] ** 2).mean() / 2))
    assert along.bias_mm.low < along.bias_mm.value < along.bias_mm.high


def test_dahlberg_of_a_pair_of_series_by_hand():
    """Differences 1, -1, 2, 0 mm: the root of 6 / 8."""
    first = np.zeros((4, 1, 3))
    second = first.copy()
    second[:, 0, 0] = [1, -1, 2, 0]
    row = compared(first, second, names=("a",)).landmarks[0]
    assert row.dahlberg_mm.value == pytest.approx(np.sqrt(6 / 8))
    assert [a.axis for a in row.axes] == ["L"], "the others are the same everywhere"


@given(st.integers(0, 10**6), st.floats(-500, 500))
@settings(max_examples=25, deadline=None)
def test_exchanged_readers_have_the_opposite_bias_and_the_place_of_the_frame_counts_nowhere(seed, shift):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0, 5, (2, 6, 2, 3))
    one, other = compared(first, second).total, compared(second + shift, first + shift).total
    assert other.mre_mm.value == pytest.approx(one.mre_mm.value) and other.mre_mm.low == pytest.approx(one.mre_mm.low)
    for a, b in zip(one.axes, other.axes, strict=True):
        assert b.bias_mm.value == pytest.approx(-a.bias_mm.value, abs=1e-8)
        assert b.low_mm.value == pytest.approx(-a.high_mm.value, abs=1e-8)
        assert b.dahlberg_mm.value == pytest.approx(a.dahlberg_mm.value)
        assert b.icc.value == pytest.approx(a.icc.value, abs=1e-6)


def test_patients_are_drawn_with_all_their_cases():
    weights = resamples(["p", "q", "p", "r", "s", "t"], draws=50)
    assert len(weights) == 51 and (weights[0] == 1).all() and (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3, 4, 5]].sum(axis=1) == 5).all()


def test_without_a_second_patient_there_is_no_interval():
    found = compared(np.zeros((2, 2, 3)), np.ones((2, 2, 3)), patients=["p", "p"]).total.mre_mm
    assert found.value == pytest.approx(np.sqrt(3)) and np.isnan(found.low) and np.isnan(found.high)


@pytest.mark.parametrize("patients", [2, 4, 5])
def test_few_patients_have_no_interval(patients):
    rng = np.random.default_rng(patients)
    found = compared(*rng.normal(size=(2, patients, 2, 3))).total.mre_mm
    assert np.isfinite(found.value) and np.isfinite([found.low, found.high]).all() == (patients >= 5)


def test_what_only_one_has_is_counted_and_never_measured():
    first, second = np.zeros((3, 2, 3)), np.ones((3, 2, 3))
    second[0, 0] = first[1, 1] = first[2, 1] = np.nan
    absent = np.zeros((2, 3, 2), bool)
    absent[1, 0, 0] = absent[0, 1, 1] = True  # of (2, b) the first says nothing
    total = compared(first, second, absent=(absent[0], absent[1])).total
    assert (total.points, total.only_first, total.only_second) == (3, 1, 1)


# Mean of readers, and the floor


def test_the_mean_needs_two_readers_and_absence_all_who_say_something():
    unknown = LandmarkSet(NAMES, np.full((2, 3), np.nan), [np.nan, np.nan])
    absent = LandmarkSet(NAMES, np.full((2, 3), np.nan), [0.0, 0.0])
    both = mean_of_readers({"x": points((0, 0, 0), (1, 1, 1)), "y": points((2, 0, 0), (1, 1, 3)), "z": unknown}, NAMES)
    assert np.allclose(both.positions, [[1, 0, 0], [1, 1, 2]])
    assert mean_of_readers({"x": points((0, 0, 0), (1, 1, 1)), "y": absent}, NAMES).unknown.all()
    assert mean_of_readers({"x": absent, "y": unknown}, NAMES).presence.tolist() == [0, 0]


def test_the_floor_is_measured_on_points_that_two_readers_placed():
    case = {"x": points((0, 0, 0), (9, 0, 0)), "y": points((2, 0, 0))}
    floor = human_floor([points((1, 3, 0), (9, 9, 9))], [case])
    assert (floor.readers, floor.points, floor.between_mm, floor.model_mm) == (2, 1, 2.0, 3.0)
    assert floor.sentence("The model") == (
        "The model differs from the readers' mean by 3.00 mm; the two readers differ by 2.00 mm (1 point)."
    )
    assert human_floor([points((1, 3, 0))], [{"x": points((0, 0, 0))}]) is None


def test_the_floor_is_that_of_the_points_that_the_model_found():
    case = {"x": points((0, 0, 0), (9, 0, 0)), "y": points((2, 0, 0), (99, 0, 0))}
    floor = human_floor([points((1, 3, 0))], [case])
    assert (floor.points, floor.between_mm, floor.model_mm) == (1, 2.0, 3.0), "not 46 mm, of which it has no point"
    assert human_floor([points((np.nan,) * 3)], [case]) is None


# What evaluate writes


def test_published_form_of_radiographs():
    errors, present = np.array([[1.0, 3.0], [2.0, np.nan], [4.0, np.nan]]), np.ones((3, 2), bool)
    present[2, 1] = False
    assert metrics.pooled_error(errors) == (2.5, pytest.approx(np.std([1, 2, 3, 4])))
    rates = metrics.landmark_success_rates(errors, present, (2.0, 4.0))
    assert rates.tolist() == pytest.approx([(1 / 3 + 0 / 2) / 2, (2 / 3 + 1 / 2) / 2]), (
        "only what is below, of all present"
    )


def write_set(folder, cases=6):
    """Radiographs, the last of which shows the first again.

    The reader `s` is 1 mm to the left of the reference, `j` 1 mm to its right; both are 3 mm lower in the repeated one.
    """
    rng = np.random.default_rng(0)
    for part in ("truth", "found"):
        (folder / part).mkdir()
    for n in range(cases):
        array = np.random.default_rng(n % (cases - 1)).integers(0, 255, (60, 50, 1)).astype(np.uint8)
        write_volume(folder / "truth" / f"{n}.nrrd", Volume(array, np.eye(4)))
        places = np.random.default_rng(n % (cases - 1)).uniform(5, 40, (5, 3)) * [1, 1, 0]
        places[:, 1] += 3.0 * (n == cases - 1)
        names = tuple("abcde")
        write_markups(folder / "truth" / f"{n}.mrk.json", LandmarkSet(names, places))
        write_readers(
            folder / "truth", str(n), {r: LandmarkSet(names, places + [s, 0, 0]) for r, s in (("s", 1), ("j", -1))}
        )
        found = places + [0, 2, 0] + rng.normal(0, 1e-3, (5, 3)) * [1, 1, 0]
        write_markups(folder / "found" / f"{n}.mrk.json", LandmarkSet(names, found))


def evaluate(folder, capsys, *more):
    words = ["evaluate", "--predictions", str(folder / "found"), "--reference", str(folder / "truth"), *more]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    return text, json.loads(capsys.readouterr().out)


def test_evaluate_compares_model_and_readers(tmp_path, capsys):
    write_set(tmp_path)
    text, document = evaluate(tmp_path, capsys)
    report = document["readers"]
    assert report["readers"] == ["j", "s"] and report["same_pictures"] == [["0", "5"]]
    models = {one["second"]: one for one in report["models"]}
    assert list(models) == ["j", "s", "mean of readers"]
    assert models["mean of readers"]["total"]["mre_mm"]["value"] == pytest.approx(2, abs=0.01)
    assert models["s"]["total"]["mre_mm"]["value"] == pytest.approx(np.sqrt(5), abs=0.01)
    assert models["s"]["cases"] == 6 and models["s"]["patients"] == 5
    (between,) = report["between"]
    left = between["total"]["axes"][0]
    assert between["total"]["mre_mm"]["value"] == pytest.approx(2) and left["bias_mm"]["value"] == pytest.approx(-2)
    assert [row["landmark"] for row in between["landmarks"]] == list("abcde")
    within = {one["first"]: one["total"] for one in report["within"]}
    assert {r: total["mre_mm"]["value"] for r, total in within.items()} == pytest.approx({"j": 3.0, "s": 3.0})
    assert document["human_floor"] == pytest.approx(
        {"readers": 2, "points": 30, "between_mm": 2.0, "model_mm": 2.0}, abs=0.01
    )
    assert document["radiograph_form"]["mre_mm"] == pytest.approx(2, abs=0.01)
    assert "the two readers differ by 2.00 mm" in text and "0 = 5" in text and "ICC(2,1)" in text


def test_evaluate_takes_pairs_from_a_file_or_none(tmp_path, capsys):
    write_set(tmp_path)
    (tmp_path / "splits.json").write_text(
        json.dumps({"train": [], "same_picture_pairs_for_x": [["5", "0"], ["7", "0"]]})
    )
    assert evaluate(tmp_path, capsys, "--same-pictures", str(tmp_path / "splits.json"))[1]["readers"]["within"]
    assert evaluate(tmp_path, capsys, "--same-pictures", "none")[1]["readers"]["within"] == []
    (tmp_path / "splits.json").write_text("{}")
    words = ["evaluate", "--predictions", str(tmp_path / "found"), "--reference", str(tmp_path / "truth")]
    assert main([*words, "--same-pictures", str(tmp_path / "splits.json")]) == 2
    assert "holds no pairs" in capsys.readouterr().err


def test_a_readers_damaged_list_is_told(tmp_path, capsys):
    write_set(tmp_path)
    (tmp_path / "truth" / "readers" / "s" / "2.mrk.json").write_text("{")
    assert main(["evaluate", "--predictions", str(tmp_path / "found"), "--reference", str(tmp_path / "truth")]) != 0
    assert "2.mrk.json" in capsys.readouterr().err


def test_without_readers_nothing_is_said_of_them(tmp_path, capsys):
    write_set(tmp_path)
    (tmp_path / "truth" / "readers").rename(tmp_path / "aside")
    text, document = evaluate(tmp_path, capsys)
    assert "readers" not in document and "human_floor" not in document and "reader" not in text


def test_three_readers_are_compared_in_pairs():
    readings = {str(n): {r: points((n, k, 0), (n, 0, k)) for k, r in enumerate("xyz")} for n in range(4)}
    report = compare_readers({}, readings, draws=20)
    assert [(one.first, one.second) for one in report.between] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert report.models == () and [one.total.mre_mm.value for one in report.between] == pytest.approx([1, 2, 1])
    assert "Model" not in report_text(report)


# The same picture


def test_a_recompressed_picture_in_its_place_is_the_same_and_another_is_not(tmp_path):
    """Copies that were moved, scaled or mirrored are found by the audit, but their points cannot be compared."""
    rng = np.random.default_rng(0)
    picture = ndimage.gaussian_filter(rng.normal(size=(240, 200)), 4) * 900 + 128
    flat = np.full((9, 7), 5.0)
    pictures = {
        "a": picture,
        "b": ndimage.gaussian_filter(rng.normal(size=(240, 200)), 4) * 900 + 128,
        "c": picture * 0.9 + 12 + rng.normal(0, 2, picture.shape),
        "d": picture,
        "e": flat,
        "f": flat,
        "moved": np.roll(picture, 4, axis=0),
        "scaled": ndimage.zoom(picture, 1.1)[10:250, 8:208],
        "mirrored": picture[::-1],
    }
    for name, array in pictures.items():
        array = np.ascontiguousarray(array[:, :, None], dtype=np.float32)
        write_volume(tmp_path / f"{name}.nrrd", Volume(array, np.eye(4)))
    assert find_pairs(tmp_path, [*pictures, "missing"]) == [("a", "c"), ("a", "d")]
    assert find_pairs(tmp_path, []) == []


def test_pairs_of_a_file(tmp_path):
    (tmp_path / "p.json").write_text('[["a", "b"]]')
    assert read_pairs(tmp_path / "p.json") == [("a", "b")]
