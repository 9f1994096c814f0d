"""Radiographs of the scene, one slice thick: detected as they lie in the world, points in their plane."""

import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_volume

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
torch = pytest.importorskip("torch")
from flat_cases import NAMES, radiograph  # noqa: E402
from tiny_model import write_tiny_radiograph_package  # noqa: E402

from H3DELandmarksLib.detection import Detector  # noqa: E402
from H3DELandmarksLib.io.images import read_volume, write_volume  # noqa: E402
from H3DELandmarksLib.scene import landmarks_from_point_list, show_detection, volume_from_node  # noqa: E402

PIXELS = radiograph(1)[0].array


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector(write_tiny_radiograph_package(tmp_path_factory.mktemp("model") / "tiny"), device="cpu")


def points_in_ras(node) -> np.ndarray:
    """World positions by Slicer's own method alone."""
    return np.array([node.GetNthControlPointPositionWorld(k) for k in range(node.GetNumberOfControlPoints())])


def index_of(node, ras: np.ndarray) -> np.ndarray:
    """Continuous voxel index of RAS world positions, by Slicer's own classes alone."""
    to_local, matrix = vtk.vtkGeneralTransform(), vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, node.GetParentTransformNode(), to_local)
    node.GetRASToIJKMatrix(matrix)
    return np.array([matrix.MultiplyPoint([*to_local.TransformPoint(p), 1.0])[:3] for p in ras])


@pytest.mark.parametrize("transform", [None, *LINEAR])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_points_lie_on_the_slice_wherever_it_is_in_the_world(scene, detector, geometry, transform):
    node = add_volume(scene, PIXELS, GEOMETRIES[geometry])
    if transform:
        node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR[transform]).GetID())
    found = detector.detect(volume_from_node(node))
    point_list = show_detection(found, node, "tiny-radiograph@1.0.0", "found")
    assert landmarks_from_point_list(point_list).names == NAMES
    index = index_of(node, points_in_ras(point_list))
    np.testing.assert_allclose(index[:, 2], 0, atol=1e-9)
    assert (index[:, :2] > -16).all() and (index[:, :2] < np.array(PIXELS.shape[:2]) + 16).all()


def test_a_radiograph_of_the_scene_and_its_file_have_the_same_points(scene, detector, tmp_path):
    """Slicer flips left-handed files on load: pixels may be numbered otherwise, positions are the same."""
    volume, _ = radiograph(1, plane="sagittal")
    write_volume(tmp_path / "film.nrrd", volume)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(tmp_path / "film.nrrd"))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert storage.ReadData(node)
    in_scene = detector.detect(volume_from_node(node)).positions
    in_file = detector.detect(read_volume(tmp_path / "film.nrrd")).positions
    np.testing.assert_allclose(in_scene, in_file, atol=1e-4)
