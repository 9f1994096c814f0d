"""Transforms and geometries that scans and point lists are tried under."""

import numpy as np
import slicer
import slicer.util
import vtk

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rotation(axis, degrees):
    """(3, 3) rotation about an axis."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    angle = np.deg2rad(degrees)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def affine(matrix, translation):
    """(4, 4) from a (3, 3) matrix and a translation."""
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = matrix, translation
    return result


# RAS from IJK
GEOMETRIES = {
    "axial": affine(np.diag([-0.8, -0.8, 1.25]), (40, 35, -20)),
    "oblique": affine(rotation((1, 2, 3), 37) * (0.5, 0.7, 1.5), (-12.5, 30, 8)),
    "left-handed": affine(np.diag([-0.8, -0.8, -1.25]), (40, 35, 20)),
    "sagittal": affine([[0, 0, 2.0], [-1, 0, 0], [0, -1, 0]], (3, 50, 60)),
}

# RAS world from RAS of the node
LINEAR = {
    "rotated and moved": affine(rotation((3, -1, 2), 68), (120, -45, 77)),
    "scaled and sheared": affine([[1.1, 0.2, 0], [0, 0.9, 0.1], [0, 0, 1.3]], (5, 6, 7)),
    "mirrored": affine(np.diag([-1.0, 1, 1]), (10, 0, 0)),
}


def add_linear_transform(scene, matrix):
    """A transform node with a RAS world from RAS matrix."""
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def add_nonlinear_transform(scene):
    """A transform node that bends space by centimeters."""
    spline = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        source.InsertNextPoint(*(100.0 * np.array(corner) - 50))
        target.InsertNextPoint(*(100.0 * np.array(corner) - 50 + (10.0 * corner[1] * corner[2], 0, 4.0 * corner[0])))
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node


def add_volume(scene, array, ras_from_ijk, name="scan"):
    """A volume node with the voxels of an array indexed [i, j, k]."""
    from vtk.util.numpy_support import numpy_to_vtk

    image = vtk.vtkImageData()
    image.SetDimensions(array.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(array.ravel(order="F"), deep=True))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ras_from_ijk))
    node.SetAndObserveImageData(image)
    return node
