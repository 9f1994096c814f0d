"""Measurements in real MRML: values under transforms, and lines, angles and planes that follow the points."""

import numpy as np
import pytest
import slicer
import slicer.util
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_volume

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.measurements import Construction, Measurement, Measurements
from H3DELandmarksLib.scene import (
    Review,
    ReviewState,
    compare_point_lists,
    create_point_list,
    definitions_of_list,
    draw_measurements,
    drawn_measurements,
    list_unit,
    measure_list,
    remove_measurements,
    remove_orphaned_measurements,
    show_case,
    show_detection,
    update_measurements,
)
from H3DELandmarksLib.scene.point_list import UNIT_ATTRIBUTE

NAMES = ("a", "b", "c", "d")
FOUND = LandmarkSet(NAMES, [[0, 0, 0], [30, 0, 0], [0, 40, 0], [0, 0, 12]], radius=[1, 1, 2, 2])
DEFINITIONS = Measurements(
    (
        Measurement("length", "distance", ("b", "c")),
        Measurement("corner", "angle", ("b", "a", "c")),
        Measurement("height", "distance to", ("d", "base")),
    ),
    (Construction("base", "plane", ("a", "b", "c")),),
)


@pytest.fixture
def points(scene):
    """A point list."""
    return create_point_list(scene, FOUND, "points")


def by_name(node):
    return {drawn.GetAttribute("H3DELandmarks.Measurement"): drawn for drawn in drawn_measurements(node)}


def world(node, k):
    return np.array(node.GetNthControlPointPositionWorld(k))


def test_values_are_those_of_the_points_in_the_world(scene, points):
    scaled = add_linear_transform(scene, LINEAR["scaled and sheared"])
    found = {result.name: result for result in measure_list(points, DEFINITIONS)}
    assert (found["length"].value, found["corner"].value, found["height"].value) == pytest.approx((50, 90, 12))
    assert found["length"].low90 < 50 < found["length"].high90
    points.SetAndObserveTransformNodeID(scaled.GetID())
    b, c = world(points, 1), world(points, 2)
    (length, *_) = measure_list(points, DEFINITIONS)
    assert length.value == pytest.approx(np.linalg.norm(b - c), abs=1e-3) and length.value != pytest.approx(50)


def test_a_point_that_was_moved_has_no_radius_any_more(scene):
    volume = add_volume(scene, np.zeros((8, 8, 8)), GEOMETRIES["axial"])
    points = show_detection(FOUND, volume, "m@1.0.0", "points")
    assert all(result.low90 is not None for result in measure_list(points, DEFINITIONS))
    points.SetNthControlPointPosition(3, 1.0, 1.0, 20.0)
    found = {result.name: result for result in measure_list(points, DEFINITIONS)}
    assert found["height"].value == pytest.approx(20) and found["height"].low90 is None
    assert found["height"].reason.endswith("radius is known of d")
    assert found["length"].low90 is not None
    points.SetNthControlPointPositionMissing(2)
    found = {result.name: result for result in measure_list(points, DEFINITIONS)}
    assert found["length"].value is None and found["length"].reason == "c: absent"


def test_a_point_keeps_its_radius_in_another_place_of_the_list(scene):
    volume = add_volume(scene, np.zeros((8, 8, 8)), GEOMETRIES["axial"])
    sharp = LandmarkSet(NAMES, FOUND.positions, radius=[0.1, 9, 0.1, 5])
    points = show_detection(sharp, volume, "m@1.0.0", "points")
    before = [result.low90 for result in measure_list(points, DEFINITIONS)]
    points.SwapControlPoints(0, 1)
    after = [result.low90 for result in measure_list(points, DEFINITIONS)]
    assert after == pytest.approx(before, rel=0.02)


def test_a_radiograph_gives_the_middle_of_its_picture(scene):
    from H3DELandmarksLib.formats.measurements import bundled_definitions, bundled_measurements

    flat = np.diag([-0.5, -0.5, 1.0, 1.0])
    volume = add_volume(scene, np.zeros((200, 400, 1)), flat)
    names = [f"{v} {e} {s}" for v in ("T1", "T2") for e in ("upper", "lower") for s in ("left", "right")]
    assert bundled_definitions("spine-68") and set(names) <= bundled_measurements()["spine-68"].landmarks
    corners = LandmarkSet(names, [[x, y, 0] for y in (10, 15, 20, 26) for x in (10, 30)], radius=np.full(8, 0.5))
    part = Measurements((Measurement("Cobb", "cobb third", tuple(names)),))
    points = show_detection(corners, volume, "m@1.0.0", "spine")
    (result,) = measure_list(points, part)
    assert result.value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("edge", "unit"), [(1.0, "px"), (0.5, "mm")])
def test_a_picture_that_does_not_know_its_pixels_has_no_millimeters(scene, edge, unit):
    volume = add_volume(scene, np.zeros((200, 400, 1)), np.diag([-edge, -edge, 1.0, 1.0]))
    flat = LandmarkSet(("a", "b"), [[1, 2, 0], [4, 6, 0]], radius=[1, 1])
    points = show_detection(flat, volume, "m@1.0.0", "points")
    (result,) = measure_list(points, Measurements((Measurement("gap", "distance", ("a", "b")),)))
    assert (result.value, result.unit) == (5, unit)
    kept = [points.GetNthMeasurement(k) for k in range(points.GetNumberOfMeasurements())]
    units = {measurement.GetName(): measurement.GetUnits() for measurement in kept}
    assert list_unit(points) == unit and units["radius90"] == unit
    compared = compare_point_lists(points, show_detection(flat, volume, "m@1.0.0", "others"))
    assert compared.evaluation.unit == unit and compared.chart.GetYAxisTitle() == f"Error ({unit})"


@pytest.mark.parametrize("version", ["this", "earlier"])
@pytest.mark.parametrize("source", ["detection", "case"])
@pytest.mark.parametrize(("edge", "unit"), [(1.0, "px"), (0.5, "mm")])
def test_lengths_keep_their_unit_when_the_picture_is_removed(scene, edge, unit, source, version):
    volume = add_volume(scene, np.zeros((200, 400, 1)), np.diag([-edge, -edge, 1.0, 1.0]))
    flat = LandmarkSet(("a", "b"), [[1, 2, 0], [4, 6, 0]], radius=[1, 1])
    states = dict.fromkeys(flat.names, ReviewState.ACCEPTED)
    points = (
        show_detection(flat, volume, "m@1.0.0", "points")
        if source == "detection"
        else show_case(volume, "case-0", flat, flat, states)
    )
    assert points.GetMeasurement("radius90").GetUnits() == unit
    if version == "earlier":
        points.RemoveAttribute(UNIT_ATTRIBUTE)
    scene.RemoveNode(volume)
    assert list_unit(points) == unit
    points.SwapControlPoints(0, 1)
    Review(points).keep()
    (result,) = measure_list(points, Measurements((Measurement("gap", "distance", ("a", "b")),)))
    assert (result.value, result.unit) == (5, unit) and points.GetMeasurement("radius90").GetUnits() == unit


def test_lines_angles_and_planes_are_drawn_where_the_points_lie(scene, points):
    drawn = draw_measurements(points, DEFINITIONS)
    found = by_name(points)
    assert {name: node.GetClassName() for name, node in found.items()} == {
        "length": "vtkMRMLMarkupsLineNode",
        "corner": "vtkMRMLMarkupsAngleNode",
        "height": "vtkMRMLMarkupsLineNode",
        "base": "vtkMRMLMarkupsPlaneNode",
    }
    assert len(drawn) == 4 and all(node.GetLocked() and node.GetDisplayNode() for node in drawn)
    assert world(found["length"], 0) == pytest.approx([-30, 0, 0]), "RAS"
    assert world(found["length"], 1) == pytest.approx([0, -40, 0])
    assert world(found["corner"], 1) == pytest.approx([0, 0, 0])
    assert found["corner"].GetMeasurement("angle").GetValue() == pytest.approx(90)
    assert found["length"].GetMeasurement("length").GetValue() == pytest.approx(50)
    assert world(found["height"], 1) == pytest.approx([0, 0, 0], abs=1e-9)
    center, normal = np.array(found["base"].GetCenterWorld()), np.array(found["base"].GetNormalWorld())
    assert center == pytest.approx([-10, -40 / 3, 0]) and np.abs(normal) == pytest.approx([0, 0, 1])
    assert found["base"].GetSize()[0] == pytest.approx(40)
    draw_measurements(points, DEFINITIONS)
    assert len(drawn_measurements(points)) == 4, "drawn once"


def test_what_is_drawn_follows_the_points(scene, points):
    draw_measurements(points, DEFINITIONS)
    points.SetNthControlPointPositionWorld(1, -60, 0, 5)
    update_measurements(points, DEFINITIONS)
    found = by_name(points)
    assert world(found["length"], 0) == pytest.approx([-60, 0, 5])
    assert abs(found["base"].GetNormalWorld()[0]) == pytest.approx(5 / np.hypot(60, 5), abs=1e-6)
    points.SetNthControlPointPositionMissing(2)
    update_measurements(points, DEFINITIONS)
    assert not found["length"].GetDisplayNode().GetVisibility()
    points.SetNthControlPointPositionWorld(2, 0, -40, 0)
    update_measurements(points, DEFINITIONS)
    assert found["length"].GetDisplayNode().GetVisibility()


def test_what_the_user_has_deleted_stays_away_until_it_is_drawn_again(scene, points):
    draw_measurements(points, DEFINITIONS)
    scene.RemoveNode(by_name(points)["length"])
    update_measurements(points, DEFINITIONS)
    assert "length" not in by_name(points)
    draw_measurements(points, DEFINITIONS)
    assert "length" in by_name(points)


def test_what_is_drawn_goes_with_its_list(scene, points):
    other = create_point_list(scene, FOUND, "others")
    draw_measurements(points, DEFINITIONS)
    draw_measurements(other, DEFINITIONS)
    remove_measurements(other)
    assert not drawn_measurements(other) and len(drawn_measurements(points)) == 4
    draw_measurements(other, DEFINITIONS)
    scene.RemoveNode(points)
    remove_orphaned_measurements(scene)
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsLineNode") == 2 and len(drawn_measurements(other)) == 4
    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "mine")
    remove_orphaned_measurements(scene)
    assert line.GetScene() is scene, "lines of the user are not touched"


def test_a_saved_scene_keeps_what_was_drawn(make_scene, tmp_path):
    first = make_scene()
    points = create_point_list(first, FOUND, "points")
    draw_measurements(points, DEFINITIONS)
    path = str(tmp_path / "scene.mrb")
    assert first.WriteToMRB(path, None, None)
    second = make_scene()
    assert second.ReadFromMRB(path)
    again = second.GetFirstNodeByName("points")
    assert set(by_name(again)) == {"length", "corner", "height", "base"}
    again.SetNthControlPointPositionWorld(1, -60, 0, 0)
    update_measurements(again, DEFINITIONS)
    assert world(by_name(again)["length"], 0) == pytest.approx([-60, 0, 0])


def test_the_names_of_points_say_what_is_measured(scene, points):
    assert definitions_of_list(points, None) is None
    from H3DELandmarksLib.formats.measurements import bundled_measurements

    record = bundled_measurements()["head-neck-11"]
    names = tuple(sorted(record.landmarks))
    node = create_point_list(scene, LandmarkSet(names, np.eye(len(names), 3) * 9), "jaw")
    assert definitions_of_list(node, None) == record.definitions
    assert isinstance(node, slicer.vtkMRMLMarkupsFiducialNode)
