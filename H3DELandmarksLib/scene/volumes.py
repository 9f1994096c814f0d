"""Scans of the scene as volumes of the library."""

from __future__ import annotations

import numpy as np
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.geometry import Volume
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.planar import why_other_kind
from H3DELandmarksLib.scene.frames import LPS_FROM_RAS


def volume_from_node(node) -> Volume:
    """The scan of a volume node as it lies in the world.

    Args:
        node: vtkMRMLScalarVolumeNode; its linear parent transforms, if any, become part of the affine.

    Returns:
        Voxels indexed [i, j, k] with their IJK -> LPS world mm affine. The array is the node's memory, not a copy: it
        stays valid when the node is removed, and must not be written to.

    Raises:
        InputError: why the volume cannot be used and what to do.
    """
    own = own_volume_from_node(node)
    return Volume(own.array, world_from_own(node) @ own.affine)


def own_volume_from_node(node) -> Volume:
    """The scan of a volume node in its own geometry, as it was loaded: `volume_from_node` without parent transforms."""
    reason = why_unusable(node)
    if reason:
        raise InputError(reason)
    image = node.GetImageData()
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1]).T
    return Volume(array, LPS_FROM_RAS @ _parent_from_ijk(node))


def world_from_own(node) -> np.ndarray:
    """(4, 4) LPS mm of a volume node's own geometry -> LPS world mm, its linear parent transforms."""
    return LPS_FROM_RAS @ _ras_from_parent(node) @ LPS_FROM_RAS


def why_unusable(node) -> str:
    """One sentence about why landmarks cannot be searched in a volume node, empty where they can."""
    name = node.GetName()
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return f"The volume '{name}' has no voxels: load the scan again."
    if image.GetNumberOfScalarComponents() != 1:
        return f"The volume '{name}' has several values per voxel (color or vector): convert it to a scalar volume."
    transform = node.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        return f"The volume '{name}' is under a nonlinear transform: harden the transform on it first."
    return ""


def why_not_for_model(node, package: ModelPackage) -> str:
    """One sentence about why a model reads no volume node of that kind (radiograph or volume), empty where it does.

    Args:
        node: vtkMRMLScalarVolumeNode with voxels.
        package: the model.
    """
    return why_other_kind(package.id, package.reads_radiographs, node.GetImageData().GetDimensions())


def _ras_from_parent(node) -> np.ndarray:
    """(4, 4) from the frame that the node's transform maps from to RAS world mm; the identity without a transform."""
    matrix = vtk.vtkMatrix4x4()
    transform = node.GetParentTransformNode()
    if transform is not None:
        transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _parent_from_ijk(node) -> np.ndarray:
    """(4, 4) from voxel indices to mm in the frame that the node's transform maps from."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)
