"""Where the views of a scene look, and what they show of a doubtful landmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import slicer
import vtk

from H3DELandmarksLib.scene.looks import CAMERA_CLASS, bring_into_sight, nodes_of

SELECTION = "vtkMRMLSelectionNodeSingleton"
INTERACTION = "vtkMRMLInteractionNodeSingleton"


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


def begin_placing(node, index: int) -> tuple:
    """Let the next click in a view give a control point its position.

    Args:
        node: vtkMRMLMarkupsFiducialNode.
        index: of a point without a position.

    Returns:
        What the mouse did before, for `end_placing`.
    """
    scene = node.GetScene()
    chosen, interaction = scene.GetNodeByID(SELECTION), interaction_node(scene)
    before = (
        node.GetID(),
        interaction.GetCurrentInteractionMode(),
        chosen.GetActivePlaceNodeClassName(),
        chosen.GetActivePlaceNodeID(),
    )
    node.UnsetNthControlPointPosition(index)
    node.SetControlPointPlacementStartIndex(index)
    chosen.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    chosen.SetActivePlaceNodeID(node.GetID())
    interaction.SwitchToSinglePlaceMode()
    return before


def is_placing(node) -> bool:
    """Whether the mouse places points of this list."""
    scene = node.GetScene()
    interaction = interaction_node(scene) if scene is not None else None
    if interaction is None or interaction.GetCurrentInteractionMode() != interaction.Place:
        return False
    return scene.GetNodeByID(SELECTION).GetActivePlaceNodeID() == node.GetID()


def end_placing(scene, before: tuple) -> None:
    """Let the mouse do again what it did before, see `begin_placing`, unless the user has chosen something else since.

    Where it was placing other points, it looks around now.
    """
    own, mode, kind, identity = before
    chosen, interaction = scene.GetNodeByID(SELECTION), interaction_node(scene)
    now = interaction.GetCurrentInteractionMode()
    if chosen.GetActivePlaceNodeID() not in (own, None) or now not in (interaction.Place, interaction.ViewTransform):
        return
    chosen.SetReferenceActivePlaceNodeClassName(kind)
    chosen.SetActivePlaceNodeID(identity)
    if mode == interaction.Place:
        interaction.SwitchToViewTransformMode()
    else:
        interaction.SetCurrentInteractionMode(mode)


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
