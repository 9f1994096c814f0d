"""Landmark sets as point lists of the scene, with the same content as the files of `markups_json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
import slicer
import slicer.util
import vtk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.image_plane import LengthUnit, length_unit
from H3DELandmarksLib.core.landmarks import LandmarkSet, agreeing_presence
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json
from H3DELandmarksLib.io.markups import MEASUREMENT_LIMIT, MEASUREMENT_UNITS, NOT_STATED

_Kept = TypeVar("_Kept")
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def lps_from_ras(points: np.ndarray) -> np.ndarray:
    """Change (..., 3) points from RAS to LPS mm, or from LPS to RAS: it is the same change of signs."""
    return np.asarray(points, dtype=np.float64) * np.diag(LPS_FROM_RAS)[:3]


def matrix_to_world(node) -> np.ndarray | None:
    """(4, 4) from RAS mm of a node to RAS world mm; None where its parent transforms are no matrix."""
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        return None
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def world_position(node, position: Sequence[float]) -> np.ndarray:
    """(3,) RAS world mm of a position in RAS mm of a node, under its parent transforms."""
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(position, world)
    return np.array(world)


def node_position(node, position: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """RAS mm of a node, under its parent transforms, of a position in RAS world mm."""
    local = [0.0, 0.0, 0.0]
    node.TransformPointFromWorld(position, local)
    x, y, z = local
    return x, y, z


@lru_cache(maxsize=16)  # a click asks a dozen times
def parsed(kind: type[_Kept], text: str | None) -> _Kept | None:
    """What an attribute of a node holds, as an object of a dataclass; None where it holds nothing that can be read."""
    try:
        return build(kind, parse_json((text or "").encode("utf-8", "replace")))
    except FormatError:
        return None


def nodes_of(scene, kind: str) -> list:
    """All nodes of a class; `slicer.util.getNodesByClass` makes a collection anew, which scenes without Qt lack."""
    return [scene.GetNthNodeByClass(k, kind) for k in range(scene.GetNumberOfNodesByClass(kind))]


def place_beside(node, neighbor) -> None:
    """Show a node in subject hierarchy under the same parent as another one: the same study or folder.

    Args:
        node: vtkMRMLNode to place.
        neighbor: vtkMRMLNode of the same scene.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    parent = hierarchy.GetItemParent(_item(hierarchy, neighbor))
    hierarchy.SetItemParent(_item(hierarchy, node), parent)


def _item(hierarchy, node) -> int:
    """The item of a node. Slicer's plugins make one for every new node, but without the application there are none."""
    item = hierarchy.GetItemByDataNode(node)
    return item or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


VOLUME_REFERENCE = "H3DELandmarks.Volume"
UNIT_ATTRIBUTE = "H3DELandmarks.Unit"
POINT_LIST_CLASS = "vtkMRMLMarkupsFiducialNode"
_FIELDS = {"presence": "presence", "confidence": "confidence", "radius90": "radius"}
_PRINT_FORMAT = "%5.3f %s"


def create_point_list(scene, landmarks: LandmarkSet, name: str, attributes: Mapping[str, str] | None = None):
    """Add a landmark set to a scene.

    Args:
        scene: vtkMRMLScene.
        landmarks: positions in LPS world mm.
        name: the node's name; a number is appended where the scene has a node of that name.
        attributes: node attributes by name, there before any node selector gets to see the node.

    Returns:
        The vtkMRMLMarkupsFiducialNode, visible, unlocked, with undo enabled.
    """
    node = scene.CreateNodeByClass(POINT_LIST_CLASS)
    node.UnRegister(None)  # Python has a reference of its own
    node.SetName(scene.GetUniqueNameByString(name))
    for attribute, value in (attributes or {}).items():
        node.SetAttribute(attribute, value)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    node.SetUndoEnabled(True)
    update_point_list(node, landmarks)
    return node


def volume_of(point_list):
    """The volume node in which the points of a list were found; None where nothing says so."""
    return point_list.GetNodeReference(VOLUME_REFERENCE)


def set_volume(point_list, volume_node) -> None:
    """Let a point list name the volume in which its points were found, and know its unit when that is gone."""
    point_list.SetNodeReferenceID(VOLUME_REFERENCE, volume_node.GetID())
    point_list.SetAttribute(UNIT_ATTRIBUTE, "px" if list_unit(point_list) == "px" else None)


def list_unit(point_list) -> LengthUnit:
    """The unit of lengths in a point list: pixels where its volume is a picture that does not state their size.

    Where the volume is gone, what was kept of it counts; lists of earlier versions have it with their radii only.
    """
    volume = volume_of(point_list)
    image = volume.GetImageData() if volume is not None else None
    if image is not None:
        return length_unit(image.GetDimensions(), volume.GetSpacing())
    radius = point_list.GetMeasurement("radius90")
    kept = (point_list.GetAttribute(UNIT_ATTRIBUTE), radius.GetUnits() if radius else None)
    return "px" if "px" in kept else "mm"


def point_indices(node) -> list[int]:
    """Indices of all control points but the one that Slicer shows at the mouse while it places points."""
    return [k for k in range(node.GetNumberOfControlPoints()) if not _is_at_mouse(node, k)]


def _is_at_mouse(node, k: int) -> bool:
    is_preview = node.GetNthControlPointPositionStatus(k) == node.PositionPreview
    return is_preview and bool(node.GetNthControlPointAutoCreated(k))


def update_point_list(node, landmarks: LandmarkSet) -> None:
    """Replace the points of a point list by a landmark set.

    Present landmarks become defined control points, absent ones missing, unknown ones undefined. Measurements of other
    names are left alone.

    Args:
        node: vtkMRMLMarkupsFiducialNode; where it has a parent transform, its points are placed so that their world
            positions are those of the set.
        landmarks: positions in LPS world mm.
    """
    with slicer.util.NodeModify(node):
        node.SetLocked(False)
        node.SetFixedNumberOfControlPoints(False)
        node.RemoveAllControlPoints()
        for k in range(len(landmarks)):
            _add_point(node, landmarks, k)
        state_measurements(node, landmarks)


def landmarks_from_point_list(node) -> LandmarkSet:
    """The landmark set of a point list.

    The status of a control point decides whether its landmark is present; the stored presence only refines it, because
    Slicer does not update measurements when a point is placed or deleted. Nor does it when points are reordered: of a
    list that may be under review, `landmarks_of_list` gives each point its own values.

    Args:
        node: vtkMRMLMarkupsFiducialNode, under any parent transform.

    Returns:
        Landmark set in LPS world mm; points that are not defined have no position, whatever Slicer remembers of them.

    Raises:
        InputError: a label is empty or used twice.
    """
    indices = point_indices(node)
    names = tuple(node.GetNthControlPointLabel(k) for k in indices)
    if "" in names:
        raise InputError(f"The point list '{node.GetName()}' has a point without a label: name every landmark.")
    status = np.array([node.GetNthControlPointPositionStatus(k) for k in indices], dtype=int)
    positions = np.array([node.GetNthControlPointPositionWorld(k) for k in indices]).reshape(-1, 3)
    positions[status != node.PositionDefined] = np.nan
    values = {name: _stored_values(node, name)[indices] for name in MEASUREMENT_UNITS}
    return LandmarkSet(
        names,
        lps_from_ras(positions),
        presence=_presence(node, status, values["presence"]),
        confidence=values["confidence"],
        radius=values["radius90"],
        definitions=tuple(node.GetNthControlPointDescription(k) for k in indices),
    )


def _add_point(node, landmarks: LandmarkSet, k: int) -> None:
    defined = landmarks.present[k]
    position = lps_from_ras(landmarks.positions[k]) if defined else np.zeros(3)
    index = node.AddControlPointWorld(vtk.vtkVector3d(*position), landmarks.names[k])
    node.SetNthControlPointDescription(index, landmarks.definitions[k])
    node.SetNthControlPointLocked(index, False)
    if landmarks.unknown[k]:
        node.UnsetNthControlPointPosition(index)
    elif not defined:
        node.SetNthControlPointPositionMissing(index)


def state_measurements(node, landmarks: LandmarkSet) -> None:
    """Keep presence, confidence and radius as values per control point; one that states nothing is left out."""
    unit = list_unit(node)
    for name, units in MEASUREMENT_UNITS.items():
        _remove_measurement(node, name)
        values = _values_to_state(landmarks, name)
        if len(values):
            node.AddMeasurement(_measurement(name, units and unit, values))


def has_measurements_of(node, landmarks: LandmarkSet) -> bool:
    """Whether the values of the control points are those that `state_measurements` would keep."""
    return all(np.array_equal(_kept_values(node, name), _values_to_state(landmarks, name)) for name in _FIELDS)


def _values_to_state(landmarks: LandmarkSet, name: str) -> np.ndarray:
    """(K,) values of a measurement, none where nothing is stated of any landmark."""
    values = getattr(landmarks, _FIELDS[name])
    return np.where(np.isfinite(values), values, NOT_STATED) if np.isfinite(values).any() else np.empty(0)


def _measurement(name: str, units: str, values: np.ndarray):
    array = vtk.vtkDoubleArray()
    array.SetName(name)
    for value in values:
        array.InsertNextValue(value)
    measurement = slicer.vtkMRMLStaticMeasurement()
    measurement.SetName(name)
    measurement.SetPrintFormat(_PRINT_FORMAT)
    if units:
        measurement.SetUnits(units)
    measurement.SetControlPointValues(array)
    return measurement


def _remove_measurement(node, name: str) -> None:
    for index in reversed(range(node.GetNumberOfMeasurements())):
        if node.GetNthMeasurement(index).GetName() == name:
            node.RemoveNthMeasurement(index)


def _stored_values(node, name: str) -> np.ndarray:
    """(K,) values of a measurement, NaN where none is stated or the measurement does not fit the points any more."""
    values = _kept_values(node, name)
    if len(values) != node.GetNumberOfControlPoints():
        return np.full(node.GetNumberOfControlPoints(), np.nan)
    return np.where((values >= 0) & (values <= MEASUREMENT_LIMIT[name]), values, np.nan)


def _kept_values(node, name: str) -> np.ndarray:
    """The values of a measurement as Slicer keeps them, none where there is no such measurement."""
    measurement = node.GetMeasurement(name)
    kept = measurement.GetControlPointValues() if measurement else None
    if kept is None:
        return np.empty(0)
    return np.array([kept.GetValue(k) for k in range(kept.GetNumberOfTuples())], dtype=float)


def _presence(node, status: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """(K,) presence: the stored probability where it agrees with the status of the point, else what the status says."""
    by_status = np.full(len(status), np.nan)
    by_status[status == node.PositionDefined] = 1.0
    by_status[status == node.PositionMissing] = 0.0
    return agreeing_presence(by_status, stored)
