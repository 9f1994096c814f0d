"""The panel, by clicks: detection, cancel, failures, and what is told about them."""

import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
from operating import (
    add_nonlinear_transform,
    add_volume,
    choose,
    click,
    content,
    files_of_runs,
    is_running,
    wait_until,
    worker_processes,
)

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.scene import landmarks_from_point_list, volume_from_node

pytestmark = pytest.mark.usefixtures("shared_program")

POINT_LIST = "vtkMRMLMarkupsFiducialNode"


@pytest.fixture
def panel(open_panel, tiny_model):
    """The panel with one model and one volume."""
    add_volume()
    return open_panel()


def start(panel):
    """Click "Detect landmarks" and wait for the launcher and the Python that it starts."""
    click(panel.ui.applyButton)
    wait_until(lambda: len(worker_processes()) >= 2)
    return worker_processes()


def assert_ready_again(panel, scene, before):
    """Nothing runs, the scene is as it was, and the next detection can start."""
    assert content(scene) == before
    assert panel.ui.applyButton.enabled and not panel.ui.cancelButton.enabled and not panel.ui.progressBar.visible
    assert files_of_runs() == []


def point_lists(scene):
    nodes = [scene.GetNthNodeByClass(i, POINT_LIST) for i in range(scene.GetNumberOfNodesByClass(POINT_LIST))]
    return [node for node in nodes if not node.GetHideFromEditors()]  # not what a review draws


# Detection


@pytest.mark.parametrize("transformed", [False, True], ids=["plain", "under a transform"])
def test_detection_finds_what_the_command_line_finds(open_panel, scene, tiny, tiny_model, tmp_path, transformed):
    volume = add_volume(transformed=transformed)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, volume)
    panel = open_panel()

    click(panel.ui.applyButton)
    assert panel.ui.progressBar.visible and panel.ui.cancelButton.enabled and not panel.ui.volumeSelector.enabled
    assert panel.ui.applyButton.toolTip == "A detection is running." and not panel.ui.applyButton.enabled
    run = panel.detection.run
    longest = wait_until(lambda: not panel.detection.run)

    (node,) = point_lists(scene)
    assert panel.ui.statusLabel.text == "3 of 3 landmarks found, see the point list 'CBCT 7 Tiny model landmarks'."
    # 0.06 s alone; a whole run of the tests on two cores takes up to twice as long for the same
    assert longest < 0.15, f"the panel was blocked for {longest:.3f} s"
    assert node.GetName() == "CBCT 7 Tiny model landmarks" and not node.GetLocked()
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    assert panel.ui.pointListSelector.currentNode() is node
    assert files_of_runs() == []

    write_volume(tmp_path / "scan.nrrd", volume_from_node(volume))
    assert main(["detect", str(tmp_path / "scan.nrrd"), "--model", str(tiny.path), "--output", str(tmp_path)]) == 0
    expected, found = read_markups(tmp_path / "scan.mrk.json"), landmarks_from_point_list(node)
    assert found.names == expected.names and found.definitions == expected.definitions
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-3)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)
    np.testing.assert_allclose(found.radius, expected.radius)

    moved = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1, 1, 1.01, 1])))
    volume.SetAndObserveTransformNodeID(moved.GetID())
    with pytest.raises(InputError, match="moved or changed"):  # while the detection was running
        panel.logic.showResult(run, volume, tiny)


def test_the_self_test_passes(app, open_panel, tiny_model, scene, caplog):
    app.complete_startup()
    open_panel()
    play_self_test(caplog)
    assert "detected by clicks" in caplog.text and "The test passed." in caplog.text
    assert point_lists(scene) == []


def play_self_test(caplog):
    """As the module Self Tests does."""
    with caplog.at_level(logging.INFO):
        slicer.selfTests["H3DELandmarks"]()


def never_opened(open_panel):
    assert slicer.modules.h3delandmarks.host is None


def visited_and_left(open_panel):
    panel = open_panel()
    panel.exit()
    qt.unwrapped(panel.parent)._entered = False


def with_a_scene_of_the_user(open_panel):
    panel = open_panel()
    add_volume("of the user")
    panel.parameterNode.excludedLandmarks = "Left"
    visited_and_left(lambda: panel)


@pytest.mark.parametrize("state", [never_opened, visited_and_left, with_a_scene_of_the_user])
def test_without_networks_the_self_test_plays_everything_else(open_panel, scene, caplog, state):
    """In whatever state the application is, with bundled models that cannot run, as on Slicer's own dashboards."""
    state(open_panel)
    play_self_test(caplog)
    assert "Landmarks were reviewed." in caplog.text and "Detection was not tested. There is no model." in caplog.text
    assert "The test passed." in caplog.text


def test_the_self_test_fails_where_the_panel_is_wrong(open_panel, scene, monkeypatch, caplog):
    panel = open_panel()
    monkeypatch.setattr(type(panel.parameterNode), "forget", lambda parameters, node: None)
    with pytest.raises(AssertionError):
        play_self_test(caplog)


# Cancel and what comes in between


def test_cancel_ends_all_processes_and_leaves_the_scene_alone(panel, scene):
    before = content(scene)
    processes = start(panel)
    assert len(processes) >= 2, "a launcher and the Python that it starts"
    begin = time.monotonic()
    click(panel.ui.cancelButton)
    assert panel.ui.statusLabel.text == "Cancelled. The scene is as it was."
    wait_until(lambda: not any(map(is_running, processes)), seconds=2)
    assert time.monotonic() - begin < 2
    assert_ready_again(panel, scene, before)


def test_cancel_while_the_scan_is_being_written(panel, scene):
    before = content(scene)
    writer = None
    click(panel.ui.applyButton)
    writer = panel.detection.run._writer
    click(panel.ui.cancelButton)
    writer.join(60)
    assert_ready_again(panel, scene, before)


def test_closing_the_scene_ends_the_detection(panel, scene):
    processes = start(panel)
    scene.Clear(False)
    wait_until(lambda: not any(map(is_running, processes)), seconds=2)
    slicer.app.processEvents()
    assert panel.ui.statusLabel.text == "" and not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "Load and choose a volume first."
    add_volume("the next")
    assert panel.ui.applyButton.enabled
    assert panel.parameterNode.inputVolume.GetName() == "the next"


def test_removing_the_volume_ends_the_detection(panel, scene):
    other = add_volume("other")
    processes = start(panel)
    scene.RemoveNode(panel.ui.volumeSelector.currentNode())
    assert panel.ui.statusLabel.text == "The volume was removed, so the detection was stopped."
    wait_until(lambda: not any(map(is_running, processes)), seconds=2)
    assert panel.ui.volumeSelector.currentNode() is other
    assert_ready_again(panel, scene, content(scene))


@pytest.mark.parametrize("is_changed", [True, False], ids=["changed", "only told so"])
def test_voxels_that_change_meanwhile_get_no_points(panel, scene, is_changed):
    volume = panel.ui.volumeSelector.currentNode()
    click(panel.ui.applyButton)
    wait_until(lambda: panel.detection.run._isAsked)  # the scan is handed over
    voxels = slicer.util.arrayFromVolume(volume)
    voxels[:] = np.roll(voxels, 5 * is_changed, axis=2)  # as a filter does that writes into its own input
    slicer.util.arrayFromVolumeModified(volume)
    wait_until(lambda: not panel.detection.run)
    assert ("moved or changed" in panel.ui.statusLabel.text) == is_changed
    assert len(point_lists(scene)) == (0 if is_changed else 1)


def test_closing_slicer_ends_the_detection(panel, scene):
    processes = start(panel)
    panel.cleanup()
    wait_until(lambda: not any(map(is_running, processes)), seconds=2)
    assert os.listdir(slicer.app.temporaryPath) == []


# Failures


def test_a_failing_child_is_told_in_one_sentence(panel, scene, tiny_model):
    before = content(scene)
    weights = tiny_model / "localizer.safetensors"
    weights.unlink()
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    text = panel.ui.statusLabel.text
    assert "lacks its file 'localizer.safetensors'" in text and text.count(". ") == 0
    assert_ready_again(panel, scene, before)


def test_a_problem_of_the_scan_is_told_with_the_name_of_the_volume(panel, scene):
    voxels = slicer.util.arrayFromVolume(panel.ui.volumeSelector.currentNode())
    volume = slicer.util.addVolumeFromArray(voxels.astype(float), name="odd")
    slicer.util.arrayFromVolume(volume)[3, 3, 3] = np.nan
    panel.ui.volumeSelector.setCurrentNode(volume)
    before = content(scene)
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    assert "'odd'" in panel.ui.statusLabel.text and "scan.nrrd" not in panel.ui.statusLabel.text
    assert_ready_again(panel, scene, before)


def test_a_child_that_the_system_kills_is_told(panel, scene):
    before = content(scene)
    for process in start(panel):
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: not panel.detection.run)
    assert "most likely for lack of memory" in panel.ui.statusLabel.text
    assert_ready_again(panel, scene, before)


def test_an_unexpected_problem_leaves_a_log_that_the_sentence_names(panel, scene, tiny_model, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "safetensors.py").write_text("raise SystemError('broken package')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    kept = Path(slicer.app.temporaryPath) / "h3delandmarks.log"
    assert "SystemError" in panel.ui.statusLabel.text and str(kept) in panel.ui.statusLabel.text
    assert "broken package" in kept.read_text(encoding="utf-8")


def test_without_slicers_python_nothing_starts(panel, scene, python_slicer):
    python_slicer.unlink()
    before = content(scene)
    click(panel.ui.applyButton)
    assert panel.ui.statusLabel.text.startswith("Slicer's Python was not found")
    assert_ready_again(panel, scene, before)


# What the panel offers


def test_the_button_says_why_it_cannot_be_clicked(open_panel, scene, models, tiny):
    panel = open_panel()
    button = panel.ui.applyButton
    assert not button.enabled and button.toolTip == "Load and choose a volume first."
    volume = add_volume()
    assert not button.enabled and button.toolTip.startswith("No model is installed:")
    (models / "odd").mkdir()
    panel.enter()
    assert not button.enabled and "lacks manifest.json" in button.toolTip
    shutil.copytree(tiny.path, models / "tiny")
    panel.enter()
    assert button.enabled and button.toolTip == "Find the landmarks of the model in the volume"
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    panel.ui.volumeSelector.setCurrentNode(empty)
    assert not button.enabled and button.toolTip == "The volume 'empty' has no voxels: load the scan again."
    panel.ui.volumeSelector.setCurrentNode(volume)
    assert button.enabled


def test_an_error_that_nobody_expects_is_told(panel, scene, caplog, unexpected, tmp_path, monkeypatch):
    monkeypatch.setattr(slicer.app, "temporaryPath", str(tmp_path / "removed by somebody"))
    click(panel.ui.applyButton)
    assert "FileNotFoundError" in panel.ui.statusLabel.text and "application log" in panel.ui.statusLabel.text
    assert "Traceback" in caplog.text and panel.detection.run is None and panel.ui.applyButton.enabled


def test_only_what_the_selector_shows_is_searched(open_panel, tiny_model, scene, red):
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    panel = open_panel()
    assert panel.parameterNode.inputVolume is None and panel.ui.volumeSelector.currentNode() is None
    assert panel.ui.applyButton.toolTip == "Load and choose a volume first."


def test_the_volume_that_is_shown_is_searched_first(open_panel, tiny_model, red):
    add_volume("first")
    shown = add_volume("shown")
    slicer.util.setSliceViewerLayers(background=shown)
    panel = open_panel()
    assert panel.ui.volumeSelector.currentNode() is shown is panel.parameterNode.inputVolume


def test_the_button_follows_the_transform_of_the_volume(panel, scene):
    volume = panel.ui.volumeSelector.currentNode()
    volume.SetAndObserveTransformNodeID(add_nonlinear_transform(scene).GetID())
    assert not panel.ui.applyButton.enabled and "is under a nonlinear transform" in panel.ui.applyButton.toolTip
    volume.SetAndObserveTransformNodeID(None)
    assert panel.ui.applyButton.enabled


def test_removed_volumes_leave_memory(panel, scene):
    volume = add_volume("large")
    panel.ui.volumeSelector.setCurrentNode(volume)
    gone = []
    volume.AddObserver("DeleteEvent", lambda caller, event: gone.append(True))
    scene.RemoveNode(volume)
    del volume
    gc.collect()
    assert gone


def test_choices_are_kept_with_the_scene(panel, open_panel):
    choose(panel.ui.deviceSelector, "CPU")
    panel.cleanup()
    again = open_panel()
    assert again.ui.deviceSelector.currentText == "CPU"
    assert again.parameterNode.device.value == "cpu"


def test_only_results_of_the_volume_and_model_are_offered_for_replacement(panel, scene, tiny):
    from H3DELandmarksLib.core.landmarks import LandmarkSet
    from H3DELandmarksLib.scene import show_detection

    first = panel.ui.volumeSelector.currentNode()
    scene.AddNewNodeByClass(POINT_LIST, "expert's points")
    result = show_detection(LandmarkSet(("a",), [[1, 2, 3]]), first, "tiny@1.0.0", "result")
    assert panel.ui.pointListSelector.nodeCount() == 1, "points of an expert are never offered"
    other = add_volume("other")
    panel.ui.volumeSelector.setCurrentNode(other)
    assert panel.ui.pointListSelector.currentNode() is None
    panel.ui.volumeSelector.setCurrentNode(first)
    assert panel.ui.pointListSelector.currentNode() is result


def test_a_model_of_the_scene_that_is_not_there_is_told(open_panel, scene, models, tiny):
    for model_id in ("first", "other"):
        folder = shutil.copytree(tiny.path, models / model_id)
        manifest = folder / "manifest.json"
        manifest.write_text(manifest.read_text(encoding="utf-8").replace('"tiny"', f'"{model_id}"'), encoding="utf-8")
    add_volume()
    panel = open_panel()
    panel.ui.modelSelector.setCurrentIndex(1)
    panel.parameterNode.model = "gone@1.0.0"  # as a scene of another computer has it
    said = "The model 'gone@1.0.0' of this scene is not on this computer: choose another one."
    assert panel.ui.statusLabel.text == said
    assert qt.QSettings().value("H3DELandmarks/model") == "other@1.0.0", "which is offered in the next scene"
    panel.detection.say("")
    panel.ui.deviceSelector.setCurrentIndex(1)
    assert panel.ui.statusLabel.text == "", "it is told once"
    panel.ui.modelSelector.setCurrentIndex(1)
    assert panel.parameterNode.model == "other@1.0.0"


def test_two_versions_of_a_model_are_told_apart(open_panel, scene, models, tiny):
    for version in ("1.0.0", "2.0.0"):
        shutil.copytree(tiny.path, models / version)
        manifest = models / version / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"version": "1.0.0"', f'"version": "{version}"'))
    panel = open_panel()
    add_volume()
    assert panel.ui.modelSelector.currentText == "Tiny model (2.0.0)"
    choose(panel.ui.modelSelector, "Tiny model (1.0.0)")
    assert panel.parameterNode.model == "tiny@1.0.0"
    panel.enter()
    assert panel.ui.modelSelector.currentText == "Tiny model (1.0.0)"


# The module file


def test_the_module_imports_nothing_heavy_and_finds_the_library_from_a_checkout(tmp_path):
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys, application; application.start()\n"
        f"application.load_module({str(root / 'H3DELandmarks' / 'H3DELandmarks.py')!r})\n"
        "own = ('H3DELandmarksPanel', 'H3DELandmarksLib')\n"
        "print([n for n in sys.modules if n.partition('.')[0] in (*own, 'torch', 'scipy', 'SimpleITK')])\n"
        "import H3DELandmarksLib\n"
    )
    script = tmp_path / "load.py"
    script.write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(root / "Testing" / "standin")}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_reloading_reads_the_parts_again(module, open_panel, tiny_model, scene, monkeypatch):
    monkeypatch.setitem(sys.modules, module.__name__, module)  # put back afterwards
    add_volume()
    panel = open_panel()
    before = sys.modules["H3DELandmarksPanel.PanelContext"]
    kept = {name: part for name, part in sys.modules.items() if name.partition(".")[0] in module.OWN_PACKAGES}
    try:
        panel.onReload()
        from H3DELandmarksPanel import PanelContext

        assert PanelContext is not before
        again = panel.parent.self()
        assert again is not panel and again is slicer.modules.H3DELandmarksWidget
        assert again.ui.applyButton.enabled and type(again).__module__ == module.__name__
        slicer.app.processEvents()
        click(again.ui.landmarksButton)
        assert again.ui.landmarksList.visible and not panel.ui.landmarksList.visible
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in module.OWN_PACKAGES]:
            del sys.modules[name]
        sys.modules.update(kept)
