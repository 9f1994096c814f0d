"""The part of the panel that says which scan of a folder is worth correcting next, and loads it."""

from pathlib import Path

import ctk
import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksPanel.CaseInScene import loadScan
from H3DELandmarksPanel.RunWatch import RunWatch
from H3DELandmarksPanel.TextTable import TextTable

SETTING = "H3DELandmarks/ScansFolder"
RANKING = "ranking.csv"


class NextCaseSection:
    """Connects the widgets of the section "Which case next"."""

    def __init__(self, ui, desk, trainingSet):
        """Args: the widgets by name, the Desk, the TrainingSet."""
        self._ui, self._desk, self._set = ui, desk, trainingSet
        self._scans = []
        self._loaded = {}  # id of the volume node by path
        self._table = TextTable(ui.rankTable, ["", _("Scan"), _("Why")])
        self.watch = RunWatch(ui.rankProgressBar, ui.rankLabel, ui.cancelRankButton, self._onRanked, self.refresh)
        ui.scansPath.filters = ctk.ctkPathLineEdit.Dirs
        ui.scansPath.currentPath = slicer.util.settingsValue(SETTING, "")
        ui.scansPath.connect("currentPathChanged(QString)", self.refresh)
        ui.rankButton.connect("clicked(bool)", self.onRank)
        ui.rankTable.connect("itemSelectionChanged()", self.refresh)
        ui.rankTable.connect("cellDoubleClicked(int,int)", self.onLoad)
        ui.loadScanButton.connect("clicked(bool)", self.onLoad)
        self._table.show([])

    def refresh(self):
        """Say what can be done now."""
        ui = self._ui
        reason = self._whyNot()
        ui.rankButton.enabled = not reason
        ui.rankButton.toolTip = reason or _("Let the model '{title}' look at every scan, to put them in order").format(
            title=self._desk.package.manifest.title
        )
        chosen = self._table.chosenRow() is not None
        ui.loadScanButton.enabled = chosen
        ui.loadScanButton.toolTip = (
            _("Load the scan and choose it for detection") if chosen else _("Choose a scan in the list first.")
        )
        ui.scansPath.enabled = not self.watch.isRunning

    def _whyNot(self):
        if self.watch.isRunning:
            return _("The scans are being ranked.")
        if self._desk.package is None:
            return _("Choose a model at the top first.")
        folder = self._ui.scansPath.currentPath.strip()
        if not folder:
            return _("Choose a folder of scans first.")
        return "" if Path(folder).is_absolute() and Path(folder).is_dir() else _("There is no such folder.")

    def onRank(self):
        """Start ranking."""
        ui, folder = self._ui, self._ui.scansPath.currentPath.strip()
        qt.QSettings().setValue(SETTING, folder)
        package, device = self._desk.package, self._desk.device
        cases = ["--cases", self._set.path] if self._set.exists() else []
        self._scans = []
        self._table.show([])
        try:
            self._desk.ensureDependencies()
            self.watch.start(
                self._desk.command(
                    lambda files: [
                        "cases",
                        "rank",
                        folder,
                        "--model",
                        package.path,
                        *cases,
                        "--output",
                        files / RANKING,
                        "--device",
                        device,
                    ],
                    _("ranking"),
                    acceptsUnfinished=True,
                )
            )
        except H3DELandmarksError as error:
            ui.rankLabel.text = str(error)

    def _onRanked(self, run):
        self._scans = run.result["scans"]
        self._table.show(
            [(f"{scan['rank']}.", Path(scan["scan"]).name, "; ".join(scan["reasons"])) for scan in self._scans],
            [f"{scan['scan']}: {'; '.join(scan['reasons'])}" for scan in self._scans],
        )
        known, unreadable = len(run.result["known"]), len(run.result["unreadable"])
        said = [
            _("{count} scans, the most instructive first.").format(count=len(self._scans))
            if self._scans
            else _("There is no scan that is worth correcting.")
        ]
        if known:
            said.append(_("In the training set already: {count}.").format(count=known))
        if unreadable:
            said.append(_("Cannot be read: {count}.").format(count=unreadable))
        return " ".join([*said, *run.warnings])

    def onLoad(self):
        """Load the chosen scan and choose it for detection; one that is there is only shown."""
        row = self._table.chosenRow()
        if row is None:
            return
        path = Path(self._scans[row]["scan"])
        node = slicer.mrmlScene.GetNodeByID(self._loaded.get(path, ""))
        try:
            node = node or loadScan(path, path.name.partition(".")[0])
        except H3DELandmarksError as error:
            self._ui.rankLabel.text = str(error)
            return
        self._loaded[path] = node.GetID()
        self._desk.show(node)

    def close(self):
        """End a ranking that is running."""
        self.watch.stop()
