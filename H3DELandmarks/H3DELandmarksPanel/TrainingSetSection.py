"""The part of the panel that keeps corrected cases: the folder, adding the case at hand, what the set holds."""

import ctk
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.scene import remember_case, reviewed_case
from H3DELandmarksPanel.RunWatch import RunWatch
from H3DELandmarksPanel.TrainingSet import AddingRun, TrainingSet


class TrainingSetSection:
    """Connects the widgets at the top of the section "Training set"."""

    def __init__(self, ui, desk, onChange):
        """Connect.

        Args:
            ui: the widgets by name.
            desk: Desk.
            onChange: called without arguments when there is another training set, or a case more in it.
        """
        self._ui, self._desk, self._onChange = ui, desk, onChange
        self.trainingSet = TrainingSet()
        self._nodes = None  # (volume, point list) of the case that is being added
        ui.trainingSetPath.filters = ctk.ctkPathLineEdit.Dirs
        ui.trainingSetPath.currentPath = self.trainingSet.folder
        ui.trainingSetLabel.text = self.trainingSet.summary()
        self.watch = RunWatch(ui.addProgressBar, ui.trainingSetLabel, None, self._onAdded, self._onRunChanged)
        ui.trainingSetPath.connect("currentPathChanged(QString)", self.onFolderChosen)
        ui.addCaseButton.connect("clicked(bool)", self.onAdd)

    def onFolderChosen(self, folder):
        """Use the training set in another folder."""
        self.trainingSet.setFolder(folder.strip())
        self._ui.trainingSetLabel.text = self.trainingSet.summary()
        self._onChange()

    def refresh(self):
        """Say whether the case at hand can be added."""
        reason = self._whyNot()
        self._ui.addCaseButton.enabled = not reason
        self._ui.addCaseButton.toolTip = reason or _(
            "Keep '{volume}' with the points '{points}' for training, without names, dates or DICOM tags"
        ).format(volume=self._desk.volume.GetName(), points=self._desk.pointList.GetName())
        self._ui.trainingSetPath.enabled = not self.watch.isRunning

    def _whyNot(self):
        if self.watch.isRunning:
            return _("A case is being added.")
        if self.trainingSet.whyUnusable():
            return self.trainingSet.whyUnusable()
        if self._desk.pointList is None:
            return _("Choose a point list to review first.")
        return "" if self._desk.volume is not None else _("Load and choose the volume of the points first.")

    def onAdd(self):
        """Keep the case at hand."""
        volume, points = self._desk.volume, self._desk.pointList
        try:
            case = reviewed_case(volume, points)
        except H3DELandmarksError as error:
            self._ui.trainingSetLabel.text = str(error)
            return
        if not any(state.is_decided for state in case.states.values()):
            self._ui.trainingSetLabel.text = _(
                "Nothing was added: accept or correct at least one landmark first, a model learns from nothing else."
            )
            return
        self._nodes = (volume, points)
        self.watch.start(AddingRun(self.trainingSet, case, self._desk.package))

    def _onAdded(self, run):
        remember_case(*self._nodes, run.added.case)
        return f"{_whatHappened(run)} {self.trainingSet.summary()}"

    def _onRunChanged(self):
        if not self.watch.isRunning:
            self._nodes = None
        self._onChange()

    def close(self):
        """Let go of a case that is being added."""
        self.watch.stop()


def _whatHappened(run):
    """One or two sentences about what adding has done."""
    added = run.added
    if added.is_new_case:
        said = _("Added as a new case.")
    elif added.is_new_revision:
        said = _("The set had this scan already: your corrections were kept as its revision {number}.").format(
            number=added.revision
        )
    else:
        said = _("Nothing new: the set says the same of this scan already.")
    waiting = sum(not state.is_decided for name, state in run.case.states.items() if name not in run.leftOut)
    if waiting:
        said += " " + _("Landmarks that nobody has decided about: {count}; they are not learned from.").format(
            count=waiting
        )
    if run.leftOut:
        said += " " + _("Left out, because the set has no such landmark: {names}.").format(names=", ".join(run.leftOut))
    return said
