"""A model that learnt from all cases is calibrated by models of its kind that did not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from spots import CASES, write_configuration, write_spots
from tiny_model import NETWORK

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.models import ModelPackage, open_package
from H3DELandmarksLib.networks import build_network
from H3DELandmarksResearch.training import cross_fitting
from H3DELandmarksResearch.training.configuration import load_cases, read_configuration
from H3DELandmarksResearch.training.cross_fitting import StandIn, folds_of
from H3DELandmarksResearch.training.packaging import recalibrate_package, write_uncalibrated
from H3DELandmarksResearch.training.remembered import EVIDENCE, Remembered
from H3DELandmarksResearch.training.run import run_training, shape_of

LEARNT, TESTED = CASES[:6], CASES[6:]
FOLDS = (CASES[0:3], CASES[3:6])
WHOLE_SPLIT = {"train": LEARNT, "validation": [], "test": TESTED}


def uncalibrated(project: Path, name: str, split: dict, seed: int, **changes) -> ModelPackage:
    """A package with weights of its own that says to have learnt from a split's training cases."""
    folder = project / name
    folder.mkdir(parents=True, exist_ok=True)
    write_configuration(folder / "configuration.json", project, split, **changes)
    configuration = read_configuration(folder / "configuration.json")
    torch.manual_seed(seed)
    network = configuration.record.stages[0].network
    weights = build_network(network.architecture, network.settings).state_dict()
    shape = shape_of(load_cases(configuration, "train", project), configuration)
    return write_uncalibrated(folder / "package", configuration, [weights], shape)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = write_spots(tmp_path_factory.mktemp("folds"))
    for number, held in enumerate(FOLDS):
        split = {"train": [name for name in LEARNT if name not in held], "validation": [], "test": held}
        uncalibrated(folder, f"cv/fold-{number}", split, seed=number)
    uncalibrated(folder, "all", WHOLE_SPLIT, seed=7)
    return folder


def parts_of(project: Path, cases: list, folds: str = "cv") -> list:
    return folds_of(project / folds, open_package(project / "all" / "package"), cases, project / "cache")


def learnt_cases(project: Path) -> list:
    return load_cases(read_configuration(project / "all" / "configuration.json"), "train", project)


def test_each_case_comes_with_the_model_that_was_held_out_from_it(project):
    parts = folds_of(
        project / "cv", open_package(project / "all" / "package"), learnt_cases(project), project / "cache"
    )
    assert [[case.name for case in part.cases] for part in parts] == [list(held) for held in FOLDS]
    for number, part in enumerate(parts):
        fold = Detector(open_package(project / "cv" / f"fold-{number}" / "package"))
        scan = part.cases[0].volume
        assert np.array_equal(part.finder.findings(scan).positions, fold.findings(scan).positions)


def test_findings_of_a_stand_in_lie_in_the_frame_of_the_model_that_is_calibrated(project):
    fold = Detector(open_package(project / "cv" / "fold-0" / "package"))
    shape, scan = Detector(open_package(project / "all" / "package")).shape, learnt_cases(project)[0].volume
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = type(shape)(fold.shape.mean @ turn.T + 5.0, shape.tolerance)
    stood_in, own = StandIn(fold, fold.shape, turned).findings(scan), fold.findings(scan)
    assert np.allclose(stood_in.pose.to_lps(turned.mean), own.pose.to_lps(fold.shape.mean), atol=1e-6)
    assert np.array_equal(stood_in.positions, own.positions)


def test_the_command_calibrates_by_what_models_find_in_cases_that_they_never_saw(project, tmp_path, monkeypatch):
    looked_at, findings = [], Detector.findings

    def recorded(self: Detector, volume: Volume):
        looked_at.append((self.package.path.parent.name, volume.array.tobytes()))
        return findings(self, volume)

    monkeypatch.setattr(Detector, "findings", recorded)
    arguments = ["models", "recalibrate", str(project / "all" / "package"), "--folds", str(project / "cv")]
    configuration = ["--configuration", str(project / "all" / "configuration.json")]
    assert main([*arguments, *configuration, "--output", str(tmp_path / "made")]) == 0

    whole = {case.name: case.volume.array.tobytes() for case in learnt_cases(project)}
    who = {name: {by for by, scan in looked_at if scan == array} for name, array in whole.items()}
    assert who == {name: {f"fold-{number}"} for number, held in enumerate(FOLDS) for name in held}
    made = open_package(tmp_path / "made")
    assert made.manifest.calibration.cases == {"subset": "cross-fitted", "scans": 6, "radii": "split conformal"}
    assert "Calibrated on 6 cases that it learnt from" in made.model_card()


@pytest.mark.parametrize("has_places", [True, False])
def test_what_a_model_finds_is_looked_for_once(project, tmp_path, monkeypatch, has_places):
    detector = Detector(open_package(project / "all" / "package"))
    scan, looks = learnt_cases(project)[0].volume, []
    found = detector.findings(scan)
    found = found if has_places else replace(found, candidates=None)
    monkeypatch.setattr(detector, "findings", lambda volume: looks.append(volume) or found)
    again = [Remembered(detector, tmp_path).findings(scan) for _ in range(2)]
    assert len(looks) == 1
    for one in again:
        assert all(np.array_equal(getattr(one, name), getattr(found, name), equal_nan=True) for name in EVIDENCE)
        assert np.array_equal(one.pose.rotation, found.pose.rotation) and one.count is None
        assert (one.candidates is None) == (not has_places)
    if has_places:
        assert np.array_equal(again[1].candidates.share, found.candidates.share)
    brighter = Volume(scan.array + 1, scan.affine)
    shifted = Volume(scan.array, scan.affine + np.pad([[1.0]], ((0, 3), (3, 0))))
    for other in (brighter, shifted):
        Remembered(detector, tmp_path).findings(other)
    assert len(looks) == 3, "another scan is another one, and so is one elsewhere"


@pytest.fixture(scope="module")
def alone(project) -> str:
    """A folder with the model of one fold, which has learnt from three of six cases."""
    shutil.copytree(project / "cv" / "fold-0", project / "alone" / "fold-0")
    return "alone"


def test_cases_that_all_models_have_learnt_from_are_refused(project, alone):
    with pytest.raises(InputError, match="held out from case3, case4, case5"):
        parts_of(project, learnt_cases(project), alone)


def test_where_enough_cases_were_held_out_the_others_do_not_calibrate(project, alone, monkeypatch, caplog):
    monkeypatch.setattr(cross_fitting, "FEWEST_HELD", 3)
    (part,) = parts_of(project, learnt_cases(project), alone)
    assert [case.name for case in part.cases] == list(FOLDS[0]) and "3 cases" in caplog.text


def test_a_folder_without_models_of_folds_is_refused(project):
    with pytest.raises(InputError, match="no models of folds"):
        parts_of(project, [], "nowhere")


def test_models_of_another_kind_are_refused(project):
    network = {**NETWORK, "settings": {**NETWORK["settings"], "fine_dims": [8, 8]}}
    stage = json.loads((project / "spots.json").read_text(encoding="utf-8"))["stages"][0]
    uncalibrated(project, "others/fold-0", WHOLE_SPLIT, seed=0, stages=[{**stage, "network": network}])
    with pytest.raises(InputError, match="not of the kind"):
        parts_of(project, [], "others")


def test_points_that_are_placed_together_cannot_be_taught_by_folds(project, tmp_path):
    path = tmp_path / "joint.json"
    write_configuration(path, project, WHOLE_SPLIT, joint=True)
    package = open_package(project / "all" / "package")
    folds = parts_of(project, learnt_cases(project))
    with pytest.raises(InputError, match="without folds"):
        recalibrate_package(tmp_path / "never", package, read_configuration(path), {"test": ()}, folds)


def test_training_without_validation_cases_leaves_a_package_that_waits_for_its_calibration(project, tmp_path, caplog):
    run_training(project / "all" / "configuration.json", tmp_path / "run")
    package = open_package(tmp_path / "run" / "package")
    assert set(package.manifest.calibration.radius90_mm) == {0.0} and "--folds" in caplog.text
    assert "Not calibrated" in package.model_card() and "Not for clinical use" in package.model_card()
