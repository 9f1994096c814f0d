"""Where the views of a scene look, and what they show of a doubtful landmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from H3DELandmarksLib.scene.looks import CAMERA_CLASS, SLICE_CLASS, bring_into_sight
from H3DELandmarksLib.scene.point_list import nodes_of

SELECTION = "vtkMRMLSelectionNodeSingleton"
INTERACTION = "vtkMRMLInteractionNodeSingleton"
PLACED_NAME = "H3DELandmarks point to place"
PLACING_ATTRIBUTE = "H3DELandmarks.Placing"  # of a scene that was saved before the click


def interaction_node(scene):
    """The node that says what the mouse does in views."""
    return scene.GetNodeByID(INTERACTION)


@contextmanager
def keeping_active_list(scene) -> Iterator[None]:
    """Lists that are added meanwhile do not become the one that the mouse places points of, as Slicer has it."""
    selection = scene.GetNodeByID(SELECTION)
    before = selection.GetActivePlaceNodeID() if selection is not None else None
    yield
    if selection is not None:
        selection.SetActivePlaceNodeID(before)


def begin_placing(node, name: str) -> Placing:
    """Let the next click in a view say where a point of a list lies.

    The click places the point of a list of its own: until then nothing of the user's list is changed, so that a scene
    or a list that is saved meanwhile has what was decided.

    Args:
        node: vtkMRMLMarkupsFiducialNode.
        name: of its point, which the mouse carries.

    Returns:
        What `is_placing` and `end_placing` need.
    """
    scene = node.GetScene()
    chosen, interaction = scene.GetNodeByID(SELECTION), interaction_node(scene)
    mode, kind = interaction.GetCurrentInteractionMode(), chosen.GetActivePlaceNodeClassName()
    identity = chosen.GetActivePlaceNodeID()
    placed = _add_placed(node, name)
    chosen.SetReferenceActivePlaceNodeClassName(placed.GetClassName())
    chosen.SetActivePlaceNodeID(placed.GetID())
    interaction.SetAttribute(PLACING_ATTRIBUTE, "yes")
    interaction.SwitchToSinglePlaceMode()
    return Placing(scene, placed, mode, kind, identity)


@dataclass(frozen=True)
class Placing:
    """A point that the next click places.

    Attributes:
        scene: vtkMRMLScene.
        placed: vtkMRMLMarkupsFiducialNode of one point, which no selector shows and no file keeps.
        mode, kind, identity: what the mouse did before, and the class and the id of the list that it placed points of.
    """

    scene: Any
    placed: Any
    mode: int
    kind: str | None
    identity: str | None

    @property
    def position(self) -> np.ndarray | None:
        """(3,) RAS world mm where the user has clicked, None where nobody has."""
        if self.placed.GetNthControlPointPositionStatus(0) != self.placed.PositionDefined:
            return None
        return np.array(self.placed.GetNthControlPointPositionWorld(0))


def _add_placed(node, name: str):
    placed = slicer.vtkMRMLMarkupsFiducialNode()
    placed.SetName(PLACED_NAME)
    placed.SetHideFromEditors(True)
    placed.SetSaveWithScene(False)
    placed = node.GetScene().AddNode(placed)
    placed.CreateDefaultDisplayNodes()
    placed.GetDisplayNode().SetGlyphTypeFromString("Cross2D")
    placed.GetDisplayNode().SetSaveWithScene(False)
    placed.UnsetNthControlPointPosition(placed.AddControlPoint(0, 0, 0, name))
    placed.SetFixedNumberOfControlPoints(True)
    placed.SetControlPointPlacementStartIndex(0)
    return placed


def is_placing(placing: Placing) -> bool:
    """Whether the next click still places the point."""
    interaction = interaction_node(placing.scene)
    if interaction is None or interaction.GetCurrentInteractionMode() != interaction.Place:
        return False
    return placing.scene.GetNodeByID(SELECTION).GetActivePlaceNodeID() == placing.placed.GetID()


def end_placing(placing: Placing) -> None:
    """Let the mouse do again what it did before, see `begin_placing`, unless the user has chosen something else since.

    Where it was placing other points, it looks around now.
    """
    chosen, interaction = placing.scene.GetNodeByID(SELECTION), interaction_node(placing.scene)
    interaction.RemoveAttribute(PLACING_ATTRIBUTE)
    now = interaction.GetCurrentInteractionMode()
    own = (placing.placed.GetID(), None)
    if chosen.GetActivePlaceNodeID() not in own or now not in (interaction.Place, interaction.ViewTransform):
        return
    chosen.SetReferenceActivePlaceNodeClassName(placing.kind)
    chosen.SetActivePlaceNodeID(placing.identity)
    if placing.mode == interaction.Place:
        interaction.SwitchToViewTransformMode()
    else:
        interaction.SetCurrentInteractionMode(placing.mode)


def forget_placing(placing: Placing) -> None:
    """Remove the list of a point that was placed; not while a view still handles the click that has placed it."""
    if placing.scene.IsNodePresent(placing.placed):
        placing.scene.RemoveNode(placing.placed.GetDisplayNode())
        placing.scene.RemoveNode(placing.placed)


def end_placing_of_before(scene) -> None:
    """Let the mouse look around where a scene was loaded that was saved before the click."""
    chosen, interaction = scene.GetNodeByID(SELECTION), interaction_node(scene)
    if interaction is not None and interaction.GetAttribute(PLACING_ATTRIBUTE):
        interaction.RemoveAttribute(PLACING_ATTRIBUTE)
        chosen.SetActivePlaceNodeID(None)
        interaction.SwitchToViewTransformMode()


COMPOSITE_CLASS = "vtkMRMLSliceCompositeNode"
OPAQUE = 0.95  # a foreground that nothing below is seen through


def shown_volumes(scene) -> list:
    """The volume node that each slice view of the layout shows; views that show none are left out.

    Those of all slice views where the layout has none, such as one of 3D views.
    """
    views = {view.GetLayoutName(): view for view in nodes_of(scene, SLICE_CLASS)}
    composites = nodes_of(scene, COMPOSITE_CLASS)
    mapped = [c for c in composites if c.GetLayoutName() not in views or views[c.GetLayoutName()].IsMappedInLayout()]
    shown = [scene.GetNodeByID(_shown_in(composite) or "") for composite in mapped or composites]
    return [volume for volume in shown if volume is not None]


def _shown_in(composite) -> str | None:
    """The id of the volume that is seen in a slice view: an opaque foreground hides what is behind it."""
    below, above = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
    covers = composite.GetCompositing() == composite.Alpha and composite.GetForegroundOpacity() >= OPAQUE
    return above if above and (covers or not below) else below


def uncover_background(scene) -> None:
    """Let all slice views show the volume behind an opaque foreground."""
    for composite in nodes_of(scene, COMPOSITE_CLASS):
        if composite.GetForegroundVolumeID() and composite.GetForegroundOpacity() >= OPAQUE:
            composite.SetForegroundOpacity(0.0)


SPHERE_NAME = "H3DELandmarks 90 % radius"
SPHERE_TAG = "H3DELandmarksRadius"
_COLOR = (1.0, 0.8, 0.2)
_LEAST_RADIUS_MM = 0.1
TRACE_NAME = "H3DELandmarks way of points that followed"
TRACE_TAG = "H3DELandmarksTrace"
_TRACE_COLOR = (0.0, 0.62, 0.45)


def center_views(scene, position: Sequence[float]) -> None:
    """Center all slice views on a point, and move the 3D views that do not show it.

    Args:
        scene: vtkMRMLScene.
        position: (3,) RAS world mm.
    """
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *map(float, position), slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    for camera in nodes_of(scene, CAMERA_CLASS):
        bring_into_sight(camera, position)


def follow_point(scene, position: Sequence[float]) -> None:
    """Let all slice views show the slice through a point, without moving sideways under the mouse.

    Args:
        scene: vtkMRMLScene.
        position: (3,) RAS world mm.
    """
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *map(float, position), slicer.vtkMRMLSliceNode.OffsetJumpSlice)


def show_radius(scene, position: Sequence[float], radius: float) -> None:
    """Show the sphere that a true landmark lies in nine times out of ten; at most one is shown.

    Args:
        scene: vtkMRMLScene.
        position: (3,) center, RAS world mm.
        radius: mm.
    """
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(*map(float, position))
    sphere.SetRadius(max(float(radius), _LEAST_RADIUS_MM))
    sphere.SetThetaResolution(48)
    sphere.SetPhiResolution(32)
    sphere.Update()
    node = scene.GetSingletonNode(SPHERE_TAG, "vtkMRMLModelNode") or _add_sphere(scene)
    node.SetAndObserveMesh(sphere.GetOutput())
    node.SetDisplayVisibility(True)


def hide_radius(scene) -> None:
    """Show no sphere any more."""
    remove_aid(scene, SPHERE_TAG)


def _add_sphere(scene):
    node = add_aid(scene, SPHERE_NAME, SPHERE_TAG, _COLOR, 0.3)
    display = node.GetDisplayNode()
    display.SetVisibility2D(True)
    display.SetSliceIntersectionThickness(2)
    return node


def show_trace(scene, ways: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Show from where points have moved, as lines that all slice views show; at most one set of them is shown.

    Args:
        scene: vtkMRMLScene.
        ways: (3,) RAS world mm where each point lay, and where it lies.
    """
    hide_trace(scene)
    if not len(ways):
        return
    points, lines = vtk.vtkPoints(), vtk.vtkCellArray()
    for way in ways:
        lines.InsertNextCell(2)
        for place in way:
            lines.InsertCellPoint(points.InsertNextPoint(*map(float, place)))
    mesh = vtk.vtkPolyData()
    mesh.SetPoints(points)
    mesh.SetLines(lines)
    node = add_aid(scene, TRACE_NAME, TRACE_TAG, _TRACE_COLOR, 0.8)
    display = node.GetDisplayNode()
    display.SetVisibility2D(True)
    display.SetSliceDisplayModeToProjection()
    display.SetSliceIntersectionThickness(2)
    display.SetLineWidth(2)
    node.SetAndObserveMesh(mesh)


def hide_trace(scene) -> None:
    """Show no trace any more."""
    remove_aid(scene, TRACE_TAG)


def add_aid(scene, name: str, tag: str, color: tuple[float, float, float], opacity: float):
    """A model node that is an aid for the eye: no list shows it and no file keeps it.

    Args:
        scene: vtkMRMLScene.
        name, tag: of the node; a scene has one node of a tag.
        color: red, green and blue from 0 to 1.
        opacity: from 0 to 1.

    Returns:
        vtkMRMLModelNode without a mesh.
    """
    node = slicer.vtkMRMLModelNode()
    node.SetName(name)
    node.SetSingletonTag(tag)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetSelectable(False)
    node = scene.AddNode(node)
    display = slicer.vtkMRMLModelDisplayNode()
    display.SetSaveWithScene(False)
    display.SetColor(*color)
    display.SetOpacity(opacity)
    display.SetBackfaceCulling(False)
    node.SetAndObserveDisplayNodeID(scene.AddNode(display).GetID())
    return node


def remove_aid(scene, tag: str) -> None:
    """Remove what `add_aid` has added under a tag, where it is there."""
    node = scene.GetSingletonNode(tag, "vtkMRMLModelNode")
    if node is not None:
        scene.RemoveNode(node.GetDisplayNode())
        scene.RemoveNode(node)
