"""Which gray values a volume shows: windows for bone, teeth and soft tissue, and a surface of the bone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.scene.views import add_aid, remove_aid
from H3DELandmarksLib.scene.volumes import without_voxels

AIR_HU, BONE_HU = -500.0, 500.0
SURFACE_HU = 300.0
SURFACE_TAG = "H3DELandmarksSurface"
SURFACE_NAME = "H3DELandmarks bone surface"
MAX_SURFACE_SIDE = 160
SMOOTHING_VOXELS = 0.7
MAX_SAMPLES = 500_000
MIN_SLICES = 8
MAX_BONE_SHARE = 0.2


@dataclass(frozen=True)
class Window:
    """Gray values that a view tells apart.

    Attributes:
        width, level: of the window, in the units of the voxels.
    """

    width: float
    level: float


# Hounsfield units; bone and soft tissue as radiologists set them, teeth with enamel (about 3000 HU) below white.
HOUNSFIELD_WINDOWS = {
    "bone": Window(2000.0, 500.0),
    "teeth": Window(4000.0, 1500.0),
    "soft tissue": Window(400.0, 50.0),
}
# Percentiles of the voxels above the lowest value, for scans of other units.
PERCENTILE_WINDOWS = {"bone": (50.0, 99.9), "teeth": (75.0, 100.0), "soft tissue": (2.0, 80.0)}


def window_for(tissue: str, values: np.ndarray) -> Window:
    """The window for a tissue.

    Args:
        tissue: bone, teeth or soft tissue.
        values: voxels of a scan, any shape.

    Returns:
        In Hounsfield units where the values can be such, else from their percentiles.
    """
    sample = _sample(values)
    if _can_be_hounsfield(sample):
        return HOUNSFIELD_WINDOWS[tissue]
    low, high = np.percentile(_above_background(sample), PERCENTILE_WINDOWS[tissue])
    return Window(float(max(high - low, 1e-6)), float(low + high) / 2)


def show_window(volume_node, tissue: str) -> None:
    """Show a tissue of a vtkMRMLScalarVolumeNode.

    Raises:
        InputError: it has no voxels.
    """
    if volume_node.GetImageData() is None:
        raise InputError(without_voxels(volume_node))
    window = window_for(tissue, _voxels(volume_node))
    volume_node.CreateDefaultDisplayNodes()
    display = volume_node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window.width, window.level)


def surface_level(values: np.ndarray) -> float:
    """The value at which bone begins.

    300 HU; where values are no Hounsfield units, the threshold of Otsu (1979), once more above it where that has only
    told the body from air, as more than a fifth of the voxels lie above.
    """
    sample = _sample(values)
    if _can_be_hounsfield(sample):
        return SURFACE_HU
    level = _otsu(_above_background(sample))
    above = sample[sample > level]
    return _otsu(above) if len(above) > MAX_BONE_SHARE * len(sample) else level


def show_surface(volume_node) -> None:
    """Show the bone of a scan in the 3D views, coarsely and translucently; at most one surface is shown.

    Args:
        volume_node: vtkMRMLScalarVolumeNode under any linear transform; a single slice or few have no surface.
    """
    scene, image = volume_node.GetScene(), volume_node.GetImageData()
    hide_surface(scene)
    if image is None or min(image.GetDimensions()) < MIN_SLICES:
        return
    node = add_aid(scene, SURFACE_NAME, SURFACE_TAG, (0.93, 0.88, 0.76), 0.35)
    node.SetAndObserveMesh(_surface(volume_node, surface_level(_voxels(volume_node))))
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())


def hide_surface(scene) -> None:
    """Show no surface any more."""
    remove_aid(scene, SURFACE_TAG)


def _surface(volume_node, level: float):
    """vtkPolyData in RAS mm of the volume node's own geometry, of at most 160 voxels a side."""
    image = volume_node.GetImageData()
    shrink = vtk.vtkImageShrink3D()
    shrink.SetInputData(image)
    shrink.SetShrinkFactors(*(max(1, -(-size // MAX_SURFACE_SIDE)) for size in image.GetDimensions()))
    smooth = vtk.vtkImageGaussianSmooth()
    smooth.SetInputConnection(shrink.GetOutputPort())
    smooth.SetStandardDeviation(SMOOTHING_VOXELS)
    edges = vtk.vtkFlyingEdges3D()
    edges.SetInputConnection(smooth.GetOutputPort())
    edges.SetValue(0, level)
    edges.ComputeScalarsOff()
    matrix, to_ras = vtk.vtkMatrix4x4(), vtk.vtkTransform()
    volume_node.GetIJKToRASMatrix(matrix)
    to_ras.SetMatrix(matrix)
    turn = vtk.vtkTransformPolyDataFilter()
    turn.SetInputConnection(edges.GetOutputPort())
    turn.SetTransform(to_ras)
    turn.Update()
    return turn.GetOutput()


def _voxels(volume_node) -> np.ndarray:
    return vtk_to_numpy(volume_node.GetImageData().GetPointData().GetScalars())


def _sample(values: np.ndarray) -> np.ndarray:
    """At most half a million of the values, evenly chosen, that are numbers; one 0 where none is."""
    flat = np.ravel(values)
    sample = flat[:: max(1, len(flat) // MAX_SAMPLES)].astype(np.float64)
    known = sample[np.isfinite(sample)]
    return known if len(known) else np.zeros(1)


def _can_be_hounsfield(sample: np.ndarray) -> bool:
    """Whether there are values of air and of bone."""
    return bool(sample.min() <= AIR_HU and np.percentile(sample, 99.9) >= BONE_HU)


def _above_background(sample: np.ndarray) -> np.ndarray:
    """The values but for the lowest, which fills what no detector saw; all of them where there is one value only."""
    rest = sample[sample > sample.min()]
    return rest if len(rest) else sample


def _otsu(sample: np.ndarray) -> float:
    """The threshold that leaves the least variance within what lies below and above it."""
    import SimpleITK as sitk

    threshold = sitk.OtsuThresholdImageFilter()
    threshold.Execute(sitk.GetImageFromArray(sample[None]))
    return float(threshold.GetThreshold())
