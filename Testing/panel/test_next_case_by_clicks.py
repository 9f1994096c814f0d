"""Which case next: a folder of scans ranked in a child process, and the chosen scan loaded by clicks and keys."""

import numpy as np
import pytest
import qt
import slicer
from operating import click, columns_of, press, type_path, wait_until
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from scene_voxels import NAMES, head, write_heads

from H3DELandmarksLib.cases import CaseLandmark, ReviewState, create_project
from H3DELandmarksLib.scene import volume_from_node

pytestmark = pytest.mark.usefixtures("shared_program")


@pytest.fixture
def panel(open_panel, tiny_model, scene):
    """The panel with the section open."""
    panel = open_panel()
    click(panel.learning.ui.nextCaseSection)
    return panel


def rank(panel, folder):
    ui = panel.learning.ui
    type_path(ui.scansPath, folder)
    click(ui.rankButton)
    assert ui.cancelRankButton.enabled and not ui.scansPath.enabled and not ui.rankButton.enabled
    longest = wait_until(lambda: not panel.learning.nextCase.progress.isRunning)
    assert longest < 0.2, f"the panel was blocked for {longest:.3f} s"


def rows(panel):
    table = panel.learning.ui.rankTable
    return [tuple(table.item(r, c).text() for c in range(table.columnCount)) for r in range(table.rowCount)]


def double_click(panel, row):
    table = qt.unwrapped(panel.learning.ui.rankTable)
    table.scrollToItem(table.item(row, 1))
    place = table.visualItemRect(table.item(row, 1)).center()
    press(table.viewport(), place)
    QTest.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    slicer.app.processEvents()


def test_what_is_missing_is_said(open_panel, models, scene, tmp_path):
    panel = open_panel()
    ui = panel.learning.ui
    click(ui.nextCaseSection)
    assert ui.rankButton.toolTip == "Choose a model at the top first." and not ui.rankButton.enabled
    assert ui.loadScanButton.toolTip == "Choose a scan in the list first." and not ui.loadScanButton.enabled


def test_the_folder_is_looked_at_while_it_is_typed(panel, tmp_path):
    ui = panel.learning.ui
    assert ui.rankButton.toolTip == "Choose a folder of scans first."
    type_path(ui.scansPath, tmp_path / "nothing")
    assert ui.rankButton.toolTip == "There is no such folder." and not ui.rankButton.enabled
    type_path(ui.scansPath, tmp_path)
    assert ui.rankButton.enabled and "'Tiny model'" in ui.rankButton.toolTip


@pytest.mark.slow
def test_scans_are_ranked_with_reasons_and_loaded(panel, scene, scans, tmp_path, tiny, red, open_panel):
    project = create_project(tmp_path / "heads", tiny.scheme)
    volume, points = head(1)
    project.add(volume, [CaseLandmark(name, ReviewState.PLACED, p) for name, p in zip(NAMES, points)])
    panel.learning.cases.onFolderChosen(str(project.folder))
    rank(panel, scans)
    ui = panel.learning.ui
    for said in ("2 scans", "random order", "Among the cases already: 1.", "Cannot be read: 1."):
        assert said in ui.rankLabel.text
    assert columns_of(ui.rankTable)[1:] == ["Scan", "Why"]
    assert sorted(row[1] for row in rows(panel)) == ["head 0.nrrd", "head 2.nrrd"]
    assert [row[0] for row in rows(panel)] == ["1.", "2."] and all(row[2] for row in rows(panel))

    double_click(panel, 0)
    first = panel.ui.volumeSelector.currentNode()
    assert first.GetName() == rows(panel)[0][1].removesuffix(".nrrd")
    assert red.logic.GetSliceCompositeNode().GetBackgroundVolumeID() == first.GetID()
    expected = head(int(first.GetName()[-1]))[0]
    np.testing.assert_allclose(volume_from_node(first).affine, expected.affine, atol=1e-9)
    press(qt.unwrapped(ui.rankTable), key=Qt.Key.Key_Down)
    ui.loadScanButton.setFocus()
    press(qt.unwrapped(ui.loadScanButton), key=Qt.Key.Key_Space)
    second = panel.ui.volumeSelector.currentNode()
    assert second is not first
    double_click(panel, 0)
    assert panel.ui.volumeSelector.currentNode() is first, "a scan is loaded once"
    node_id, name = first.GetID(), first.GetName()
    del first, second
    slicer.mrmlScene.Clear(False)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "of the next patient")
    assert other.GetID() == node_id, "the next scene uses the ids again"
    double_click(panel, 0)
    first = panel.ui.volumeSelector.currentNode()
    assert first is not other and first.GetName() == name
    assert red.logic.GetSliceCompositeNode().GetBackgroundVolumeID() == first.GetID()

    again = open_panel()
    assert again.learning.ui.scansPath.currentPath == str(scans), "the folder is remembered"


@pytest.mark.slow
def test_a_scan_that_is_gone_is_told(panel, scans):
    (scans / "broken.nrrd").unlink()
    rank(panel, scans)
    for path in scans.iterdir():
        path.unlink()
    ui = panel.learning.ui
    double_click(panel, 0)
    assert ui.rankLabel.text.startswith("The scan '") and "is not there any more" in ui.rankLabel.text


@pytest.mark.slow
def test_of_two_series_the_one_that_was_looked_at_is_loaded(panel, tmp_path):
    from dicom_studies import VALUES, write_study

    patient = tmp_path / "scans" / "patient"
    write_study(patient, series="1", name="a{k:03}.dcm", slices=VALUES[:3])
    write_study(patient, series="2", name="b{k:03}.dcm")
    rank(panel, tmp_path / "scans")
    double_click(panel, 0)
    assert panel.ui.volumeSelector.currentNode().GetImageData().GetDimensions() == VALUES.shape[::-1]


def test_ranking_is_cancelled(panel, scans):
    ui = panel.learning.ui
    type_path(ui.scansPath, scans)
    click(ui.rankButton)
    click(ui.cancelRankButton)
    assert ui.rankLabel.text == "Cancelled." and ui.rankButton.enabled and not ui.rankTable.visible


def test_the_set_s_own_cases_are_not_touched(panel, scans, tmp_path, tiny):
    cases = write_heads(create_project(tmp_path / "heads", tiny.scheme), 1)
    before = sorted(str(path) for path in cases[0].folder.rglob("*"))
    panel.learning.cases.onFolderChosen(str(tmp_path / "heads"))
    test_ranking_is_cancelled(panel, scans)
    assert sorted(str(path) for path in cases[0].folder.rglob("*")) == before
