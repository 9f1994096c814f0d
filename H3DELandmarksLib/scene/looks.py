"""Where slice views and cameras look: how the anatomy comes into sight, and how the look of the user comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from H3DELandmarksLib.scene.point_list import nodes_of

SLICE_CLASS, CAMERA_CLASS = "vtkMRMLSliceNode", "vtkMRMLCameraNode"
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
