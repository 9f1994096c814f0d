"""The benchmark of retraining: honest figures, kept points, and no case measured that was corrected."""

import json
import os

import numpy as np
import pytest
from toy_projects import NAMES, points_of, scan_of, toy_base

from H3DELandmarksLib.cases import create_project, open_project
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.run import read_run
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.studies.learning_curve import _figures, measured, prepare, retrained, summary
from H3DELandmarksResearch.studies.learning_figures import write_figures
from H3DELandmarksResearch.studies.learning_studies import UP_THE_RAMUS, Study, with_higher_gonion


def toy_case(name: str) -> Case:
    seed = int(name)
    return Case(name, scan_of(seed), LandmarkSet(NAMES, np.array([points_of(seed)[n] for n in NAMES])))


STUDY = Study(
    "Toy",
    2.0,
    tuple(str(n) for n in range(6)),
    ("20", "21"),
    toy_case,
    lambda folder, base: create_project(folder, base.scheme),
    {"all": NAMES, "middle": ("Middle",)},
)


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """The toy study with two points of one step each."""
    work = tmp_path_factory.mktemp("study")
    base = toy_base(work / "base")
    prepare(STUDY, base, work, [5, 6], steps=1)
    points = {0: measured(work / "base.json", STUDY, base, STUDY.test)}
    for count in (5, 6):
        candidate, seconds = retrained(work, count)
        points[count] = {**measured(work / f"{count}.json", STUDY, candidate, STUDY.test), "cpu_seconds": seconds}
    return work, base, points


def test_every_point_is_retrained_from_the_base_on_its_number_of_corrected_cases(worked):
    work, base, _ = worked
    for count in (5, 6):
        record = read_run(work / f"run-{count}").record
        assert len(record.cases) == count and record.base.version == base.version
        assert "held-out" not in {row.subset for row in record.cases}
    for case in open_project(work / "cases").cases():
        seed = next(n for n in range(6) if np.array_equal(scan_of(n).array, case.volume().array))
        assert {p.name: p.position.tolist() for p in case.revision().landmarks} == {
            name: points_of(seed)[name].tolist() for name in NAMES
        }


def test_what_is_done_is_not_done_again(worked):
    work, base, points = worked
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file() and path.name != "index.json"}
    prepare(STUDY, base, work, [5, 6], steps=1)
    assert retrained(work, 5)[1] == points[5]["cpu_seconds"]
    assert measured(work / "base.json", STUDY, base, STUDY.test) == points[0]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_figures_are_written_as_json_table_and_plot(worked, tmp_path):
    _, base, points = worked
    result = summary(STUDY, base, points, points[6], STUDY.test)
    write_figures(tmp_path / "curve", result)
    kept = json.loads((tmp_path / "curve.json").read_text())
    rows = kept["groups"]["middle"]["points"]
    assert [row["corrections"] for row in rows] == [0, 5, 6] and rows[0]["gain_mm"] == 0
    errors = np.array([points[5]["errors"][name] for name in STUDY.test], dtype=float)  # NaN where one was missed
    assert kept["groups"]["all"]["points"][1]["mre_mm"] == pytest.approx(np.nanmean(errors), abs=1e-4)
    assert "| 6 |" in (tmp_path / "curve.md").read_text() and (tmp_path / "curve.png").stat().st_size > 5000


def test_figures_of_known_errors():
    present = np.ones((4, 2), bool)
    before, now = np.full((4, 2), 3.0), np.array([[1.0, 1], [1, 3], [1, 1], [np.nan, 1]])
    figures = _figures((now, present), (before, present), 2.0)
    assert figures["mre_mm"] == 1.25 and figures["gain_mm"] == 1.75
    assert figures["sdr"] == 0.75 and (figures["missed"], figures["landmarks"]) == (1, 8)
    low, high = figures["gain_interval"]
    assert low < 1.75 <= high <= 2.0
    same = _figures((before, present), (before, present), 2.0)
    assert same["gain_interval"] == [0, 0] and same["mre_interval"] == [3, 3]


def test_the_higher_gonion_lies_on_the_way_to_the_condylion_and_is_unknown_without_it():
    names = ("gonion-L", "gonion-R", "condylion-L", "condylion-R")
    nowhere = [np.nan] * 3
    points = LandmarkSet(names, [[0.0, 0, 0], [9, 9, 9], [0, 10, 40], nowhere], [1, 1, 1, 0])
    moved = with_higher_gonion(Case("a", Volume(np.zeros((2, 2, 2)), np.eye(4)), points)).landmarks
    assert np.allclose(moved.positions[0], [0, 10 * UP_THE_RAMUS, 40 * UP_THE_RAMUS])
    assert moved.unknown[1] and not moved.present[3] and np.array_equal(moved.positions[2], points.positions[2])


@pytest.mark.data
@pytest.mark.skipif("H3DE_DATA" not in os.environ, reason="needs the development scans")
def test_no_study_measures_what_it_corrects_or_touches_test_patients():
    from H3DELandmarksResearch.studies.learning_studies import definition_study, mouse_study
    from H3DELandmarksResearch.training.configuration import find_configuration, read_configuration

    mouse, definition = mouse_study(), definition_study()
    assert not set(mouse.correct) & set(mouse.test) and len(mouse.correct) == 20 and len(mouse.test) == 5
    assert not set(definition.correct) & set(definition.test)
    forbidden = set(read_configuration(find_configuration("head-neck-ct")).split()["test"])
    assert not forbidden & (set(definition.correct) | set(definition.test))
