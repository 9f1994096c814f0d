"""Configurations and the cases that they name."""

import json

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.research import research_configurations
from H3DELandmarksLib.io.case_folder import case_names, read_case
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME
from H3DELandmarksResearch.training.configuration import load_cases, read_configuration

SCHEME = {"id": "two", "version": "1", "landmarks": [{"name": n, "definition": n} for n in ("a", "b")], "pairs": []}


@pytest.fixture
def project(tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    for name in ("one", "two"):
        write_volume(cases / f"{name}.nrrd", Volume(np.ones((4, 5, 6), np.int16), np.eye(4)))
        write_markups(cases / f"{name}.mrk.json", LandmarkSet(("b", "a"), np.array([[1.0, 2, 3], [4, 5, 6]])))
    (tmp_path / "scheme.json").write_text(json.dumps(SCHEME))
    return tmp_path


def configuration(project, **data):
    values = {
        "id": "toy",
        "version": "0.1.0",
        "title": "Toy",
        "intensity": {},
        "stages": [],
        "tolerance_mm": 1.0,
        "scheme": "scheme.json",
        "data": {"reader": "case-folder", "folder": str(project / "cases"), "split": {"train": ["one", "two"]}} | data,
    }
    (project / "toy.json").write_text(json.dumps(values))
    return read_configuration(project / "toy.json")


def test_cases_come_with_landmarks_in_the_order_of_the_scheme(project):
    cases = load_cases(configuration(project), "train", project)
    assert [case.name for case in cases] == ["one", "two"]
    assert np.array_equal(cases[0].landmarks.positions, [[4, 5, 6], [1, 2, 3]])


def test_points_that_were_marked_in_another_pose_are_moved_into_the_scan(project):
    turn = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    (project / "poses.json").write_text(json.dumps({"two": {"rotation": turn, "translation": [10, 0, 0]}}))
    still, moved = load_cases(configuration(project, poses="poses.json"), "train", project)
    assert np.array_equal(still.landmarks.positions, [[4, 5, 6], [1, 2, 3]])
    assert np.allclose(moved.landmarks.positions, [[5, 4, 6], [8, 1, 3]])


def test_a_landmark_that_a_file_lacks_is_unknown(project):
    _, landmarks = read_case(project / "cases", "one", ("a", "c"))
    assert landmarks.present[0] and landmarks.unknown[1]


def test_a_folder_without_cases_is_named(tmp_path):
    with pytest.raises(InputError, match="No point list"):
        case_names(tmp_path)


def test_a_case_needs_exactly_one_scan(project):
    write_volume(project / "cases" / "one.nii.gz", Volume(np.ones((4, 5, 6), np.int16), np.eye(4)))
    with pytest.raises(InputError, match="more than one scan"):
        read_case(project / "cases", "one", ("a", "b"))


def test_an_unknown_reader_is_refused_with_the_known_ones(project):
    with pytest.raises(InputError, match="case-folder, phantom"):
        load_cases(configuration(project, reader="telepathy"), "train", project)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not readable JSON"), ("{}", "lacks the entries id, version"), (None, "does not exist")]
)
def test_a_bad_configuration_is_told_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "bad.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_configuration(path)


def test_the_data_folder_may_name_an_environment_variable(project, monkeypatch):
    configured = configuration(project, folder="${H3DE_DATA}/cases")
    monkeypatch.delenv("H3DE_DATA", raising=False)
    with pytest.raises(InputError, match="H3DE_DATA"):
        load_cases(configured, "train", project)
    monkeypatch.setenv("H3DE_DATA", str(project))
    assert len(load_cases(configured, "train", project)) == 2


def test_generated_phantoms_are_kept_and_read_back_equal(tmp_path):
    values = {
        "id": "p",
        "version": "0.1.0",
        "title": "P",
        "intensity": {},
        "stages": [],
        "tolerance_mm": 1.0,
        "data": {"reader": "phantom", "spacings_mm": [1.2], "seeds": {"train": [3, 4]}},
    }
    (tmp_path / "p.json").write_text(json.dumps(values))
    configured = read_configuration(tmp_path / "p.json")
    assert configured.scheme == MOLAR_SCHEME
    (made,), (kept,) = (load_cases(configured, "train", tmp_path) for _ in range(2))
    assert np.array_equal(made.volume.array, kept.volume.array)
    assert np.array_equal(made.volume.affine, kept.volume.affine)
    assert np.array_equal(made.landmarks.positions, kept.landmarks.positions, equal_nan=True)


@pytest.mark.parametrize("name", ["mouse-skull", "mandibular-molar-phantom"])
def test_bundled_configurations_are_complete_and_never_share_cases_between_subsets(name):

    configured = read_configuration(research_configurations() / f"{name}.json")
    data = configured.values["data"]
    if "split" in data:
        subsets = [set(data["split"][s]) for s in ("train", "validation", "test")]
    else:
        subsets = [set(range(*data["seeds"][s])) for s in ("train", "validation", "test")]
    assert all(subsets) and sum(map(len, subsets)) == len(set.union(*subsets))
    for stage in configured.values["stages"]:
        channels = {len(group["landmarks"]) for group in stage["groups"]}
        assert channels == {stage["network"]["settings"]["landmarks"]}
        assert {n for g in stage["groups"] for n in g["landmarks"]} == set(configured.scheme.names)
