"""The section "Measurements" of the panel, by clicks."""

import numpy as np
import pytest
import qt
import slicer
from operating import activate_row, add_volume, click, columns_of, wait_until
from test_rhythm_by_clicks import choose_list, settle, show, shown

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.scene import (
    create_point_list,
    drawn_measurements,
    landmarks_from_point_list,
    show_detection,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("shared_program")

NAMES = ("menton", "gonion-L", "gonion-R", "condylion-L", "condylion-R", "coronoid-L", "coronoid-R")
JAW = LandmarkSet(
    NAMES,
    [[0, -50, 0], [48, 20, 15], [-48, 20, 15], [52, 30, 72], [-52, 30, 72], [46, 0, 60], [-46, 0, 60]],
    radius=np.full(7, 2.0),
)


@pytest.fixture
def points(scene):
    return show_detection(JAW, add_volume(), "jaws@1.0.0", "points")


@pytest.fixture
def panel(open_panel, tiny_model, points):
    """The panel with the points under review and the section open."""
    panel = open_panel()
    panel.ui.reviewSelector.setCurrentNode(points)
    assert panel.ui.measureSection.collapsed, "folded until somebody wants it"
    assert not rows(panel), "and costs no time until then"
    click(panel.ui.measureSection)
    return panel


def rows(panel):
    table = panel.ui.measureTable
    return {
        table.item(r, 0).text(): tuple(table.item(r, c).text() for c in range(1, table.columnCount))
        for r in range(table.rowCount)
    }


def lows(panel):
    """Where the intervals begin."""
    return [float(interval.split()[0]) for _value, interval, *_more in rows(panel).values()]


def test_the_table_has_values_and_intervals(panel):
    assert columns_of(panel.ui.measureTable) == ["Measurement", "Value", "90 % interval", "Norm", "Note"]
    value, interval, norm, note = rows(panel)["bigonial width"]
    assert (value, norm, note) == ("96.0 mm", "", "")
    low, high = (float(text) for text in interval.split(" to "))
    assert low < 96 < high and high - 96 == pytest.approx(96 - low, abs=0.11)
    assert rows(panel)["left gonial angle"][0].endswith("°")
    assert panel.ui.measureLabel.text == f"{len(rows(panel))} of {len(rows(panel))} measurements could be computed."


def test_the_table_follows_the_points(panel, points):
    points.SetNthControlPointPositionWorld(1, -58, -20, 15)
    wait_until(lambda: rows(panel)["bigonial width"][0] == "106.0 mm", 10)
    assert rows(panel)["bigonial width"][1] == "" and "gonion-L" in rows(panel)["bigonial width"][3]
    assert rows(panel)["bicondylar width"][1], "others keep their radius"
    panel.review.choose("menton")
    click(panel.ui.absentButton)
    wait_until(lambda: rows(panel)["left body length"] == ("", "", "", "menton: absent"), 10)


def test_points_that_are_moved_up_in_the_list_take_their_radii_along(panel, scene):
    sharp = LandmarkSet(JAW.names, JAW.positions, radius=[2, 1, 1, 9, 9, 2, 2])
    node = show_detection(sharp, add_volume(), "jaws@1.0.0", "sharp")
    panel.ui.reviewSelector.setCurrentNode(node)
    before, known = lows(panel), dict(zip(NAMES, sharp.radius))
    for pair in ((1, 3), (2, 4)):  # as the buttons of Markups do
        node.SwapControlPoints(*pair)

    def radii():
        landmarks = landmarks_from_point_list(node)
        return dict(zip(landmarks.names, landmarks.radius))

    panel.measurements.refresh()
    assert lows(panel) == pytest.approx(before, abs=1)
    wait_until(lambda: radii() == known, 10)  # which Slicer saves
    click(panel.ui.undoButton)
    assert node.GetNthControlPointLabel(1) == NAMES[1] and radii() == known


def test_a_click_draws_and_another_removes(panel, points, scene):
    button = panel.ui.measureDrawButton
    assert button.enabled and not button.checked
    active = slicer.app.applicationLogic().GetSelectionNode().GetActivePlaceNodeID()
    click(button)
    assert button.checked
    kinds = {node.GetClassName() for node in drawn_measurements(points)}
    assert kinds == {"vtkMRMLMarkupsLineNode", "vtkMRMLMarkupsAngleNode", "vtkMRMLMarkupsPlaneNode"}
    assert slicer.app.applicationLogic().GetSelectionNode().GetActivePlaceNodeID() == active
    line = next(n for n in drawn_measurements(points) if n.GetName() == "bigonial width")
    points.SetNthControlPointPositionWorld(1, -58, -20, 15)
    wait_until(lambda: line.GetNthControlPointPositionWorld(0)[0] == pytest.approx(-58), 10)
    click(button)
    assert not button.checked and not drawn_measurements(points)
    assert not scene.GetNumberOfNodesByClass("vtkMRMLMarkupsLineNode")


def test_what_is_drawn_follows_the_points_of_a_folded_section(panel, points):
    click(panel.ui.measureDrawButton)
    line = next(n for n in drawn_measurements(points) if n.GetName() == "bigonial width")
    click(panel.ui.measureSection)
    points.SetNthControlPointPositionWorld(1, -58, -20, 15)
    wait_until(lambda: line.GetNthControlPointPositionWorld(0)[0] == pytest.approx(-58), 10)


@pytest.mark.parametrize("another", [True, False], ids=["another list", "no list"])
def test_what_is_drawn_follows_points_that_are_not_under_review(panel, points, another):
    click(panel.ui.measureDrawButton)
    line = next(n for n in drawn_measurements(points) if n.GetName() == "bigonial width")
    panel.ui.reviewSelector.setCurrentNode(show_detection(JAW, volume_of(points), "m", "other") if another else None)
    points.SetNthControlPointPositionWorld(1, -58, -20, 15)  # in Markups, or dragged in a view
    wait_until(lambda: line.GetNthControlPointPositionWorld(0)[0] == pytest.approx(-58), 10)
    assert bool(line.GetDisplayVisibility()) == bool(points.GetDisplayVisibility()) == (not another)


def test_what_is_drawn_goes_with_its_list(panel, points, scene):
    click(panel.ui.measureDrawButton)
    scene.RemoveNode(points)
    assert not scene.GetNumberOfNodesByClass("vtkMRMLMarkupsLineNode")
    assert not scene.GetNumberOfNodesByClass("vtkMRMLMarkupsPlaneNode")
    assert not rows(panel) and not panel.ui.measureDrawButton.enabled and not panel.ui.measureDrawButton.checked


def test_the_scene_closes_with_what_is_drawn(panel, scene):
    click(panel.ui.measureDrawButton)
    scene.Clear(False)
    assert not rows(panel) and not panel.ui.measureDrawButton.enabled


def test_points_without_definitions_say_so(panel, scene):
    other = create_point_list(scene, LandmarkSet(("x", "y"), [[0, 0, 0], [1, 0, 0]]), "other")
    panel.ui.reviewSelector.setCurrentNode(other)
    assert not rows(panel) and not panel.ui.measureDrawButton.enabled
    assert panel.ui.measureLabel.text == "No measurements are defined for these points."
    panel.ui.reviewSelector.setCurrentNode(None)
    assert panel.ui.measureLabel.text == "Choose a point list to review first."


def test_two_points_of_one_name_are_told(panel, scene):
    more = LandmarkSet((*NAMES, "x"), [*JAW.positions, [1, 2, 3]])
    other = create_point_list(scene, more, "other")
    panel.ui.reviewSelector.setCurrentNode(other)
    assert rows(panel)
    other.SetNthControlPointLabel(7, "menton")
    wait_until(lambda: "unique" in panel.ui.measureLabel.text, 10)
    assert not rows(panel)
    panel.ui.reviewSelector.setCurrentNode(None)
    assert not panel.ui.regionAroundPointsButton.enabled
    create_point_list(scene, JAW, "kept")
    panel.ui.reviewSelector.setCurrentNode(other)
    assert "unique" in panel.ui.measureLabel.text and not panel.ui.statusLabel.text
    assert panel.ui.regionAroundPointsButton.enabled, "the other sections follow the choice"


# One patient at a time


@pytest.fixture
def jaws(open_panel, tiny_model, scene, red):
    """Two scans with points that are measured, and the panel with the lines of the first."""
    found = {}
    for name in ("A", "B"):
        volume = add_volume(name)
        found[name] = volume, show_detection(JAW, volume, "jaws@1.0.0", f"{name} points")
    show(found["A"][0])
    panel = open_panel()
    choose_list(panel, "A points")
    click(panel.ui.measureSection)
    click(panel.ui.measureDrawButton)
    return panel, found


def visible(point_list):
    return {bool(node.GetDisplayVisibility()) for node in drawn_measurements(point_list)}


def test_lines_of_one_patient_are_not_drawn_on_another(jaws):
    panel, found = jaws
    lines = found["A"][1]
    assert visible(lines) == {True}
    show(found["B"][0])
    settle(panel)
    panel.measurements.refresh()
    assert panel.ui.disagreementBar.visible and visible(lines) == {False}
    click(panel.ui.goOnButton)
    settle(panel)
    assert shown() is found["B"][0] and visible(lines) == {False} and not panel.ui.measureDrawButton.checked
    show(add_volume("C"))
    settle(panel)
    click(panel.ui.goOnButton)
    assert visible(lines) == {False}
    activate_row(qt.unwrapped(panel.ui.volumeSelector)._combo, "A")
    settle(panel)
    assert visible(lines) == {True} and panel.ui.measureDrawButton.checked


def test_lines_come_back_with_the_scan(jaws):
    panel, found = jaws
    show(found["B"][0])
    settle(panel)
    click(panel.ui.showScanButton)
    settle(panel)
    assert visible(found["A"][1]) == {True}
    show(found["B"][0])
    settle(panel)
    panel.ui.reviewSelector.setCurrentNode(None)
    assert visible(found["A"][1]) == {True}, "the views are as the user had set them up"
