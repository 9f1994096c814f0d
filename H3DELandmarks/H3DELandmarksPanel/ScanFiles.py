"""A scan of a folder and what a run on many scans found in it, brought into the scene."""

from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.cohort.log import content_digest
from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.core.geometry import canonical
from H3DELandmarksLib.core.landmarks import SAME_PLACE_MM
from H3DELandmarksLib.formats.provenance import read_provenance, with_causes
from H3DELandmarksLib.io.dicom import files_of_series
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.scene import own_volume_from_node, show_detection, world_position_of
from H3DELandmarksPanel.CasesFolder import loadScan
from H3DELandmarksPanel.ModelChoice import modelKey

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
    if scan.content and content_digest(path) not in (None, scan.content):
        raise InputError(
            _("The scan '{path}' has changed since landmarks were found in it: detect again.").format(path=scan.scan)
        )
    isSeries = path.is_dir()
    file = files_of_series(path, scan.series)[0] if isSeries else path
    volumeNode = loadScan(file, PurePath(scan.name).name, isSeries)
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
    now = with_causes(read_markups(folder / files.markups), origin)
    proposed = replace(now, positions=[_proposed(origin, *point) for point in zip(now.names, now.positions)])
    name = _("{volume} {model} landmarks").format(volume=volumeNode.GetName(), model=scan.model.id)
    model = modelKey(scan.model)
    proposed, now = _placed(volumeNode, proposed), _placed(volumeNode, now)
    pointList = show_detection(proposed, volumeNode, model, name, pairs=_pairs(model), provenance=origin)
    for k in np.flatnonzero(np.linalg.norm(now.positions - proposed.positions, axis=1) > SAME_PLACE_MM):
        pointList.SetNthControlPointPositionWorld(int(k), *(now.positions[k] * LPS_FROM_RAS))
    return pointList


def _isScan(volumeNode, origin):
    """Whether a volume node has the shape and voxel size of a ScanOrigin."""
    volume = canonical(own_volume_from_node(volumeNode))
    isShape = volume.array.shape == origin.shape
    return isShape and np.allclose(volume.grid.spacing, origin.spacing_mm, rtol=1e-3)


def _proposed(origin, name, position):
    """Where the model saw a point that somebody may have moved in the file; LPS mm."""
    point = origin.by_name().get(name)
    return point.proposed_lps_mm if point and point.proposed_lps_mm and np.isfinite(position).all() else position


def _placed(volumeNode, landmarks):
    """Landmarks in LPS world mm from LPS mm of the scan, which somebody may have moved since it was loaded."""
    placed = [world_position_of(volumeNode, position) * LPS_FROM_RAS for position in landmarks.positions]
    return replace(landmarks, positions=placed)


def _pairs(model):
    try:
        return find_model(model).scheme.pairs
    except H3DELandmarksError:  # it is not on this computer any more
        return ()
