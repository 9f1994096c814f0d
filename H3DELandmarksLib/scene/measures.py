"""Measurements on the points of a list, and their lines, angles and planes in the scene.

What is drawn follows the points: it names its list by a node reference, and its measurement by an attribute.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import slicer
import slicer.util
import vtk

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.measurements import Measurements
from H3DELandmarksLib.evaluation.measures import Shape, measure, shapes, without_moved_radii
from H3DELandmarksLib.formats.measurements import measurements_of, measurements_of_names
from H3DELandmarksLib.formats.results import MeasurementResult
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.scene.point_list import list_unit, lps_from_ras, nodes_of, place_beside, volume_of
from H3DELandmarksLib.scene.proposal import landmarks_of_list, proposed_landmarks
from H3DELandmarksLib.scene.views import keeping_active_list

SHAPE_ATTRIBUTE, LIST_REFERENCE = "H3DELandmarks.Measurement", "H3DELandmarks.Measured"
CLASSES = {"line": "vtkMRMLMarkupsLineNode", "angle": "vtkMRMLMarkupsAngleNode", "plane": "vtkMRMLMarkupsPlaneNode"}


def definitions_of_list(point_list, package: ModelPackage | None) -> Measurements | None:
    """What is measured on a point list; None where nothing is defined.

    Args:
        point_list: vtkMRMLMarkupsFiducialNode.
        package: the model that has found the points, where it is known.
    """
    if package is not None:
        return measurements_of(package.scheme)
    count = point_list.GetNumberOfControlPoints()
    return measurements_of_names([point_list.GetNthControlPointLabel(k) for k in range(count)])


def measure_list(
    point_list, definitions: Measurements, package: ModelPackage | None = None
) -> tuple[MeasurementResult, ...]:
    """Everything that is defined, on the points as they are now; those that were moved have no radius any more.

    Args:
        point_list: vtkMRMLMarkupsFiducialNode, under any parent transform.
        definitions: see `definitions_of_list`. Lengths are told in pixels where their size is not known.
        package: the model that has found the points, where it is known: it knows how far intervals reach.

    Raises:
        InputError: a label is empty or used twice.
    """
    landmarks, volume = _landmarks(point_list), volume_of(point_list)
    reaches = None if package is None else package.manifest.calibration.reaches
    image = volume.GetImageData() if volume is not None else None
    pixels = list_unit(point_list) == "px"
    if image is None:
        return measure(landmarks, definitions, pixels=pixels, reaches=reaches)
    flat = 1 in image.GetDimensions()
    middle = _middle(volume) if flat else None
    return measure(landmarks, definitions, flat=flat, middle=middle, pixels=pixels, reaches=reaches)


def draw_measurements(point_list, definitions: Measurements) -> list:
    """Put lines, angles and planes of all measurements into the scene, beside the points; returns all such nodes."""
    scene = point_list.GetScene()
    there = {node.GetAttribute(SHAPE_ATTRIBUTE): node for node in drawn_measurements(point_list)}
    with keeping_active_list(scene):  # a new node would take the next click
        for shape in shapes(_landmarks(point_list), definitions):
            if shape.name not in there:
                _add(point_list, shape)
    return drawn_measurements(point_list)


def update_measurements(point_list, definitions: Measurements) -> None:
    """Let what was drawn follow the points; what has lost a point, or its list, is hidden until it is there again."""
    found = {shape.name: shape for shape in shapes(_landmarks(point_list), definitions)}
    for node in drawn_measurements(point_list):
        shape = found.get(node.GetAttribute(SHAPE_ATTRIBUTE))
        if node.GetDisplayNode():
            node.GetDisplayNode().SetVisibility(shape is not None and bool(point_list.GetDisplayVisibility()))
        if shape is not None:
            _set_points(node, shape)


def remove_measurements(point_list) -> None:
    """Take what was drawn for a list out of the scene."""
    for node in drawn_measurements(point_list):
        point_list.GetScene().RemoveNode(node)


def remove_orphaned_measurements(scene) -> None:
    """Take out of a vtkMRMLScene what was drawn for lists that are gone."""
    for node in _all_drawn(scene):
        if node.GetNodeReference(LIST_REFERENCE) is None:
            scene.RemoveNode(node)


def drawn_measurements(point_list) -> list:
    """The vtkMRMLMarkupsNode objects that show measurements of a list."""
    return [node for node in _all_drawn(point_list.GetScene()) if node.GetNodeReference(LIST_REFERENCE) is point_list]


def measured_lists(scene) -> list:
    """The vtkMRMLMarkupsFiducialNode objects of a vtkMRMLScene whose measurements are drawn."""
    lists = {
        node.GetNodeReferenceID(LIST_REFERENCE): node.GetNodeReference(LIST_REFERENCE) for node in _all_drawn(scene)
    }
    return [point_list for point_list in lists.values() if point_list is not None]


def drawn_for_others(point_list) -> list:
    """The vtkMRMLMarkupsNode objects that show measurements of the other lists of a scene."""
    mine = drawn_measurements(point_list)
    return [node for node in _all_drawn(point_list.GetScene()) if not any(node is own for own in mine)]


def _all_drawn(scene) -> list:
    nodes = (node for kind in CLASSES.values() for node in nodes_of(scene, kind))
    return [node for node in nodes if node.GetAttribute(SHAPE_ATTRIBUTE)]


def _landmarks(point_list) -> LandmarkSet:
    """The points as they are now, LPS world mm."""
    landmarks, proposed = landmarks_of_list(point_list), proposed_landmarks(point_list)
    if proposed is None:
        return landmarks
    causes = tuple(cause if unknown else None for cause, unknown in zip(proposed.causes, landmarks.unknown))
    return replace(without_moved_radii(landmarks, proposed), causes=causes)


def _middle(volume) -> np.ndarray:
    """(3,) LPS world mm of the middle of a vtkMRMLScalarVolumeNode."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    return lps_from_ras(np.reshape(bounds, (3, 2)).mean(axis=1))


def _add(point_list, shape: Shape) -> None:
    scene = point_list.GetScene()
    node = scene.CreateNodeByClass(CLASSES[shape.kind])
    node.UnRegister(None)  # Python has a reference of its own
    node.SetName(scene.GetUniqueNameByString(shape.name))
    node.SetAttribute(SHAPE_ATTRIBUTE, shape.name)
    scene.AddNode(node)
    node.SetNodeReferenceID(LIST_REFERENCE, point_list.GetID())
    node.CreateDefaultDisplayNodes()
    _set_points(node, shape)
    node.SetLocked(True)  # the points are moved, and it follows
    place_beside(node, point_list)


def _set_points(node, shape: Shape) -> None:
    """Place the control points of a node as those of a shape."""
    points = lps_from_ras(shape.points)
    with slicer.util.NodeModify(node):
        if shape.kind == "plane":
            extent = float(np.linalg.norm(points[1] - points[0]))
            node.SetCenterWorld(points[0])
            node.SetNormalWorld((points[1] - points[0]) / extent)
            node.SetSizeMode(node.SizeModeAbsolute)
            node.SetSize(extent, extent)
            return
        for index, point in enumerate(points):
            if index < node.GetNumberOfControlPoints():
                node.SetNthControlPointPositionWorld(index, *point)
            else:
                node.AddControlPointWorld(vtk.vtkVector3d(*point), "")
