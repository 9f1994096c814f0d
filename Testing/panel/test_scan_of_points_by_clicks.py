"""Points stay with their scan: one that is gone, of another frame, or moved apart from them, by clicks."""

import numpy as np
import pytest
import qt
import slicer
import slicer.util
import vtk
from operating import OBLIQUE, activate_row, add_volume, bring_tab, click, type_path, wait_until
from test_review_by_clicks import FOUND, click_row, state
from test_rhythm_by_clicks import add_sequence, choose_list, settle, show, shown

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.provenance import Provenance
from H3DELandmarksLib.scene import create_point_list, show_detection, volume_of

pytestmark = pytest.mark.usefixtures("shared_program")
OWN = LandmarkSet(("p1", "p2", "p3"), [[-14, 6, 9], [-14, 0, 8], [-18, -5, 7]])


@pytest.fixture
def patients(scene, red):
    """Two volumes with a point list each; the views show the second."""
    volumes = {name: add_volume(name) for name in ("A", "B")}
    show(volumes["B"])
    return {
        name: (node, show_detection(FOUND, node, "tiny@1.0.0", f"{name} points", pairs=[("L", "R")]))
        for name, node in volumes.items()
    }


@pytest.fixture
def panel(open_panel, tiny_model, patients):
    """The panel with the points of A under review."""
    panel = open_panel()
    choose_list(panel, "A points")
    return panel


def decisions(panel):
    """The buttons that decide something or take a decision back."""
    ui = panel.ui
    return (
        *(ui.acceptButton, ui.absentButton, ui.placeButton, ui.swapButton, ui.acceptAllButton, ui.backButton),
        *(ui.undoButton, ui.redoButton, ui.mendButton, ui.dismissButton, ui.lookAgainButton),
    )


def transform(scene, shift):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


# A scan that is gone


def test_points_of_a_removed_scan_are_not_those_of_the_next_one(panel, patients, scene, tmp_path):
    click_row(panel, "L")
    click(panel.ui.acceptButton)
    scene.RemoveNode(patients["A"][0])
    settle(panel)
    assert shown() is patients["B"][0] and panel.ui.reviewSelector.currentNode() is patients["B"][1]
    choose_list(panel, "A points")
    ui = panel.ui
    assert ui.disagreementBar.visible and "gone" in ui.disagreementLabel.text and not ui.showScanButton.visible
    assert not patients["A"][1].GetDisplayVisibility() and not any(button.enabled for button in decisions(panel))
    assert not ui.exportButton.enabled and panel.context.volume is None
    bring_tab(qt.unwrapped(panel.learning.ui.casesPath))
    type_path(panel.learning.ui.casesPath, tmp_path / "cases")
    assert not panel.learning.ui.addCaseButton.enabled and "gone" in panel.learning.ui.addCaseWhy.text
    click(ui.goOnButton)
    assert ui.reviewSelector.currentNode() is patients["B"][1] and not ui.disagreementBar.visible


def test_points_whose_scan_was_the_only_one_are_told(open_panel, tiny_model, scene, red):
    volume = add_volume("A")
    node = show_detection(FOUND, volume, "tiny@1.0.0", "A points")
    show(volume)
    panel = open_panel()
    choose_list(panel, "A points")
    scene.RemoveNode(volume)
    settle(panel)
    assert panel.ui.disagreementBar.visible and not panel.ui.goOnButton.visible and not node.GetDisplayVisibility()


def clone(scene, node):
    """What "Clone" of Slicer's module Data makes: a node without references to others, and without its transform."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def add_item(caller, event, added):  # as Slicer's plugins do
        if added.IsA(node.GetClassName()):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), added)

    tag = scene.AddObserver(scene.NodeAddedEvent, add_item)
    logic = slicer.vtkSlicerSubjectHierarchyModuleLogic
    item = logic.CloneSubjectHierarchyItem(hierarchy, hierarchy.GetItemByDataNode(node))
    scene.RemoveObserver(tag)
    return hierarchy.GetItemDataNode(item)


def found_in(volume, name, second):
    """A point list that says which run it comes from."""
    origin = Provenance(software="0", time=f"2026-11-30T10:00:0{second}Z", model=None, scan=None)
    return show_detection(FOUND, volume, "tiny@1.0.0", name, pairs=[("L", "R")], provenance=origin)


def test_a_clone_of_a_list_is_reviewed_in_the_scan_of_the_list(open_panel, tiny_model, scene, red, tmp_path):
    volumes = [add_volume(name) for name in "AB"]
    lists = [found_in(volume, f"{volume.GetName()} points", k) for k, volume in enumerate(volumes)]
    panel = open_panel()
    choose_list(panel, "A points")
    click_row(panel, "L")
    click(panel.ui.acceptButton)
    panel.exit()
    backup = clone(scene, lists[0])
    assert backup.GetNodeReferenceID("H3DELandmarks.Volume") is None
    panel.enter()
    show(volumes[1])
    choose_list(panel, "A points Copy")
    settle(panel)
    assert volume_of(backup) is volumes[0] is shown() and not panel.ui.disagreementBar.visible
    assert state(panel, "L") == "accepted"
    click_row(panel, "R")
    click(panel.ui.acceptButton)
    choose_list(panel, "A points")
    assert state(panel, "R") == "to check"


@pytest.mark.parametrize("left", ["scan of another run", "nothing that tells where they come from"])
def test_a_clone_that_nobody_knows_the_scan_of_gets_no_other_one(open_panel, tiny_model, scene, red, left):
    volume, other = add_volume("A"), add_volume("B")
    node = found_in(volume, "A points", 1)
    found_in(other, "B points", 2)
    backup = clone(scene, node)
    if left == "scan of another run":
        scene.RemoveNode(volume)
    else:
        for of_any in (node, backup):
            of_any.RemoveAttribute("H3DELandmarks.Provenance")
    panel = open_panel()
    choose_list(panel, "A points Copy")
    settle(panel)
    assert volume_of(backup) is None and "gone" in panel.ui.disagreementLabel.text


def test_own_points_stay_with_the_scan_that_they_were_decided_in(panel, patients, scene, tmp_path):
    own = create_point_list(scene, OWN, "my points of A")
    panel.ui.volumeSelector.setCurrentNode(patients["A"][0])
    panel.ui.reviewSelector.setCurrentNode(own)
    assert volume_of(own) is None, "nobody has decided anything"
    for name in OWN.names:
        panel.review.choose(name)
        click(panel.ui.acceptButton)
    assert volume_of(own) is patients["A"][0]
    ui = panel.learning.ui
    bring_tab(qt.unwrapped(ui.casesPath))
    type_path(ui.casesPath, tmp_path / "cases")
    click(ui.addCaseButton)
    wait_until(lambda: not panel.learning.cases.progress.isRunning)
    voxels = np.random.default_rng(5).normal(0, 300, (20, 22, 24)).astype(np.int16)
    other = slicer.util.addVolumeFromArray(voxels, ijkToRAS=OBLIQUE, name="next")
    bring_tab(qt.unwrapped(panel.ui.volumeSelector))
    activate_row(qt.unwrapped(panel.ui.volumeSelector)._combo, "next")
    settle(panel)
    assert shown() is other and not own.GetDisplayVisibility() and not patients["B"][1].GetDisplayVisibility()
    assert panel.parameterNode.reviewList is None and not ui.addCaseButton.enabled
    activate_row(qt.unwrapped(panel.ui.volumeSelector)._combo, "A")
    choose_list(panel, "my points of A")
    assert shown() is patients["A"][0] and own.GetDisplayVisibility()
    panel.ui.reviewSelector.setCurrentNode(None)
    assert own.GetDisplayVisibility() and patients["A"][1].GetDisplayVisibility()


def test_own_points_that_nobody_has_decided_about_go_with_the_chosen_scan(panel, patients, scene):
    own = create_point_list(scene, OWN, "from a file")
    panel.ui.reviewSelector.setCurrentNode(own)
    for name in ("B", "A"):
        activate_row(qt.unwrapped(panel.ui.volumeSelector)._combo, name)
        assert panel.ui.reviewSelector.currentNode() is own and not panel.ui.disagreementBar.visible
        assert panel.context.volume is patients[name][0]


def test_own_points_belong_to_the_scan_that_was_looked_at(panel, patients, scene):
    own = create_point_list(scene, OWN, "own")
    panel.ui.reviewSelector.setCurrentNode(own)
    panel.ui.volumeSelector.setCurrentNode(patients["A"][0])
    show(patients["B"][0])
    panel.review.choose("p1")
    click(panel.ui.acceptButton)
    assert volume_of(own) is patients["B"][0] and panel.context.volume is patients["B"][0]


def test_own_points_of_a_frame_can_be_decided_and_stay_with_it(open_panel, tiny_model, scene, red):
    volume, browser = add_sequence(scene)
    own = create_point_list(scene, OWN, "own")
    panel = open_panel()
    panel.ui.volumeSelector.setCurrentNode(volume)
    show(volume)
    panel.ui.reviewSelector.setCurrentNode(own)
    panel.review.choose("p1")
    click(panel.ui.acceptButton)
    settle(panel)
    assert not panel.ui.disagreementBar.visible and state(panel, "p1") == "accepted"
    browser.SetSelectedItemNumber(1)
    settle(panel)
    assert panel.ui.disagreementBar.visible


# Another frame


def test_going_on_with_another_frame_brings_its_points(open_panel, tiny_model, scene, red):
    volume, browser = add_sequence(scene)
    for k in (0, 1):
        show_detection(FOUND, volume, "tiny@1.0.0", f"frame {k}", frame=f"time {k} s")
    panel = open_panel()
    show(volume)
    choose_list(panel, "frame 0")
    browser.SetSelectedItemNumber(1)
    settle(panel)
    click(panel.ui.goOnButton)
    settle(panel)
    assert not panel.ui.disagreementBar.visible and panel.ui.reviewSelector.currentNode().GetName() == "frame 1"


def test_going_on_with_a_frame_without_points_leaves_those_of_the_other(open_panel, tiny_model, scene, red):
    volume, browser = add_sequence(scene)
    node = show_detection(FOUND, volume, "tiny@1.0.0", "frame 0", frame="time 0 s")
    panel = open_panel()
    show(volume)
    choose_list(panel, "frame 0")
    browser.SetSelectedItemNumber(1)
    settle(panel)
    click(panel.ui.goOnButton)
    settle(panel)
    assert panel.ui.reviewSelector.currentNode() is None and not node.GetDisplayVisibility()
    assert browser.GetSelectedItemNumber() == 1


# Moved apart


def test_a_scan_that_was_moved_without_its_points_is_told_and_one_click_moves_them_along(
    panel, patients, scene, tmp_path
):
    ui, (volume, node) = panel.ui, patients["A"]
    click_row(panel, "L")
    click(ui.acceptButton)
    type_path(ui.exportPath, tmp_path)
    click(ui.exportButton)
    volume.SetAndObserveTransformNodeID(transform(scene, (0, 0, 30)).GetID())
    settle(panel)
    assert ui.disagreementBar.visible and "moved" in ui.disagreementLabel.text
    assert not any(button.enabled for button in decisions(panel)) and not node.GetDisplayVisibility()
    click(ui.exportButton)
    assert "moved" in ui.reviewStatusLabel.text and not (tmp_path / "A landmarks 2").exists()
    assert not ui.showScanButton.visible and not ui.goOnButton.visible
    click(ui.moveAlongButton)
    settle(panel)
    assert not ui.disagreementBar.visible and node.GetParentTransformNode() is volume.GetParentTransformNode()
    assert state(panel, "L") == "accepted" and ui.undoButton.enabled
    click(ui.exportButton)
    first, second = (tmp_path / f"A landmarks{n}" / "table" / "landmarks.csv" for n in ("", " 2"))
    assert first.read_text() == second.read_text()
    volume.SetAndObserveTransformNodeID(None)
    settle(panel)
    assert ui.disagreementBar.visible
    click(ui.moveAlongButton)
    settle(panel)
    assert not ui.disagreementBar.visible and node.GetParentTransformNode() is None


def test_a_transform_that_moves_scan_and_points_alike_is_fine(panel, patients, scene):
    both = transform(scene, (5, 0, 30)).GetID()
    for node in patients["A"]:
        node.SetAndObserveTransformNodeID(both)
    settle(panel)
    assert not panel.ui.disagreementBar.visible
    for node in patients["A"]:
        node.HardenTransform()
    settle(panel)
    assert not panel.ui.disagreementBar.visible


def test_ring_and_bone_move_with_scan_and_points(panel, patients, scene):
    volume, node = patients["A"]
    click_row(panel, "L")
    click(panel.ui.acceptButton)  # what is kept as proposed moves with the points
    click_row(panel, "L")

    def centers():
        names = ("H3DELandmarks 90 % radius", "H3DELandmarks bone surface")
        bounds = []
        for aid in map(scene.GetFirstNodeByName, names):
            box = [0.0] * 6
            aid.GetRASBounds(box)
            bounds.append(np.reshape(box, (3, 2)).mean(axis=1))
        return np.array(bounds)

    before, both = centers(), transform(scene, (5, 0, 30)).GetID()
    for moved in (volume, node):  # at once, as of a folder of the subject hierarchy
        moved.SetAndObserveTransformNodeID(both)
    settle(panel)
    assert not panel.ui.disagreementBar.visible
    np.testing.assert_allclose(centers() - before, [[5, 0, 30]] * 2, atol=1e-3)
    for moved in (volume, node):
        moved.HardenTransform()
    scene.RemoveNode(scene.GetNodeByID(both))
    settle(panel)
    np.testing.assert_allclose(centers() - before, [[5, 0, 30]] * 2, atol=1e-3)


def test_moved_scans_are_not_kept_as_cases(panel, patients, scene, tmp_path):
    click_row(panel, "L")
    click(panel.ui.acceptButton)
    patients["A"][0].SetOrigin(1, 2, 3)
    settle(panel)
    assert panel.ui.disagreementBar.visible and not panel.ui.moveAlongButton.visible
    ui = panel.learning.ui
    bring_tab(qt.unwrapped(ui.casesPath))
    type_path(ui.casesPath, tmp_path / "cases")
    click(ui.addCaseButton)
    assert "moved" in ui.casesLabel.text and not (tmp_path / "cases").exists()


# What the views show


@pytest.fixture
def yellow(panel, scene):
    """A second slice view, which another layout has added."""
    import views

    view = views.SliceView("Yellow")
    yield view
    scene.RemoveNode(view.logic.GetSliceCompositeNode())
    scene.RemoveNode(view.node)


def test_another_scan_in_one_of_several_views_is_told(panel, patients, yellow):
    yellow.show(patients["B"][0])
    panel.review.refresh()
    ui = panel.ui
    assert ui.disagreementBar.visible and "'B'" in ui.disagreementLabel.text and not ui.acceptButton.enabled
    click(ui.showScanButton)
    settle(panel)
    assert not ui.disagreementBar.visible
    yellow.show(patients["B"][0])
    settle(panel)
    assert ui.disagreementBar.visible, "the view that was added is observed"
    click(ui.goOnButton)
    assert ui.reviewSelector.currentNode() is patients["B"][1] and not ui.disagreementBar.visible


def test_a_view_that_the_layout_does_not_show_does_not_count(panel, patients, yellow):
    yellow.node.SetMappedInLayout(0)
    yellow.show(patients["B"][0])
    panel.review.refresh()
    assert not panel.ui.disagreementBar.visible


def test_another_scan_in_front_of_that_of_the_points_is_told_where_it_hides_it(panel, patients):
    slicer.util.setSliceViewerLayers(foreground=patients["B"][0], foregroundOpacity=0.5)
    settle(panel)
    assert not panel.ui.disagreementBar.visible
    slicer.util.setSliceViewerLayers(foregroundOpacity=1.0)
    settle(panel)
    assert panel.ui.disagreementBar.visible and "'B'" in panel.ui.disagreementLabel.text
    click(panel.ui.showScanButton)
    settle(panel)
    assert not panel.ui.disagreementBar.visible
