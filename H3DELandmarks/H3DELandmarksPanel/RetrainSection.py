"""The part of the panel that retrains a model with the cases, and shows how that goes."""

import csv
import math
import re
import time
from dataclasses import dataclass

import qt
import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.cases.store import MIN_TRAINING_CASES
from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.formats.run import SECONDS_UNTIL_FORGOTTEN, read_run
from H3DELandmarksLib.models import available_models
from H3DELandmarksLib.scene import remove_curves, show_curves
from H3DELandmarksPanel.CommandRun import CommandRun, RunState
from H3DELandmarksPanel.ModelChoice import modelKey, titleAmong
from H3DELandmarksPanel.PanelContext import offer, onClick, onSignal
from H3DELandmarksPanel.Parameters import Device
from H3DELandmarksPanel.RunProgress import RunProgress

SECONDS_TO_FINISH = 60.0
SECONDS_TO_CLOSE = 3.0


class RetrainSection:
    """Connects the widgets of the section "Retrain"."""

    def __init__(self, ui, context, folder, onChange):
        """Args: the widgets by name, PanelContext, CasesFolder, what to call when a retraining has begun or ended."""
        self._ui, self._context, self._folder, self._onChange = ui, context, folder, onChange
        self._starts = []
        self._newest = None  # RunFolder of the newest retraining with the cases
        self._begunWith = None  # Path of the cases of the training that was begun last
        self._shown = None  # folder of the run whose curve is shown, and how many rows it had
        for device in Device:
            ui.retrainDeviceSelector.addItem(device.label(), device.value)
        self.progress = RunProgress(
            ui.retrainProgressBar,
            ui.retrainLabel,
            ui.cancelRetrainButton,
            self._onTrained,
            self._onRunChanged,
            self._onPoll,
        )
        self._forgetting = qt.QTimer()  # a run of a Slicer that is gone can be resumed after a while
        self._forgetting.setSingleShot(True)
        self._forgetting.interval = int(1000 * SECONDS_UNTIL_FORGOTTEN)
        onSignal(self._forgetting, "timeout()", self.onForgotten, ui.retrainLabel)
        onClick(ui.retrainButton, self.onRetrain, ui.retrainLabel)
        onClick(ui.resumeButton, self.onResume, ui.retrainLabel)
        onClick(ui.curveButton, self.onShowCurve, ui.retrainLabel)

    def onCasesChanged(self):
        """The folder is another one, or has a case more: look what can be begun and resumed."""
        self._look()
        if not self.progress.isRunning:
            run = self._newest
            self._ui.retrainLabel.text = _toldOf(run) if run is not None and not run.record.is_done else ""
        self.refreshModels()

    def refreshModels(self):
        """Offer the models that know the landmarks of the cases."""
        selector = self._ui.baseModelSelector
        chosen = selector.currentText
        self._starts = startsFor(self._folder) if self._folder.exists() else []
        selector.clear()
        for start in self._starts:
            selector.addItem(start.text)
        texts = [start.text for start in self._starts]
        chosenKey = modelKey(self._context.package) if self._context.package else ""
        atHand = next((start.text for start in self._starts if start.key and start.key == chosenKey), None)
        wanted = chosen if chosen in texts else atHand
        if wanted is not None:
            selector.setCurrentIndex(texts.index(wanted))

    def refresh(self):
        """Say what can be done now."""
        ui, run = self._ui, self._newest
        reason = self._whyBusy() or self._whyNot()
        offer(
            ui.retrainButton, reason, _("Teach a copy of the model with your cases; Slicer stays usable"), ui.retrainWhy
        )
        reason = self._whyBusy() or self._whyNotResume(run)
        offer(ui.resumeButton, reason, _("Go on with the training that was interrupted, from where it was"))
        hasCurve = run is not None and any(readCurves(run).values())
        about = _("Show how the error on cases that the model does not learn from has changed")
        offer(ui.curveButton, "" if hasCurve else _("There is no curve yet."), about)
        for widget in (ui.baseModelSelector, ui.retrainDeviceSelector, ui.stepsSpinBox, ui.heldOutSpinBox):
            widget.enabled = not self._whyBusy()

    def _whyBusy(self):
        return _("A training is running.") if self.progress.isRunning else self._context.whyBusy()

    def _whyNot(self):
        if not self._folder.exists():
            return _("Add cases first.")
        count = self._folder.count()
        if count < MIN_TRAINING_CASES:
            return _("Teaching needs at least {needed} corrected cases; there are {count}.").format(
                needed=MIN_TRAINING_CASES, count=count
            )
        return "" if self._starts else _("The cases cannot be read: choose their folder again.")

    def _whyNotResume(self, run):
        if run is None or run.record.is_done:
            return _("There is no interrupted training.")
        if run.record.may_be_running():
            self._forgetting.start()
            return _("This training was going on a moment ago, perhaps in another Slicer: try again in a minute.")
        return ""

    def _look(self):
        """Look which retrainings there are."""
        runs = self._folder.runs()
        self._newest = runs[0] if runs else None

    def onForgotten(self):
        """A retraining may have been left by a Slicer that is gone."""
        self._look()
        self.refresh()

    def onRetrain(self):
        """Begin a retraining."""
        self._context.ensureDependencies(self._ui.retrainLabel)
        if self._told(self._whyBusy() or self._whyNot()):  # what is chosen may have changed meanwhile
            return
        ui = self._ui
        start = self._starts[ui.baseModelSelector.currentIndex]
        arguments = [*start.arguments, "--held-out", ui.heldOutSpinBox.value / 100]
        if ui.stepsSpinBox.value:
            arguments += ["--steps", ui.stepsSpinBox.value]
        self._start(self._folder.newRunFolder(), arguments)

    def onResume(self):
        """Go on with the retraining that was interrupted."""
        self._context.ensureDependencies(self._ui.retrainLabel)
        if self._told(self._whyBusy() or self._whyNotResume(self._newest)):
            return
        self._start(self._newest.folder, ["--resume"])

    def _start(self, folder, arguments):
        selector = self._ui.retrainDeviceSelector
        device = selector.itemData(selector.currentIndex)
        self._shown, self._begunWith = None, self._folder.path
        self.progress.start(TrainingRun(self._folder.path, folder, [*arguments, "--device", device]))

    def _told(self, reason):
        """Say why nothing is begun; returns whether there is a reason."""
        if reason:
            self._ui.retrainLabel.text = reason
        return bool(reason)

    def _onPoll(self, run):
        """Show the curve once it begins, and whenever it has grown."""
        try:
            retraining = read_run(run.folder)
        except H3DELandmarksError:  # it has not begun to write
            return
        curves = readCurves(retraining)
        rows = sum(map(len, curves.values()))
        if rows and self._shown != (run.folder, rows):
            isFirst = self._shown is None or self._shown[0] != run.folder
            self._shown, self._newest = (run.folder, rows), retraining
            self._show(retraining, curves, inLayout=isFirst)
            self._ui.curveButton.enabled = True

    def onShowCurve(self):
        """Show the curve of the newest retraining."""
        run = self._newest
        if run is not None:
            self._show(run, readCurves(run), inLayout=True)

    def _show(self, run, curves, inLayout):
        title, unit = _("Training of {model}").format(model=_title(run)), "px" if run.record.model.height_mm else "mm"
        chart = show_curves(slicer.mrmlScene, title, curves, unit)
        if inLayout:
            slicer.modules.plots.logic().ShowChartInLayout(chart)

    def _onTrained(self, run):
        counts = run.result["cases"]
        said = _("The new model {model} has learnt from {count} cases: compare it with the model in use below.").format(
            model=f"{run.result['model']} {run.result['version']}", count=counts["train"]
        )
        return " ".join([said, *run.result["notes"], *run.warnings])

    def _onRunChanged(self):
        self._look()
        if not self.progress.isRunning:
            run, told = self._newest, ""
            if self._begunWith != self._folder.path:  # another folder was chosen during the training
                told = _("This was with the cases in '{folder}': choose that folder to go on.").format(
                    folder=self._begunWith
                )
            elif run is not None and not run.record.is_done:
                told = _toldOf(run)
            self._ui.retrainLabel.text = f"{self._ui.retrainLabel.text} {told}".strip()
        self._onChange()

    def close(self):
        """End a training that is running; it can be resumed."""
        self._forgetting.stop()
        self.progress.stop()
        remove_curves(slicer.mrmlScene)


def _toldOf(run):
    """One sentence about a retraining that is not done."""
    return _("The training of {model} was interrupted at step {step} of {steps}: resume it, or begin another.").format(
        model=_title(run), step=run.record.step, steps=run.record.steps
    )


def _title(run):
    """What the panel calls the candidate of a retraining."""
    return f"{run.record.model.id} {run.record.model.version}"


def readCurves(run):
    """{stage: [{column: number}]} of a RunFolder, as far as it is; NaN where a cell holds no number."""
    return {stage: _rows(run.folder / stage / "curve.csv") for stage in run.record.stage_names}


def _rows(path):
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(stream)]
    except OSError:
        return []


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


class TrainingRun(CommandRun):
    """``train --from-cases`` that goes on while somebody calls `poll`.

    Attributes:
        folder: of the retraining; it stays.
    """

    def __init__(self, cases, folder, arguments):
        """Begin, or go on.

        Args:
            cases: Path of their folder.
            folder: Path of the retraining.
            arguments: of the command, beside those two.
        """
        self.folder = folder
        self._stopAsked = None
        command = ["train", "--from-cases", cases, "--output", folder, *arguments]
        super().__init__(command, _("training"), logFolder=folder)

    def askToStop(self):
        """Let the child process keep what it has learnt and end, where the system can tell it to; else end it."""
        if self.child is None or not self.child.askToEnd():
            self.cancel()
            return
        self._stopAsked = time.monotonic()
        self.stage = _("Stopping")

    def poll(self):
        """Take note of what has happened since the last call; a child process that does not stop is ended."""
        super().poll()
        if self._stopAsked is None or self.state is not RunState.RUNNING:
            return
        self.stage = _("Stopping")
        if time.monotonic() - self._stopAsked > SECONDS_TO_FINISH:
            self.close(RunState.CANCELLED)

    def conclude(self):
        """The program that was started has ended; where it was told to, its children may still keep their work."""
        if self._stopAsked is None or (self.result and self.result.get("ok")):
            super().conclude()
        elif self.error or self._code is not None or not self.child.isAlive:
            self.stage = _("Cancelled.")
            self.close(RunState.CANCELLED)

    def cancel(self):
        """End the child process; a moment is left to it to keep what it has learnt."""
        if self.state is RunState.RUNNING and self.child is not None and self.child.askToEnd():
            end = time.monotonic() + SECONDS_TO_CLOSE
            while not (self.error or self._code is not None) and self.child.isAlive and time.monotonic() < end:
                time.sleep(0.05)
                self.note()
        super().cancel()


@dataclass(frozen=True)
class Start:
    """One way to begin.

    Attributes:
        text: what the panel calls it.
        key: ID@VERSION of the base, empty for a new model.
        arguments: of the command ``train``.
    """

    text: str
    key: str
    arguments: tuple


def startsFor(folder):
    """The ways to begin a retraining with a CasesFolder, those with a base model first; none where it is damaged."""
    packages = [entry.package for entry in available_models() if entry.package]
    try:
        project = folder.project()
        names = _allNames(project)
    except H3DELandmarksError:
        return []
    fitting = [package for package in packages if names & set(package.scheme.names)]
    fresh = ("--new-model", newModelId(project.scheme.id, {package.id for package in packages}))
    starts = [_fineTuning(package, titleAmong(package, packages)) for package in fitting]
    starts.append(Start(_("A new model for these landmarks"), "", fresh))
    for package in _newest(packages):
        text = _("A new model, begun from {title}").format(title=titleAmong(package, packages))
        starts.append(Start(text, "", (*fresh, "--encoder-from", modelKey(package))))
    return starts


def newModelId(schemeId, taken):
    """An id for a new model that no other model has."""
    stem = re.sub("[^a-z0-9]+", "-", schemeId.lower()).strip("-")[:56] or "model"
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    return name


def _fineTuning(package, title):
    return Start(f"{title} ({package.version})", modelKey(package), ("--base-model", modelKey(package)))


def _allNames(project):
    """Names of the landmarks in all versions of their scheme: models may know them by older names."""
    return {name for scheme in project.schemes() for name in scheme.names}


def _newest(packages):
    """The newest version of each model; the packages come in that order."""
    return list({package.id: package for package in reversed(packages)}.values())[::-1]
