"""The part of the panel that says which scan of a folder to correct next, and loads it.

The order is random, with scans that nearly repeat others last: no other order was found to teach a model more.
"""

from pathlib import Path

import ctk
import qt
import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from H3DELandmarksPanel.CasesFolder import loadScan
from H3DELandmarksPanel.CommandRun import CommandRun
from H3DELandmarksPanel.PanelContext import isFolder, offer, onClick, onSignal, present
from H3DELandmarksPanel.RunProgress import RunProgress
from H3DELandmarksPanel.Tables import TextTable

SETTING = "H3DELandmarks/ScansFolder"
RANKING = "ranking.csv"


class NextCaseSection:
    """Connects the widgets of the section "Which case next"."""

    def __init__(self, ui, context, casesFolder):
        """Args: the widgets by name, the PanelContext, the CasesFolder."""
        self._ui, self._context, self._cases = ui, context, casesFolder
        self._scans = []
        self._loaded = {}  # vtkWeakReference of the volume node by path
        self._table = TextTable(ui.rankTable, ["", _("Scan"), _("Why")])
        self.progress = RunProgress(ui.rankProgressBar, ui.rankLabel, ui.cancelRankButton, self._onRanked, self.refresh)
        ui.scansPath.filters = ctk.ctkPathLineEdit.Dirs
        ui.scansPath.currentPath = slicer.util.settingsValue(SETTING, "")
        onSignal(ui.scansPath, "currentPathChanged(QString)", self.refresh, ui.rankLabel)
        onClick(ui.rankButton, self.onRank, ui.rankLabel)
        onSignal(ui.rankTable, "itemSelectionChanged()", self.refresh, ui.rankLabel)
        onSignal(ui.rankTable, "cellDoubleClicked(int,int)", self.onDoubleClick, ui.rankLabel)
        onClick(ui.loadScanButton, self.onLoad, ui.rankLabel)
        self._table.show([])

    def refresh(self):
        """Say what can be done now."""
        ui = self._ui
        reason = self._whyNot()
        about = reason or _(
            "Put the scans in random order, those last whose points, as '{title}' finds them, nearly repeat others"
        ).format(title=self._context.package.manifest.title)
        offer(ui.rankButton, reason, about, ui.rankWhy)
        reason = _("Choose a scan in the list first.") if self._table.chosenRow() is None else ""
        offer(ui.loadScanButton, reason, _("Load the scan and choose it for detection"))
        ui.scansPath.enabled = not self.progress.isRunning

    def _whyNot(self):
        if self.progress.isRunning:
            return _("The scans are being put in order.")
        if self._context.whyBusy():
            return self._context.whyBusy()
        if self._context.package is None:
            return _("Choose a model at the top first.")
        folder = self._ui.scansPath.currentPath.strip()
        if not folder:
            return _("Choose a folder of scans first.")
        return "" if isFolder(Path(folder)) else _("There is no such folder.")

    def onRank(self):
        """Start ranking."""
        folder = self._ui.scansPath.currentPath.strip()
        qt.QSettings().setValue(SETTING, folder)
        self._scans = []
        self._table.show([])
        self._context.ensureDependencies(self._ui.rankLabel)
        reason = self._whyNot()  # what is chosen may have changed meanwhile
        if reason:
            self._ui.rankLabel.text = reason
            return
        cases = ["--cases", self._cases.path] if self._cases.exists() else []
        model = ["--model", self._context.package.path, "--device", self._context.device]

        def arguments(files):
            return ["cases", "rank", folder, *model, *cases, "--output", files / RANKING]

        self.progress.start(CommandRun(arguments, _("ranking"), acceptsUnfinished=True, isLent=True))

    def _onRanked(self, run):
        self._scans = run.result["scans"]
        self._table.show(
            [(f"{scan['rank']}.", Path(scan["scan"]).name, "; ".join(scan["reasons"])) for scan in self._scans],
            [f"{scan['scan']}: {'; '.join(scan['reasons'])}" for scan in self._scans],
        )
        known, unreadable = len(run.result["known"]), len(run.result["unreadable"])
        said = [
            _("{count} scans in random order, those that nearly repeat others last.").format(count=len(self._scans))
            if self._scans
            else _("There is no scan that has not been corrected.")
        ]
        if known:
            said.append(_("Among the cases already: {count}.").format(count=known))
        if unreadable:
            said.append(_("Cannot be read: {count}.").format(count=unreadable))
        return " ".join([*said, *run.warnings])

    def onLoad(self):
        """Load the chosen scan and choose it for detection; one that is there is only shown."""
        row = self._table.chosenRow()
        if row is None:
            return
        path = Path(self._scans[row]["scan"])
        loaded = self._loaded.setdefault(path, vtk.vtkWeakReference())  # the next scene gives its nodes the same ids
        node = present(loaded) or loadScan(path, path.name.partition(".")[0])
        loaded.Set(node)
        self._context.show(node)

    def onDoubleClick(self, row, column):
        """As the button."""
        self._ui.loadScanButton.click()

    def close(self):
        """End a ranking that is running."""
        self.progress.stop()
