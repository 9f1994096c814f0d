"""Keeping corrected cases and checking them, by clicks in the panel."""

import re

import numpy as np
import pytest
import qt
import slicer
from operating import PARENT, add_volume, bring_tab, click, columns_of, press, type_path, wait_until
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox
from scene_voxels import add_head, write_heads
from test_review_by_clicks import chosen, click_row, rows, state

from H3DELandmarksLib.cases import ReviewState, create_project, open_project
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.provenance import Provenance, ScanOrigin
from H3DELandmarksLib.scene import (
    Review,
    create_point_list,
    own_volume_from_node,
    show_detection,
    volume_from_node,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("shared_program")

NAMES = ("Left", "Middle", "Right")
FOUND = LandmarkSet(
    NAMES, [[8, 1, 2], [0, 0, 3], [-8, 1, 2]], presence=[0.9, 0.8, 0.7], confidence=[0.9, 0.8, 0.7], radius=[1, 2, 3]
)


@pytest.fixture
def volume(scene):
    return add_volume()


@pytest.fixture
def points(volume):
    return show_detection(FOUND, volume, "tiny@1.0.0", "points", pairs=[("Left", "Right")])


@pytest.fixture
def panel(open_panel, tiny_model, points):
    """The panel with points under review and the section open."""
    panel = open_panel()
    panel.ui.reviewSelector.setCurrentNode(points)
    click(panel.learning.ui.casesSection)
    return panel


@pytest.fixture
def folder(tmp_path):
    """The folder of cases, which does not exist yet."""
    return tmp_path / "cases é"


def type_folder(panel, folder):
    """Type the path of the cases."""
    type_path(panel.learning.ui.casesPath, folder)


def add(panel):
    """Click "Add this case" and wait; what the panel says."""
    ui = panel.learning.ui
    click(ui.addCaseButton)
    longest = wait_until(lambda: not panel.learning.cases.progress.isRunning)
    assert longest < 0.15, f"the panel was blocked for {longest:.3f} s"
    return ui.casesLabel.text


def accept_all(panel):
    """Look at every landmark and accept it."""
    for _ in range(panel.ui.reviewTable.rowCount):
        if panel.ui.nextButton.enabled:
            click(panel.ui.nextButton)
            click(panel.ui.acceptButton)


# Where


def test_the_section_is_closed_at_first_and_says_what_is_missing(open_panel, tiny_model, scene):
    ui = open_panel().learning.ui
    assert ui.casesSection.collapsed and not ui.addCaseButton.visible
    click(ui.casesSection)
    assert ui.addCaseButton.visible and not ui.addCaseButton.enabled and not ui.addProgressBar.visible
    assert ui.addCaseButton.toolTip == ui.casesLabel.text and ui.casesLabel.text.startswith("Choose a folder")
    assert not ui.checkButton.enabled and not ui.cancelCheckButton.enabled and not ui.findingsTable.visible


def test_what_is_wrong_with_a_folder_is_told_while_it_is_typed(panel, folder, tmp_path):
    ui = panel.learning.ui
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    for path, reason in (
        ("relative", "whole path"),
        (tmp_path / "no" / "such", "no such folder"),
        (tmp_path / "other" / "letter.txt", "no such folder"),
        (tmp_path / "other", "holds other files"),
    ):
        type_folder(panel, path)
        assert not ui.addCaseButton.enabled and ui.addCaseButton.toolTip == ui.casesLabel.text
        assert reason in ui.casesLabel.text
    type_folder(panel, folder)
    assert ui.casesLabel.text.startswith("No cases are here yet")
    assert ui.addCaseButton.enabled and "'CBCT 7' with the points 'points'" in ui.addCaseButton.toolTip
    assert not folder.exists(), "nothing is made before a case is added"


def test_a_set_that_another_slicer_is_just_making_is_not_read_yet(panel, folder):
    (folder / "schemes").mkdir(parents=True)
    type_folder(panel, folder)
    assert "holds other files" in panel.learning.ui.casesLabel.text and not panel.learning.ui.checkButton.enabled
    (folder / "schemes" / "000001").mkdir()
    panel.learning.cases.onFolderChosen(str(folder))
    assert "damaged" in panel.learning.ui.casesLabel.text and panel.learning.ui.baseModelSelector.count == 0


def test_the_folder_is_remembered_for_other_scenes_and_days(panel, folder, open_panel, scene):
    type_folder(panel, folder)
    accept_all(panel)
    add(panel)
    scene.Clear(False)
    assert panel.learning.ui.casesPath.currentPath == str(folder)
    again = open_panel()
    assert again.learning.ui.casesPath.currentPath == str(folder)
    assert "1 case, reviewed completely" in again.learning.ui.casesLabel.text


# Adding


def test_a_corrected_case_is_kept_with_what_was_proposed_and_decided(panel, folder, volume, points, answer):
    type_folder(panel, folder)
    panel.ui.thresholdSpinBox.value = 0
    answer(QMessageBox.StandardButton.Yes)
    click(panel.ui.acceptAllButton)
    points.SetNthControlPointPosition(1, 1, 0, 3)
    points.SetNthControlPointPositionMissing(2)
    text = add(panel)
    assert text.startswith("Added as a new case. Accepted in bulk, without a look at each: 1.")
    assert "1 case, reviewed completely" in text
    (case,) = open_project(folder).cases()
    kept, revision = case.volume(), case.revision()
    own = own_volume_from_node(volume)
    np.testing.assert_array_equal(kept.array, own.array)
    np.testing.assert_allclose(kept.affine, own.affine, atol=1e-12)
    assert (revision.model.id, revision.model.version) == ("tiny", "1.0.0")
    assert revision.scheme == ("tiny-3", "1")
    states = {p.name: p.state for p in revision.landmarks}
    assert states == {"Left": ReviewState.ACCEPTED_IN_BULK, "Middle": ReviewState.MOVED, "Right": ReviewState.ABSENT}
    left, middle, right = revision.landmarks
    np.testing.assert_allclose(left.position, FOUND.positions[0])
    np.testing.assert_allclose(middle.position, (-1, 0, 3))
    np.testing.assert_allclose(middle.proposed, (0, 0, 3))
    np.testing.assert_allclose(right.proposed, FOUND.positions[2])
    assert right.position is None and (middle.confidence, middle.radius) == (0.8, 2.0)


def test_adding_again_makes_a_revision_only_where_something_has_changed(panel, folder, points):
    type_folder(panel, folder)
    accept_all(panel)
    add(panel)
    assert add(panel).startswith("Nothing new")
    points.SetNthControlPointPosition(1, 1, 0, 3)
    assert "revision 2" in add(panel)
    (case,) = open_project(folder).cases()
    assert case.revision_numbers() == [1, 2] and case.revision(1).landmarks[1].state is ReviewState.ACCEPTED


@pytest.mark.parametrize("transformed", [False, True], ids=["plain", "under a transform"])
def test_of_a_scan_that_has_changed_since_the_detection_it_is_told(panel, folder, transformed):
    volume = add_volume("CBCT 8", transformed)
    content = content_of(volume_from_node(volume))
    spacing = tuple(content.grid.spacing.tolist())
    scan = ScanOrigin(file=None, voxels_sha256=content.digest, shape=content.grid.shape, spacing_mm=spacing)
    origin = Provenance(software="0.2.0", time="2026-11-29T10:00:00Z", model=None, scan=scan)
    points = show_detection(FOUND, volume, "tiny@1.0.0", "found", provenance=origin)
    type_folder(panel, folder)
    panel.ui.reviewSelector.setCurrentNode(points)
    accept_all(panel)
    assert "changed" not in add(panel)
    slicer.util.arrayFromVolume(volume)[:] += 1
    slicer.util.arrayFromVolumeModified(volume)
    assert add(panel).startswith("Added as a new case. The scan has changed since landmarks were found in it")


def test_a_scan_is_recognised_wherever_a_transform_has_moved_it(panel, folder, scene, volume, points):
    type_folder(panel, folder)
    accept_all(panel)
    add(panel)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(PARENT))
    for node in (volume, points):
        node.SetAndObserveTransformNodeID(transform.GetID())
    points.SetNthControlPointPosition(1, 1, 0, 3)
    assert "revision 2" in add(panel)
    (case,) = open_project(folder).cases()
    np.testing.assert_allclose(case.revision().landmarks[0].position, FOUND.positions[0], atol=1e-9)
    assert case.revision().landmarks[0].state is ReviewState.ACCEPTED


def test_a_question_about_one_patient_adds_no_other_one(panel, folder, monkeypatch):
    type_folder(panel, folder)
    accept_all(panel)
    case, others = panel.ui.reviewSelector.currentNode(), show_detection(FOUND, add_volume("other"), "tiny@1.0.0", "B")
    Review(others).accept("Left")
    answered = panel.ui.reviewSelector.setCurrentNode  # while somebody is asked whether packages may be installed
    monkeypatch.setattr(panel.context, "ensureDependencies", lambda label: answered(others))
    assert "Nothing was added" in add(panel) and not folder.exists()
    assert panel.ui.reviewSelector.currentNode() is others and case is not others


def test_points_that_nobody_has_looked_at_are_not_added_alone(panel, folder):
    type_folder(panel, folder)
    click(panel.learning.ui.addCaseButton)
    assert panel.learning.ui.casesLabel.text.startswith("Nothing was added: accept or correct at least one")
    assert not folder.exists()
    click(panel.ui.nextButton)
    click(panel.ui.acceptButton)
    assert "nobody has decided about: 2" in add(panel)
    assert panel.learning.ui.casesLabel.text.endswith("1 case to finish.")


def test_a_set_of_other_landmarks_is_told(panel, folder, tmp_path):
    scheme = LandmarkScheme("other", "1", (LandmarkDefinition("Nasion", ""),))
    create_project(folder, scheme)
    type_folder(panel, folder)
    accept_all(panel)
    assert add(panel).startswith("No point is named")
    partly = tmp_path / "partly"
    create_project(partly, LandmarkScheme("p", "1", tuple(LandmarkDefinition(n, "") for n in NAMES[:2])))
    type_folder(panel, partly)
    assert re.search("Left out.*: Right[.]", add(panel))


def test_points_of_the_user_s_own_start_a_set_of_their_names(panel, folder, scene):
    own = create_point_list(scene, LandmarkSet(("Porion", "Orbitale"), [[1, 2, 3], [2, 3, 4]]), "my points")
    panel.ui.reviewSelector.setCurrentNode(own)
    type_folder(panel, folder)
    panel.ui.thresholdSpinBox.value = 0
    for _ in range(own.GetNumberOfControlPoints()):
        click(panel.ui.nextButton)
        click(panel.ui.acceptButton)
    assert add(panel).startswith("Added as a new case.")
    project = open_project(folder)
    assert project.scheme.names == ("Porion", "Orbitale") and project.cases()[0].revision().model is None


def test_a_volume_that_cannot_be_used_and_a_list_without_one_are_told(panel, folder, scene, volume, points):
    type_folder(panel, folder)
    accept_all(panel)
    scene.RemoveNode(volume)
    assert not panel.learning.ui.addCaseButton.enabled
    assert "gone" in panel.learning.ui.addCaseButton.toolTip
    scene.RemoveNode(points)
    assert panel.learning.ui.addCaseButton.toolTip == "Choose a point list to review first."


def test_a_folder_that_cannot_be_written_to_is_told_in_one_sentence(panel, folder, monkeypatch):
    type_folder(panel, folder)
    accept_all(panel)
    add(panel)
    (folder / ".h3de-incoming").rmdir() if (folder / ".h3de-incoming").is_dir() else None
    (folder / ".h3de-incoming").write_text("in the way")
    panel.ui.backButton.click()
    text = add(panel)
    assert "cannot be written to" in text and "Traceback" not in text


def test_no_name_of_the_scene_is_kept(panel, folder, volume, points):
    type_folder(panel, folder)
    for node in (volume, points):
        node.SetName("Erika Mustermann")
        node.SetDescription("born 1964-08-12")
        node.SetAttribute("DICOM.PatientID", "E-4711")
    points.SetNthControlPointDescription(0, "Erika's left")
    accept_all(panel)
    assert add(panel).startswith("Added")
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for planted in (b"Erika", b"1964", b"4711", str(path.parent.parent).encode()):
            assert planted not in content and planted.decode() not in path.name


# Checking


@pytest.fixture
def heads(folder, tiny):
    """Three heads; a point of the last one lies in air."""
    return write_heads(create_project(folder, tiny.scheme), 3, astray=2)


def check(panel):
    ui = panel.learning.ui
    click(ui.checkButton)
    assert ui.cancelCheckButton.enabled and ui.checkProgressBar.visible and not ui.checkButton.enabled
    longest = wait_until(lambda: not panel.learning.check.progress.isRunning)
    assert longest < 0.15, f"the panel was blocked for {longest:.3f} s"


def finding_rows(panel):
    table = panel.learning.ui.findingsTable
    return [tuple(table.item(r, c).text() for c in range(table.columnCount)) for r in range(table.rowCount)]


def choose_finding(panel, row):
    table = qt.unwrapped(panel.learning.ui.findingsTable)
    table.scrollToItem(table.item(row, 0))
    press(table.viewport(), table.visualItemRect(table.item(row, 0)).center())


def center(view):
    to_ras = view.node.GetSliceToRAS()
    return [to_ras.GetElement(i, 3) for i in range(3)]


def test_a_finding_leads_to_its_point_and_the_correction_becomes_a_revision(panel, folder, heads, scene, red):
    type_folder(panel, folder)
    patient = panel.ui.reviewSelector.currentNode()
    ui, wrong = panel.learning.ui, heads[2]
    check(panel)
    assert columns_of(ui.findingsTable) == ["Case", "Landmark", "Reason"]
    assert finding_rows(panel) == [(wrong.id[:11], "Left", "in the air")]
    assert ui.checkLabel.text == "1 finding in 3 cases: choose it to look at it."
    choose_finding(panel, 0)
    volume, points = panel.ui.volumeSelector.currentNode(), panel.ui.reviewSelector.currentNode()
    assert volume.GetName() == wrong.id[:11] and points.GetName() == f"{wrong.id[:11]} points"
    assert red.logic.GetSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()
    np.testing.assert_allclose(center(red), points.GetNthControlPointPositionWorld(0), atol=1e-6)
    np.testing.assert_allclose(center(red)[:2], -wrong.revision().landmarks[0].position[:2], atol=1e-6)
    assert ui.findingLabel.text == "'Left' lies in air: place it again, or mark it as absent."
    assert ui.findingPicture.visible and not ui.findingPicture.pixmap.isNull()
    assert points.GetDisplayVisibility() and not patient.GetDisplayVisibility(), "points of another patient are hidden"
    count = scene.GetNumberOfNodes()
    choose_finding(panel, 0)
    assert scene.GetNumberOfNodes() == count, "a case is loaded once"

    click(panel.ui.backButton)
    click(panel.ui.acceptButton)
    assert "revision 2" in add(panel)
    assert "check them again" in ui.checkLabel.text
    check(panel)
    assert finding_rows(panel) == [] and ui.checkLabel.text == "Nothing to look at in 3 cases."
    assert not ui.findingsTable.visible and not ui.findingPicture.visible and ui.findingLabel.text == ""
    panel.ui.reviewSelector.setCurrentNode(patient)
    assert patient.GetDisplayVisibility(), "who reviews points must see them"


def test_back_to_the_review_after_a_finding(panel, folder, heads, scene, red):
    type_folder(panel, folder)
    ui, patient = panel.learning.ui, panel.ui.reviewSelector.currentNode()
    volume = panel.ui.volumeSelector.currentNode()
    click_row(panel, "Right")
    click(panel.ui.absentButton)
    decided = rows(panel)
    check(panel)
    assert not ui.findingBackButton.visible
    choose_finding(panel, 0)
    assert panel.ui.reviewSelector.currentNode() is not patient and ui.findingBackButton.visible
    choose_finding(panel, 0)  # once more changes nothing of the way back
    click(ui.findingBackButton)
    assert panel.ui.reviewSelector.currentNode() is patient and panel.ui.volumeSelector.currentNode() is volume
    assert rows(panel) == decided and chosen(panel) == "Right" and not ui.findingBackButton.visible
    click(panel.ui.undoButton)
    assert state(panel, "Right") == "to check", "steps of before are undone"
    choose_finding(panel, 0)
    scene.RemoveNode(patient)
    click(ui.findingBackButton)
    assert "no longer there" in ui.findingLabel.text


def test_the_scan_of_a_case_that_was_removed_is_loaded_again_for_its_points(panel, folder, heads, scene, red):
    type_folder(panel, folder)
    check(panel)
    choose_finding(panel, 0)
    points = panel.ui.reviewSelector.currentNode()
    scene.RemoveNode(panel.ui.volumeSelector.currentNode())
    assert panel.ui.reviewSelector.currentNode() is not points
    choose_finding(panel, 0)
    assert panel.ui.reviewSelector.currentNode() is points and not panel.ui.disagreementBar.visible
    assert volume_of(points) is panel.ui.volumeSelector.currentNode() and points.GetDisplayVisibility()


def test_a_finding_is_looked_at_by_the_keyboard(panel, folder, heads, red):
    type_folder(panel, folder)
    check(panel)
    table = qt.unwrapped(panel.learning.ui.findingsTable)
    table.setFocus()
    press(table, key=Qt.Key.Key_Down)
    assert panel.learning.ui.findingLabel.text and panel.ui.reviewSelector.currentNode().GetName().startswith("case-")


def test_the_user_s_own_volume_is_shown_for_its_case(panel, folder, scene, points, red):
    head, found = add_head("my patient")
    type_folder(panel, folder)
    panel.ui.reviewSelector.setCurrentNode(show_detection(found, head, "tiny@1.0.0", "head points"))
    click(panel.ui.nextButton)
    click(panel.ui.acceptButton)
    add(panel)
    panel.ui.reviewSelector.setCurrentNode(points)
    check(panel)
    assert [row[2] for row in finding_rows(panel)] == ["not reviewed"] * 2
    choose_finding(panel, 0)
    assert panel.ui.reviewSelector.currentNode().GetName() == "head points"
    assert panel.ui.volumeSelector.currentNode() is head


@pytest.mark.parametrize("isListed", [True, False], ids=["points are there", "points are gone"])
def test_a_moved_copy_of_a_volume_is_not_shown_for_its_case(panel, folder, scene, points, red, isListed):
    head, found = add_head("my patient")
    type_folder(panel, folder)
    own = show_detection(found, head, "tiny@1.0.0", "head points")
    panel.ui.reviewSelector.setCurrentNode(own)
    click(panel.ui.nextButton)
    click(panel.ui.acceptButton)
    add(panel)
    copy = scene.CopyNode(head)  # with its attributes, as other modules and a clone have it
    copy.SetName("copy")
    copy.SetOrigin(100, 0, 0)
    panel.ui.reviewSelector.setCurrentNode(points)
    if not isListed:
        scene.RemoveNode(own)
    check(panel)
    choose_finding(panel, 0)
    assert panel.ui.volumeSelector.currentNode() is head is volume_of(panel.ui.reviewSelector.currentNode())
    assert not panel.ui.disagreementBar.visible


def test_a_check_is_cancelled(panel, folder, heads):
    type_folder(panel, folder)
    ui = panel.learning.ui
    click(ui.checkButton)
    click(ui.cancelCheckButton)
    assert ui.checkLabel.text == "Cancelled." and ui.checkButton.enabled and not ui.cancelCheckButton.enabled
    assert not ui.checkProgressBar.visible and not ui.findingsTable.visible


def test_findings_are_of_the_folder_that_is_chosen(panel, folder, heads, tmp_path):
    type_folder(panel, folder)
    ui = panel.learning.ui
    click(ui.checkButton)
    type_folder(panel, tmp_path / "other")
    assert not panel.learning.check.progress.isRunning and not ui.cancelCheckButton.enabled
    wait_until(lambda: not panel.learning.check.progress.isRunning)
    assert finding_rows(panel) == [] and ui.checkLabel.text == ""


def test_a_case_goes_into_the_folder_that_was_chosen_when_it_was_added(panel, folder, tmp_path, monkeypatch):
    from H3DELandmarksPanel.CasesFolder import AddingRun

    begin = AddingRun.__init__

    def begin_and_choose_another(run, casesFolder, *rest):
        begin(run, casesFolder, *rest)
        casesFolder.setFolder(str(tmp_path / "other"))

    monkeypatch.setattr(AddingRun, "__init__", begin_and_choose_another)
    type_folder(panel, folder)
    accept_all(panel)
    ui, cases = panel.learning.ui, panel.learning.cases
    click(ui.addCaseButton)
    wait_until(lambda: not cases.progress.isRunning)
    assert len(open_project(folder).cases()) == 1 and not (tmp_path / "other").exists()
    assert "1 case" in ui.casesLabel.text


def test_a_damaged_case_is_told(panel, folder, heads):
    type_folder(panel, folder)
    (heads[1].folder / "image.nrrd").write_bytes(b"NRRD0004\nnonsense")
    check(panel)
    rows = finding_rows(panel)
    row = next(k for k, r in enumerate(rows) if r[2] == "cannot be read")
    choose_finding(panel, row)
    assert "image.nrrd" in panel.learning.ui.findingLabel.text


def test_a_finding_shows_the_points_of_its_folder(panel, volume, tmp_path):
    """Two observers keep points of the same scan in two folders."""
    lists = {}
    for name, far in (("two", 500), ("one", 700)):
        lists[name] = show_detection(FOUND, volume, "tiny@1.0.0", name)
        panel.ui.reviewSelector.setCurrentNode(lists[name])
        click_row(panel, "Left")
        click(panel.ui.acceptButton)
        lists[name].SetNthControlPointPositionWorld(1, far, 500, 500)
        bring_tab(qt.unwrapped(panel.learning.ui.casesPath))
        type_folder(panel, tmp_path / name)
        add(panel)
    for name in ("two", "one"):
        type_folder(panel, tmp_path / name)
        check(panel)
        qt.unwrapped(panel.learning.ui.findingsTable).selectRow(0)
        slicer.app.processEvents()
        assert panel.parameterNode.reviewList is lists[name]
