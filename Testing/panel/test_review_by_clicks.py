"""Review and correction in the panel, by clicks on its widgets and in a real slice view."""

import numpy as np
import pytest
import qt
import slicer
from operating import PARENT, add_volume, click, columns_of, computing_time, press, press_key, wait_until
from PySide6.QtWidgets import QMessageBox

from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.formats.provenance import ModelOrigin, Provenance
from H3DELandmarksLib.scene import create_point_list, proposed_landmarks, show_detection

FOUND = LandmarkSet(
    ("L", "middle", "R", "gone", "é"),
    [[-14, 6, 9], [-14, 0, 8], [-18, -5, 7], [np.nan] * 3, [np.nan] * 3],
    presence=[0.99, 0.9, 0.8, 0.3, 0.02],
    confidence=[0.95, 0.4, 0.7, 0.3, 0.02],
    radius=[1.5, 4.0, 2.0, 3.0, np.nan],
    definitions=("left point", "middle point", "right point", "one that is not there.", "größte Tiefe"),
)
BY_DOUBT = ["middle", "R", "gone", "L", "é"]
TABLE = [
    ("middle", "to check", "90 %", "40 %", "4.0 mm", ""),
    ("R", "to check", "80 %", "70 %", "2.0 mm", ""),
    ("gone", "absent?", "30 %", "", "", ""),
    ("L", "to check", "99 %", "95 %", "1.5 mm", ""),
    ("é", "absent?", "2 %", "", "", ""),
]


@pytest.fixture
def volume(scene):
    return add_volume()


@pytest.fixture
def points(volume):
    return show_detection(FOUND, volume, "tiny@1.0.0", "points", pairs=[("L", "R")])


@pytest.fixture
def panel(open_panel, tiny_model, points):
    """The panel with the points chosen for review."""
    panel = open_panel()
    panel.ui.reviewSelector.setCurrentNode(points)
    return panel


def rows(panel):
    table = panel.ui.reviewTable
    return [tuple(table.item(r, c).text() for c in range(table.columnCount)) for r in range(table.rowCount)]


def state(panel, name):
    return next(row[1] for row in rows(panel) if row[0] == name)


def moved(panel, name):
    return next(row[5] for row in rows(panel) if row[0] == name)


def click_row(panel, name):
    table = qt.unwrapped(panel.ui.reviewTable)
    item = next(table.item(r, 0) for r in range(table.rowCount()) if table.item(r, 0).text() == name)
    table.scrollToItem(item)
    press(table.viewport(), table.visualItemRect(item).center())


def chosen(panel):
    table = panel.ui.reviewTable
    return table.item(table.currentRow(), 0).text() if table.currentRow() >= 0 else None


def center(view):
    to_ras = view.node.GetSliceToRAS()
    return [to_ras.GetElement(i, 3) for i in range(3)]


def spheres(scene):
    kind = "vtkMRMLModelNode"  # slice views show their slices as models, too
    models = [scene.GetNthNodeByClass(i, kind) for i in range(scene.GetNumberOfNodesByClass(kind))]
    return [model for model in models if "90 % radius" in model.GetName()]


# Looking


def test_the_table_lists_the_most_doubtful_first(panel):
    assert rows(panel) == TABLE
    assert columns_of(panel.ui.reviewTable) == ["Landmark", "State", "Presence", "Confidence", "Radius", "Moved"]
    assert panel.ui.reviewStatusLabel.text == "0 of 5 landmarks decided."
    assert chosen(panel) is None and not panel.ui.acceptButton.enabled and panel.ui.nextButton.enabled


def test_a_click_on_a_row_centers_all_views_and_tells_about_the_landmark(panel, scene, points, red):
    click_row(panel, "R")
    np.testing.assert_allclose(center(red), (18, 5, 7))
    assert panel.ui.definitionLabel.text == "R: right point. Confidence 70 %. Nine of ten errors are below 2.0 mm."
    (sphere,) = spheres(scene)
    bounds = np.reshape(sphere.GetPolyData().GetBounds(), (3, 2))
    np.testing.assert_allclose(bounds.mean(axis=1), (18, 5, 7), atol=1e-4)
    np.testing.assert_allclose(np.ptp(bounds, axis=1), 4, rtol=0.01)
    click_row(panel, "gone")
    said = "gone: one that is not there. Proposed as absent, presence 30 %. To place it:"
    assert panel.ui.definitionLabel.text.startswith(said)
    np.testing.assert_allclose(center(red), (18, 5, 7))
    assert not spheres(scene)


def test_the_confidence_names_the_distance_that_it_is_about(panel, volume):
    origin = Provenance(
        software="0.2.0",
        time="2026-11-29T10:00:00Z",
        model=ModelOrigin(id="tiny", version="1.0.0", sha256="a" * 64, confidence_within_mm=2.0),
        scan=None,
    )
    known = show_detection(FOUND, volume, "tiny@1.0.0", "known", provenance=origin)
    panel.ui.reviewSelector.setCurrentNode(known)
    click_row(panel, "R")
    assert "Confidence 70 % that the proposal is within 2.0 mm of the right place." in panel.ui.definitionLabel.text


def test_a_second_click_looks_at_the_point_again(panel, red):
    click_row(panel, "R")
    red.node.JumpSliceByCentering(0, 0, 0)
    click_row(panel, "R")
    np.testing.assert_allclose(center(red), (18, 5, 7))


def test_next_and_previous_doubtful_by_button(panel):
    seen = []
    for _ in range(6):
        click(panel.ui.nextButton)
        seen.append(chosen(panel))
    assert seen == [*BY_DOUBT, "middle"]
    click(panel.ui.previousButton)
    assert chosen(panel) == "é"


def test_next_and_previous_doubtful_by_key(panel):
    for key, expected in (("N", "middle"), ("N", "R"), ("B", "middle"), ("B", "é")):
        press_key(panel.ui.reviewTable, key)
        assert chosen(panel) == expected


# Deciding


def test_accepting_goes_on_to_the_next(panel):
    click(panel.ui.nextButton)
    click(panel.ui.acceptButton)
    assert state(panel, "middle") == "accepted" and chosen(panel) == "R"
    click_row(panel, "gone")
    click(panel.ui.acceptButton)
    assert state(panel, "gone") == "absent" and chosen(panel) == "L"
    assert [row[0] for row in rows(panel)] == BY_DOUBT, "rows stay where they are until somebody asks"
    click(panel.ui.sortButton)
    assert [row[0] for row in rows(panel)] == ["R", "L", "é", "middle", "gone"]
    assert panel.ui.reviewStatusLabel.text == "2 of 5 landmarks decided."


def test_accepting_all_above_a_threshold(panel, answer):
    assert panel.ui.thresholdSpinBox.value == 90
    questions = answer(QMessageBox.StandardButton.Yes)
    click(panel.ui.acceptAllButton)
    assert "2 landmarks" in questions[0] and "0 of them" in questions[0]
    assert [row[1] for row in rows(panel)][3:] == ["accepted in bulk", "absent in bulk"]
    panel.ui.thresholdSpinBox.value = 0
    answer(QMessageBox.StandardButton.Yes)
    click(panel.ui.acceptAllButton)
    assert panel.ui.reviewStatusLabel.text == "5 of 5 landmarks decided." and not panel.ui.nextButton.enabled
    assert not panel.ui.acceptAllButton.enabled
    click_row(panel, "L")
    click(panel.ui.acceptButton)
    assert state(panel, "L") == "accepted" and state(panel, "middle") == "accepted in bulk"


def test_without_a_confirmation_only_what_was_looked_at_is_accepted_in_bulk(panel, answer):
    click_row(panel, "L")
    questions = answer(QMessageBox.StandardButton.No)
    click(panel.ui.acceptAllButton)
    assert "1 of them" in questions[0]
    assert state(panel, "L") == "accepted in bulk" and state(panel, "é") == "absent?"
    panel.ui.thresholdSpinBox.value = 100
    click(panel.ui.acceptAllButton)
    assert "certain enough" in panel.ui.reviewStatusLabel.text


@pytest.mark.parametrize(
    ("cause", "stated", "told"),
    [
        (Cause.TOO_COARSE, "not examined", "Not examined: its voxels are too coarse."),
        (Cause.UNLIKE, "not recognised", "Not recognised: the scan does not look like what the model knows."),
        (Cause.NO_PLACE, "not examined", "Not examined: too few points found tell where it should be."),
        (Cause.UNSURE, "not recognised", "Not recognised: neither surely there nor surely absent."),
    ],
)
def test_of_a_scan_that_was_not_examined_nothing_can_be_accepted(panel, volume, cause, stated, told):
    found = FOUND.unknown_where(np.ones(len(FOUND), bool), cause)
    panel.ui.reviewSelector.setCurrentNode(show_detection(found, volume, "tiny@1.0.0", "others"))
    assert rows(panel) == [(name, stated, "", "", "", "") for name in FOUND.names]
    assert panel.ui.reviewStatusLabel.text == f"{stated.capitalize()}: 5."
    assert not panel.ui.acceptAllButton.enabled and not panel.ui.nextButton.enabled
    click_row(panel, "L")
    assert panel.ui.definitionLabel.text.startswith(f"L: left point. {told} ")
    assert not panel.ui.acceptButton.enabled and panel.ui.placeButton.enabled and panel.ui.absentButton.enabled
    click(panel.ui.absentButton)
    assert panel.ui.reviewStatusLabel.text == f"1 of 1 landmarks decided. {stated.capitalize()}: 4."


def test_marking_absent_and_going_back_to_the_proposal(panel, points):
    click_row(panel, "middle")
    click(panel.ui.absentButton)
    assert state(panel, "middle") == "absent" and not panel.ui.absentButton.enabled
    assert points.GetNthControlPointPositionStatus(1) == points.PositionMissing
    click(panel.ui.backButton)
    assert rows(panel) == TABLE and not panel.ui.backButton.enabled
    np.testing.assert_allclose(points.GetNthControlPointPosition(1), (14, 0, 8), atol=1e-9)


def test_dragging_a_point_marks_it_moved_by_the_distance(panel, points, red):
    click_row(panel, "middle")
    red.render()
    start = red.pixel_of((14, 0, 8))
    red.drag(start, (start[0] + 25, start[1] + 10))
    distance = np.linalg.norm(np.subtract(points.GetNthControlPointPosition(1), (14, 0, 8)))
    assert distance > 1
    assert state(panel, "middle") == "moved" and moved(panel, "middle") == f"{distance:.1f} mm"
    assert chosen(panel) == "middle"
    click(panel.ui.undoButton)
    assert rows(panel) == TABLE and not panel.ui.undoButton.enabled, "one drag is one step"
    click(panel.ui.redoButton)
    assert moved(panel, "middle") == f"{distance:.1f} mm"
    click(panel.ui.backButton)
    assert rows(panel) == TABLE


def test_the_cross_of_a_point_that_was_dragged_and_is_absent_shows_its_own_place(panel, points, red, scene):
    click_row(panel, "R")
    red.node.JumpSliceByCentering(14, 0, 8)
    red.render()
    start = red.pixel_of((14, 0, 8))
    red.drag(start, (start[0] + 25, start[1] + 10))
    place = points.GetNthControlPointPosition(1)
    assert chosen(panel) == "middle" and state(panel, "middle") == "moved"
    click(panel.ui.absentButton)
    cross = scene.GetFirstNodeByName("H3DELandmarks review ThickCross2D")
    assert cross.GetNthControlPointLabel(0) == "middle?"
    np.testing.assert_allclose(cross.GetNthControlPointPosition(0), place, atol=1e-6)


def test_a_point_that_another_module_moves_is_moved(panel, points):
    points.SetNthControlPointPosition(0, 14, -6, 12)
    wait_until(lambda: state(panel, "L") == "moved", 5)
    assert moved(panel, "L") == "3.0 mm"
    click(panel.ui.undoButton)
    assert rows(panel) == TABLE


def test_locked_points_cannot_be_dragged(panel, points, red):
    click_row(panel, "middle")
    click(panel.ui.lockPointButton)
    red.render()
    start = red.pixel_of((14, 0, 8))
    red.drag(start, (start[0] + 25, start[1] + 10))
    assert rows(panel) == TABLE
    click(panel.ui.lockPointButton)
    click(panel.ui.lockAllButton)
    red.drag(start, (start[0] + 25, start[1] + 10))
    assert rows(panel) == TABLE and points.GetLocked()
    click(panel.ui.lockAllButton)
    assert not points.GetLocked()


def test_placing_an_absent_landmark_by_a_click_in_a_view(panel, points, red):
    click_row(panel, "middle")
    assert not panel.ui.placeButton.enabled
    click_row(panel, "gone")
    red.render()
    click(panel.ui.placeButton)
    assert panel.ui.placeButton.checked
    red.click((150, 240))
    assert state(panel, "gone") == "placed" and not panel.ui.placeButton.checked
    np.testing.assert_allclose(red.pixel_of(points.GetNthControlPointPosition(3)), (150, 240), atol=1e-6)
    assert points.GetNumberOfControlPoints() == 5
    click(panel.ui.undoButton)
    assert rows(panel) == TABLE and not panel.ui.undoButton.enabled


def test_placing_can_be_given_up(panel, points, red):
    interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    for give_up in (
        lambda: click(panel.ui.placeButton),
        interaction.SwitchToViewTransformMode,
        lambda: click_row(panel, "L"),
        panel.exit,
    ):
        click_row(panel, "gone")
        click(panel.ui.placeButton)
        assert interaction.GetCurrentInteractionMode() == interaction.Place
        give_up()
        assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
        assert rows(panel) == TABLE and not panel.ui.placeButton.checked and not panel.ui.undoButton.enabled
        assert points.GetNthControlPointPositionStatus(3) == points.PositionMissing


def test_swapping_left_and_right(panel, points):
    click_row(panel, "middle")
    assert not panel.ui.swapButton.enabled
    click_row(panel, "L")
    click(panel.ui.swapButton)
    np.testing.assert_allclose(points.GetNthControlPointPosition(0), (18, 5, 7), atol=1e-9)
    np.testing.assert_allclose(points.GetNthControlPointPosition(2), (14, -6, 9), atol=1e-9)
    assert state(panel, "L") == state(panel, "R") == "moved"
    click(panel.ui.undoButton)
    assert rows(panel) == TABLE


def test_every_step_is_undone_and_redone(panel, points):
    seen = [rows(panel)]
    for name, button in (
        ("middle", "acceptButton"),
        ("R", "absentButton"),
        ("R", "swapButton"),
        ("é", "acceptButton"),
        ("L", "backButton"),
        ("L", "lockPointButton"),
        ("L", "lockAllButton"),
        ("gone", "acceptButton"),
    ):
        click_row(panel, name)
        click(getattr(panel.ui, button))
        seen.append((rows(panel), points.GetLocked(), points.GetNthControlPointLocked(0)))
    seen[0] = (seen[0], 0, False)
    for button, expected in (("undoButton", seen[-2::-1]), ("redoButton", seen[1:])):
        for state_before in expected:
            click(getattr(panel.ui, button))
            assert (rows(panel), points.GetLocked(), points.GetNthControlPointLocked(0)) == state_before
        assert not getattr(panel.ui, button).enabled


# Lists and scenes


def test_a_saved_and_reloaded_scene_has_the_same_table(panel, scene, points, tmp_path):
    click_row(panel, "middle")
    click(panel.ui.absentButton)
    click_row(panel, "é")
    click(panel.ui.acceptButton)
    points.SetNthControlPointPosition(0, 14, -6, 12)
    points.SetNthControlPointPosition(3, 1, 2, 3)
    wait_until(lambda: state(panel, "L") == "moved", 5)
    before, proposal = rows(panel), proposed_landmarks(points)
    for node in (points, panel.ui.volumeSelector.currentNode()):
        node.AddDefaultStorageNode()
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    scene.Clear(False)
    assert rows(panel) == [] and panel.ui.reviewSelector.currentNode() is None
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    slicer.app.processEvents()
    assert panel.ui.reviewSelector.currentNode().GetName() == "points"
    assert sorted(rows(panel)) == sorted(before)
    reloaded = proposed_landmarks(panel.ui.reviewSelector.currentNode())
    np.testing.assert_allclose(reloaded.positions, proposal.positions, atol=1e-9)
    assert not spheres(scene)


def test_closing_the_scene_leaves_nothing_behind(panel, scene, red):
    click_row(panel, "R")
    assert spheres(scene)
    scene.Clear(False)
    assert not spheres(scene) and rows(panel) == [] and panel.ui.definitionLabel.text == ""
    assert not panel.ui.nextButton.enabled and not panel.ui.undoButton.enabled


def test_removing_the_list_while_a_point_is_being_placed(panel, scene, points):
    click_row(panel, "gone")
    click(panel.ui.placeButton)
    scene.RemoveNode(points)
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert rows(panel) == [] and not panel.ui.placeButton.checked


def test_another_list_has_steps_of_its_own(panel, volume, points):
    other = show_detection(FOUND, volume, "tiny@1.0.0", "other")
    click_row(panel, "L")
    click(panel.ui.acceptButton)
    panel.ui.reviewSelector.setCurrentNode(other)
    assert rows(panel) == TABLE and not panel.ui.undoButton.enabled
    other.SetNthControlPointLabel(0, "R")
    panel.ui.reviewSelector.setCurrentNode(points)
    assert state(panel, "L") == "accepted"


def test_the_first_step_of_a_loaded_list_can_be_taken_back_after_another_list(panel, scene, points):
    own = create_point_list(scene, FOUND, "from a file")
    panel.ui.reviewSelector.setCurrentNode(own)
    click_row(panel, "L")
    click(panel.ui.acceptButton)
    for node in (points, own):
        panel.ui.reviewSelector.setCurrentNode(node)
    assert state(panel, "L") == "accepted"
    click(panel.ui.undoButton)
    assert rows(panel) == TABLE
    own.SetNthControlPointPosition(0, 14, -6, 12)
    wait_until(lambda: state(panel, "L") == "moved", 5)
    assert [row[1] for row in rows(panel)] == ["to check", "to check", "absent?", "moved", "absent?"]


def test_of_points_that_are_given_one_name_the_first_is_shown_and_decided_about(panel, points):
    points.SetNthControlPointLabel(2, "L")
    wait_until(lambda: len(rows(panel)) == 4, 5)
    told = "0 of 4 landmarks decided. Several points are called L: rename all but one of each"
    assert panel.ui.reviewStatusLabel.text.startswith(told)
    click_row(panel, "L")
    click(panel.ui.absentButton)
    assert state(panel, "L") == "absent"
    assert points.GetNthControlPointPositionStatus(0) == points.PositionMissing
    assert points.GetNthControlPointPositionStatus(2) == points.PositionDefined
    click(panel.ui.undoButton)
    points.SetNthControlPointLabel(2, "R")
    wait_until(lambda: len(rows(panel)) == 5, 5)
    assert sorted(rows(panel)) == sorted(TABLE) and "called" not in panel.ui.reviewStatusLabel.text


def test_a_list_with_equal_names_from_elsewhere_is_refused_in_one_sentence(panel, scene):
    expert = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "expert")
    for _ in range(2):
        expert.AddControlPoint(1, 2, 3, "same")
    panel.ui.reviewSelector.setCurrentNode(expert)
    assert rows(panel) == []
    assert panel.ui.reviewStatusLabel.text.startswith("Landmark names of a set must be unique")


def test_points_under_a_transform_are_looked_at_in_the_world(panel, scene, volume, points, red):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(PARENT))
    for node in (volume, points):
        node.SetAndObserveTransformNodeID(transform.GetID())
    slicer.app.processEvents()
    assert rows(panel) == TABLE
    click_row(panel, "R")
    np.testing.assert_allclose(center(red), (PARENT @ (18, 5, 7, 1))[:3])


def test_hardening_a_transform_moves_no_landmark(panel, scene, volume, points):
    click_row(panel, "L")
    click(panel.ui.acceptButton)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(PARENT))
    for node in (volume, points):
        node.SetAndObserveTransformNodeID(transform.GetID())
    wait_until(lambda: not panel.review._timer.active, 5)
    before = rows(panel)
    points.HardenTransform()
    wait_until(lambda: not panel.review._timer.active, 5)
    assert rows(panel) == before and state(panel, "L") == "accepted"
    assert not panel.ui.undoButton.enabled, "former steps would bring the former frame back"
    click_row(panel, "R")
    click(panel.ui.acceptButton)
    click(panel.ui.undoButton)
    assert rows(panel) == before


def test_the_sphere_goes_when_another_module_is_opened(panel, scene):
    click_row(panel, "R")
    panel.exit()
    assert not spheres(scene)
    panel.enter()
    click_row(panel, "R")
    assert spheres(scene)


def test_dragging_does_not_block_the_panel(panel, points):
    def drag():
        for k in range(200):
            points.SetNthControlPointPosition(1, 14 + k / 100, 0, 8)

    assert computing_time(drag) < 0.1
    assert wait_until(lambda: state(panel, "middle") == "moved", 5) < 0.1


def test_a_long_list_does_not_block_the_panel(panel, volume):
    count = 90
    values = np.linspace(0.1, 0.99, count)
    names, positions = tuple(f"point {k}" for k in range(count)), np.arange(3.0 * count).reshape(-1, 3)
    found = LandmarkSet(names, positions, np.ones(count), values, values)
    many = show_detection(found, volume, "tiny@1.0.0", "many")
    for step in (
        lambda: panel.ui.reviewSelector.setCurrentNode(many),
        panel.ui.nextButton.click,
        panel.ui.acceptButton.click,
        panel.ui.acceptAllButton.click,
        panel.ui.undoButton.click,
        slicer.app.processEvents,
    ):
        assert computing_time(step) < 0.1
