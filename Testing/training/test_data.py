"""Configurations and the cases that they name."""

import json
import re
from copy import deepcopy

import numpy as np
import pytest
from typed import training_stage

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.reading import to_plain
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import write_markups
from H3DELandmarksLib.models import find_model
from H3DELandmarksResearch.cases.case_folder import case_names, read_case
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME
from H3DELandmarksResearch.training.configuration import CONFIGURATIONS, load_cases, read_configuration
from H3DELandmarksResearch.training.cross_fitting import CROSS_FITTED

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


def values_of(project, **data) -> dict:
    """A whole configuration; all cases teach."""
    stage = to_plain(training_stage(groups=[{"landmarks": ["a", "b"]}]))
    split = {"train": ["one", "two"], "validation": [], "test": []}
    return {
        "id": "toy",
        "version": "0.1.0",
        "title": "Toy",
        "intensity": {"method": "window", "low": 0, "high": 1},
        "stages": [stage],
        "tolerance_mm": 1.0,
        "scheme": "scheme.json",
        "data": {"reader": "case-folder", "folder": str(project / "cases"), "split": split} | data,
    }


def written(project, values):
    (project / "toy.json").write_text(json.dumps(values))
    return project / "toy.json"


def configuration(project, **data):
    return read_configuration(written(project, values_of(project, **data)))


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
    with pytest.raises(InputError, match="data.reader"):
        configuration(project, reader="telepathy")


@pytest.mark.parametrize(("text", "message"), [("{", "no JSON"), ("{}", "missing"), (None, "does not exist")])
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
    stage = to_plain(training_stage(groups=[{"landmarks": list(MOLAR_SCHEME.names)}]))
    seeds = {"train": [3, 4], "validation": [5, 5], "test": [6, 6]}
    data = {"reader": "phantom", "spacings_mm": [1.2], "seeds": seeds}
    values = {**values_of(tmp_path), "stages": [stage], "data": data}
    del values["scheme"]
    configured = read_configuration(written(tmp_path, values))
    assert configured.scheme == MOLAR_SCHEME
    (made,), (kept,) = (load_cases(configured, "train", tmp_path) for _ in range(2))
    assert np.array_equal(made.volume.array, kept.volume.array)
    assert np.array_equal(made.volume.affine, kept.volume.affine)
    assert np.array_equal(made.landmarks.positions, kept.landmarks.positions, equal_nan=True)


@pytest.mark.parametrize("name", ["mouse-skull", "mandibular-molar-phantom"])
def test_bundled_configurations_are_complete_and_never_share_cases_between_subsets(name):
    configured = read_configuration(CONFIGURATIONS / f"{name}.json")
    data = configured.record.data
    if data.seeds is None:
        subsets = [set(data.split[s]) for s in ("train", "validation", "test")]
    else:
        subsets = [set(range(*data.seeds[s])) for s in ("train", "validation", "test")]
    by_folds = find_model(name).manifest.calibration.cases["subset"] == CROSS_FITTED  # then nothing has to validate
    train, validation, test = subsets
    assert train and test and (validation or by_folds) and sum(map(len, subsets)) == len(set.union(*subsets))
    for stage in configured.record.stages:
        assert {len(group.landmarks) for group in stage.groups} == {stage.channels}
        assert {name for group in stage.groups for name in group.landmarks} == set(configured.scheme.names)


def changed(values: dict, path: str, value) -> dict:
    """A copy with one entry changed, or without it where the value is None."""
    values = deepcopy(values)
    *places, last = path.split(".")
    entry = values
    for place in places:
        entry = entry[int(place) if place.isdigit() else place]
    if value is None:
        del entry[last]
    else:
        entry[last] = value
    return values


def test_a_landmark_that_no_stage_has_is_named(project):
    scheme = {**SCHEME, "landmarks": [*SCHEME["landmarks"], {"name": "c", "definition": "seen by none"}]}
    (project / "scheme.json").write_text(json.dumps(scheme), encoding="utf-8")
    with pytest.raises(InputError, match="none has c of the scheme"):
        configuration(project)


def phantoms(**seeds):
    every = {"train": (0, 5), "validation": (6, 6), "test": (8, 9)} | seeds
    return {"reader": "phantom", "seeds": every, "spacings_mm": [1.0]}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("stages.0.training.learningrate", 1e-3, "stages[0].training.learningrate.*learning_rate"),
        ("stages.0.training.sigmaa", 1.0, "stages[0].training.sigmaa.*sigma"),
        ("stages.0.augmentation.rotation_degree", 3, "augmentation.rotation_degree.*rotation_degrees"),
        ("stages.0.poses", "scna", "stages[0].poses.*scan"),
        ("stages.0.spacing_mm", -1.5, "stages[0].spacing_mm"),
        ("stages.0.groups", None, "stages[0].groups"),
        ("stages.0.groups", [{"landmarks": ["a", "c"]}], "stages[0].groups[0].landmarks.*'c'"),
        ("stages.0.groups", [{"landmarks": ["a"]}], "stages[0].groups[0].landmarks'"),
        ("stages.0.name", "../toy", "stages[0].name.*folder"),
        ("stages.0.name", "Package", "stages[0].name.*folder"),
        ("stages.0.poses", "found", "stages[0].poses.*earlier stage"),
        ("stages.0.training.loss", "ball-bce", "stages[0].decoding.method'"),
        ("stages.0.network.settings.head", "anchor", "stages[0].network.settings'.*output_stride"),
        ("stages.0.decoding.method", "peak", "stages[0].decoding.method'.*softmax"),
        ("stages.0.augmentation.mirorr", 0.5, "stages[0].augmentation.mirorr.*mirror"),
        ("stages.0.network.settings.dimms", [8, 8, 8, 8], "stages[0].network.settings.dimms'.*dims"),
        ("stages.0.network.settings.landmarks", 3, "stages[0].groups[0].landmarks'.*network.settings.landmarks"),
        ("stages.0.shape", [32, 32, 1], "stages[0].shape'"),
        ("stages.0.augmentation.rotation_share", 0.5, "stages[0].augmentation.rotation_share'"),
        ("stages.0.augmentation.cut", 0.5, "stages[0].augmentation.cut'"),
        ("stages.0.training.steps", 0, "stages[0].training.steps"),
        ("stages.0.augmentation.mirror", 1.5, "stages[0].augmentation.mirror"),
        ("stages.0.training.learning_rate", 1e300, "stages[0].training.learning_rate'"),
        ("stages.0.training.weight_decay", 1e300, "stages[0].training.weight_decay'.*learning_rate"),
        ("stages.0.training.sigma", 1e300, "stages[0].training.sigma'"),
        ("stages.0.training.sigma", 100.0, "stages[0].training.sigma'.*300 voxels"),
        ("stages.0.training.sigma", 1e-5, "stages[0].training.sigma'"),
        ("stages.0.training.batch", 10**9, "stages[0].training.batch'"),
        ("stages.0.training.ema", 1, "stages[0].training.ema'"),
        ("stages.0.augmentation.contrast", 1e300, "stages[0].augmentation.contrast'"),
        ("stages.0.augmentation.noise", 1e300, "stages[0].augmentation.noise'"),
        ("stages.0.augmentation.shift_mm", 1e300, "stages[0].augmentation.shift_mm'"),
        ("stages.0.augmentation.shift_mm", [1, 1, 1e300], "stages[0].augmentation.shift_mm"),
        ("title", "To\ny", "title.*'To.ny' holds characters"),
        ("data.seeds", phantoms()["seeds"], "data.seeds'.*case-folder"),
        ("data.wide_share", 0.5, "data.wide_share'.*case-folder"),
        ("data", {**phantoms(), "folder": "."}, "data.folder'.*phantom"),
        ("stages.0.augmentation.gamma", 200.0, "stages[0].augmentation.gamma'"),
        ("stages.0.augmentation.blur", 1e5, "stages[0].augmentation.blur'"),
        ("stages.0.augmentation.scale", 1e5, "stages[0].augmentation.scale'"),
        ("own_frame", True, "'own_frame'.*poses"),
        ("intensity.low", 2, "intensity.*low"),
        ("intensity.method", "windwo", "intensity.method.*window"),
        ("data.split", {"train": ["one"], "validation": ["one"], "test": []}, "'one'"),
        ("data.split", {"train": ["one"], "test": []}, "data.split.validation'"),
        ("data.split", {"train": ["one"], "validation": ["two"], "test": ["x", "x"]}, "'x' stands twice in test"),
        ("data.split", {"train": [], "validation": [], "test": ["two"]}, "data.split.train'"),
        ("data.split", {"train": ["one"], "validation": ["two"], "test": []}, "data.split.test'"),
        ("data.split.calibraton", ["three"], "data.split.calibraton'.*calibration"),
        ("data", phantoms(train=(0, 5), test=(4, 8)), "data.seeds'.*train and test"),
        ("data", phantoms(train=(5, 3)), "data.seeds.train'.*3 comes before 5"),
        ("data", phantoms(train=(3, 3)), "data.seeds.train'"),
        ("data", phantoms(validation=(20, 22), test=(8, 8)), "data.seeds.test'"),
        ("data", phantoms(calibraton=(20, 22)), "data.seeds.calibraton'.*calibration"),
        ("data.readr", "phantom", "data.readr.*reader"),
        ("scheme", "other.json", "other.json"),
        ("titel", "Toy", "titel.*title"),
    ],
)
def test_a_broken_entry_is_named_before_anything_is_computed(project, capsys, path, value, words):
    file = written(project, changed(values_of(project), path, value))
    assert main(["train", str(file), "--output", str(project / "run"), "--stage", "toy"]) == 2
    told = capsys.readouterr().err
    assert re.search(words.replace("[", r"\[").replace("]", r"\]"), told), told
    assert not list(project.glob("run/toy*"))
