"""Cross-validation of a whole model in small."""

import json

import numpy as np
import pytest
from tiny_study import write_study

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksResearch.studies import cross_validation
from H3DELandmarksResearch.studies.folds import all_names, make_folds, stored_folds
from H3DELandmarksResearch.training.configuration import read_configuration


def test_each_fold_trains_a_model_and_measures_it_in_every_pose(tmp_path):
    configuration = write_study(tmp_path)

    def call(*more: str) -> dict:
        cross_validation.main(
            [str(configuration), "--work", str(tmp_path / "work"), "--output", str(tmp_path / "table"), *more]
        )
        return json.loads((tmp_path / "table.json").read_text())

    first = call("--only", "0")
    assert set(first["rows"]) == {"fold 0", "all"} and first["rows"]["all"]["cases"] == 2
    errors = (tmp_path / "work" / "fold-0" / "errors.json").read_text()
    again = call("--only", "0", "2")
    assert (tmp_path / "work" / "fold-0" / "errors.json").read_text() == errors
    assert again["rows"]["fold 0"] == first["rows"]["fold 0"] and len(again["fold_means_mm"]) == 2
    kept = tmp_path / "work" / "fold-0" / "points"
    assert len(list((kept / "found").iterdir())) == len(list((kept / "true").iterdir())) == 2
    assert "2 of 5 folds done" in (tmp_path / "table.md").read_text()
    doubtful = next(iter(json.loads(errors)))
    configuration.with_name(f"{configuration.stem}-doubtful.json").write_text(json.dumps({doubtful: "by hand."}))
    apart = call("--only", "0")["rows"]
    assert apart["all but the doubtful"]["cases"] == apart["all"]["cases"] - 2
    assert f"- {doubtful}: by hand." in (tmp_path / "table.md").read_text()
    with pytest.raises(InputError, match="begun with other settings"):
        call("--only", "0", "--steps-share", "0.5")


def test_scans_of_one_subject_lie_in_one_fold(tmp_path):
    configuration = read_configuration(write_study(tmp_path))
    names = all_names(configuration)
    assert make_folds(names, 3) == stored_folds("x", configuration, 3)
    rows = [f"{name},P{number // 2}" for number, name in enumerate(names)]
    table = configuration.data_folder() / "subjects.csv"
    table.write_text("\n".join(["case,subject", *rows]) + "\n", encoding="utf-8")
    assert sorted(stored_folds("x", configuration, 3)) == [names[k : k + 2] for k in range(0, len(names), 2)]
    with pytest.raises(InputError, match="take fewer folds"):
        stored_folds("x", configuration, len(names))


def test_a_landmark_that_is_called_absent_counts_as_missed():
    figures = cross_validation.figures_of({"a": [0.1, cross_validation.MISSED, None], "b": [0.3, 0.5, 0.1]}, [0.2, 0.4])
    assert figures["called_absent"] == 1
    assert figures["success"] == [pytest.approx(2 / 5), pytest.approx(3 / 5)]
    assert figures["mre_mm"] == pytest.approx((0.1 + 0.3) / 2) and figures["worst_case_mm"] == pytest.approx(0.3)


def test_a_habit_of_all_models_is_no_offset_free_error(tmp_path):
    shape = np.random.default_rng(0).normal(size=(5, 3)) * 9
    for number in range(4):
        for kind, habit in (("found", 1.0), ("true", 0.0)):
            folder = tmp_path / str(number) / "points" / kind
            folder.mkdir(parents=True)
            points = shape * [1, 1, 1 + habit / 10]
            write_markups(folder / f"case{number}.mrk.json", LandmarkSet(tuple("abcde"), points))
            write_markups(
                folder / f"case{number}, pose 1.mrk.json", LandmarkSet(tuple("abcde"), points + number * habit)
            )
    figures = cross_validation.offset_free_figures(sorted(tmp_path.iterdir()))
    assert figures["mre_mm"] == pytest.approx(0, abs=1e-3)
    assert cross_validation.offset_free_figures([tmp_path / "nowhere"]) is None
