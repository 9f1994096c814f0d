"""Where views look, the sphere of the 90 % radius, and volumes that show a frame of a sequence."""

import numpy as np
import pytest
import slicer
from scene_cases import GEOMETRIES, add_volume

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.scene import (
    begin_placing,
    center_views,
    create_point_list,
    current_frame,
    end_placing,
    export_review,
    forget_placing,
    hide_radius,
    is_placing,
    latest_detection,
    may_be_replaced,
    show_detection,
    show_radius,
)


def test_slices_are_centered_and_cameras_that_see_nothing_follow_in_their_direction(scene):
    slices = []
    for name, orientation in (("Red", "Axial"), ("Green", "Coronal")):
        node = slicer.vtkMRMLSliceNode()
        node.SetLayoutName(name)
        slices.append(scene.AddNode(node))
        node.SetOrientation(orientation)
    camera = scene.AddNewNodeByClass("vtkMRMLCameraNode")
    camera.SetPosition(0, 500, 0)
    center_views(scene, np.array([11, -22, 33]))
    for node in slices:
        to_ras = node.GetSliceToRAS()
        np.testing.assert_allclose([to_ras.GetElement(i, 3) for i in range(3)], (11, -22, 33))
    np.testing.assert_allclose(camera.GetFocalPoint(), (0, 0, 0))  # the point is in sight
    center_views(scene, np.array([11, -22, 233]))
    np.testing.assert_allclose(camera.GetFocalPoint(), (11, -22, 233))
    np.testing.assert_allclose(camera.GetPosition(), (11, 478, 233))


@pytest.mark.parametrize("clicked", [True, False])
def test_a_list_stays_as_it_is_until_its_point_is_placed(scene, clicked):
    node = create_point_list(scene, LandmarkSet(("a", "b"), [[1, 2, 3], [np.nan] * 3], presence=[1, 0]), "points")
    before, count = [node.GetNthControlPointPositionStatus(k) for k in range(2)], scene.GetNumberOfNodes()
    placing = begin_placing(node, "b")
    assert is_placing(placing) and placing.position is None and not placing.placed.GetSaveWithScene()
    if clicked:
        placing.placed.SetNthControlPointPositionWorld(0, 4, 5, 6)
    assert [node.GetNthControlPointPositionStatus(k) for k in range(2)] == before
    end_placing(placing)
    assert not is_placing(placing) and (placing.position is None) != clicked
    forget_placing(placing)
    forget_placing(placing)
    assert scene.GetNumberOfNodes() == count


def sphere(scene):
    return scene.GetNthNodeByClass(0, "vtkMRMLModelNode")


def test_the_sphere_has_the_radius_and_leaves_no_trace(scene):
    before = scene.GetNumberOfNodes()
    for center, radius in (((1, 2, 3), 4), ((5, 6, 7), 8)):
        show_radius(scene, center, radius)
        bounds = np.reshape(sphere(scene).GetPolyData().GetBounds(), (3, 2))
        np.testing.assert_allclose(bounds.mean(axis=1), center, atol=1e-5)
        np.testing.assert_allclose(np.ptp(bounds, axis=1), 2 * radius, rtol=0.01)
    node = sphere(scene)
    assert node.GetHideFromEditors() and not node.GetSaveWithScene() and not node.GetDisplayNode().GetSaveWithScene()
    assert node.GetDisplayNode().GetVisibility2D() and node.GetDisplayNode().GetVisibility3D()
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 1
    hide_radius(scene)
    hide_radius(scene)
    assert scene.GetNumberOfNodes() == before


@pytest.fixture
def browser(scene):
    """A browser of a sequence with two frames, and the volume that shows them."""
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "heart")
    for k in range(2):
        frame = add_volume(scene, np.full((3, 4, 5), k, dtype=np.int16), GEOMETRIES["axial"])
        sequence.SetDataNodeAtValue(frame, f"{k / 2}")
        scene.RemoveNode(frame)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    logic.UpdateAllProxyNodes()
    yield browser
    logic.SetMRMLScene(None)


def test_results_belong_to_the_frame_that_was_shown(scene, browser):
    volume = browser.GetProxyNode(browser.GetMasterSequenceNode())
    assert current_frame(volume) == "time 0.0 s"
    points = LandmarkSet(("a",), [[1, 2, 3]])
    first = show_detection(points, volume, "tiny@1", "points", frame=current_frame(volume))
    browser.SetSelectedItemNumber(1)
    assert current_frame(volume) == "time 0.5 s"
    assert latest_detection(volume, "tiny@1", current_frame(volume)) is None
    assert latest_detection(volume, "tiny@1", "time 0.0 s") is first
    assert may_be_replaced(first, volume, "time 0.0 s") and not may_be_replaced(first, volume, "time 0.5 s")
    assert show_detection(points, volume, "tiny@1", "points", first, frame="time 0.5 s") is not first


def test_what_is_exported_of_each_frame_can_be_told_apart(browser, tmp_path):
    volume = browser.GetProxyNode(browser.GetMasterSequenceNode())
    volume.SetName("heart")
    for frame in range(2):
        browser.SetSelectedItemNumber(frame)
        now = current_frame(volume)
        points = show_detection(LandmarkSet(("a",), [[1, 2, 3]]), volume, "tiny@1.0.0", "points", frame=now)
        export_review(points, volume, tmp_path)
    names = ["heart time 0_0 s", "heart time 0_5 s"]
    assert sorted(path.name for path in tmp_path.glob("heart*")) == [f"{name} landmarks" for name in names]
    for name in names:
        assert name in (tmp_path / f"{name} landmarks" / "table" / "landmarks.csv").read_text(encoding="utf-8")


def test_a_volume_outside_sequences_shows_no_frame(scene, browser):
    assert current_frame(add_volume(scene, np.zeros((3, 4, 5)), GEOMETRIES["axial"])) == ""
