"""Regions of interest of the scene as regions of the library."""

from __future__ import annotations

import numpy as np
import slicer.util
import vtk

from H3DELandmarksLib.region import Region, region_around
from H3DELandmarksLib.scene.frames import LPS_FROM_RAS
from H3DELandmarksLib.scene.point_list import landmarks_from_point_list


def region_from_node(node) -> Region:
    """The box of a vtkMRMLMarkupsROINode as it lies in the world, under any linear parent transform.

    Raises:
        InputError: the box has no volume.
    """
    matrix = vtk.vtkMatrix4x4()
    transform = node.GetParentTransformNode()
    if transform is not None:
        transform.GetMatrixTransformToWorld(matrix)
    ras_from_node = slicer.util.arrayFromVTKMatrix(matrix)
    node_from_box = slicer.util.arrayFromVTKMatrix(node.GetObjectToNodeMatrix())
    return Region(LPS_FROM_RAS @ ras_from_node @ node_from_box @ np.diag([*node.GetSize(), 1.0]))


def fit_to_volume(node, volume_node) -> None:
    """Lay the box of a vtkMRMLMarkupsROINode without a parent transform around a volume, and show it."""
    bounds = [0.0] * 6
    volume_node.GetRASBounds(bounds)
    low, high = np.reshape(bounds, (3, 2)).T
    node.CreateDefaultDisplayNodes()
    node.SetCenterWorld(*((low + high) / 2))
    node.SetSizeWorld(*(high - low))


def fit_to_points(node, point_list, margin_mm: float) -> bool:
    """Lay the box of a vtkMRMLMarkupsROINode around the defined points of a list, and show it.

    Its edges run along the node's own axes, those of the patient without a parent transform.

    Args:
        node: region to change.
        point_list: vtkMRMLMarkupsFiducialNode, under any parent transforms.
        margin_mm: distance of the faces from the outermost points.

    Returns:
        False, and the box stays as it is, where too few points are defined.
    """
    found = landmarks_from_point_list(point_list)
    local = [_in_node(node, point) for point in found.positions @ LPS_FROM_RAS[:3, :3]]
    region = region_around(found.with_positions(np.array(local).reshape(-1, 3)), margin_mm)
    if region is None:
        return False
    node.GetObjectToNodeMatrix().Identity()
    node.CreateDefaultDisplayNodes()
    node.SetCenter(*region.affine[:3, 3])
    node.SetSize(*np.diag(region.affine)[:3])
    return True


def _in_node(node, point: np.ndarray) -> np.ndarray:
    """A RAS point of the world in the coordinates of a node; NaN stays NaN."""
    if not np.isfinite(point).all():
        return np.full(3, np.nan)
    local = [0.0] * 3
    node.TransformPointFromWorld(point, local)
    return np.array(local)
