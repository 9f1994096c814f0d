"""The part of the panel that checks the training set and leads to what should be looked at."""

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksPanel.CaseInScene import bringCase
from H3DELandmarksPanel.FindingsTable import FindingsTable
from H3DELandmarksPanel.RunWatch import RunWatch

PICTURE_WIDTH = 360


class CheckSection:
    """Connects the widgets of the check in the section "Training set"."""

    def __init__(self, ui, desk, trainingSet):
        """Args: the widgets by name, the Desk, the TrainingSet."""
        self._ui, self._desk, self._set = ui, desk, trainingSet
        self._table = FindingsTable(ui.findingsTable)
        self._pictures = None  # the folder of pictures of the last check
        self._project = None  # that the findings are of
        self.watch = RunWatch(ui.checkProgressBar, ui.checkLabel, ui.cancelCheckButton, self._onChecked, self.refresh)
        ui.checkButton.connect("clicked(bool)", self.onCheck)
        ui.findingsTable.connect("itemSelectionChanged()", self.onChosen)
        ui.findingsTable.connect("cellClicked(int,int)", lambda row, column: self.onChosen())
        self._clear()

    def onSetChanged(self):
        """The training set is another one, or has a case more."""
        if self._project is None:
            return
        if self._project.folder != self._set.path:
            self._clear()
        else:
            self._ui.checkLabel.text = _("The set has changed since it was checked: check it again.")

    def refresh(self):
        """Say whether the set can be checked."""
        if self.watch.isRunning:
            reason = _("A check is running.")
        else:
            reason = "" if self._set.exists() else _("Add a case to the training set first.")
        self._ui.checkButton.enabled = not reason
        self._ui.checkButton.toolTip = reason or _(
            "Look for swapped sides, points outside the anatomy, unusual places, duplicates and points not reviewed"
        )

    def onCheck(self):
        """Start the check."""
        self._clear()
        self._pictures = Path(tempfile.mkdtemp(prefix="H3DELandmarks-pictures-", dir=slicer.app.temporaryPath))
        # Pictures need matplotlib, which Slicer does not ship; the views show the place in any case.
        pictures = ["--pictures", self._pictures] if find_spec("matplotlib") else []
        try:
            self._project = self._set.project()
            self.watch.start(self._desk.command(["cases", "check", self._set.path, *pictures], _("check")))
        except H3DELandmarksError as error:
            self._ui.checkLabel.text = str(error)

    def _onChecked(self, run):
        self._table.show(run.result["findings"])
        return " ".join([_summary(run.result), *run.warnings])

    def onChosen(self):
        """Show the chosen finding: its sentence, its picture, and the place in the views."""
        finding = self._table.chosen()
        self._ui.findingLabel.text = finding["reason"] if finding else ""
        self._showPicture(finding["picture"] if finding else None)
        if finding is None or finding["kind"] == "unreadable":
            return
        try:
            bringCase(self._desk, self._project, finding["case"], finding["landmark"], finding["position"])
        except H3DELandmarksError as error:
            self._ui.findingLabel.text = str(error)

    def _showPicture(self, path):
        picture = qt.QPixmap(path) if path else qt.QPixmap()
        shown = not picture.isNull()
        if shown:
            self._ui.findingPicture.setPixmap(picture.scaledToWidth(PICTURE_WIDTH, qt.Qt.SmoothTransformation))
            self._ui.findingPicture.toolTip = f'<img src="{Path(path).as_posix()}">'  # in full size
        self._ui.findingPicture.visible = shown

    def _clear(self):
        """Forget the last check."""
        if self._pictures is not None:
            shutil.rmtree(self._pictures, ignore_errors=True)
        self._pictures = self._project = None
        self._table.show([])
        self._ui.checkLabel.text = self._ui.findingLabel.text = ""
        self._showPicture(None)

    def close(self):
        """End a check that is running."""
        self.watch.stop()
        self._clear()


def _summary(result):
    """One sentence about the result of a check."""
    findings, count = result["findings"], result["cases"]
    cases = _("1 case") if count == 1 else _("{count} cases").format(count=count)
    if not findings:
        return _("Nothing to look at in {cases}.").format(cases=cases)
    if len(findings) == 1:
        return _("1 finding in {cases}: choose it to look at it.").format(cases=cases)
    return _("{count} findings in {found} of {cases}: choose one to look at it.").format(
        count=len(findings), found=len({finding["case"] for finding in findings}), cases=cases
    )
