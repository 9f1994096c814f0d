"""Whatever goes wrong in an action becomes a sentence in the panel and details in the log, and the next one works."""

import os

import pytest
import qt
import slicer
from operating import add_nonlinear_transform, add_volume, click, files_of_runs, type_path, wait_until

POINT_LIST = "vtkMRMLMarkupsFiducialNode"


@pytest.fixture
def panel(open_panel, tiny_model):
    """The panel with one model and one volume, all sections open."""
    add_volume()
    panel = open_panel()
    ui = panel.learning.ui
    for section in (ui.casesSection, ui.retrainSection, ui.promotionSection, ui.nextCaseSection):
        click(section)
    return panel


@pytest.fixture
def broken(monkeypatch):
    """Makes a function fail as only a computer can."""

    def breaks(owner, name):
        def fail(*arguments, **options):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(owner, name, fail)

    return breaks


def test_every_slot_of_the_panel_is_guarded(panel):
    own = [slot for _sender, _signal, slot, _call in qt._CONNECTIONS if slot.__module__.startswith("H3DELandmarks")]
    assert len(own) > 40
    assert {slot.__qualname__ for slot in own} == {"guarded.<locals>.call"}


def test_every_observer_of_the_panel_tells_what_went_wrong(panel, scene, broken, unexpected, caplog):
    broken(type(panel.detection), "onParametersModified")
    panel.ui.volumeSelector.setCurrentNode(add_volume("another"))
    assert "Input/output error" in panel.ui.statusLabel.text and "application log" in panel.ui.statusLabel.text
    assert len(unexpected) >= 1 and "Traceback" in caplog.text


def test_an_observed_volume_tells_what_went_wrong(panel, scene, unexpected, monkeypatch):
    volume = panel.ui.volumeSelector.currentNode()
    with monkeypatch.context() as patch:
        patch.setattr(panel.detection, "_whyNot", lambda: os.listdir("/no folder"))
        volume.SetAndObserveTransformNodeID(add_nonlinear_transform(scene).GetID())
    assert "FileNotFoundError" in panel.ui.statusLabel.text and unexpected


@pytest.mark.parametrize(
    ("button", "label", "owner", "name"),
    [
        ("rankButton", "rankLabel", "H3DELandmarksPanel.CommandRun", "newRunFolder"),
        ("shareButton", "versionsStatusLabel", "qt.QFileDialog", "getSaveFileName"),
        ("addPackageButton", "versionsStatusLabel", "qt.QFileDialog", "getOpenFileName"),
    ],
)
def test_a_button_tells_what_went_wrong(panel, broken, unexpected, tmp_path, button, label, owner, name):
    import importlib

    module, _, attribute = owner.rpartition(".")
    target = getattr(importlib.import_module(module), attribute)
    ui = panel.learning.ui
    type_path(ui.scansPath, tmp_path)
    if attribute == "QFileDialog":
        from H3DELandmarksPanel import VersionsSection

        target = VersionsSection.qt.QFileDialog
        broken(type(target), name)
    else:
        broken(target, name)
    click(getattr(ui, button))
    assert "OSError: [Errno 5]" in getattr(ui, label).text and len(unexpected) == 1
    assert getattr(ui, button).enabled and files_of_runs() == []


def test_a_detection_whose_temporary_folder_is_gone_can_be_repeated(panel, unexpected):
    os.rmdir(slicer.app.temporaryPath)
    click(panel.ui.applyButton)
    assert "FileNotFoundError" in panel.ui.statusLabel.text and not panel.detection.run
    os.mkdir(slicer.app.temporaryPath)
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    assert "3 of 3 landmarks found" in panel.ui.statusLabel.text


def test_a_result_that_cannot_be_shown_is_told_and_leaves_nothing(panel, scene, broken, unexpected):
    broken(panel.logic, "showResult")
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    assert "Input/output error" in panel.ui.statusLabel.text and len(unexpected) == 1
    assert scene.GetNumberOfNodesByClass(POINT_LIST) == 0 and files_of_runs() == []
    assert panel.ui.applyButton.enabled and not panel.ui.cancelButton.enabled and not panel.ui.progressBar.visible


def test_a_run_that_cannot_be_looked_at_ends(panel, unexpected, broken):
    click(panel.ui.applyButton)
    broken(panel.detection.run, "note")
    wait_until(lambda: not panel.detection.run)
    assert "Input/output error" in panel.ui.statusLabel.text
    assert panel.ui.applyButton.enabled and files_of_runs() == []


SETTINGS = ("BatchScansFolder", "BatchResultsFolder", "ScansFolder", "TrainingSetFolder", "ExportFolder")


def test_the_panel_opens_where_remembered_folders_cannot_be_looked_at(open_panel, tiny_model, scene, tmp_path):
    unknown = str(tmp_path / ("x" * 300))  # the system refuses to look, as where there is no permission
    for name in SETTINGS:
        qt.QSettings().setValue(f"H3DELandmarks/{name}", unknown)
    add_volume()
    panel = open_panel()
    assert panel.ui.applyButton.enabled
    batch, learning = panel.batch.ui, panel.learning.ui
    assert (
        batch.batchWhy.text == "There is no such folder of scans."
        and learning.rankWhy.text == "There is no such folder."
    )
    assert (
        learning.casesLabel.text
        == "The folder of the cases cannot be read: check the permission, or choose another one."
    )
    click(batch.batchSection)
    type_path(batch.batchScansPath, tmp_path)
    assert not batch.batchLabel.text and batch.batchResultsPath.currentPath == unknown


def test_the_panel_opens_where_remembered_results_cannot_be_read(open_panel, tiny_model, scene, tmp_path):
    (tmp_path / "cohort.jsonl").mkdir()
    qt.QSettings().setValue("H3DELandmarks/BatchResultsFolder", str(tmp_path))
    panel = open_panel()
    assert "cohort.jsonl' cannot be read" in panel.batch.ui.batchLabel.text
    assert panel.batch.ui.batchTable.rowCount == 0
