"""The rhythm of a review: one click, a key for each landmark; one patient at a time; views as the user had them."""

import json

import application
import numpy as np
import pytest
import qt
import slicer
import slicer.util
from operating import PARENT, activate_row, add_volume, bring_tab, click, press, press_key, type_path, wait_until
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QShortcut
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMessageBox
from test_review_by_clicks import BY_DOUBT, FOUND, center, chosen, click_row, rows, state

from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.scene import Review, landmarks_from_point_list, show_detection

pytestmark = pytest.mark.usefixtures("shared_program")

CONTROL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def patients(scene, red):
    """Two volumes with a point list each; the views show the second."""
    found = {}
    for name in ("A", "B"):
        volume = add_volume(name)
        found[name] = (volume, show_detection(FOUND, volume, "tiny@1.0.0", f"{name} points", pairs=[("L", "R")]))
    show(found["B"][0])
    return found


@pytest.fixture
def panel(open_panel, tiny_model, patients):
    """The panel with the points of A under review."""
    panel = open_panel()
    choose_list(panel, "A points")
    return panel


def add_sequence(scene):
    """The volume node of a sequence of two frames, and its browser."""
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "heart")
    for k in range(2):
        frame = add_volume("frame")
        sequence.SetDataNodeAtValue(frame, str(k))
        scene.RemoveNode(frame)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.app.logics["Sequences"].UpdateAllProxyNodes()
    volume = browser.GetProxyNode(sequence)
    volume.SetName("heart")
    return volume, browser


def show(volume):
    """What loading a volume does in Slicer."""
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    slicer.app.processEvents()


def choose_list(panel, name):
    activate_row(qt.unwrapped(panel.ui.reviewSelector)._combo, name)


def shown():
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    return slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())


def settle(panel):
    wait_until(lambda: not panel.review._timer.active, 5)


# Keys


def test_fourteen_keys_for_fourteen_landmarks(panel, patients):
    panel.review.begin()  # as after a detection
    assert chosen(panel) == BY_DOUBT[0]
    for _ in BY_DOUBT:
        press_key(panel.ui.reviewTable, "Space")
    assert {row[1] for row in rows(panel)} == {"accepted", "absent"}
    assert panel.ui.reviewStatusLabel.text == "5 of 5 landmarks decided."


@pytest.mark.parametrize("where", ["panel", "views"])
def test_every_key(panel, where):
    target = panel.ui.reviewTable if where == "panel" else slicer.app.layoutManager().viewport()
    press_key(target, "N")
    assert chosen(panel) == "middle"
    press_key(target, "X")
    assert state(panel, "middle") == "absent" and chosen(panel) == "middle"
    press_key(target, "Z", CONTROL)
    assert state(panel, "middle") == "to check"
    press_key(target, "Y", CONTROL)
    assert state(panel, "middle") == "absent"
    press_key(target, "P")
    assert panel.ui.placeButton.checked
    press_key(target, "P")
    assert not panel.ui.placeButton.checked
    press_key(target, "N")
    press_key(target, "A")
    assert chosen(panel) == "R" and state(panel, "R") == "accepted"
    press_key(target, "S")
    assert state(panel, "R") == state(panel, "L") == "moved"
    press_key(target, "B")
    assert chosen(panel) == "é"


def test_keys_can_be_switched_off_and_do_nothing_in_other_modules(panel, open_panel):
    box = qt.unwrapped(panel.ui.keysCheckBox)
    press(box, QPoint(8, box.height() // 2))
    press_key(panel.ui.reviewTable, "N")
    assert chosen(panel) is None
    press(box, QPoint(8, box.height() // 2))
    panel.exit()
    press_key(slicer.app.layoutManager().viewport(), "N")
    assert chosen(panel) is None
    panel.enter()
    press_key(slicer.app.layoutManager().viewport(), "N")
    assert chosen(panel) == "middle"


def test_letters_in_a_text_field_are_text(panel):
    field = qt.unwrapped(panel.learning.ui.overrideReasonEdit)
    press_key(qt.Wrapper(field), "N")
    assert chosen(panel) is None


def test_a_key_that_is_held_down_decides_once(panel):
    owners = (qt.unwrapped(panel.ui.reviewSection), qt.unwrapped(slicer.app.layoutManager().viewport()))
    keys = [key for owner in owners for key in owner.findChildren(QShortcut) if key.isEnabled()]
    assert len(keys) >= 2 * len(panel.review.keys()) and not any(key.autoRepeat() for key in keys)


@pytest.mark.parametrize(
    ("widget", "key"),
    [("modelSelector", "S"), ("volumeSelector", "X"), ("landmarksList", "Space"), ("reviewSelector", "X")],
)
def test_keys_of_lists_and_choices_decide_nothing(panel, widget, key):
    click_row(panel, "L")
    panel.ui.detectSection.collapsed = False
    bring_tab(qt.unwrapped(panel.ui.landmarksButton))
    click(panel.ui.landmarksButton)
    target = qt.unwrapped(getattr(panel.ui, widget))
    press_key(qt.wrapped(getattr(target, "_combo", target)), key)
    assert state(panel, "L") == "to check"
    press_key(panel.ui.reviewTable, "Space")
    assert state(panel, "L") == "accepted"


def test_after_a_detection_the_keys_work_at_once_unless_the_user_does_something_else(panel):
    window = qt.unwrapped(panel.parent).window()
    for widget, decides in ((panel.ui.applyButton, True), (panel.ui.clinicAddress, False)):
        panel.ui.detectSection.collapsed = False
        bring_tab(qt.unwrapped(widget))
        window.show()
        window.activateWindow()
        qt.unwrapped(widget).setFocus()
        slicer.app.processEvents()
        panel.review.begin()  # as after a detection
        name = chosen(panel)
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Space)
        slicer.app.processEvents()
        assert (state(panel, name) in ("accepted", "absent")) is decides


# Looking


def test_what_was_looked_at_is_marked_and_rows_stay(panel):
    table = panel.ui.reviewTable

    def bold():
        return {table.item(r, 0).text() for r in range(table.rowCount) if table.item(r, 0).font().bold()}

    assert bold() == set(BY_DOUBT)
    click_row(panel, "R")
    click(panel.ui.acceptButton)
    assert bold() == set(BY_DOUBT) - {"R", "gone"}
    assert [row[0] for row in rows(panel)] == BY_DOUBT


def test_views_follow_a_dragged_point_without_moving_sideways(panel, patients, red):
    node = patients["A"][1]
    click_row(panel, "L")
    before = center(red)
    node.InvokeEvent(node.PointStartInteractionEvent)
    node.SetNthControlPointPositionWorld(0, 20, 3, 12)
    settle(panel)
    now = center(red)
    assert now[2] == pytest.approx(12) and now[:2] == pytest.approx(before[:2])
    node.InvokeEvent(node.PointEndInteractionEvent)
    assert chosen(panel) == "L" and state(panel, "L") == "moved"


def test_views_follow_a_drag_that_is_over_at_once(panel, patients, red):
    node = patients["A"][1]
    click_row(panel, "L")
    node.InvokeEvent(node.PointStartInteractionEvent)
    node.SetNthControlPointPositionWorld(0, 20, 3, 12)
    node.InvokeEvent(node.PointEndInteractionEvent)
    assert center(red)[2] == pytest.approx(12) and chosen(panel) == "L"


@pytest.mark.parametrize("tab", ["Landmarks", "Teach"])
def test_long_sentences_make_no_tab_wider_than_the_panel(panel, tab):
    ui, host = panel.ui, qt.unwrapped(panel.parent)
    for label in (ui.reviewStatusLabel, ui.compareLabel, ui.statusLabel):
        label.text = "A sentence of many words, none of which is long. " * 4
    bring_tab(qt.unwrapped(ui.compareButton if tab == "Teach" else ui.nextButton))
    for _ in range(3):
        slicer.app.processEvents()
        host.resize(420, 700)
    assert host.width() == 420


def test_an_absent_landmark_is_looked_for_where_the_others_let_expect_it(panel, tiny, patients, red):
    names, mean = tiny.scheme.names, tiny.load_shape().mean
    from H3DELandmarksLib.core.landmarks import LandmarkSet
    from H3DELandmarksLib.scene import Review, expected_position

    offset = np.array([3.0, -4, 5])
    presence = np.ones(len(names))
    presence[-1] = 0
    landmarks = LandmarkSet(names, mean + offset, presence)
    node = show_detection(landmarks, patients["A"][0], f"{tiny.id}@{tiny.version}", "tiny points")
    expected = expected_position(Review(node).landmarks(), names[-1], tiny)
    if presence.sum() < 3:
        assert expected is None
        return
    np.testing.assert_allclose(expected, (mean[-1] + offset) * (-1, -1, 1), atol=0.01)
    panel.ui.reviewSelector.setCurrentNode(node)
    click_row(panel, names[-1])
    np.testing.assert_allclose(center(red), expected, atol=0.01)
    assert "Place" in panel.ui.definitionLabel.text


def test_windows_come_back_when_the_review_ends(panel, patients):
    display = patients["A"][0].GetDisplayNode()
    before = (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel())
    for button in (panel.ui.boneButton, panel.ui.teethButton, panel.ui.softButton):
        click(button)
        assert (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) != before
    panel.exit()
    assert (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) == before


def test_a_window_of_a_scan_without_voxels_is_refused_in_a_sentence(panel, patients):
    patients["A"][0].SetAndObserveImageData(None)  # as of a scene whose files are gone
    settle(panel)
    click(panel.ui.boneButton)
    assert panel.ui.reviewStatusLabel.text == "The volume 'A' has no voxels: load the scan again."


# Saving: Slicer tells nobody that it is about to write a scene, or a list


def drawn(node):
    display = node.GetDisplayNode()
    look = (display.GetGlyphTypeAsString(), display.GetPointLabelsVisibility(), display.GetColor())
    return (*look, display.GetGlyphScale(), bool(display.GetVisibility()))


@pytest.fixture
def saved_while_placing(panel, patients, scene, red, tmp_path):
    """How the lists were drawn before the review, and the scene as it was saved while a point was to be placed."""
    panel.ui.reviewSelector.setCurrentNode(None)
    patients["A"][1].GetDisplayNode().SetGlyphScale(1.7)
    before = {name: drawn(node) for name, (volume, node) in patients.items()}
    choose_list(panel, "A points")
    click_row(panel, "middle")
    click(panel.ui.absentButton)
    click_row(panel, "middle")
    click(panel.ui.placeButton)
    red.render()
    red.mouse(("EnterEvent", (100, 100)), ("MouseMoveEvent", (150, 160)))  # the point is at the mouse
    assert panel.ui.placeButton.checked and {name: drawn(node) for name, (_, node) in patients.items()} != before
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    assert panel.ui.placeButton.checked, "saving disturbs nothing"
    panel.review.placing.stop()
    return before, tmp_path / "scene.mrb"


def test_a_scene_that_is_saved_while_a_point_is_to_be_placed_keeps_decisions(panel, scene, saved_while_placing):
    scene.Clear(False)
    assert scene.ReadFromMRB(str(saved_while_placing[1]), True)
    settle(panel)
    assert panel.ui.reviewSelector.currentNode().GetName() == "A points"
    assert state(panel, "middle") == "absent" and len(rows(panel)) == len(FOUND)
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform and not panel.ui.placeButton.checked


@pytest.mark.parametrize("opened", [True, False], ids=["panel", "no panel"])
def test_a_scene_is_saved_as_the_user_had_set_it_up(panel, app, scene, saved_while_placing, opened):
    before, path = saved_while_placing
    if not opened:
        application.close_panel(panel)
        app.complete_startup()
    scene.Clear(False)
    assert scene.ReadFromMRB(str(path), True)
    if opened:
        settle(panel)
        panel.ui.reviewSelector.setCurrentNode(None)
    assert {name: drawn(scene.GetFirstNodeByName(f"{name} points")) for name in before} == before


def test_a_list_that_is_saved_while_its_point_is_to_be_placed_keeps_it_absent(panel, patients, tmp_path):
    click_row(panel, "gone")
    click(panel.ui.placeButton)
    node = patients["A"][1]
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(str(tmp_path / "points.mrk.json"))
    assert node.GetStorageNode().WriteData(node)
    assert read_markups(tmp_path / "points.mrk.json").presence[3] == 0.3


def test_another_scene_that_is_added_leaves_lists_alone(panel, patients, scene, tmp_path):
    other = slicer.vtkMRMLScene()
    other.AddNewNodeByClass("vtkMRMLModelNode")
    other.SetURL(str(tmp_path / "other.mrml"))
    assert other.Commit()
    during = [drawn(node) for _, node in patients.values()]
    scene.SetURL(str(tmp_path / "other.mrml"))
    assert scene.Import()
    settle(panel)
    assert [drawn(node) for _, node in patients.values()] == during


# One patient at a time


def test_choosing_a_list_shows_its_scan_and_hides_other_lists(panel, patients):
    for name, other in (("A", "B"), ("B", "A")):
        choose_list(panel, f"{name} points")
        assert shown() is patients[name][0] and panel.ui.volumeSelector.currentNode() is patients[name][0]
        assert patients[name][1].GetDisplayVisibility() and not patients[other][1].GetDisplayVisibility()
        assert not panel.ui.disagreementBar.visible


def test_another_scan_in_the_views_is_said_and_nothing_can_be_decided(panel, patients):
    click_row(panel, "L")
    show(patients["B"][0])
    settle(panel)
    ui = panel.ui
    assert ui.disagreementBar.visible and "'B'" in ui.disagreementLabel.text and "'A'" in ui.disagreementLabel.text
    assert not patients["A"][1].GetDisplayVisibility()
    for button in (ui.acceptButton, ui.absentButton, ui.placeButton, ui.swapButton, ui.acceptAllButton):
        assert not button.enabled
    click_row(panel, "middle")
    assert shown() is patients["B"][0], "looking at a row moves no views of another patient"
    click(ui.showScanButton)
    assert shown() is patients["A"][0] and not ui.disagreementBar.visible and ui.absentButton.enabled


def test_no_click_places_a_point_on_the_pictures_of_another_patient(panel, patients, red):
    click_row(panel, "gone")
    click(panel.ui.placeButton)
    show(patients["B"][0])
    settle(panel)
    assert panel.ui.disagreementBar.visible and not panel.ui.placeButton.checked
    red.render()
    red.click((150, 240))
    settle(panel)
    points = patients["A"][1]
    assert points.GetNthControlPointPositionStatus(3) == points.PositionMissing
    show(patients["A"][0])
    settle(panel)
    assert state(panel, "gone") == "absent?" and not panel.ui.undoButton.enabled


def test_going_on_with_the_scan_in_the_views(panel, patients):
    show(patients["B"][0])
    settle(panel)
    click(panel.ui.goOnButton)
    assert panel.ui.volumeSelector.currentNode() is patients["B"][0]
    assert panel.ui.reviewSelector.currentNode() is patients["B"][1] and not panel.ui.disagreementBar.visible
    third = add_volume("C")
    show(third)
    settle(panel)
    click(panel.ui.goOnButton)
    assert panel.ui.volumeSelector.currentNode() is third and panel.ui.reviewSelector.currentNode() is None
    assert rows(panel) == []


def test_nobody_can_go_on_with_a_label_map_in_the_views(panel, patients, scene):
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    labels.SetAndObserveImageData(patients["A"][0].GetImageData())
    choose_list(panel, "A points")
    show(labels)
    settle(panel)
    assert panel.ui.disagreementLabel.text == "The views show 'labels', the points are of 'A'."
    assert panel.ui.showScanButton.visible and not panel.ui.goOnButton.visible


def test_choosing_a_volume_shows_it_with_its_points(panel, patients):
    activate_row(qt.unwrapped(panel.ui.volumeSelector)._combo, "B")
    assert shown() is patients["B"][0] and panel.ui.reviewSelector.currentNode() is patients["B"][1]
    activate_row(qt.unwrapped(panel.ui.volumeSelector)._combo, "A")
    assert shown() is patients["A"][0] and panel.ui.reviewSelector.currentNode() is patients["A"][1]


def test_a_hidden_scan_leaves_no_sentence_about_it(panel, patients):
    panel.detection.say("11 of 14 landmarks found.")  # as after a detection in A
    activate_row(qt.unwrapped(panel.ui.volumeSelector)._combo, "B")
    assert panel.ui.statusLabel.text == ""
    panel.detection.say("9 of 14 landmarks found.")
    choose_list(panel, "A points")
    assert panel.ui.statusLabel.text == "" and panel.ui.volumeSelector.currentNode() is patients["A"][0]


def test_another_scan_of_the_same_name_is_told_from_that_of_the_points(panel, patients):
    patients["B"][0].SetName(patients["A"][0].GetName())
    show(patients["B"][0])
    settle(panel)
    assert panel.ui.disagreementLabel.text == "The views show another volume of the name 'A' than that of the points."


def test_lists_that_another_scan_has_hidden_are_visible_again_after_the_review(panel, patients):
    show(patients["B"][0])
    settle(panel)
    assert not patients["A"][1].GetDisplayVisibility()
    choose_list(panel, "B points")
    panel.ui.reviewSelector.setCurrentNode(None)
    assert patients["A"][1].GetDisplayVisibility() and patients["B"][1].GetDisplayVisibility()


def test_another_frame_is_said_and_nothing_can_be_decided_until_one_click(open_panel, tiny_model, scene, red):
    volume, browser = add_sequence(scene)
    found = show_detection(FOUND, volume, "tiny@1.0.0", "frame 0", pairs=[("L", "R")], frame="time 0 s")
    panel = open_panel()
    show(volume)
    choose_list(panel, "frame 0")
    click_row(panel, "L")
    assert panel.ui.acceptButton.enabled and not panel.ui.disagreementBar.visible
    browser.SetSelectedItemNumber(1)
    settle(panel)
    ui = panel.ui
    assert "time 1 s" in ui.disagreementLabel.text and "time 0 s" in ui.disagreementLabel.text
    assert not ui.acceptButton.enabled and not found.GetDisplayVisibility()
    click(ui.showScanButton)
    assert browser.GetSelectedItemNumber() == 0 and not ui.disagreementBar.visible and ui.acceptButton.enabled


@pytest.mark.slow
def test_two_detections_and_back(open_panel, tiny_model, scene, red):
    volumes = [add_volume(name) for name in ("A", "B")]
    panel = open_panel()
    found = []
    for volume in volumes:
        activate_row(qt.unwrapped(panel.ui.volumeSelector)._combo, volume.GetName())
        click(panel.ui.applyButton if panel.ui.applyButton.visible else panel.ui.detectSection)
        if not panel.isDetecting():
            click(panel.ui.applyButton)
        wait_until(lambda: not panel.isDetecting())
        found.append(panel.ui.reviewSelector.currentNode())
        assert shown() is volume and volume.GetName() in panel.ui.statusLabel.text
        assert [node.GetDisplayVisibility() for node in found] == [0] * (len(found) - 1) + [1]
    assert found[0] is not found[1]
    choose_list(panel, found[0].GetName())
    assert shown() is volumes[0] and panel.ui.volumeSelector.currentNode() is volumes[0]
    assert panel.ui.statusLabel.text == "" and [node.GetDisplayVisibility() for node in found] == [1, 0]


def test_a_question_about_one_patient_decides_nothing_about_another(panel, patients, answer):
    """As where a detection of B ends while the question about A is open."""
    panel.ui.thresholdSpinBox.minimum = panel.ui.thresholdSpinBox.value = 0

    def come_under_review():
        panel.ui.reviewSelector.setCurrentNode(patients["B"][1])
        return True

    questions = answer(QMessageBox.StandardButton.Yes, when=come_under_review)
    click(panel.ui.acceptAllButton)
    assert questions and panel.ui.reviewSelector.currentNode() is patients["B"][1]
    states = {landmark.state for _, points in patients.values() for landmark in Review(points).landmarks()}
    assert not any(state.in_bulk for state in states), states


@pytest.mark.slow
def test_a_detection_that_ends_while_another_module_is_open_waits_for_the_panel(
    open_panel, tiny_model, scene, red, patients
):
    """Views and lists of the other module stay as they are; the review begins when the panel is opened again."""
    volume = add_volume("C")
    panel = open_panel()
    activate_row(qt.unwrapped(panel.ui.volumeSelector)._combo, "C")
    click(panel.ui.applyButton)
    panel.exit()
    show(patients["B"][0])
    red.node.SetFieldOfView(170, 170, 1)
    looked = (red.node.GetFieldOfView(), center(red))
    seen = [node.GetDisplayVisibility() for _, node in patients.values()]
    wait_until(lambda: not panel.isDetecting())
    found = panel.ui.reviewSelector.currentNode()
    assert found.GetName().startswith("C ") and shown() is patients["B"][0]
    assert (red.node.GetFieldOfView(), center(red)) == looked and chosen(panel) is None
    assert [node.GetDisplayVisibility() for _, node in patients.values()] == seen and not found.GetDisplayVisibility()
    assert not scene.GetSingletonNode("H3DELandmarksRadius", "vtkMRMLModelNode")
    panel.enter()
    assert shown() is volume and chosen(panel) and found.GetDisplayVisibility()
    assert not panel.ui.disagreementBar.visible
    panel.exit()
    assert found.GetDisplayVisibility(), "as every other result"


def test_a_drag_while_another_module_is_open_moves_no_views(panel, patients, red):
    node = patients["A"][1]
    panel.exit()
    before = center(red)
    node.InvokeEvent(node.PointStartInteractionEvent)
    node.SetNthControlPointPositionWorld(0, 20, 3, 12)
    node.InvokeEvent(node.PointEndInteractionEvent)
    settle(panel)
    assert center(red) == before and chosen(panel) is None
    panel.enter()
    assert state(panel, "L") == "moved"


def place_in_slicer(panel, node, red, count):
    """Place points by Slicer's own button, with the mouse in the view after each."""
    scene = slicer.mrmlScene
    selection, interaction = (scene.GetNodeByID(f"vtkMRML{kind}NodeSingleton") for kind in ("Selection", "Interaction"))
    selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    selection.SetActivePlaceNodeID(node.GetID())
    interaction.SwitchToPersistentPlaceMode()
    red.render()
    for k in range(count):
        red.click((150 + 20 * k, 150))
        settle(panel)
        red.mouse(("MouseMoveEvent", (180, 180)))
        settle(panel)


def test_points_that_slicer_places_are_one_step_each(panel, scene, red):
    own = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "own")
    own.CreateDefaultDisplayNodes()
    panel.ui.reviewSelector.setCurrentNode(own)
    place_in_slicer(panel, own, red, 3)
    assert own.GetNumberOfControlPoints() == 4, "and the one at the mouse"
    assert len(rows(panel)) == len(landmarks_from_point_list(own)) == 3
    click(panel.ui.undoButton)  # in the midst of placing
    red.mouse(("MouseMoveEvent", (120, 180)))
    settle(panel)
    assert [row[0] for row in rows(panel)] == ["own-1", "own-2"]
    click(panel.ui.redoButton)
    scene.GetNodeByID("vtkMRMLInteractionNodeSingleton").SwitchToViewTransformMode()
    settle(panel)
    assert own.GetNumberOfControlPoints() == len(rows(panel)) == 3
    for count in (2, 1, 0):
        click(panel.ui.undoButton)
        settle(panel)
        assert own.GetNumberOfControlPoints() == len(rows(panel)) == count
    assert not panel.ui.undoButton.enabled
    for count in (1, 2, 3):
        click(panel.ui.redoButton)
        assert own.GetNumberOfControlPoints() == len(rows(panel)) == count


def bold(panel):
    """Names that nobody has looked at."""
    table = panel.ui.reviewTable
    return {table.item(r, 0).text() for r in range(table.rowCount) if table.item(r, 0).font().bold()}


def test_a_list_is_as_it_was_left_when_another_was_detected_meanwhile(panel, patients):
    click_row(panel, "L")
    click(panel.ui.acceptButton)
    unseen = bold(panel)
    choose_list(panel, "B points")
    panel.onDetected()  # a detection in B has ended
    choose_list(panel, "A points")
    panel.onDetected()  # the same result is opened again
    assert "L" not in unseen and bold(panel) <= unseen
    click(panel.ui.undoButton)
    assert state(panel, "L") == "to check" and not panel.ui.undoButton.enabled


def test_steps_of_points_that_were_replaced_are_gone(panel, patients):
    volume, node = patients["A"]
    click_row(panel, "L")
    click(panel.ui.lockPointButton)
    click(panel.ui.lockPointButton)
    assert panel.ui.undoButton.enabled
    choose_list(panel, "B points")
    moved = FOUND.with_positions(FOUND.positions + 1.0)
    assert show_detection(moved, volume, "tiny@1.0.0", "again", node, [("L", "R")]) is node
    choose_list(panel, "A points")
    assert not panel.ui.undoButton.enabled and bold(panel) == set(BY_DOUBT)


@pytest.mark.parametrize("reviewed", [False, True], ids=["never reviewed", "reviewed before"])
@pytest.mark.parametrize("place", ["panel", "other module"])
def test_a_transform_hardened_on_a_list_that_is_not_under_review_moves_no_point(
    open_panel, tiny_model, patients, scene, reviewed, place
):
    panel = open_panel()
    if reviewed:
        choose_list(panel, "A points")
        click_row(panel, "L")
        click(panel.ui.acceptButton)
    choose_list(panel, "B points")
    panel.onDetected()
    if place == "other module":
        panel.exit()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(PARENT))
    for node in patients["A"]:
        node.SetAndObserveTransformNodeID(transform.GetID())
        node.HardenTransform()
    if place == "other module":
        panel.enter()
    choose_list(panel, "A points")
    said = dict(row[:2] for row in rows(panel))
    assert said["L"] == ("accepted" if reviewed else "to check") and "moved" not in said.values()
    assert not panel.ui.undoButton.enabled, "former steps would bring the former frame back"


# Export


def test_one_click_exports_what_was_corrected(panel, patients, tmp_path, open_panel):
    ui = panel.ui
    click_row(panel, "L")
    click(ui.acceptButton)
    type_path(ui.exportPath, tmp_path / "gone")
    click(ui.exportButton)
    assert "no folder" in ui.reviewStatusLabel.text
    type_path(ui.exportPath, tmp_path)
    click(ui.exportButton)
    target = tmp_path / "A landmarks"
    assert str(target) in ui.reviewStatusLabel.text
    assert sorted(path.name for path in target.iterdir()) == [
        "A.provenance.json",
        "Slicer",
        "Slicer fcsv",
        "TPS",
        "table",
    ]
    assert open_panel().ui.exportPath.currentPath == str(tmp_path), "the folder is remembered"


def test_what_is_exported_while_a_point_is_to_be_placed_was_decided(panel, tmp_path):
    click_row(panel, "middle")
    click(panel.ui.absentButton)
    click_row(panel, "middle")
    click(panel.ui.placeButton)
    type_path(panel.ui.exportPath, tmp_path)
    click(panel.ui.exportButton)
    points = json.loads((tmp_path / "A landmarks" / "A.provenance.json").read_text(encoding="utf-8"))["points"]
    assert [point["state"] for point in points if point["name"] == "middle"] == ["absent"]
    assert not panel.ui.placeButton.checked


def test_at_first_exports_go_where_slicer_saves(panel):
    assert panel.ui.exportPath.currentPath == slicer.app.defaultScenePath


def test_without_a_scan_nothing_can_be_exported(panel):
    panel.ui.reviewSelector.setCurrentNode(None)
    assert not panel.ui.exportButton.enabled


def test_the_main_job_is_low_and_narrow(panel):
    panel.ui.detectSection.collapsed = True  # as after a detection
    click_row(panel, "middle")
    page = qt.unwrapped(panel.ui.landmarksTab)
    assert page.minimumSizeHint().width() <= 420
    assert page.layout().totalHeightForWidth(420) <= 700
