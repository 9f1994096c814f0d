"""Volumes and regions of interest of the scene as those of the library, and the frames of sequences."""

from __future__ import annotations

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from H3DELandmarksLib.cases.examples import EXAMPLES, ExampleSet
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.image_plane import why_other_kind
from H3DELandmarksLib.core.region import Region, region_around
from H3DELandmarksLib.detection.examples import why_other_kind as unlike_examples
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.models.fit import ScanFacts
from H3DELandmarksLib.scene.point_list import (
    LPS_FROM_RAS,
    landmarks_from_point_list,
    lps_from_ras,
    matrix_to_world,
    node_position,
    nodes_of,
)

REGION_VOLUME = "H3DELandmarks.RegionVolume"
BROWSER_CLASS = "vtkMRMLSequenceBrowserNode"


def current_frame(volume_node) -> str:
    """Which frame of a sequence a volume shows now, such as ``time 2.5 s``; empty for a volume outside sequences.

    Args:
        volume_node: any volume node of a scene, also the proxy node of a sequence browser.
    """
    for browser in nodes_of(volume_node.GetScene(), BROWSER_CLASS):
        sequence, item = browser.GetSequenceNode(volume_node), browser.GetSelectedItemNumber()
        if sequence is not None and 0 <= item < sequence.GetNumberOfDataNodes():
            return _frame_name(sequence, item)
    return ""


def select_frame(volume_node, frame: str) -> None:
    """Let a volume show a frame of its sequence again, named as `current_frame` does; another name changes nothing."""
    for browser in nodes_of(volume_node.GetScene(), BROWSER_CLASS):
        sequence = browser.GetSequenceNode(volume_node)
        for item in range(sequence.GetNumberOfDataNodes() if sequence is not None else 0):
            if _frame_name(sequence, item) == frame:
                browser.SetSelectedItemNumber(item)


def _frame_name(sequence, item: int) -> str:
    words = (sequence.GetIndexName(), sequence.GetNthIndexValue(item), sequence.GetIndexUnit())
    return " ".join(word for word in words if word)


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
    return Volume(array, LPS_FROM_RAS @ own_from_voxels(node))


def voxel_time(node) -> int:
    """When the voxels of a volume node were changed last, to be compared with what an earlier call gave."""
    return node.GetImageData().GetMTime()


def world_from_own(node) -> np.ndarray:
    """(4, 4) LPS mm of a volume node's own geometry -> LPS world mm; raises InputError where a warp lies between."""
    to_world = matrix_to_world(node)
    if to_world is None:
        raise InputError(why_unusable(node))
    return LPS_FROM_RAS @ to_world @ LPS_FROM_RAS


def why_unusable(node) -> str:
    """One sentence about why landmarks cannot be searched in a volume node, empty where they can."""
    name = node.GetName()
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return without_voxels(node)
    if image.GetNumberOfScalarComponents() != 1:
        return f"The volume '{name}' has several values per voxel (color or vector): convert it to a scalar volume."
    if matrix_to_world(node) is None:
        return f"The volume '{name}' is under a nonlinear transform: harden the transform on it first."
    return ""


def without_voxels(node) -> str:
    """The sentence about a volume node that has no voxels, as of a scene whose files are gone."""
    return f"The volume '{node.GetName()}' has no voxels: load the scan again."


def why_not_for_model(node, package: ModelPackage | ExampleSet) -> str:
    """One sentence about why a model reads no volume node of that kind (radiograph or volume), empty where it does.

    Args:
        node: vtkMRMLScalarVolumeNode with voxels.
        package: the model, or examples.
    """
    shape = node.GetImageData().GetDimensions()
    if package.id == EXAMPLES:
        return unlike_examples(package.is_2d, 1 in shape)
    return why_other_kind(package.id, package.is_2d, shape)


def exceeds_spacing(volume: Volume, package: ModelPackage | ExampleSet) -> bool:
    """Whether the voxels of a scan, or the pixels of one slice, are coarser than those that a model was made for."""
    if isinstance(package, ExampleSet):
        return False
    limit = package.manifest.max_spacing_mm
    edges = volume.spacing[np.array(volume.array.shape) > 1] if package.is_2d else volume.spacing
    return limit is not None and bool(edges.max() > limit)


def scan_facts(node) -> ScanFacts:
    """What the header of a volume node says, to judge which models fit.

    Args:
        node: vtkMRMLScalarVolumeNode with voxels.
    """
    # GetSubjectHierarchyNode would add a node to a scene that has none.
    hierarchy = node.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    attribute = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    modality = hierarchy.GetItemAttribute(item, attribute) if item else ""
    return ScanFacts(tuple(node.GetImageData().GetDimensions()), tuple(node.GetSpacing()), modality)


def own_from_voxels(node) -> np.ndarray:
    """(4, 4) from voxel indices of a volume node to RAS mm of its own geometry."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def region_from_node(node) -> Region:
    """The box of a vtkMRMLMarkupsROINode as it lies in the world, under any linear parent transform.

    Raises:
        InputError: the box has no volume, or a nonlinear transform bends it.
    """
    ras_from_node = matrix_to_world(node)
    if ras_from_node is None:
        raise InputError(f"The region '{node.GetName()}' is under a nonlinear transform: take it out of that first.")
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
    local = found.positions.copy()
    for k in np.flatnonzero(found.present):
        local[k] = node_position(node, lps_from_ras(found.positions[k]))
    region = region_around(found.with_positions(local), margin_mm)
    if region is None:
        return False
    node.GetObjectToNodeMatrix().Identity()
    node.CreateDefaultDisplayNodes()
    node.SetCenter(*region.affine[:3, 3])
    node.SetSize(*np.diag(region.affine)[:3])
    return True


def bind_region(node, volume_node) -> None:
    """Let a vtkMRMLMarkupsROINode belong to a volume, drawn as an outline that hides nothing of it."""
    give_region(node, volume_node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetFillVisibility(False)
    display.SetPropertiesLabelVisibility(False)
    display.SetVisibility(True)


def give_region(node, volume_node) -> None:
    """Let a vtkMRMLMarkupsROINode belong to a volume, drawn as it is."""
    if node.GetNodeReferenceID(REGION_VOLUME) != volume_node.GetID():
        node.SetNodeReferenceID(REGION_VOLUME, volume_node.GetID())


def has_volume(node) -> bool:
    """Whether a vtkMRMLMarkupsROINode belongs to a volume, which may be gone."""
    return bool(node.GetNodeReferenceID(REGION_VOLUME))


def is_region_of_other(node, volume_node) -> bool:
    """Whether a vtkMRMLMarkupsROINode belongs to another volume than this one, or to one that is gone.

    Args:
        node: the region.
        volume_node: None where no volume is chosen.
    """
    if volume_node is None:
        return has_volume(node) and node.GetNodeReference(REGION_VOLUME) is None
    return has_volume(node) and node.GetNodeReferenceID(REGION_VOLUME) != volume_node.GetID()


def why_region_misses(node, volume_node) -> str:
    """One sentence about why nothing can be searched in a region of a volume, empty where it can."""
    try:
        region_from_node(node).crop(volume_from_node(volume_node))
    except InputError as error:
        return str(error)
    return ""
