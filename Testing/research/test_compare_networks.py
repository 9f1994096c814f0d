"""The comparison of networks: same folds, same budget, results that survive an interruption."""

import json
import os

import numpy as np
import pytest
from tiny_study import write_study

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.reading import read_record
from H3DELandmarksResearch.studies import compare_networks
from H3DELandmarksResearch.studies.comparison_report import ComparisonPlan
from H3DELandmarksResearch.studies.folds import FOLDER, all_names, make_folds, stored_folds, write_fold
from H3DELandmarksResearch.training.configuration import CONFIGURATIONS, read_configuration

PLANS = ("compare-networks.json", "compare-networks-coarse.json")
MOUSE = CONFIGURATIONS / "mouse-skull.json"
TINY_UNET = {"landmarks": 3, "features": [4, 8, 8], "blocks": [1, 1, 1], "output_stride": 2}


@pytest.fixture
def study(tmp_path):
    configuration = write_study(tmp_path)
    plan = {
        "configuration": "none",
        "stage": "refiner",
        "networks": {
            "ours": {"title": "ours"},
            "unet": {
                "title": "U-Net",
                "decoding": {"method": "peak"},
                "training": {"loss": "ball-bce", "radius": 4.0},
                "network": {"architecture": "residual-encoder-unet", "settings": TINY_UNET},
            },
        },
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))

    def call(*more: str) -> int:
        return compare_networks.main(
            [
                "--work",
                str(tmp_path / "work"),
                "--plan",
                str(tmp_path / "plan.json"),
                "--output",
                str(tmp_path / "report"),
                "--configuration",
                str(configuration),
                "--seconds",
                "0.3",
                *more,
            ]
        )

    return tmp_path, call


def test_every_network_is_measured_on_specimens_that_it_never_saw(study):
    pytest.importorskip("dynamic_network_architectures")
    folder, call = study
    assert call("--folds", "0", "3") == 0
    figures = json.loads((folder / "report.json").read_text())
    assert set(figures["networks"]) == {"ours", "unet"}
    for row in figures["networks"].values():
        assert set(row["case_means_mm"]) == {*figures["folds"][0], *figures["folds"][3]}
        assert all(steps >= 1 for steps in row["steps"])
        assert np.isfinite(row["mre_mm"]) and 0 <= row["success"][0] <= row["success"][1] <= 1
    assert "U-Net" in (folder / "report.md").read_text() and (folder / "report.png").stat().st_size > 1000


def test_what_is_done_is_kept_and_an_interrupted_run_goes_on(study):
    folder, call = study
    call("--folds", "1", "--networks", "ours")
    run = folder / "work" / "fold-1" / "ours"
    result, checkpoint = (run / "result.json").read_text(), (run / "checkpoint.safetensors").read_bytes()
    call("--folds", "1", "--networks", "ours")
    assert (run / "result.json").read_text() == result
    (run / "result.json").unlink()  # as if it had been killed between training and measuring
    call("--folds", "1", "--networks", "ours")
    assert (run / "checkpoint.safetensors").read_bytes() == checkpoint
    assert json.loads((run / "result.json").read_text())["errors_mm"] == json.loads(result)["errors_mm"]
    call("--report")
    assert not (folder / "work" / "fold-0").exists()
    (run / "result.json").unlink()
    with pytest.raises(InputError, match="budget of 0.3 s"):
        call("--folds", "1", "--networks", "ours", "--seconds", "9")


def test_an_unknown_network_is_named(study):
    with pytest.raises(InputError, match="no network magic: choose from ours, unet"):
        study[1]("--networks", "magic")


@pytest.mark.parametrize("name", PLANS)
def test_all_networks_of_the_plans_fit_the_mouse_skull(name):
    plan, configuration = read_record(ComparisonPlan, FOLDER / name, what="plan"), read_configuration(MOUSE)
    stages = {network: compare_networks.stage_of(configuration, plan, network) for network in plan.networks}
    for stage in stages.values():
        assert stage.channels == len(configuration.scheme)
        assert stage.views == 1
    assert {stage.shape for stage in stages.values()} == {stages["h3denet-softmax"].shape}
    # nnLandmark never mirrors, the others do with names swapped.
    assert stages["residual-unet-nnlandmark"].augmentation.mirror == 0


def test_a_change_of_the_plan_that_no_network_takes_is_named(study):
    folder, call = study
    plan = json.loads((folder / "plan.json").read_text())
    plan["networks"]["ours"]["training"] = {"learning_rat": 1e-3}
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(InputError, match="'ours'.*learning_rate"):
        call("--networks", "ours")


def test_a_misspelt_entry_of_the_plan_is_named(study):
    folder, call = study
    plan = json.loads((folder / "plan.json").read_text())
    plan["stag"] = plan.pop("stage")
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(InputError, match="plan.json.*'stage'"):
        call("--networks", "ours")


def test_folds_are_those_of_their_seed_and_hold_every_specimen_once(monkeypatch):
    monkeypatch.setenv("H3DE_DATA", os.devnull)
    configuration = read_configuration(MOUSE)
    names = all_names(configuration)
    folds = stored_folds("mouse-skull", configuration, 5)
    assert folds == make_folds(list(reversed(names)), 5)
    assert sorted(name for fold in folds for name in fold) == names and len(set(names)) == 40
    assert folds == json.loads((FOLDER / "mouse-skull-folds.json").read_text())["folds"]


def test_a_fold_is_a_configuration_of_its_own(tmp_path):
    configuration = read_configuration(write_study(tmp_path))
    folds = make_folds(all_names(configuration), 5)
    fold = read_configuration(write_fold(configuration, folds, 4, tmp_path / "elsewhere" / "fold.json"))
    split = fold.split()
    assert (list(split["test"]), list(split["validation"])) == (folds[4], [])
    assert sorted(split["train"]) == sorted(folds[0] + folds[1] + folds[2] + folds[3])
    assert fold.scheme == configuration.scheme
