"""A scan of a folder and what a run on many scans found in it, brought into the scene."""

from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.core.geometry import canonical
from H3DELandmarksLib.formats.provenance import read_provenance, with_causes
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.scene import own_volume_from_node, show_detection, world_position_of
from H3DELandmarksPanel.CasesFolder import loadScan

LPS_FROM_RAS = (-1.0, -1.0, 1.0)


def loadResult(folder, scan):
    """Load a scan and its points.

    Args:
        folder: Path of the results.
        scan: CohortScan that has results.

    Returns:
        vtkMRMLScalarVolumeNode, vtkMRMLMarkupsFiducialNode.

    Raises:
        InputError: the scan or the results are gone, damaged, or of another scan.
    """
    path = Path(scan.scan)
    volumeNode = loadScan(_fileOfSeries(path, scan.series), PurePath(scan.name).name, path.is_dir())
    try:
        return volumeNode, showPoints(folder, scan, volumeNode)
    except Exception:
        slicer.mrmlScene.RemoveNode(volumeNode)
        raise


def showPoints(folder, scan, volumeNode):
    """Put the points of a scan into the scene of its volume; arguments, result and errors as for `loadResult`."""
    files = scan.outputs
    origin = read_provenance(folder / files.provenance)
    if origin.scan and not _isScan(volumeNode, origin.scan):
        raise InputError(
            _(
                "Slicer reads '{path}' in another size than that of the result: the file was changed, or holds several "
                "series. Load the scan yourself and detect again."
            ).format(path=scan.scan)
        )
    landmarks = with_causes(read_markups(folder / files.markups), origin)
    landmarks = replace(landmarks, positions=[_placed(volumeNode, position) for position in landmarks.positions])
    name = _("{volume} {model} landmarks").format(volume=volumeNode.GetName(), model=scan.model.id)
    model = f"{scan.model.id}@{scan.model.version}"
    return show_detection(landmarks, volumeNode, model, name, pairs=_pairs(model), provenance=origin)


def _fileOfSeries(path, series):
    """A file of the DICOM series of a folder that was read: the named one, else that with most files."""
    if not path.is_dir():
        return path
    reader = sitk.ImageSeriesReader
    known = reader.GetGDCMSeriesIDs(str(path))
    lists = [reader.GetGDCMSeriesFileNames(str(path), one) for one in known if series in (None, one)]
    files = max(lists, key=len, default=())
    return Path(files[0]) if files else path


def _isScan(volumeNode, origin):
    """Whether a volume node has the shape and voxel size of a ScanOrigin."""
    volume = canonical(own_volume_from_node(volumeNode))
    isShape = volume.array.shape == origin.shape
    return isShape and np.allclose(volume.grid.spacing, origin.spacing_mm, rtol=1e-3)


def _placed(volumeNode, position):
    """LPS world mm of a position in LPS mm of the scan, which somebody may have moved since it was loaded."""
    return world_position_of(volumeNode, position) * LPS_FROM_RAS


def _pairs(model):
    try:
        return find_model(model).scheme.pairs
    except H3DELandmarksError:  # it is not on this computer any more
        return ()
