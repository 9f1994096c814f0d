"""Volumes of the scene as volumes of the library."""

import numpy as np
import pytest
import slicer
import vtk
from scene_cases import GEOMETRIES, LINEAR, LPS_FROM_RAS, add_linear_transform, add_nonlinear_transform, add_volume

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import transform_points
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.scene import volume_from_node

VOXELS = np.random.default_rng(3).integers(-1000, 3000, (7, 6, 5)).astype(np.int16)


def world_position(node, ijk):
    """RAS world mm of a voxel, by Slicer's own classes alone."""
    matrix, to_world = vtk.vtkMatrix4x4(), vtk.vtkGeneralTransform()
    node.GetIJKToRASMatrix(matrix)
    position = matrix.MultiplyPoint([*map(float, ijk), 1.0])[:3]
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, to_world)
    return to_world.TransformPoint(position)


@pytest.mark.parametrize("transform", [None, *LINEAR])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_voxel_keeps_its_value_and_world_position(scene, geometry, transform):
    node = add_volume(scene, VOXELS, GEOMETRIES[geometry])
    if transform:
        node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR[transform]).GetID())
    volume = volume_from_node(node)
    np.testing.assert_array_equal(volume.array, VOXELS)
    for ijk in [(0, 0, 0), (6, 0, 2), (1, 5, 4)]:
        expected = np.array(world_position(node, ijk)) * (-1, -1, 1)
        np.testing.assert_allclose(volume.grid.lps_from_ijk(ijk), expected, atol=1e-9)


def test_transforms_in_a_chain_are_all_applied(scene):
    inner = add_linear_transform(scene, LINEAR["mirrored"])
    inner.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR["rotated and moved"]).GetID())
    node = add_volume(scene, VOXELS, GEOMETRIES["oblique"])
    node.SetAndObserveTransformNodeID(inner.GetID())
    expected = LINEAR["rotated and moved"] @ LINEAR["mirrored"] @ GEOMETRIES["oblique"]
    np.testing.assert_allclose(volume_from_node(node).affine, LPS_FROM_RAS @ expected, atol=1e-9)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_written_scan_that_slicer_loads_is_the_same_scan(scene, tmp_path, geometry):
    """Slicer flips left-handed files on load: positions are equal, voxel indices need not be."""
    written = volume_from_node(add_volume(scene, VOXELS, GEOMETRIES[geometry]))
    write_volume(tmp_path / "scan.nrrd", written)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(tmp_path / "scan.nrrd"))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert storage.ReadData(node)
    loaded = volume_from_node(node)
    indices = np.stack(np.meshgrid(*map(np.arange, VOXELS.shape), indexing="ij"), axis=-1)
    there = np.rint(loaded.grid.ijk_from_lps(written.grid.lps_from_ijk(indices))).astype(int)
    np.testing.assert_array_equal(loaded.array[tuple(np.moveaxis(there, -1, 0))], VOXELS)
    positions = loaded.grid.lps_from_ijk(there)
    np.testing.assert_allclose(positions, written.grid.lps_from_ijk(indices), atol=1e-4)


def test_a_transformed_scan_survives_the_way_to_the_command_line(scene, tmp_path):
    """A scan under a shear has no right angles any more, which the file must keep."""
    node = add_volume(scene, VOXELS, GEOMETRIES["oblique"])
    node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR["scaled and sheared"]).GetID())
    volume = volume_from_node(node)
    write_volume(tmp_path / "scan.nrrd", volume)
    read = read_volume(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(read.array, VOXELS)
    np.testing.assert_allclose(read.affine, volume.affine, atol=1e-9)


def test_voxels_are_not_copied_and_outlive_the_node(scene):
    node = add_volume(scene, VOXELS, GEOMETRIES["axial"])
    volume = volume_from_node(node)
    node.GetImageData().SetScalarComponentFromDouble(1, 2, 3, 0, 77)
    assert volume.array[1, 2, 3] == 77
    scene.RemoveNode(node)
    del node
    rest = np.ones(VOXELS.shape, dtype=bool)
    rest[1, 2, 3] = False
    np.testing.assert_array_equal(volume.array[rest], VOXELS[rest])


def test_a_radiograph_has_one_slice(scene):
    volume = volume_from_node(add_volume(scene, VOXELS[:, :, :1], GEOMETRIES["axial"]))
    assert volume.array.shape == (7, 6, 1)


def test_a_nonlinear_transform_is_refused_with_advice(scene):
    node = add_volume(scene, VOXELS, GEOMETRIES["axial"], name="CBCT")
    node.SetAndObserveTransformNodeID(add_nonlinear_transform(scene).GetID())
    with pytest.raises(InputError, match="'CBCT' is under a nonlinear transform: harden"):
        volume_from_node(node)


def test_an_empty_volume_is_refused(scene):
    with pytest.raises(InputError, match="'empty' has no voxels"):
        volume_from_node(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))


def test_a_color_volume_is_refused(scene):
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photograph")
    image = vtk.vtkImageData()
    image.SetDimensions(2, 2, 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)
    with pytest.raises(InputError, match="'photograph' has several values per voxel"):
        volume_from_node(node)


def test_the_matrices_of_these_tests_are_what_they_say():
    assert np.linalg.det(GEOMETRIES["left-handed"]) < 0 < np.linalg.det(GEOMETRIES["axial"])
    assert not np.allclose(transform_points(LINEAR["mirrored"], [1, 2, 3]), [1, 2, 3])
