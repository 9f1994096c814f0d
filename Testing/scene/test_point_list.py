"""Landmark sets as point lists of a real scene, and back."""

import json

import numpy as np
import pytest
import slicer
from scene_cases import LINEAR, add_linear_transform, add_nonlinear_transform

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksLib.scene import create_point_list, landmarks_from_point_list, place_beside, update_point_list

LANDMARKS = LandmarkSet(
    ("nasion", "molar", "é", "porion"),
    [[1 / 3, -2e-7, 1e4 / 7], [np.nan] * 3, [np.nan] * 3, [-70.25, 12.5, -1000 / 3]],
    presence=[0.97, 0.1, np.nan, 1.0],
    confidence=[0.8, np.nan, np.nan, 0.1 + 0.2],
    radius=[1.25, 3.5, np.nan, 2 / 3],
    definitions=("where the bones meet", "", "größte Tiefe", "top of the ear canal"),
)
OTHERS = LandmarkSet(("left", "right"), [[1, 2, 3], [-4, 5, 6]])


def assert_same(actual, expected, atol=1e-9):
    assert actual.names == expected.names and actual.definitions == expected.definitions
    for name in ("positions", "presence", "confidence", "radius"):
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), rtol=1e-12, atol=atol, err_msg=name)


def save(scene, node, path):
    storage = scene.AddNewNodeByClass("vtkMRMLMarkupsJsonStorageNode")
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    return path


def test_a_new_point_list_shows_the_landmarks(scene):
    node = create_point_list(scene, LANDMARKS, "CBCT landmarks")
    assert node.GetName() == "CBCT landmarks" and not node.GetLocked() and node.GetUndoEnabled()
    assert [node.GetNthControlPointLabel(k) for k in range(4)] == list(LANDMARKS.names)
    assert [node.GetNthControlPointDescription(k) for k in range(4)] == list(LANDMARKS.definitions)
    status = [node.GetNthControlPointPositionStatus(k) for k in range(4)]
    assert status == [node.PositionDefined, node.PositionMissing, node.PositionUndefined, node.PositionDefined]
    np.testing.assert_allclose(node.GetNthControlPointPosition(3), (70.25, -12.5, -1000 / 3), rtol=1e-15)
    assert not any(node.GetNthControlPointLocked(k) for k in range(4))
    display = node.GetDisplayNode()
    assert display.GetVisibility() and display.GetVisibility2D() and display.GetVisibility3D()


def test_names_do_not_collide(scene):
    assert create_point_list(scene, OTHERS, "points").GetName() == "points"
    assert create_point_list(scene, OTHERS, "points").GetName() == "points_1"


def test_it_is_the_point_list_that_slicer_makes_of_our_file(scene, tmp_path):
    ours = save(scene, create_point_list(scene, LANDMARKS, "ours"), tmp_path / "ours.mrk.json")
    write_markups(tmp_path / "file.mrk.json", LANDMARKS)
    loaded = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    storage = scene.AddNewNodeByClass("vtkMRMLMarkupsJsonStorageNode")
    storage.SetFileName(str(tmp_path / "file.mrk.json"))
    assert storage.ReadData(loaded)
    slicers = save(scene, loaded, tmp_path / "slicers.mrk.json")
    first, second = (json.loads(path.read_text(encoding="utf-8"))["markups"][0] for path in (ours, slicers))
    for markup in (first, second):  # Slicer's reader of numbers is off by up to one bit
        for point in markup["controlPoints"]:
            point["position"] = np.round(point["position"], 9).tolist() if point["position"] else ""
    assert first == second
    assert [m["name"] for m in first["measurements"]] == ["presence", "confidence", "radius90"]
    assert first["measurements"][1]["controlPointValues"] == [0.8, -1.0, -1.0, 0.1 + 0.2]


def test_reading_gives_back_the_set(scene):
    assert_same(landmarks_from_point_list(create_point_list(scene, LANDMARKS, "points")), LANDMARKS)


@pytest.mark.parametrize("transform", [*LINEAR, "nonlinear"])
def test_world_positions_are_kept_under_a_parent_transform(scene, transform):
    node = create_point_list(scene, OTHERS, "points")
    linear = transform in LINEAR
    parent = add_linear_transform(scene, LINEAR[transform]) if linear else add_nonlinear_transform(scene)
    node.SetAndObserveTransformNodeID(parent.GetID())
    moved = landmarks_from_point_list(node)
    assert np.abs(moved.positions - OTHERS.positions).max() > 1
    update_point_list(node, LANDMARKS)
    assert_same(landmarks_from_point_list(node), LANDMARKS, atol=1e-9 if linear else 1e-3)


def test_updating_replaces_points_and_measurements(scene):
    node = create_point_list(scene, LANDMARKS, "points")
    update_point_list(node, OTHERS)
    assert_same(landmarks_from_point_list(node), OTHERS)
    assert node.GetNumberOfControlPoints() == 2
    assert node.GetMeasurement("confidence") is None and node.GetMeasurement("radius90") is None
    update_point_list(node, LANDMARKS)
    assert_same(landmarks_from_point_list(node), LANDMARKS)
    assert node.GetNumberOfMeasurements() == 3


def test_updating_works_on_locked_lists_of_fixed_length(scene):
    node = create_point_list(scene, OTHERS, "points")
    node.SetLocked(True)
    node.SetFixedNumberOfControlPoints(True)
    update_point_list(node, LANDMARKS)
    assert_same(landmarks_from_point_list(node), LANDMARKS)
    assert not node.GetLocked()


def test_updating_leaves_measurements_of_others_alone(scene):
    node = create_point_list(scene, OTHERS, "points")
    measurement = slicer.vtkMRMLStaticMeasurement()
    measurement.SetName("depth")
    node.AddMeasurement(measurement)
    update_point_list(node, LANDMARKS)
    assert node.GetMeasurement("depth") is not None and node.GetNumberOfMeasurements() == 4


def test_a_deleted_point_has_no_position_although_slicer_remembers_one(scene):
    node = create_point_list(scene, LANDMARKS, "points")
    node.SetNthControlPointPositionMissing(0)
    node.UnsetNthControlPointPosition(3)
    np.testing.assert_allclose(node.GetNthControlPointPosition(3)[0], 70.25)
    read = landmarks_from_point_list(node)
    assert np.isnan(read.positions).all()
    np.testing.assert_array_equal(read.presence, [0, 0.1, np.nan, np.nan])


def test_a_placed_point_is_present(scene):
    node = create_point_list(scene, LANDMARKS, "points")
    node.SetNthControlPointPosition(1, -5.0, -6.0, 7.0)
    read = landmarks_from_point_list(node)
    np.testing.assert_array_equal(read.presence, [0.97, 1, np.nan, 1])
    np.testing.assert_allclose(read.positions[1], (5, 6, 7))


def test_measurements_that_do_not_fit_the_points_any_more_are_ignored(scene):
    node = create_point_list(scene, LANDMARKS, "points")
    node.RemoveNthControlPoint(0)
    read = landmarks_from_point_list(node)
    assert np.isnan(read.confidence).all() and np.isnan(read.radius).all()
    np.testing.assert_array_equal(read.presence, [0, np.nan, 1])


@pytest.mark.parametrize(("label", "words"), [("", "without a label"), ("right", "must be unique")])
def test_labels_must_name_landmarks(scene, label, words):
    node = create_point_list(scene, OTHERS, "points")
    node.SetNthControlPointLabel(0, label)
    with pytest.raises(InputError, match=words):
        landmarks_from_point_list(node)


def test_an_empty_list_is_an_empty_set(scene):
    assert len(landmarks_from_point_list(scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode"))) == 0


def test_our_reader_of_files_and_of_nodes_agree(scene, tmp_path):
    node = create_point_list(scene, LANDMARKS, "points")
    assert_same(read_markups(save(scene, node, tmp_path / "points.mrk.json")), landmarks_from_point_list(node))


def test_a_saved_and_reloaded_scene_has_the_same_landmarks(make_scene, tmp_path):
    scene = make_scene()
    node = create_point_list(scene, LANDMARKS, "points")
    node.AddDefaultStorageNode()
    node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR["rotated and moved"]).GetID())
    before = landmarks_from_point_list(node)
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    other = make_scene()
    assert other.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    loaded = other.GetFirstNodeByName("points")
    assert_same(landmarks_from_point_list(loaded), before)
    assert loaded.GetUndoEnabled()


def test_a_point_list_is_placed_in_the_folder_of_its_volume(scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    hierarchy.CreateItem(study, volume)
    node = create_point_list(scene, OTHERS, "points")
    for _ in range(2):  # the second time it has an item already
        place_beside(node, volume)
        item = hierarchy.GetItemByDataNode(node)
        assert hierarchy.GetItemParent(item) == study
    assert hierarchy.GetNumberOfItemChildren(study) == 2
