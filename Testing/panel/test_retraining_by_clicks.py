"""Retraining from the panel by clicks: the real command in a child process, with a tiny model and a few heads."""

import json
import re
import shutil

import pytest
import slicer
from hypothesis import given
from hypothesis import strategies as st
from operating import click, is_running, type_path, wait_until, worker_processes
from run_records import run_record
from scene_voxels import write_heads

from H3DELandmarksLib.cases import create_project
from H3DELandmarksLib.cli.main import make_parser
from H3DELandmarksLib.models import open_package

NOT_RESUMABLE = "There is no interrupted training."


@pytest.fixture(scope="session")
def six_heads(tiny, tmp_path_factory):
    """Cases of six heads, to be copied."""
    folder = tmp_path_factory.mktemp("heads") / "heads"
    write_heads(create_project(folder, tiny.scheme), 6)
    return folder


@pytest.fixture
def folder(six_heads, tmp_path):
    """Cases of six heads."""
    return shutil.copytree(six_heads, tmp_path / "heads é")


@pytest.fixture
def panel(open_panel, tiny_model, scene):
    """The panel with the section open."""
    panel = open_panel()
    for section in (panel.learning.ui.casesSection, panel.learning.ui.retrainSection):
        click(section)
    return panel


def begin(panel, steps):
    ui = panel.learning.ui
    ui.stepsSpinBox.value = steps
    ui.retrainDeviceSelector.setCurrentIndex(ui.retrainDeviceSelector.findText("CPU"))
    click(ui.retrainButton)


def is_running_here(panel):
    return panel.learning.retrain.progress.isRunning


def step_of(learning):
    """How many steps the training that runs has told of."""
    run = learning.retrain.progress.run
    return run.progress.get("step", 0) if run else 0


def curve_points(scene):
    table = scene.GetFirstNodeByName("Learning curve: localizer")
    return [] if table is None else [float(table.GetCellText(r, 0)) for r in range(table.GetNumberOfRows())]


def test_what_is_needed_is_said(panel, folder, tmp_path):
    ui = panel.learning.ui
    assert not ui.retrainButton.enabled and ui.retrainButton.toolTip == "Add cases first."
    assert not ui.resumeButton.enabled and ui.resumeButton.toolTip == NOT_RESUMABLE
    assert not ui.curveButton.enabled and not ui.cancelRetrainButton.enabled and ui.stepsSpinBox.text == "Automatic"
    type_path(ui.casesPath, folder)
    assert ui.retrainButton.enabled
    starts = [ui.baseModelSelector.itemText(k) for k in range(ui.baseModelSelector.count)]
    assert starts == ["Tiny model (1.0.0)", "A new model for these landmarks", "A new model, begun from Tiny model"]
    assert ui.baseModelSelector.currentText == "Tiny model (1.0.0)"


@pytest.mark.slow
def test_a_model_is_retrained_while_the_curve_is_shown(panel, scene, folder, tmp_path):
    ui = panel.learning.ui
    type_path(ui.casesPath, folder)
    begin(panel, 24)
    assert ui.retrainProgressBar.visible and ui.cancelRetrainButton.enabled and not ui.baseModelSelector.enabled
    assert not ui.retrainButton.enabled and ui.retrainButton.toolTip == "A training is running."
    longest = wait_until(lambda: curve_points(scene) or not is_running_here(panel))
    chart = scene.GetFirstNodeByName("Learning curve")
    assert slicer.app.applicationLogic().GetSelectionNode().GetActivePlotChartID() == chart.GetID(), "it is shown"
    seen = len(curve_points(scene))
    scene.Clear(False)  # the next patient: training goes on
    assert is_running_here(panel)
    longest = max(longest, wait_until(lambda: len(curve_points(scene)) > seen or not is_running_here(panel)))
    longest = max(longest, wait_until(lambda: not is_running_here(panel)))
    assert longest < 0.2, f"the panel was blocked for {longest:.3f} s"
    assert ui.retrainLabel.text.startswith("The new model tiny 1.1.0 has learnt from "), ui.retrainLabel.text
    assert curve_points(scene)[-1] == 24 and ui.curveButton.enabled and ui.retrainButton.enabled
    run = tmp_path / "heads é-runs" / "run-001"
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["state"] == "done"
    assert open_package(run / "package").version == "1.1.0"
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "cases",
        "index.json",
        "schemes",
    ], "nothing but cases is kept in their folder"
    assert not worker_processes()


@pytest.mark.slow
def test_a_training_is_not_told_as_one_with_the_cases_of_another_folder(panel, folder, six_heads, tmp_path, tiny):
    ui, other = panel.learning.ui, shutil.copytree(six_heads, tmp_path / "others")
    run = tmp_path / "others-runs" / "run-001"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(run_record(tiny.scheme, state="cancelled")), encoding="utf-8")
    type_path(ui.casesPath, folder)
    begin(panel, 100000)
    type_path(ui.casesPath, other)
    click(ui.cancelRetrainButton)
    wait_until(lambda: not is_running_here(panel), 90)
    assert ui.retrainLabel.text == f"Cancelled. This was with the cases in '{folder}': choose that folder to go on."


def test_a_cancelled_training_is_resumed_in_another_slicer(panel, open_panel, scene, folder):
    ui = panel.learning.ui
    type_path(ui.casesPath, folder)
    begin(panel, 100000)
    wait_until(lambda: step_of(panel.learning) > 2 or not is_running_here(panel))
    processes = worker_processes()
    assert len(processes) >= 2, "a launcher and the Python that it starts"
    click(ui.cancelRetrainButton)
    wait_until(lambda: not is_running_here(panel), 90)
    wait_until(lambda: not any(map(is_running, processes)), 2)
    told = ui.retrainLabel.text
    assert told.startswith("Cancelled. The training of tiny 1.1.0 was interrupted at step"), told
    assert ui.resumeButton.enabled and ui.retrainButton.enabled

    again = open_panel().learning  # as after a restart: the folder is remembered
    click(again.ui.retrainSection)
    assert again.ui.retrainLabel.text == told.removeprefix("Cancelled. ")
    run = again.retrain._newest.record
    step = run.step
    assert step > 2 and run.state == "cancelled"
    click(again.ui.resumeButton)
    wait_until(lambda: not again.retrain.progress.isRunning or step_of(again) > step)
    assert again.retrain.progress.isRunning, again.ui.retrainLabel.text
    processes = worker_processes()
    again.close()  # as Slicer does when it is closed
    wait_until(lambda: not any(map(is_running, processes)), 5)


@pytest.mark.slow
def test_too_few_cases_are_told_in_one_sentence(panel, folder):
    ui = panel.learning.ui
    for case in sorted((folder / "cases").iterdir())[:2]:
        shutil.rmtree(case)
    type_path(ui.casesPath, folder)
    assert not ui.retrainButton.enabled and not ui.resumeButton.enabled
    assert "at least 5 corrected cases; there are 4" in ui.retrainWhy.text


def test_a_training_of_another_slicer_is_left_alone(panel, folder, tiny):
    """Two of them must not write the same files."""
    from datetime import datetime, timedelta, timezone

    ui, now = panel.learning.ui, datetime.now(timezone.utc)
    run = folder.parent / f"{folder.name}-runs" / "run-001"
    run.mkdir(parents=True)
    updated = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    record = run_record(tiny.scheme, state="running", updated=updated)
    (run / "run.json").write_text(json.dumps(record))
    type_path(ui.casesPath, folder)
    assert ui.retrainLabel.text == (
        "The training of tiny 1.1.0 was interrupted at step 3 of 9: resume it, or begin another."
    )
    assert not ui.resumeButton.enabled and "perhaps in another Slicer" in ui.resumeButton.toolTip
    record["updated"] = (now - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    (run / "run.json").write_text(json.dumps(record))
    panel.learning.retrain.onForgotten()
    assert ui.resumeButton.enabled
    (run / "run.json").write_text("{")
    panel.learning.retrain.onForgotten()
    assert not ui.resumeButton.enabled and ui.retrainButton.enabled


@given(scheme=st.text(max_size=80), taken=st.sets(st.sampled_from(["model", "model-2", "a", "own-landmarks"])))
def test_a_new_model_gets_an_id_that_is_free_and_allowed(module, scheme, taken):
    from H3DELandmarksPanel.RetrainSection import newModelId

    name = newModelId(scheme, taken)
    assert re.fullmatch("[a-z0-9][a-z0-9-]{0,63}", name) and name not in taken
    assert newModelId("Own Landmarks", {"own-landmarks", "own-landmarks-2"}) == "own-landmarks-3"


def test_a_new_model_is_begun_with_the_chosen_layers(panel, folder):
    from H3DELandmarksPanel.RetrainSection import startsFor

    panel.learning.cases.onFolderChosen(str(folder))
    starts = startsFor(panel.learning.cases.folder)
    assert [start.arguments for start in starts] == [
        ("--base-model", "tiny@1.0.0"),
        ("--new-model", "tiny-3"),
        ("--new-model", "tiny-3", "--encoder-from", "tiny@1.0.0"),
    ]
    parser = make_parser("h3delandmarks")
    for start in starts:  # the command line takes them
        parser.parse_args(["train", "--from-cases", "a", "--output", "b", *start.arguments])
