"""A package is calibrated and measured again from its own weights, which stay as they are to the byte."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from spots import SPLIT, cases_of, write_configuration, write_spots
from tiny_model import NAMES, NETWORK

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.training import recorded_cases
from H3DELandmarksLib.models import ModelPackage, open_package
from H3DELandmarksLib.networks import build_network
from H3DELandmarksResearch.training.configuration import load_cases, read_configuration
from H3DELandmarksResearch.training.packaging import build_package, recalibrate_package
from H3DELandmarksResearch.training.run import shape_of


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return write_spots(tmp_path_factory.mktemp("spots"))


@pytest.fixture(scope="module")
def package(project) -> ModelPackage:
    configuration = read_configuration(project / "spots.json")
    torch.manual_seed(0)
    weights = build_network(**NETWORK).state_dict()
    shape = shape_of(load_cases(configuration, "train", project), configuration)
    cases = cases_of(configuration, project)
    return build_package(
        project / "package", configuration, [weights], shape, cases["calibration"], cases["test"], "calibration"
    )


def test_a_package_is_calibrated_on_cases_of_its_own_where_there_are_some(package):
    assert package.manifest.calibration.cases == {"subset": "calibration", "scans": 3, "radii": "split conformal"}
    assert "Calibrated on 3 cases of its own" in package.model_card()


def test_the_manifest_states_coverage_and_calibration_errors(package):
    accuracy = package.manifest.accuracy
    assert 0 <= accuracy["test"]["coverage"] <= 1
    for scans, count in (("whole", len(SPLIT["test"])), ("whole_and_cut_off", 2 * len(SPLIT["test"]))):
        stated = accuracy["reliability"][scans]
        assert 0 <= stated["presence"]["ece"] <= 1 and 0 <= stated["confidence"]["ece"] <= 1
        assert stated["presence"]["statements"] == count * len(NAMES)


def test_the_card_s_pictures_lie_in_the_package(package):
    package.verify()
    for name in package.picture_files:
        assert f"]({name})" in package.model_card()
    assert {"landmarks.png", "accuracy.png", "reliability.png"} <= set(package.picture_files)


@pytest.fixture(scope="module")
def again(project, package) -> ModelPackage:
    """The same weights by a configuration without calibration cases, cross-conformal, of a newer version."""
    split = {subset: names for subset, names in SPLIT.items() if subset != "calibration"}
    path = project / "spots-2.json"
    write_configuration(path, project, split, version="0.1.1", cross_conformal=True)
    configuration = read_configuration(path)
    return recalibrate_package(project / "again", package, configuration, cases_of(configuration, project))


@pytest.mark.parametrize("data", ["nothing", {"split": "split.json"}, {"split": {"train": 5}}])
def test_what_a_manifest_says_in_another_form_is_no_record_of_cases(package, data):
    manifest = replace(package.manifest, training={**package.manifest.training, "data": data})
    assert recorded_cases(package.manifest, "train") == tuple(SPLIT["train"]) and not recorded_cases(manifest, "train")


@pytest.mark.parametrize("taught", [SPLIT["train"][:1], [*SPLIT["train"][:1], *SPLIT["test"][:1]]])
def test_a_configuration_that_does_not_teach_what_was_learnt_is_refused(project, package, tmp_path, taught):
    test = [name for name in (*SPLIT["test"], *SPLIT["train"]) if name not in taught]
    write_configuration(tmp_path / "other.json", project, {**SPLIT, "train": taught, "test": test})
    configuration = read_configuration(tmp_path / "other.json")
    with pytest.raises(InputError, match=f"learnt from cases .*{SPLIT['train'][1]}"):
        recalibrate_package(tmp_path / "again", package, configuration, cases_of(configuration, project))


def test_weights_stay_the_same_to_the_byte(package, again):
    assert {name: again.read(name) for name in again.weight_files} == {
        name: package.read(name) for name in package.weight_files
    }
    assert again.version == "0.1.1" and again.manifest.training["date"] == package.manifest.training["date"]


def test_validation_cases_stand_in_for_calibration_cases_and_the_card_admits_it(again):
    assert again.manifest.calibration.cases["subset"] == "validation"
    assert "Calibrated on the 1 validation cases" in again.model_card() and "too hopeful" in again.model_card()


def test_cross_conformal_radii_are_measured_without_the_case_that_they_are_measured_on(again):
    cross = again.manifest.accuracy["cross_conformal"]
    assert cross["cases"] == 3 and 0 <= cross["coverage"] <= 1
    assert again.manifest.calibration.cases["radii"] == "cross-conformal"
    assert "cross-conformal" in again.model_card()


def test_another_model_s_configuration_is_refused(project, package):
    path = project / "other.json"
    other = {**NETWORK, "settings": {**NETWORK["settings"], "fine_dims": [8, 8]}}
    values = json.loads((project / "spots.json").read_text())
    values["stages"][0]["network"] = other
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="not the configuration"):
        recalibrate_package(project / "never", package, read_configuration(path), {})
    assert not (project / "never").exists()


def test_the_command_writes_a_new_package_and_never_replaces_one(project, package, capsys):
    arguments = ["models", "recalibrate", str(package.path), "--configuration", str(project / "spots.json")]
    assert main([*arguments, "--output", str(project / "made" / "spots")]) == 0
    made = open_package(project / "made" / "spots")
    assert made.weight_files == package.weight_files
    assert made.manifest.calibration == package.manifest.calibration
    assert main([*arguments, "--output", str(made.path)]) != 0
    assert "exists" in capsys.readouterr().err


def test_a_model_whose_points_are_placed_together_is_packaged_with_its_anatomy(project):
    path = project / "joint.json"
    write_configuration(path, project, SPLIT, joint=True)
    configuration = read_configuration(path)
    torch.manual_seed(0)
    weights = build_network(**NETWORK).state_dict()
    train, cases = load_cases(configuration, "train", project), cases_of(configuration, project)
    subjects = np.stack([case.landmarks.positions for case in train])
    joint = build_package(
        project / "joint",
        configuration,
        [weights],
        shape_of(train, configuration),
        *cases.values(),
        "calibration",
        subjects,
    )
    anatomy = joint.load_anatomy()
    assert anatomy.mean.shape == (len(NAMES), 3) and (anatomy.errors.noise > 0).all()
    kept = recalibrate_package(project / "joint-2", joint, configuration, cases).load_anatomy()
    assert np.array_equal(kept.mean, anatomy.mean)
