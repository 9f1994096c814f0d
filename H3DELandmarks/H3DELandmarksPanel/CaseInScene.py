"""Bringing a case of the training set into the scene, with its points ready for review."""

import slicer
import slicer.util
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.scene import find_case, show_case, world_position_of


def shortCaseName(caseId):
    """How the panel calls a case: enough of its id to tell a set's cases apart."""
    return caseId[: len("case-") + 6]


def bringCase(desk, project, caseId, landmark=None, position=None):
    """Show a case; its volume and points are loaded unless the scene has them.

    Args:
        desk: Desk.
        project: CaseProject.
        caseId: id of the case.
        landmark: name of the landmark to look at, None for none.
        position: (3,) LPS mm of the scan to look at where the landmark has no position, or None.

    Raises:
        InputError: the case is damaged, or its scan cannot be loaded.
    """
    volumeNode, pointList = find_case(slicer.mrmlScene, caseId)
    files = project.case(caseId)
    if volumeNode is None:
        volumeNode = _load(files)
    if pointList is None:
        pointList = _points(project, files, volumeNode)
    place = None if position is None else world_position_of(volumeNode, position)
    desk.show(volumeNode, pointList, landmark, place)


def loadScan(path, name):
    """Load a scan and show it; the vtkMRMLScalarVolumeNode.

    Args:
        path: Path of a file, or of a folder with the files of one DICOM series.
        name: of the node.

    Raises:
        InputError: Slicer cannot load it.
    """
    isSeries = path.is_dir()
    file = next((p for p in sorted(path.rglob("*")) if p.is_file()), path) if isSeries else path
    if not file.is_file():
        raise InputError(_("The scan '{path}' is not there any more: choose another one.").format(path=path))
    try:
        return slicer.util.loadVolume(str(file), {"name": name, "show": True, "singleFile": not isSeries})
    except RuntimeError as error:
        raise InputError(_("The scan '{path}' cannot be loaded.").format(path=path)) from error


def _load(files):
    files.content()  # raises where the case is damaged
    return loadScan(files.image, shortCaseName(files.id))


def _points(project, files, volumeNode):
    """The point list of the newest review, as the newest version of the scheme sees it."""
    history = project.history()
    revision, scheme = history.now(files.revision()), history.newest
    proposed = revision.proposed(scheme)
    by_name = {landmark.name: landmark for landmark in revision.landmarks}
    nowhere = (float("nan"),) * 3
    found = [by_name.get(name) for name in scheme.names]
    corrected = LandmarkSet(scheme.names, [nowhere if p is None or p.position is None else p.position for p in found])
    model = "" if revision.model is None else f"{revision.model.id}@{revision.model.version}"
    states = {name: landmark.state for name, landmark in by_name.items()}
    return show_case(volumeNode, files.id, corrected, proposed, states, model, scheme.pairs)
