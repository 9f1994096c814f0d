"""Regions of interest of the scene as regions of the library."""

from __future__ import annotations

import numpy as np
import slicer.util
import vtk

from H3DELandmarksLib.region import Region
from H3DELandmarksLib.scene.frames import LPS_FROM_RAS


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
