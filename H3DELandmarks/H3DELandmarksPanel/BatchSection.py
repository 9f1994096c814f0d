"""The part of the panel that finds landmarks in a folder of scans while the user goes on working."""

import contextlib
import os
from pathlib import Path

import ctk
import qt
import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from H3DELandmarksLib.cohort.log import CohortLog
from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.scene import volume_of
from H3DELandmarksPanel.CommandRun import CommandRun
from H3DELandmarksPanel.PanelContext import isFolder, offer, onClick, onSignal, present, showReason
from H3DELandmarksPanel.RunProgress import RunProgress
from H3DELandmarksPanel.ScanFiles import loadResult, showPoints
from H3DELandmarksPanel.ScanQueue import ScanQueue

SCANS_SETTING, RESULTS_SETTING = "H3DELandmarks/BatchScansFolder", "H3DELandmarks/BatchResultsFolder"


class BatchSection:
    """Loads and connects the widgets of the section "Many scans"."""

    def __init__(self, panel, layout, position, onOpened):
        """Add the section to the panel.

        Args:
            panel: H3DELandmarksWidget.
            layout: QVBoxLayout that it is put into.
            position: where in the layout.
            onOpened: called without arguments when a result is in the scene and under review.
        """
        widget = slicer.util.loadUI(panel.resourcePath("UI/H3DELandmarksBatch.ui"))
        layout.insertWidget(position, widget)
        self.ui = ui = slicer.util.childWidgetVariables(widget)
        self._context, self._onOpened = panel.context, onOpened
        self._log = None  # CohortLog of the folder of results, None where there is none
        self._volumes = {}  # vtkWeakReferences of volumes by (folder of results, key of the image)
        self._lists = {}  # vtkWeakReferences of point lists by (folder of results, key of the result)
        self._queue = ScanQueue(ui.batchTable)
        self.progress = RunProgress(
            ui.batchProgressBar, ui.batchLabel, ui.cancelBatchButton, self._onDone, self._onRunChanged, self._onPoll
        )
        self.progress.cancelText = _("Cancelled. What is finished is kept: start again to go on from there.")
        for path, setting in ((ui.batchScansPath, SCANS_SETTING), (ui.batchResultsPath, RESULTS_SETTING)):
            path.filters = ctk.ctkPathLineEdit.Dirs
            path.currentPath = slicer.util.settingsValue(setting, "")
        onSignal(ui.batchScansPath, "currentPathChanged(QString)", self.refresh, ui.batchLabel)
        onSignal(ui.batchResultsPath, "currentPathChanged(QString)", self.onResultsChosen, ui.batchLabel)
        onClick(ui.batchButton, self.onStart, ui.batchLabel)
        onClick(ui.openScanButton, self.onOpen, ui.batchLabel)
        onSignal(ui.batchTable, "itemSelectionChanged()", self.refresh, ui.batchLabel)
        onSignal(ui.batchTable, "cellDoubleClicked(int,int)", self.onDoubleClick, ui.batchLabel)
        onSignal(ui.batchTable.horizontalHeader(), "sectionClicked(int)", self._queue.sortBy, ui.batchLabel)
        self.onResultsChosen()

    # What can be done

    def refresh(self):
        """Say what can be done now."""
        ui = self.ui
        reason = self._whyNot()
        showReason(ui.batchWhy, "" if self.progress.isRunning else reason)
        about = reason or _(
            "Find all landmarks of '{title}' in each scan of the folder; Slicer stays usable, and finished scans of an "
            "earlier run are left as they are"
        ).format(title=self._context.package.manifest.title)
        offer(ui.batchButton, reason, about)
        offer(ui.openScanButton, self._whyNotOpen(), _("Load the scan and review what was found in it"))
        for widget in (ui.batchScansPath, ui.batchResultsPath):
            widget.enabled = not self.progress.isRunning

    def _whyNot(self):
        if self.progress.isRunning:
            return _("The scans are being examined.")
        if self._context.whyBusy():
            return self._context.whyBusy()
        if self._context.package is None:
            return _("Choose a model at the top first.")
        return self._whyNoFolders() or self._context.clinic.whyNot()

    def _whyNoFolders(self):
        scans, results = self._folder(self.ui.batchScansPath), self._folder(self.ui.batchResultsPath)
        if scans is None:
            return _("Choose a folder of scans first.")
        if not isFolder(scans):
            return _("There is no such folder of scans.")
        if results is None:
            return _("Choose a folder for the results.")
        if not (isFolder(results) or isFolder(results.parent) and not os.path.lexists(results)):
            return _("There is no such folder for the results: choose one, or type the name of a new one.")
        return _("Choose another folder for the results than that of the scans.") if results == scans else ""

    def _whyNotOpen(self):
        scan = self._queue.chosen()
        if scan is None:
            return _("Choose a scan in the list first.")
        if self._log.is_replaced(scan):
            return _("Another detection has replaced this scan's results: detect again in it.")
        return "" if scan.outputs else scan.reason or _("Nothing was found in this scan.")

    @staticmethod
    def _folder(pathEdit):
        text = pathEdit.currentPath.strip()
        return Path(text) if text else None

    # Examining

    def onStart(self):
        """Begin, or go on where an earlier run has ended."""
        ui = self.ui
        clinic = self._context.clinic
        self._context.ensureDependencies(ui.batchLabel, clinic.isChosen)
        reason = self._whyNot()  # what is chosen may have changed meanwhile
        scans, results = self._folder(ui.batchScansPath), self._folder(ui.batchResultsPath)
        package = self._context.package  # another may be chosen while the question is open
        where = None if reason else clinic.destination(_("all scans in '{folder}'").format(folder=scans))
        if where is None:
            ui.batchLabel.text = reason or _("Nothing was sent.")
            return
        qt.QSettings().setValue(SCANS_SETTING, str(scans))
        qt.QSettings().setValue(RESULTS_SETTING, str(results))
        model = ["--model", package.path, "--device", where.device or self._context.device]
        self.progress.start(CohortRun([scans, "--output", results, *model, *where.arguments], where.host))

    def _onRunChanged(self):
        if not self.progress.isRunning and self._log is not None:
            with contextlib.suppress(H3DELandmarksError):
                self._onPoll(None)  # what was finished since the last look
        self.refresh()

    def _onPoll(self, run):
        """Show the scans that are finished."""
        if self._log is None:
            self._log = CohortLog(self._folder(self.ui.batchResultsPath))
        elif not self._log.follow():
            return
        self._queue.follow(self._log.entries)

    def _onDone(self, run):
        self.onResultsChosen()
        known = {scan.scan for scan in self._log.entries} if self._log else set()
        said = [_toldOf(self._log)]
        said += [scan["error"] for scan in run.result["scans"] if not scan["ok"] and scan["scan"] not in known][:1]
        return " ".join(said)

    # Results

    def onResultsChosen(self):
        """Show the scans that an earlier run has examined, where the folder holds any."""
        folder = self._folder(self.ui.batchResultsPath)
        self._log, told = None, ""
        if folder is not None and isFolder(folder):
            try:
                self._log = CohortLog(folder)
                told = _toldOf(self._log) if self._log.entries else ""
            except H3DELandmarksError as error:
                told = str(error)
        if not self.progress.isRunning:
            self._queue.clear()
            self.ui.batchLabel.text = told
        self._queue.follow(self._log.entries if self._log else [])
        self.refresh()

    def onOpen(self):
        """Bring the chosen scan and what was found in it up for review; what is loaded already is only shown."""
        scan = self._queue.chosen()
        if scan is None or scan.outputs is None:
            return
        folder = self._log.folder
        image = self._volumes.setdefault((folder, scan.image_key), vtk.vtkWeakReference())
        points = self._lists.setdefault((folder, scan.result_key), vtk.vtkWeakReference())
        volumeNode, pointList = present(image), present(points)
        if volumeNode is None:
            volumeNode, pointList = loadResult(folder, scan)
        elif pointList is None or volume_of(pointList) is not volumeNode:
            pointList = showPoints(folder, scan, volumeNode)
        for reference, node in ((image, volumeNode), (points, pointList)):
            reference.Set(node)  # the next scene gives its nodes the same ids
        self._queue.markOpened(scan)
        self._context.show(volumeNode, pointList)
        self._onOpened()

    def onDoubleClick(self, row, column):
        """As the button."""
        self.ui.openScanButton.click()

    def close(self):
        """End a run that goes on; a later one goes on where it ended."""
        self.progress.stop()


def _toldOf(log):
    """What people should know of the scans of a CohortLog first."""
    scans = log.entries if log else []
    failed = sum(scan.outputs is None for scan in scans)
    said = _("Scans examined: {count}, the most doubtful first.").format(count=len(scans))
    return said if not failed else " ".join([said, _("Failed: {count}, at the end of the list.").format(count=failed)])


class CohortRun(CommandRun):
    """``detect`` on a folder of scans that goes on while somebody calls `poll`."""

    def __init__(self, arguments, host=""):
        """Begin; scans that are finished are left as they are, and those that failed are tried again.

        Args:
            arguments: of the command.
            host: the other computer that examines them, empty for this one.
        """
        super().__init__(["detect", *arguments, "--retry-failed"], _("detection"), acceptsUnfinished=True, host=host)

    def takeResult(self):
        """Fail where the scans could not even be begun."""
        if not self.result.get("cohort"):
            raise H3DELandmarksError(self.error or self.result.get("error", ""))

    def _note(self, event):
        if event["event"] == "scans":
            done, total, failed = event["done"], event["total"], event["failed"]
            stage = _("{done} of {total} scans").format(done=done, total=total)
            if failed:
                stage = _("{stage}, {failed} failed").format(stage=stage, failed=failed)
            self.stage = self.placed(stage)
            self.fraction, self.progress = done / max(total, 1), event
        elif event["event"] != "progress":
            super()._note(event)
        elif not self.progress:
            self.stage = self.placed(_("Looking at the first scans"))
