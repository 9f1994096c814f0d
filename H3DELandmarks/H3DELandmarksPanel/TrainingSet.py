"""The training set in a folder of the user's choice: whether it can be used, what it holds, adding cases to it."""

import logging
import threading
from pathlib import Path

import qt
import slicer.util
from slicer.i18n import tr as _

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, create_project, open_project
from H3DELandmarksLib.cases.store import read_index
from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.models import find_model
from H3DELandmarksPanel.CommandRun import RunState

SETTING = "H3DELandmarks/TrainingSetFolder"
OWN_SCHEME = ("own-landmarks", "1")
SECONDS_TO_YIELD = 0.02
DECIDED = frozenset(state.value for state in ReviewState if state.is_decided)


class TrainingSet:
    """A project of corrected cases in a folder, which may not exist yet.

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
        """Whether the folder holds a training set; one that is just being made does not count yet."""
        return bool(self.folder) and self.path.is_absolute() and any((self.path / "schemes").glob("[0-9]*"))

    def whyUnusable(self):
        """One sentence about why nothing can be added here, empty where something can."""
        if not self.folder:
            return _("Choose a folder for the training set first.")
        if not self.path.is_absolute():
            return _("Give the whole path of the training set's folder, or choose it.")
        try:
            return self._whyUnusable()
        except OSError:
            return _("The folder of the training set cannot be read: check the permission, or choose another one.")

    def _whyUnusable(self):
        if self.exists():
            return ""
        if self.path.is_dir():
            others = [path for path in self.path.iterdir() if not path.name.startswith(".")]
            if others:
                return _("This folder holds other files: choose that of a training set, or an empty one for a new set.")
            return ""
        if self.path.exists() or not self.path.parent.is_dir():
            return _("There is no such folder: choose one, or type the name of a new one.")
        return ""

    def project(self):
        """The CaseProject; raises InputError where there is none."""
        return open_project(self.path)

    def summary(self):
        """One sentence about what the training set holds."""
        reason = self.whyUnusable()
        if reason or not self.exists():
            return reason or _("No training set is here yet: the first case that you add starts one.")
        try:
            cases = read_index(self.project())
        except H3DELandmarksError as error:
            return str(error)
        reviewed = sum(set(case.states) <= DECIDED for case in cases)
        if len(cases) == 1:
            return _("The set has 1 case, reviewed completely.") if reviewed else _("The set has 1 case to finish.")
        return _("The set has {count} cases, {reviewed} of them reviewed completely.").format(
            count=len(cases), reviewed=reviewed
        )


def schemeFor(case, package):
    """The landmarks of a new training set that begins with a case.

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
    """What a ReviewedCase says of a project's landmarks.

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
    return [
        CaseLandmark.from_sets(names[k], case.states[case.corrected.names[k]], case.corrected, case.proposed, k)
        for k in known
    ], leftOut


class AddingRun:
    """Adding a case in a thread: voxels are compressed and read back, which takes seconds.

    Attributes:
        state: a RunState.
        stage: what is being done, or, after a failure, one sentence about it.
        added: what the project says, after success.
        leftOut: names of points that are not in the training set's scheme.
    """

    fraction, remaining, warnings = None, None, ()

    def __init__(self, trainingSet, case, package):
        """Begin.

        Args:
            trainingSet: TrainingSet; one that does not exist yet is started.
            case: ReviewedCase.
            package: ModelPackage whose scheme a new training set may take, None for none.
        """
        self.state, self.stage = RunState.RUNNING, _("Adding the case")
        self.case, self.added, self.leftOut = case, None, []
        self._set, self._package, self._error = trainingSet, package, None
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
            exists = self._set.exists()
            project = self._set.project() if exists else create_project(self._set.path, schemeFor(case, self._package))
            landmarks, self.leftOut = caseLandmarks(project, case)
            if not landmarks:
                raise InputError(
                    _("No point has a name of this training set: choose another folder, or rename the points.")
                )
            self.added = project.add(case.volume, landmarks, ModelName.parse(case.model) if case.model else None)
            read_index(project)
        except Exception as error:
            self._error = error
