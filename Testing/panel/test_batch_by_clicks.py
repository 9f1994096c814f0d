"""Many scans: a folder examined in a child process while the user goes on, and results opened for review by clicks."""

import json

import numpy as np
import pytest
import qt
import slicer
from operating import click, columns_of, press, tick, type_path, wait_until, worker_processes
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from scene_voxels import head

from H3DELandmarksLib.cohort.log import CohortLog
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.scene import Review, ReviewState, landmarks_from_point_list, volume_from_node, volume_of

pytestmark = pytest.mark.usefixtures("shared_program")


@pytest.fixture
def panel(open_panel, tiny_model, scene):
    """The panel with the section open."""
    panel = open_panel()
    click(panel.batch.ui.batchSection)
    return panel


def begin(panel, scans, results):
    ui = panel.batch.ui
    type_path(ui.batchScansPath, scans)
    type_path(ui.batchResultsPath, results)
    click(ui.batchButton)


def examine(panel, scans, results):
    begin(panel, scans, results)
    assert panel.batch.progress.isRunning and not panel.batch.ui.batchScansPath.enabled
    longest = wait_until(lambda: not panel.batch.progress.isRunning)
    assert longest < 0.4, f"the panel was blocked for {longest:.3f} s"


def rows(panel):
    table = panel.batch.ui.batchTable
    return [tuple(table.item(r, c).text() for c in range(table.columnCount)) for r in range(table.rowCount)]


def row_of(panel, name):
    return [row[0] for row in rows(panel)].index(name)


def choose_row(panel, name):
    table = qt.unwrapped(panel.batch.ui.batchTable)
    item = table.item(row_of(panel, name), 0)
    table.scrollToItem(item)
    place = table.visualItemRect(item).center()
    press(table.viewport(), place)
    return table, place


def open_scan(panel, name):
    choose_row(panel, name)
    click(panel.batch.ui.openScanButton)
    return panel.ui.volumeSelector.currentNode(), panel.ui.reviewSelector.currentNode()


def test_what_is_missing_is_said(open_panel, models, scene, tmp_path):
    panel = open_panel()
    ui = panel.batch.ui
    click(ui.batchSection)
    assert (
        ui.batchButton.toolTip == ui.batchWhy.text == "Choose a model at the top first." and not ui.batchButton.enabled
    )
    assert ui.openScanButton.toolTip == "Choose a scan in the list first." and not ui.openScanButton.enabled


def test_folders_are_looked_at_while_they_are_typed(panel, tmp_path):
    ui = panel.batch.ui
    assert ui.batchWhy.text == "Choose a folder of scans first."
    type_path(ui.batchScansPath, tmp_path / "nothing")
    assert "no such folder of scans" in ui.batchWhy.text
    type_path(ui.batchScansPath, tmp_path)
    assert "for the results" in ui.batchWhy.text
    type_path(ui.batchResultsPath, tmp_path / "no" / "where")
    assert "no such folder for the results" in ui.batchWhy.text
    type_path(ui.batchResultsPath, tmp_path)
    assert "another folder" in ui.batchWhy.text and not ui.batchButton.enabled
    type_path(ui.batchResultsPath, tmp_path / "results")
    assert not ui.batchWhy.visible and ui.batchButton.enabled and "'Tiny model'" in ui.batchButton.toolTip


@pytest.mark.slow
def test_a_folder_is_examined_and_its_scans_are_reviewed(panel, scans, tmp_path, red, open_panel):
    results = tmp_path / "results"
    examine(panel, scans, results)
    ui = panel.batch.ui
    assert "Scans examined: 4" in ui.batchLabel.text and "Failed: 1" in ui.batchLabel.text
    assert columns_of(ui.batchTable) == ["Scan", "State", "Doubt", "What was found"]
    entries = {entry.name: entry for entry in CohortLog(results).entries}
    found = sorted((e for e in entries.values() if e.outputs), key=lambda e: (-e.doubt, e.name))
    assert [row[0] for row in rows(panel)] == [*(entry.name for entry in found), "broken"]
    assert [row[2] for row in rows(panel)] == [*(f"{100 * entry.doubt:.0f} %" for entry in found), ""]
    assert rows(panel)[-1][1] == "failed" and rows(panel)[-1][3].startswith("'broken.nrrd'")

    choose_row(panel, "broken")
    assert not ui.openScanButton.enabled and "broken.nrrd" in ui.openScanButton.toolTip
    first, points = open_scan(panel, "head 1")
    assert first.GetName() == "head 1" and volume_of(points) is first
    np.testing.assert_allclose(volume_from_node(first).affine, head(1)[0].affine, atol=1e-9)
    written = read_markups(results / "head 1.mrk.json")
    shown = landmarks_from_point_list(points)
    np.testing.assert_allclose(shown.positions, written.positions, atol=1e-6)
    np.testing.assert_allclose(shown.confidence, written.confidence, atol=1e-6)
    assert red.logic.GetSliceCompositeNode().GetBackgroundVolumeID() == first.GetID()
    assert panel.ui.reviewTable.rowCount == 3 and panel.ui.acceptButton.enabled, "the review has begun"
    assert rows(panel)[row_of(panel, "head 1")][1] == "opened"
    second, others = open_scan(panel, "head 2")
    assert second is not first and others is not points and not panel.ui.disagreementBar.visible
    assert open_scan(panel, "head 1") == (first, points), "a scan is loaded once"
    slicer.mrmlScene.RemoveNode(points)
    again = open_scan(panel, "head 1")
    assert again[0] is first and again[1] is not None
    slicer.mrmlScene.Clear(False)
    assert open_scan(panel, "head 1")[0].GetName() == "head 1"

    # What somebody has moved in a file of results is shown as moved from the proposal.
    file = results / "head 2.mrk.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["markups"][0]["controlPoints"][1]["position"][2] += 3.0
    file.write_text(json.dumps(content), encoding="utf-8")
    edited = open_scan(panel, "head 2")[1]
    states = {landmark.name: (landmark.state, landmark.moved) for landmark in Review(edited).landmarks()}
    assert states["Middle"] == (ReviewState.MOVED, pytest.approx(3.0, abs=1e-3))
    assert states["Left"][0] is ReviewState.PROPOSED

    # A second run goes on, and tries failures again.
    (scans / "broken.nrrd").unlink()
    write_volume(scans / "broken.nrrd", head(7)[0])
    write_volume(scans / "head 9.nrrd", head(9)[0])
    click(ui.batchButton)
    assert "head 1" in [row[0] for row in rows(panel)], "what is known is shown meanwhile"
    wait_until(lambda: not panel.batch.progress.isRunning)
    after = {entry.name: entry for entry in CohortLog(results).entries}
    assert len(rows(panel)) == 5 and "failed" not in [row[1] for row in rows(panel)]
    assert [after[name] for name in ("head 0", "head 1", "head 2")] == [
        entries[name] for name in ("head 0", "head 1", "head 2")
    ]

    later = open_panel()
    assert later.batch.ui.batchScansPath.currentPath == str(scans)
    assert [row[0] for row in rows(later)] == [row[0] for row in rows(panel)], "the folder of results is remembered"
    click(later.batch.ui.batchSection)
    type_path(later.batch.ui.batchResultsPath, tmp_path)
    assert rows(later) == [] and not later.batch.ui.batchTable.visible


@pytest.mark.slow
def test_another_result_of_a_scan_is_opened_in_its_own_right(panel, tiny_model, tmp_path):
    scan = tmp_path / "scans" / "head.nrrd"
    scan.parent.mkdir()
    write_volume(scan, head(0)[0])
    examine(panel, scan.parent, tmp_path / "results")
    first, old = open_scan(panel, "head")
    assert old.GetAttribute("H3DELandmarks.Model") == "tiny@1.0.0"

    manifest = tiny_model / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": "1.1.0"}))
    panel.context.modelsChanged("tiny@1.1.0")
    panel.refresh()
    click(panel.batch.ui.batchButton)
    wait_until(lambda: not panel.batch.progress.isRunning)
    assert rows(panel)[0][1] != "opened"
    again, new = open_scan(panel, "head")
    assert again is first and new.GetAttribute("H3DELandmarks.Model") == "tiny@1.1.0"

    for path in [scan, *(tmp_path / "results").glob("head.*")]:  # results of another scan are never written over
        path.unlink()
    write_volume(scan, head(1)[0])
    click(panel.batch.ui.batchButton)
    wait_until(lambda: not panel.batch.progress.isRunning)
    second, newest = open_scan(panel, "head")
    assert second is not first and newest is not new and volume_of(newest) is second
    np.testing.assert_allclose(volume_from_node(second).affine, head(1)[0].affine, atol=1e-9)
    assert open_scan(panel, "head") == (second, newest)


@pytest.mark.slow
def test_scans_are_opened_while_others_are_examined(panel, scans, tmp_path):
    for seed in range(3, 16):
        write_volume(scans / f"head {seed}.nrrd", head(seed)[0])
    begin(panel, scans, tmp_path / "results")
    wait_until(lambda: len(rows(panel)) > 2)
    name = next(row[0] for row in rows(panel) if row[1] != "failed")
    volume, points = open_scan(panel, name)
    assert panel.batch.progress.isRunning and volume.GetName() == name and volume_of(points) is volume
    count = len(rows(panel))
    wait_until(lambda: len(rows(panel)) > count)
    assert panel.batch._queue.chosen().name == name, "the chosen scan stays chosen while others come"
    click(panel.ui.acceptButton)
    slicer.mrmlScene.Clear(False)
    assert panel.batch.progress.isRunning, "it has nothing to do with the scene"
    click(panel.batch.ui.cancelBatchButton)
    assert panel.batch.ui.batchLabel.text.startswith("Cancelled.") and panel.batch.ui.batchButton.enabled
    wait_until(lambda: not worker_processes())
    assert len(CohortLog(tmp_path / "results").entries) >= count


@pytest.mark.slow
def test_everything_that_was_finished_before_a_cancel_is_shown(panel, scans, tmp_path):
    for seed in range(3, 16):
        write_volume(scans / f"head {seed}.nrrd", head(seed)[0])
    begin(panel, scans, tmp_path / "results")
    wait_until(lambda: rows(panel))
    log = CohortLog(tmp_path / "results")
    wait_until(lambda: log.follow() and len(log.entries) > len(rows(panel)))
    click(panel.batch.ui.cancelBatchButton)
    assert len(rows(panel)) == len(CohortLog(tmp_path / "results").entries) >= len(log.entries)


def test_another_order_by_a_click_on_a_header(panel, tmp_path):
    write_log(tmp_path / "results", {"a": 0.9, "c": 0.1, "b": 0.5, "d": None})
    type_path(panel.batch.ui.batchResultsPath, tmp_path / "results")
    assert [row[0] for row in rows(panel)] == ["a", "b", "c", "d"]
    assert [row[1] for row in rows(panel)] == ["doubtful", "to review", "to review", "failed"]
    choose_row(panel, "b")
    for column, wanted in ((3, "dabc"), (0, "abcd"), (2, "abcd")):
        header = qt.unwrapped(panel.batch.ui.batchTable).horizontalHeader()
        place = header.rect().center()
        place.setX(header.sectionViewportPosition(column) + 5)
        QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)
        slicer.app.processEvents()
        assert "".join(row[0] for row in rows(panel)) == wanted
        assert panel.batch._queue.chosen().name == "b"


def test_a_scan_that_has_changed_is_not_shown_with_points_of_another(panel, scans, tmp_path):
    write_log(tmp_path / "results", {"a": 0.9})
    type_path(panel.batch.ui.batchResultsPath, tmp_path / "results")
    choose_row(panel, "a")
    click(panel.batch.ui.openScanButton)
    assert "is not there any more" in panel.batch.ui.batchLabel.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


@pytest.mark.slow
def test_another_scan_of_the_same_size_in_the_place_of_one_is_not_shown_with_its_points(panel, tmp_path):
    scan = tmp_path / "scans" / "head.nrrd"
    scan.parent.mkdir()
    write_volume(scan, head(0)[0])
    examine(panel, scan.parent, tmp_path / "results")
    write_volume(scan, head(1)[0])
    assert open_scan(panel, "head") == (None, None)
    assert "has changed since landmarks were found in it" in panel.batch.ui.batchLabel.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    write_volume(scan, head(0)[0])
    assert volume_of(open_scan(panel, "head")[1]).GetName() == "head"


def test_results_that_another_detection_has_replaced_are_not_shown(panel, tmp_path):
    write_log(folder := tmp_path / "results", {"a": 0.9})
    content = json.loads((folder / "cohort.jsonl").read_text(encoding="utf-8"))
    content["outputs"]["provenance_sha256"] = "0" * 64
    (folder / "cohort.jsonl").write_text(json.dumps(content) + "\n", encoding="utf-8")
    (folder / "a.provenance.json").write_text("of another", encoding="utf-8")
    type_path(panel.batch.ui.batchResultsPath, folder)
    choose_row(panel, "a")
    assert "detect again" in panel.batch.ui.openScanButton.toolTip and not panel.batch.ui.openScanButton.enabled


@pytest.mark.slow
def test_of_two_series_the_one_that_was_read_is_shown(panel, tmp_path):
    from dicom_studies import VALUES, write_study

    patient = tmp_path / "scans" / "patient"
    write_study(patient, series="1", name="a{k:03}.dcm", slices=VALUES[:3])
    write_study(patient, series="2", name="b{k:03}.dcm")
    examine(panel, tmp_path / "scans", tmp_path / "results")
    (entry,) = CohortLog(tmp_path / "results").entries
    volume, _points = open_scan(panel, entry.name)
    assert volume.GetImageData().GetDimensions() == VALUES.shape[::-1]


@pytest.mark.slow
def test_a_folder_without_scans_is_told(panel, tmp_path):
    (tmp_path / "empty").mkdir()
    begin(panel, tmp_path / "empty", tmp_path / "results")
    wait_until(lambda: not panel.batch.progress.isRunning)
    assert "holds no scans" in panel.batch.ui.batchLabel.text and rows(panel) == []


def write_log(folder, doubts):
    """The log of an earlier run: scans by name with their doubt, None for one that failed."""
    folder.mkdir()
    with (folder / "cohort.jsonl").open("w", encoding="utf-8") as file:
        for name, doubt in doubts.items():
            line = {
                "format_version": 1,
                "scan": f"/scans/{name}.nrrd",
                "name": name,
                "model": {"id": "tiny", "version": "1.0.0", "sha256": "0" * 64},
                "settings": "0" * 64,
                "content": "1" * 64,
                "status": "failed" if doubt is None else "found",
                "seconds": 1.0,
                "time": "2026-01-01T00:00:00Z",
            }
            if doubt is None:
                line["reason"] = "cannot be read"
            else:
                files = {"markups": f"{name}.mrk.json", "table": f"{name}.csv", "provenance": f"{name}.provenance.json"}
                line |= {"doubt": doubt, "summary": "found 3 of 3", "outputs": files}
            file.write(json.dumps(line) + "\n")


@pytest.mark.parametrize(
    ("address", "said"),
    [("server.clinic.example:8786", "encrypted only"), ("tls://server.clinic.example:8786", "three")],
)
def test_nothing_leaves_this_computer_without_encryption(panel, scans, tmp_path, address, said):
    ui = panel.batch.ui
    type_path(ui.batchScansPath, scans)
    type_path(ui.batchResultsPath, tmp_path / "results")
    panel.ui.clinicCheckBox.setChecked(True)
    panel.ui.clinicAddress.setText(address)
    slicer.app.processEvents()
    assert said in ui.batchWhy.text and not ui.batchButton.enabled
    panel.ui.clinicAddress.setText("tcp://127.0.0.1:8786")
    slicer.app.processEvents()
    assert ui.batchButton.enabled, "this computer needs none"


@pytest.mark.parametrize("agreed", [True, False])
def test_scans_are_sent_only_after_a_question_that_names_the_computer(
    panel, scans, tmp_path, answer, agreed, monkeypatch
):
    ui = panel.batch.ui
    begun = []
    monkeypatch.setattr(panel.batch.progress, "start", begun.append)
    type_path(ui.batchScansPath, scans)
    type_path(ui.batchResultsPath, tmp_path / "results")
    tick(panel.ui.clinicCheckBox)
    panel.ui.clinicAddress.setText("tls://server.clinic.example:8786")
    for name in ("Authority", "Certificate", "Key"):
        type_path(getattr(panel.ui, f"clinic{name}Path"), tmp_path / f"{name}.pem")
    questions = answer(qt.QMessageBox.Yes if agreed else qt.QMessageBox.No)
    click(ui.batchButton)
    assert len(questions) == 1 and "'server.clinic.example'" in questions[0]
    if not agreed:
        assert begun == [] and ui.batchLabel.text == "Nothing was sent."
        return
    words = [str(word) for word in begun[0]._arguments]
    assert words[words.index("--consent") + 1] == "server.clinic.example"
    assert words[words.index("--scheduler") + 1] == "tls://server.clinic.example:8786"
    assert words[words.index("--tls-key") + 1] == str(tmp_path / "Key.pem")
    assert words[words.index("--device") + 1] == "auto", "what runs there is not this computer's matter"
    assert begun[0].host == "server.clinic.example"
    begun[0].cancel()
