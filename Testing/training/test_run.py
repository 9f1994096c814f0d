"""From a configuration to a package that detects: the whole of training in small."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny_study import NAMES, write_study

from H3DELandmarksLib.core.errors import InputError, ModelPackageError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.training.checkpoints import CHECKPOINT, load_checkpoint
from H3DELandmarksResearch.training import packaging
from H3DELandmarksResearch.training.configuration import load_cases, read_configuration
from H3DELandmarksResearch.training.run import run_training, shape_of


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("project")).parent


@pytest.fixture(scope="module")
def finished(project):
    run_training(project / "blobs.json", project / "run")
    return project / "run"


def test_a_run_ends_with_a_package_that_verifies_and_detects(project, finished):
    package = open_package(finished / "package")
    package.verify()
    found = Detector(package, device="cpu").detect(read_volume(project / "case4.nrrd"))
    assert found.names == tuple(NAMES)
    assert found.present.any() and np.isfinite(found.confidence)[found.present].all()
    assert (np.isnan(found.radius) | (found.radius > 0)).all(), "none is stated where the measured ones do not hold"


def test_the_manifest_and_the_card_say_what_it_was_trained_on_but_not_where_it_lay(project, finished):
    package = open_package(finished / "package")
    assert package.manifest.training["data"]["split"]["test"] == ["case4"]
    assert package.manifest.accuracy["test"]["cases"]
    assert str(project) not in json.dumps(package.content) + package.model_card()
    assert "the top blob" in package.model_card() and "Not for clinical use" in package.model_card()


def test_a_package_that_cannot_be_calibrated_takes_the_place_of_none(project, finished, tmp_path, monkeypatch):
    def finds_nothing(*_):
        raise InputError("The network finds no landmark in the calibration cases.")

    monkeypatch.setattr(packaging, "evaluate_model", finds_nothing)
    shutil.copytree(finished, tmp_path / "again")
    before = (finished / "package" / "manifest.json").read_bytes()
    for folder in (tmp_path / "again", tmp_path / "first"):
        with pytest.raises(InputError, match="finds no landmark"):
            run_training(project / "blobs.json", folder, resume=folder.exists())
    assert (tmp_path / "again" / "package" / "manifest.json").read_bytes() == before
    assert not (tmp_path / "first" / "package").exists()


def test_weights_are_stored_in_half_precision(finished):
    weights = open_package(finished / "package").load_weights("refiner.safetensors")
    assert {str(value.dtype) for value in weights.values()} <= {"float16", "int64"}


def test_resuming_a_finished_run_only_writes_the_package_again(finished, project):
    before = (finished / "refiner" / "checkpoint.safetensors").read_bytes()
    run_training(project / "blobs.json", finished, resume=True)
    assert (finished / "refiner" / "curve.csv").read_text().count("\n") == 2
    assert len((finished / "refiner" / "checkpoint.safetensors").read_bytes()) == len(before)


@pytest.mark.parametrize("stages", [None, [], ["refiner"]])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train": ["case4", "case1"], "validation": ["case2", "case3"], "test": ["case0"]}, "learnt.*case0"),
        ({"train": ["case4", "case1"], "validation": ["case0", "case3"], "test": ["case2"]}, "learnt.*case0"),
        (["right", "left", "top"], "other landmarks.*another order"),
    ],
)
def test_weights_that_do_not_fit_a_changed_configuration_are_refused(project, finished, stages, changed, words):
    content = json.loads((project / "blobs.json").read_text(encoding="utf-8"))
    if isinstance(changed, dict):
        content["data"]["split"] = changed
    else:
        for stage in content["stages"]:
            stage["groups"][0]["landmarks"] = changed
    (project / "changed.json").write_text(json.dumps(content), encoding="utf-8")
    before = (finished / "package" / "manifest.json").read_bytes()
    with pytest.raises(InputError, match=words):
        run_training(project / "changed.json", finished, resume=True, stages=stages)
    assert (finished / "package" / "manifest.json").read_bytes() == before


def test_a_run_goes_on_with_more_cases_and_keeps_in_mind_what_it_has_learnt_from(project, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    content = json.loads((project / "blobs.json").read_text(encoding="utf-8"))
    content["data"]["split"] = {"train": ["case1", "case2"], "validation": ["case3"], "test": ["case4"]}
    for stage in content["stages"]:
        stage["training"]["steps"] = 3
    (project / "more.json").write_text(json.dumps(content), encoding="utf-8")
    run_training(project / "more.json", tmp_path / "run", resume=True, package=False)
    progress = load_checkpoint(tmp_path / "run" / "refiner" / CHECKPOINT).progress
    assert progress.learnt == ("case0", "case1", "case2") and progress.landmarks == tuple(NAMES)


@pytest.mark.parametrize("stated", ["case,subject\ncase0,p\ncase4,p\n", ""])
def test_a_split_that_parts_the_scans_of_a_subject_is_refused(project, tmp_path, stated):
    for path in (*project.glob("case*"), project / "scheme.json", project / "blobs.json"):
        shutil.copyfile(path, tmp_path / (path.name if stated else path.name.replace("case", "sub-1_ses-")))
    text = (project / "blobs.json").read_text(encoding="utf-8")
    text = text.replace(json.dumps(str(project)), json.dumps(str(tmp_path)))
    text = text if stated else re.sub(r'"case(?=[0-9])', '"sub-1_ses-', text)
    (tmp_path / "blobs.json").write_text(text, encoding="utf-8")
    if stated:
        (tmp_path / "subjects.csv").write_text(stated, encoding="utf-8")
    with pytest.raises(InputError, match="of one subject"):
        run_training(tmp_path / "blobs.json", tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("place", ["case4.mrk.json", "readers/senior/case4.mrk.json"])
def test_points_to_test_with_that_cannot_be_read_are_told_before_the_training(project, tmp_path, place):
    shutil.copytree(project, tmp_path / "data", ignore=shutil.ignore_patterns("run", "fingerprints"))
    text = (project / "blobs.json").read_text(encoding="utf-8")
    (tmp_path / "blobs.json").write_text(text.replace(str(project), str(tmp_path / "data")), encoding="utf-8")
    shutil.copyfile(project / "scheme.json", tmp_path / "scheme.json")
    (tmp_path / "data" / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "data" / place).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="case4.mrk.json"):
        run_training(tmp_path / "blobs.json", tmp_path / "run", stages=["localizer"], package=False)
    assert not list((tmp_path / "run").iterdir())


def test_a_start_that_knows_cases_which_are_held_out_is_told(project, finished, tmp_path, caplog):
    content = json.loads((project / "blobs.json").read_text(encoding="utf-8"))
    content["start_from"] = str(finished / "package")
    content["data"]["split"] = {"train": ["case4", "case1"], "validation": ["case3"], "test": ["case0", "case2"]}
    (project / "started.json").write_text(json.dumps(content), encoding="utf-8")
    run_training(project / "started.json", tmp_path, stages=["localizer"], package=False)
    assert "held out here (case0)" in caplog.text
    content["start_from"] = "nowhere"
    (project / "started.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelPackageError, match="no model 'nowhere'"):
        run_training(project / "started.json", tmp_path / "none", package=False)
    assert not (tmp_path / "none" / "localizer").exists()


def test_a_landmark_that_no_case_for_training_shows_is_named(project, tmp_path):
    for path in (*project.glob("case*"), project / "scheme.json", project / "blobs.json"):
        text = path.read_bytes()
        path = tmp_path / path.name
        path.write_bytes(text if path.suffix == ".nrrd" or "case" in path.name else text.replace(b'"top"', b'"tops"'))
    content = json.loads((tmp_path / "blobs.json").read_text(encoding="utf-8"))
    content["data"]["folder"] = str(tmp_path)
    (tmp_path / "blobs.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="No case for training shows tops: .*scheme 'blobs'"):
        run_training(tmp_path / "blobs.json", tmp_path / "run")


def test_a_package_needs_every_stage(project, tmp_path):
    run_training(project / "blobs.json", tmp_path, stages=["refiner"], package=False)
    with pytest.raises(InputError, match="localizer"):
        run_training(project / "blobs.json", tmp_path, stages=[])


def test_an_earlier_run_is_never_overwritten(project, finished):
    before = (finished / "localizer" / "checkpoint.safetensors").read_bytes()
    with pytest.raises(InputError, match="--resume"):
        run_training(project / "blobs.json", finished)
    assert (finished / "localizer" / "checkpoint.safetensors").read_bytes() == before


def test_a_scan_of_air_holds_no_landmark_in_any_pose(finished):
    detector = Detector(open_package(finished / "package"), device="cpu")
    assert not detector.detect(Volume(np.zeros((40, 40, 40), np.int16), np.eye(4))).present.any()


@pytest.mark.parametrize("own_frame", [True, False])
def test_a_landmark_of_one_case_and_a_lone_one_have_a_tolerance(project, own_frame):
    configuration = read_configuration(project / "blobs.json")
    cases = load_cases(configuration, "train", project)
    once = replace(cases[0], landmarks=cases[0].landmarks.ordered_as(NAMES[:2]).ordered_as(NAMES))
    assert not once.landmarks.present[2] and (shape_of([once, cases[1]], configuration).tolerance > 0).all()
    scheme = LandmarkScheme("lone", "1", (LandmarkDefinition("top", ""),))
    lone = [replace(case, landmarks=case.landmarks.ordered_as(("top",))) for case in cases]
    poses = "cube-rotations" if own_frame else "scan"
    stages = tuple(replace(stage, poses=poses) for stage in configuration.record.stages)
    record = replace(configuration.record, stages=stages, own_frame=None)
    assert (shape_of(lone, replace(configuration, scheme=scheme, record=record)).tolerance > 0).all()


def test_an_unknown_stage_is_named(project, tmp_path):
    with pytest.raises(InputError, match="no stage 'polisher'"):
        run_training(project / "blobs.json", tmp_path, stages=["polisher"])
