"""The corrected cases in a folder of the user's choice: what it holds, adding cases, bringing them into the scene."""

import logging
import threading
from copy import copy
from pathlib import Path

import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, create_project, open_project
from H3DELandmarksLib.cases.examples import ExampleSet
from H3DELandmarksLib.cases.store import content_of, read_index
from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.run import list_runs
from H3DELandmarksLib.io.dicom import files_of_series
from H3DELandmarksLib.models import available_models, find_model
from H3DELandmarksLib.scene import find_case, has_lost_scan, rejoin_scan, show_case, world_position_of
from H3DELandmarksPanel.CommandRun import RunState
from H3DELandmarksPanel.ModelChoice import modelKey

SETTING = "H3DELandmarks/TrainingSetFolder"  # the name that earlier versions wrote
OWN_SCHEME = ("own-landmarks", "1")
SECONDS_TO_YIELD = 0.02
SETTLED = frozenset(state.value for state in ReviewState if not state.is_waiting)


class CasesFolder:
    """Corrected cases in a folder, which may not exist yet.

    Attributes:
        folder: as the user has typed or chosen it.
    """

    def __init__(self):
        """Begin with the folder that was used last, on this computer and in whatever scene."""
        self.folder = slicer.util.settingsValue(SETTING, "")

    def setFolder(self, folder):
        """Use another folder."""
        self.folder = folder
        if not folder or not self.whyUnusable():
            qt.QSettings().setValue(SETTING, folder)

    @property
    def path(self):
        """The folder as a Path."""
        return Path(self.folder)

    def exists(self):
        """Whether the folder holds cases; one that is just being made does not count yet."""
        try:
            return bool(self.folder) and self.path.is_absolute() and any((self.path / "schemes").glob("[0-9]*"))
        except OSError:  # `whyUnusable` tells it
            return False

    def whyUnusable(self):
        """One sentence about why nothing can be added here, empty where something can."""
        if not self.folder:
            return _("Choose a folder for the cases first.")
        if not self.path.is_absolute():
            return _("Give the whole path of the folder, or choose it.")
        try:
            return self._whyUnusable()
        except OSError:
            return _("The folder of the cases cannot be read: check the permission, or choose another one.")

    def _whyUnusable(self):
        if self.exists():
            return ""
        if self.path.is_dir():
            others = [path for path in self.path.iterdir() if not path.name.startswith(".")]
            if others:
                return _("This folder holds other files: choose one that holds cases, or an empty one for new cases.")
            return ""
        if self.path.exists() or not self.path.parent.is_dir():
            return _("There is no such folder: choose one, or type the name of a new one.")
        return ""

    def project(self):
        """The CaseProject; raises InputError where there is none."""
        return open_project(self.path)

    def runs(self):
        """The RunFolder of each retraining with these cases, the newest first."""
        return list_runs(self._runsFolder) if self.exists() else []

    def newRunFolder(self):
        """A folder for the next retraining, which does not exist yet."""
        number = 1
        while (self._runsFolder / f"run-{number:03d}").exists():
            number += 1
        return self._runsFolder / f"run-{number:03d}"

    @property
    def _runsFolder(self):
        """Retrainings lie beside the folder, since only cases are kept in it."""
        return self.path.parent / f"{self.path.name}-runs"

    def count(self):
        """How many cases the folder holds; 0 where it cannot be read."""
        try:
            return len(read_index(self.project())) if self.exists() else 0
        except H3DELandmarksError:
            return 0

    def examples(self):
        """The ExampleSet of the cases, None where there is none or a model finds these landmarks."""
        try:
            found = ExampleSet.of(self.project()) if self.exists() else None
        except H3DELandmarksError:
            return None
        known = [entry.package.scheme.names for entry in available_models() if entry.package]
        return None if found is None or found.scheme.names in known else found

    def summary(self):
        """One sentence about what the folder holds."""
        reason = self.whyUnusable()
        if reason or not self.exists():
            return reason or _("No cases are here yet: add the first one.")
        try:
            cases = read_index(self.project())
        except H3DELandmarksError as error:
            return str(error)
        reviewed = sum(set(case.states) <= SETTLED for case in cases)
        if len(cases) == 1:
            return (
                _("The folder holds 1 case, reviewed completely.")
                if reviewed
                else _("The folder holds 1 case to finish.")
            )
        return _("The folder holds {count} cases, {reviewed} of them reviewed completely.").format(
            count=len(cases), reviewed=reviewed
        )


def schemeFor(case, package):
    """The landmarks of a new folder that begins with a case.

    Args:
        case: ReviewedCase.
        package: ModelPackage that is chosen in the panel, None for none.

    Returns:
        The scheme of the model that has proposed the points; where nobody knows it, that of `package` if it has such
        points, else one of the names of the points.
    """
    try:
        return find_model(case.model).scheme if case.model else _shared(case, package) or _ownScheme(case)
    except H3DELandmarksError:  # the model is not on this computer
        return _shared(case, package) or _ownScheme(case)


def _shared(case, package):
    return package.scheme if package and set(package.scheme.names) & set(case.corrected.names) else None


def _ownScheme(case):
    return LandmarkScheme(*OWN_SCHEME, tuple(LandmarkDefinition(name, "") for name in case.corrected.names))


def caseLandmarks(project, case):
    """What a ReviewedCase says of the landmarks of a folder's cases.

    Args:
        project: CaseProject; names of older versions of its scheme are understood.
        case: ReviewedCase.

    Returns:
        CaseLandmarks, and the names of points that the project has no landmark for.
    """
    history = project.history()
    names = history.renamed(case.corrected).names
    known = [k for k, name in enumerate(names) if name in history.newest.names]
    leftOut = [name for name in names if name not in history.newest.names]
    own = case.corrected.names
    renamed = {own[k]: names[k] for k in known}

    def landmark(k):
        found = CaseLandmark.from_sets(names[k], case.states[own[k]], case.corrected, case.proposed, k)
        return found.revised(case.revised_by.get(own[k]), renamed)

    return [landmark(k) for k in known], leftOut


class AddingRun:
    """Adding a case in a thread: voxels are compressed and read back, which takes seconds.

    Attributes:
        state: a RunState.
        stage: what is being done, or, after a failure, one sentence about it.
        added: what the project says, after success.
        leftOut: names of points that the folder's cases have no landmark for.
        isOtherScan: whether the voxels are others than those that landmarks were found in, after success.
        folder: the CasesFolder as it was at the beginning; another one may be chosen meanwhile.
    """

    fraction, remaining, warnings = None, None, ()

    def __init__(self, casesFolder, case, package, found=None):
        """Begin.

        Args:
            casesFolder: CasesFolder; one that does not exist yet is started.
            case: ReviewedCase.
            package: ModelPackage whose landmarks a new folder may take, None for none.
            found: (digest of the voxels that landmarks were found in, Volume in the world), None where nobody knows.
        """
        self._found, self.isOtherScan = found, False
        self.state, self.stage = RunState.RUNNING, _("Adding the case")
        self.case, self.added, self.leftOut = case, None, []
        self.folder, self._package, self._error = copy(casesFolder), package, None
        self._thread = threading.Thread(target=self._add, daemon=True)
        self._thread.start()

    def poll(self):
        """Take note of what has happened since the last call."""
        if self.state is not RunState.RUNNING:
            return
        self._thread.join(SECONDS_TO_YIELD)  # Slicer's event loop may hold Python's lock: let the thread have it
        if self._thread.is_alive():
            return
        if self._error is None:
            self.state = RunState.SUCCEEDED
            return
        self.state, self.stage = RunState.FAILED, str(self._error)
        if not isinstance(self._error, H3DELandmarksError):
            logging.error("adding a case failed", exc_info=self._error)
            self.stage = _("The case could not be added ({reason}): see the application log.").format(
                reason=type(self._error).__name__
            )

    def cancel(self):
        """Wait for it no longer; the case is added completely or not at all."""
        self.state = RunState.CANCELLED

    def _add(self):
        try:
            case = self.case
            exists = self.folder.exists()
            project = (
                self.folder.project() if exists else create_project(self.folder.path, schemeFor(case, self._package))
            )
            landmarks, self.leftOut = caseLandmarks(project, case)
            if not landmarks:
                raise InputError(
                    _("No point is named as in the cases of this folder: choose another folder, or rename the points.")
                )
            self.added = project.add(case.volume, landmarks, ModelName.parse(case.model) if case.model else None)
            read_index(project)
            self.isOtherScan = self._found is not None and self._isOther(*self._found)
        except Exception as error:
            self._error = error

    def _isOther(self, digest, inWorld):
        """A scan that is turned has its axes in another order in the world than in the case."""
        return digest[:16] not in self.added.case and content_of(inWorld).digest != digest


def shortCaseName(caseId):
    """How the panel calls a case: enough of its id to tell cases apart."""
    return caseId[: len("case-") + 6]


def bringCase(context, project, caseId, landmark=None, position=None):
    """Show a case; its volume and points are loaded unless the scene has them.

    Args:
        context: PanelContext.
        project: CaseProject.
        caseId: id of the case.
        landmark: name of the landmark to look at, None for none.
        position: (3,) LPS mm of the scan to look at where the landmark has no position, or None.

    Raises:
        InputError: the case is damaged, or its scan cannot be loaded.
    """
    files = project.case(caseId)
    volumeNode, pointList = find_case(slicer.mrmlScene, caseId, project.folder, files.content())
    if volumeNode is None:
        volumeNode = _load(files)
    if pointList is None:
        pointList = _points(project, files, volumeNode)
    elif has_lost_scan(pointList):
        rejoin_scan(pointList, volumeNode)
    place = None if position is None else world_position_of(volumeNode, position)
    context.show(volumeNode, pointList, landmark, place)


def loadScan(path, name, isSeries=None):
    """Load a scan and show it; the vtkMRMLScalarVolumeNode.

    Args:
        path: Path of a file, or of a folder with DICOM files, of whose series the one with most slices is meant.
        name: of the node.
        isSeries: whether a file stands for the series that it belongs to; by default only a folder does.

    Raises:
        InputError: Slicer cannot load it.
    """
    isSeries = path.is_dir() if isSeries is None else isSeries
    file = files_of_series(path)[0] if path.is_dir() else path
    if not file.is_file():
        raise InputError(_("The scan '{path}' is not there any more: choose another one.").format(path=path))
    try:
        return slicer.util.loadVolume(str(file), {"name": name, "show": True, "singleFile": not isSeries})
    except RuntimeError as error:
        raise InputError(_("The scan '{path}' cannot be loaded.").format(path=path)) from error


def _load(files):
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
    model = "" if revision.model is None else modelKey(revision.model)
    states = {name: landmark.state for name, landmark in by_name.items()}
    revised = {name: landmark.revised_by for name, landmark in by_name.items() if landmark.revised_by}
    return show_case(volumeNode, files.id, corrected, proposed, states, model, scheme.pairs, revised, project.folder)
