"""The part of the panel that keeps corrected cases, and checks them: the section "Cases"."""

import html
from importlib.util import find_spec
from pathlib import Path

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.scene import (
    has_lost_scan,
    provenance_of_list,
    remember_case,
    reviewed_case,
    volume_from_node,
    why_apart,
)
from H3DELandmarksPanel.CasesFolder import AddingRun, CasesFolder, bringCase, shortCaseName
from H3DELandmarksPanel.CommandRun import CommandRun
from H3DELandmarksPanel.PanelContext import offer, onClick, onSignal, sentenceAbout
from H3DELandmarksPanel.RunProgress import RunProgress
from H3DELandmarksPanel.Tables import TextTable
from H3DELandmarksPanel.Worker import newRunFolder, removeRunFolder

PICTURE_WIDTH = 360


class CasesSection:
    """Connects the widgets at the top of the section "Cases"."""

    def __init__(self, ui, context, onChange):
        """Connect.

        Args:
            ui: the widgets by name.
            context: PanelContext.
            onChange: called without arguments when there is another folder, or a case more in it.
        """
        self._ui, self._context, self._onChange = ui, context, onChange
        self.folder = CasesFolder()
        self._nodes = None  # (volume, point list) of the case that is being added
        ui.casesPath.filters = ctk.ctkPathLineEdit.Dirs
        ui.casesPath.currentPath = self.folder.folder
        ui.casesLabel.text = self.folder.summary()
        self.progress = RunProgress(ui.addProgressBar, ui.casesLabel, None, self._onAdded, self._onRunChanged)
        onSignal(ui.casesPath, "currentPathChanged(QString)", self.onFolderChosen, ui.casesLabel)
        onClick(ui.addCaseButton, self.onAdd, ui.casesLabel)

    def onFolderChosen(self, folder):
        """Use the cases in another folder."""
        self.folder.setFolder(folder.strip())
        self._ui.casesLabel.text = self.folder.summary()
        self._onChange()

    def refresh(self):
        """Say whether the case at hand can be added."""
        reason = self._whyNot()
        about = reason or _(
            "Keep '{volume}' with the points '{points}' for training, without names, dates or DICOM tags"
        ).format(volume=self._context.volume.GetName(), points=self._context.pointList.GetName())
        offer(self._ui.addCaseButton, reason, about, self._ui.addCaseWhy)
        self._ui.casesPath.enabled = not self.progress.isRunning

    def _whyNot(self):
        if self.progress.isRunning:
            return _("A case is being added.")
        if self._context.whyBusy():
            return self._context.whyBusy()
        if self.folder.whyUnusable():
            return self.folder.whyUnusable()
        if self._context.pointList is None:
            return _("Choose a point list to review first.")
        if has_lost_scan(self._context.pointList):
            return why_apart(self._context.pointList)
        return "" if self._context.volume is not None else _("Load and choose the volume of the points first.")

    def onAdd(self):
        """Keep the case at hand."""
        volume, points = self._context.volume, self._context.pointList
        self._context.ensureDependencies(self._ui.casesLabel)
        reason = self._whyNot()  # the scene may have changed meanwhile
        if not reason and (self._context.volume is not volume or self._context.pointList is not points):
            reason = _("Nothing was added, because other points came under review.")
        if reason:
            self._ui.casesLabel.text = reason
            return
        case = reviewed_case(volume, points)
        if not any(state.is_decided for state in case.states.values()):
            self._ui.casesLabel.text = _(
                "Nothing was added: accept or correct at least one landmark first, a model learns from nothing else."
            )
            return
        self._nodes = (volume, points)
        scan = getattr(provenance_of_list(points), "scan", None)
        found = (scan.voxels_sha256, volume_from_node(volume)) if scan else None
        self.progress.start(AddingRun(self.folder, case, self._context.package, found))

    def _onAdded(self, run):
        remember_case(*self._nodes, run.added.case, run.folder.path)
        return f"{_whatHappened(run)} {run.folder.summary()}"

    def _onRunChanged(self):
        if not self.progress.isRunning:
            self._nodes = None
        self._onChange()

    def close(self):
        """Let go of a case that is being added."""
        self.progress.stop()


def _whatHappened(run):
    """One or two sentences about what adding has done."""
    added = run.added
    if added.is_new_case:
        said = _("Added as a new case.")
    elif added.is_new_revision:
        said = _("This scan was kept already: your corrections are its revision {number}.").format(
            number=added.revision
        )
    else:
        said = _("Nothing new: the case says the same already.")
    waiting = sum(state.is_waiting for name, state in run.case.states.items() if name not in run.leftOut)
    if waiting:
        said += " " + _("Landmarks that nobody has decided about: {count}; they are not learned from.").format(
            count=waiting
        )
    inBulk = sum(state.in_bulk for name, state in run.case.states.items() if name not in run.leftOut)
    if inBulk:
        said += " " + _("Accepted in bulk, without a look at each: {count}.").format(count=inBulk)
    if run.isOtherScan:
        said += " " + _("The scan has changed since landmarks were found in it: make sure that they lie right.")
    if run.leftOut:
        said += " " + _("Left out, because the cases have no such landmark: {names}.").format(
            names=", ".join(run.leftOut)
        )
    return said


class CheckSection:
    """Connects the widgets of the check in the section "Cases"."""

    def __init__(self, ui, context, folder):
        """Args: the widgets by name, the PanelContext, the CasesFolder."""
        self._ui, self._context, self._folder = ui, context, folder
        self._table = TextTable(ui.findingsTable, [_("Case"), _("Landmark"), _("Reason")])
        self._findings = []  # dictionaries, as the command ``cases check`` gives them
        self._pictures = None  # the folder of pictures of the last check
        self._project = None  # that the findings are of
        self._comeBack = None  # brings up what was under review before a finding was looked at
        self.progress = RunProgress(
            ui.checkProgressBar, ui.checkLabel, ui.cancelCheckButton, self._onChecked, self.refresh
        )
        onClick(ui.checkButton, self.onCheck, ui.checkLabel)
        onSignal(ui.findingsTable, "itemSelectionChanged()", self.onChosen, ui.findingLabel)
        onSignal(ui.findingsTable, "cellClicked(int,int)", self.onChosen, ui.findingLabel)
        onClick(ui.findingBackButton, self.onBack, ui.findingLabel)
        self._clear()

    def onCasesChanged(self):
        """The folder is another one, or has a case more."""
        if self._project is None:
            return
        if self._project.folder != self._folder.path:
            self._clear()
        else:
            self._ui.checkLabel.text = _("The cases have changed since they were checked: check them again.")

    def refresh(self):
        """Say whether the cases can be checked."""
        if self.progress.isRunning:
            reason = _("A check is running.")
        else:
            reason = self._context.whyBusy() or ("" if self._folder.exists() else _("Add a case first."))
        about = _(
            "Look for swapped sides, points outside the anatomy, unusual places, duplicates and points not reviewed"
        )
        offer(self._ui.checkButton, reason, about, self._ui.checkWhy)

    def onCheck(self):
        """Start the check."""
        self._clear()
        self._pictures = newRunFolder(slicer.app.temporaryPath)
        # Pictures need what Slicer does not ship; the views show the place in any case.
        canDraw = all(map(find_spec, ("matplotlib", "H3DELandmarksResearch")))
        pictures = ["--pictures", self._pictures] if canDraw else []
        self._project = self._folder.project()
        self.progress.start(CommandRun(["cases", "check", self._folder.path, *pictures], _("check")))

    def _onChecked(self, run):
        self._show(run.result["findings"])
        return " ".join([_summary(run.result), *run.warnings])

    def _show(self, findings):
        self._findings = findings
        rows = [(shortCaseName(f["case"]), f["landmark"] or "", kindText(f["kind"])) for f in findings]
        self._table.show(rows, [finding["reason"] for finding in findings])

    def onChosen(self):
        """Show the chosen finding: its sentence, its picture, and the place in the views."""
        row = self._table.chosenRow()
        finding = None if row is None else self._findings[row]
        self._ui.findingLabel.text = finding["reason"] if finding else ""
        self._showPicture(finding["picture"] if finding else None)
        if finding is None or finding["kind"] == "unreadable":
            return
        before, comeBack = self._context.pointList, self._context.bookmark()
        try:
            bringCase(self._context, self._project, finding["case"], finding["landmark"], finding["position"])
        except Exception as error:
            self._ui.findingLabel.text = sentenceAbout(error)
        if self._comeBack is None and self._context.pointList is not before:
            self._comeBack = comeBack
        self._ui.findingBackButton.visible = self._comeBack is not None

    def onBack(self):
        """Go on with what was under review before findings were looked at."""
        comeBack = self._comeBack
        self._forgetReview()
        if not comeBack():
            raise InputError(_("The scan or the points of before are no longer there."))

    def _forgetReview(self):
        self._comeBack = None
        self._ui.findingBackButton.visible = False

    def _showPicture(self, path):
        picture = qt.QPixmap(path) if path else qt.QPixmap()
        shown = not picture.isNull()
        if shown:
            self._ui.findingPicture.setPixmap(picture.scaledToWidth(PICTURE_WIDTH, qt.Qt.SmoothTransformation))
            self._ui.findingPicture.toolTip = f'<img src="{html.escape(Path(path).as_posix())}">'  # in full size
        self._ui.findingPicture.visible = shown

    def _clear(self):
        """Forget the last check, and end one that is running."""
        self.progress.stop()
        if self._pictures is not None:
            removeRunFolder(self._pictures)
        self._pictures = self._project = None
        self._show([])
        self._ui.checkLabel.text = self._ui.findingLabel.text = ""
        self._showPicture(None)
        self._forgetReview()

    def close(self):
        """End a check that is running."""
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


def kindText(kind):
    """What the panel calls a kind of finding."""
    return {
        "unreadable": _("cannot be read"),
        "sides": _("left and right"),
        "swap": _("swapped"),
        "outside": _("outside the scan"),
        "air": _("in the air"),
        "off anatomy": _("off the anatomy"),
        "outlier": _("unusual place"),
        "same place": _("same place"),
        "same image": _("same scan"),
        "same points": _("same points"),
        "unreviewed": _("not reviewed"),
    }.get(kind, kind)
