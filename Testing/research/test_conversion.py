"""What every conversion promises: one case at a time, nothing overwritten, one sentence for each case left out."""

import json

import numpy as np
import pytest

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksResearch.converters.conversion import SourceCase, case_name, convert_cases, with_validation
from H3DELandmarksResearch.converters.converters import CONVERTERS
from H3DELandmarksResearch.training.configuration import read_split

VOLUME = Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([1.0, 2, 3, 1]))
POINTS = LandmarkSet(("a", "b"), np.array([[1.0, 2, 3], [np.nan] * 3]))


def good(name: str, *subsets: str) -> SourceCase:
    return SourceCase(name, lambda: (VOLUME, POINTS), subsets)


def bad(name: str, *subsets: str) -> SourceCase:
    def read():
        raise InputError(f"'{name}.raw' is damaged: copy it again.")

    return SourceCase(name, read, subsets)


def nothing(fraction: float, message: str) -> None:
    pass


def test_a_case_becomes_one_scan_and_one_point_list(tmp_path):
    summary = convert_cases([good("one")], tmp_path, nothing)
    assert summary.written == ["one"] and summary.split is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mrk.json", "one.nrrd"]
    assert np.array_equal(read_volume(tmp_path / "one.nrrd").array, VOLUME.array)
    points = read_markups(tmp_path / "one.mrk.json")
    assert points.present.tolist() == [True, False] and not points.unknown.any()


def test_the_second_case_of_a_name_is_told_and_not_lost_without_a_word(tmp_path, caplog):
    summary = convert_cases([good("one"), good("ONE"), good("two")], tmp_path, nothing)
    assert (summary.written, summary.kept, len(summary.skipped)) == (["one", "two"], [], 1)
    assert "'ONE'" in caplog.text


def test_a_bad_case_is_told_and_the_others_go_on(tmp_path, caplog):
    summary = convert_cases([bad("one", "train"), good("two", "test")], tmp_path, nothing)
    assert (summary.written, summary.skipped) == (["two"], ["'one.raw' is damaged: copy it again."])
    assert [record.getMessage() for record in caplog.records] == summary.skipped
    assert read_split(summary.split) == {"train": [], "validation": [], "test": ["two"]}


def test_existing_cases_are_never_touched(tmp_path):
    convert_cases([good("one")], tmp_path, nothing)
    (tmp_path / "one.mrk.json").write_text("mine")
    summary = convert_cases([bad("one"), good("two")], tmp_path, nothing)
    assert (summary.kept, summary.written) == (["one"], ["two"])
    assert (tmp_path / "one.mrk.json").read_text() == "mine"


def test_a_conversion_that_was_stopped_between_scan_and_points_is_completed(tmp_path):
    write_volume(tmp_path / "one.nrrd", VOLUME)
    assert convert_cases([good("one")], tmp_path, nothing).written == ["one"]


def test_another_scan_of_the_same_name_is_kept_and_told(tmp_path):
    write_volume(tmp_path / "one.nii.gz", Volume(VOLUME.array + 1, VOLUME.affine))
    summary = convert_cases([good("one")], tmp_path, nothing)
    assert "is another scan" in summary.skipped[0] and not (tmp_path / "one.mrk.json").exists()


def test_a_split_grows_but_never_moves_a_case(tmp_path):
    convert_cases([good("one", "train"), bad("two", "train")], tmp_path, nothing)
    summary = convert_cases([good("one", "test"), good("two", "test", "test1")], tmp_path, nothing)
    assert read_split(summary.split) == {"train": ["one"], "validation": [], "test": ["two"], "test1": ["two"]}


def test_every_nth_training_case_is_held_out_where_no_case_is_for_validation():
    cases = [good(str(k), "train") for k in range(6)] + [good("t", "test")]
    split = {case.name: case.subsets[0] for case in with_validation(cases, 3)}
    assert [name for name, subset in split.items() if subset == "validation"] == ["2", "5"]
    assert [case.subsets for case in with_validation(cases, 0)] == [case.subsets for case in cases]
    published = [*cases, good("v", "validation")]
    assert with_validation(published, 3) == published


@pytest.mark.parametrize(("text", "name"), [("a/b:c", "a_b_c"), ("ok.1", "ok.1"), (" .. ", "case")])
def test_names_of_cases_are_file_names_everywhere(text, name):
    assert case_name(text) == name


@pytest.mark.parametrize("kind", CONVERTERS)
def test_every_kind_explains_its_published_form_and_refuses_an_empty_folder(kind, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["convert", kind, "--help"])
    assert CONVERTERS[kind].notes in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main(["convert", kind, str(tmp_path / "empty"), str(tmp_path / "out")]) == 2
    assert str(tmp_path / "empty") in capsys.readouterr().err


def test_source_and_target_are_two_folders(tmp_path, capsys):
    assert main(["convert", "mml", str(tmp_path), str(tmp_path)]) == 2
    assert "same folder" in capsys.readouterr().err
    assert main(["convert", "mml", str(tmp_path / "none"), str(tmp_path / "out"), "--json"]) == 2
    assert "does not exist" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("text", ["a" * 5000, "鼻" * 300, "\x1b[2J", "a\u202egpj", "", "..", "x\ud800y"])
def test_a_case_has_a_name_that_every_system_accepts(tmp_path, text):
    name = case_name(text)
    assert name and name.isprintable()
    (tmp_path / f"{name}-of-a-subset.mrk.json").touch()
