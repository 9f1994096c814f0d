"""Where the views of a scene look, how that comes back, what they show, and what the mouse does in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from H3DELandmarksLib.scene.point_list import nodes_of

SLICE_CLASS, CAMERA_CLASS = "vtkMRMLSliceNode", "vtkMRMLCameraNode"
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


MARGIN = 1.4  # of the anatomy in a 3D view
IN_SIGHT = 0.9  # share of a 3D view's half angle


@dataclass(frozen=True)
class SliceLook:
    """Which part of a plane a slice view shows.

    Attributes:
        field: (3,) field of view in mm.
        plane: (4, 4) from the slice to RAS world mm.
    """

    field: tuple[float, ...]
    plane: np.ndarray

    @classmethod
    def of(cls, node: Any) -> SliceLook:
        """That of a vtkMRMLSliceNode."""
        return cls(node.GetFieldOfView(), slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()))

    def show(self, node: Any) -> None:
        """Let a vtkMRMLSliceNode look so."""
        node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(self.plane))
        node.SetFieldOfView(*self.field)
        node.UpdateMatrices()

    def is_like(self, other: SliceLook | CameraLook | None) -> bool:
        """Whether both are zoomed alike, wherever in the scan they look."""
        return isinstance(other, SliceLook) and np.allclose(self.field, other.field)


@dataclass(frozen=True)
class CameraLook:
    """How a camera looks, RAS world mm.

    Attributes:
        position, focus, up: (3,) each.
    """

    position: tuple[float, ...]
    focus: tuple[float, ...]
    up: tuple[float, ...]

    @classmethod
    def of(cls, node: Any) -> CameraLook:
        """That of a vtkMRMLCameraNode."""
        return cls(tuple(node.GetPosition()), tuple(node.GetFocalPoint()), tuple(node.GetViewUp()))

    def show(self, node: Any) -> None:
        """Let a vtkMRMLCameraNode look so."""
        node.SetPosition(*self.position)
        node.SetFocalPoint(*self.focus)
        node.SetViewUp(*self.up)
        node.ResetClippingRange()

    def is_like(self, other: SliceLook | CameraLook | None) -> bool:
        """Whether both show the same."""
        if not isinstance(other, CameraLook):
            return False
        return all(map(np.allclose, (self.position, self.focus, self.up), (other.position, other.focus, other.up)))


Looks = dict[str, "SliceLook | CameraLook"]


def looks_of(scene: Any, kinds: Sequence[str] = (SLICE_CLASS, CAMERA_CLASS)) -> Looks:
    """{id of a node: its look} of all slice views and cameras."""
    return {node.GetID(): _look_of(node) for kind in kinds for node in nodes_of(scene, kind)}


def show_looks(scene: Any, looks: Looks) -> None:
    """Let the views look so, as far as they are still there."""
    for identity, look in looks.items():
        node = scene.GetNodeByID(identity)
        if node is not None:
            look.show(node)


def give_back(scene: Any, before: Looks, during: Looks, slices: bool = True) -> None:
    """Let the views look as before, but for those that the user has zoomed or turned.

    Args:
        scene: vtkMRMLScene.
        before: what is given back.
        during: how the views looked when they were last changed by a program.
        slices: whether slice views are given back, too.
    """
    for identity, look in before.items():
        node = scene.GetNodeByID(identity)
        if node is None or not (slices or isinstance(look, CameraLook)):
            continue
        now = _look_of(node)
        if now.is_like(look) or now.is_like(during.get(identity)):
            look.show(node)


def zoom_slices(scene: Any, width: float) -> None:
    """Zoom the slice views to a width in mm, but for those that show little more, or less, already."""
    for node in nodes_of(scene, SLICE_CLASS):
        x, y, z = node.GetFieldOfView()
        scale = width / min(x, y)
        if scale < 1 / 1.5:
            node.SetFieldOfView(x * scale, y * scale, z)


def frame_points(scene: Any, positions: Sequence[np.ndarray], least: float) -> None:
    """Let the cameras see points whole, from where they look now.

    Args:
        scene: vtkMRMLScene.
        positions: (N, 3) RAS world mm; without any, nothing changes.
        least: mm that are to be seen at least.
    """
    if not len(positions):
        return
    low, high = np.min(positions, axis=0), np.max(positions, axis=0)
    center, radius = (low + high) / 2, max(float(np.linalg.norm(high - low)), least) / 2 * MARGIN
    for node in nodes_of(scene, CAMERA_CLASS):
        backward = np.subtract(node.GetPosition(), node.GetFocalPoint())
        distance = radius / np.sin(np.deg2rad(node.GetViewAngle()) / 2)
        node.SetFocalPoint(*center)
        node.SetPosition(*(center + backward / np.linalg.norm(backward) * distance))
        node.ResetClippingRange()


def bring_into_sight(node: Any, position: Sequence[float]) -> None:
    """Move a vtkMRMLCameraNode sideways where it does not see a point; (3,) RAS world mm."""
    eye, focus = np.array(node.GetPosition()), np.array(node.GetFocalPoint())
    forward, wanted = focus - eye, np.subtract(position, eye)
    lengths = np.linalg.norm(forward) * np.linalg.norm(wanted)
    half_angle = np.deg2rad(node.GetViewAngle()) / 2
    if lengths and forward @ wanted >= lengths * np.cos(IN_SIGHT * half_angle):
        return
    node.SetPosition(*(eye + np.subtract(position, focus)))
    node.SetFocalPoint(*map(float, position))
    node.ResetClippingRange()


def _look_of(node: Any) -> SliceLook | CameraLook:
    return SliceLook.of(node) if node.IsA(SLICE_CLASS) else CameraLook.of(node)
