"""The part of the panel that retrains a model with the training set, and shows how that goes."""

import qt
import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.scene import remove_curves, show_curves
from H3DELandmarksPanel.BaseModels import startsFor
from H3DELandmarksPanel.ModelChoice import modelKey
from H3DELandmarksPanel.Parameters import Device
from H3DELandmarksPanel.RetrainingRuns import SECONDS_UNTIL_FORGOTTEN, findRuns, newRunFolder, readCurves, readRun
from H3DELandmarksPanel.RunWatch import RunWatch
from H3DELandmarksPanel.TrainingRun import TrainingRun


class RetrainSection:
    """Connects the widgets of the section "Retrain"."""

    def __init__(self, ui, desk, trainingSet, onChange):
        """Args: the widgets by name, the Desk, the TrainingSet, what to call when a retraining has begun or ended."""
        self._ui, self._desk, self._set, self._onChange = ui, desk, trainingSet, onChange
        self._starts = []
        self._newest = None  # the newest RetrainingRun of the training set
        self._shown = None  # folder of the run whose curve is shown, and how many rows it had
        for device in Device:
            ui.retrainDeviceSelector.addItem(device.label(), device.value)
        self.watch = RunWatch(
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
        self._forgetting.connect("timeout()", self.onForgotten)
        ui.retrainButton.connect("clicked(bool)", self.onRetrain)
        ui.resumeButton.connect("clicked(bool)", self.onResume)
        ui.curveButton.connect("clicked(bool)", self.onShowCurve)

    def onSetChanged(self):
        """The training set is another one, or has a case more: look what can be begun and resumed."""
        self._look()
        if not self.watch.isRunning:
            run = self._newest
            self._ui.retrainLabel.text = _toldOf(run) if run is not None and not run.isDone else ""
        self.refreshModels()

    def refreshModels(self):
        """Offer the models that know the landmarks of the training set."""
        selector = self._ui.baseModelSelector
        chosen = selector.currentText
        self._starts = startsFor(self._set) if self._set.exists() else []
        selector.clear()
        for start in self._starts:
            selector.addItem(start.text)
        texts = [start.text for start in self._starts]
        chosenKey = modelKey(self._desk.package) if self._desk.package else ""
        atHand = next((start.text for start in self._starts if start.key and start.key == chosenKey), None)
        wanted = chosen if chosen in texts else atHand
        if wanted is not None:
            selector.setCurrentIndex(texts.index(wanted))

    def refresh(self):
        """Say what can be done now."""
        ui, busy, run = self._ui, self.watch.isRunning, self._newest
        reason = _("A training is running.") if busy else self._whyNot()
        ui.retrainButton.enabled = not reason
        ui.retrainButton.toolTip = reason or _("Teach a copy of the model with your cases; Slicer stays usable")
        reason = _("A training is running.") if busy else self._whyNotResume(run)
        ui.resumeButton.enabled = not reason
        ui.resumeButton.toolTip = reason or _("Go on with the training that was interrupted, from where it was")
        hasCurve = run is not None and any(readCurves(run).values())
        ui.curveButton.enabled = hasCurve
        ui.curveButton.toolTip = (
            _("Show how the error on cases that the model does not learn from has changed")
            if hasCurve
            else _("There is no curve yet.")
        )
        for widget in (ui.baseModelSelector, ui.retrainDeviceSelector, ui.stepsSpinBox, ui.heldOutSpinBox):
            widget.enabled = not busy

    def _whyNot(self):
        if not self._set.exists():
            return _("Add cases to a training set first.")
        return "" if self._starts else _("The training set cannot be read: choose it again.")

    def _whyNotResume(self, run):
        if run is None or run.isDone:
            return _("There is no interrupted training.")
        if run.maybeRunning():
            self._forgetting.start()
            return _("This training was going on a moment ago, perhaps in another Slicer: try again in a minute.")
        return ""

    def _look(self):
        """Look which retrainings there are."""
        runs = findRuns(self._set.path) if self._set.exists() else []
        self._newest = runs[0] if runs else None

    def onForgotten(self):
        """A retraining may have been left by a Slicer that is gone."""
        self._look()
        self.refresh()

    def onRetrain(self):
        """Begin a retraining."""
        ui = self._ui
        start = self._starts[ui.baseModelSelector.currentIndex]
        arguments = [*start.arguments, "--held-out", ui.heldOutSpinBox.value / 100]
        if ui.stepsSpinBox.value:
            arguments += ["--steps", ui.stepsSpinBox.value]
        self._start(newRunFolder(self._set.path), arguments)

    def onResume(self):
        """Go on with the retraining that was interrupted."""
        self._start(self._newest.folder, ["--resume"])

    def _start(self, folder, arguments):
        selector = self._ui.retrainDeviceSelector
        device = selector.itemData(selector.currentIndex)
        try:
            self._desk.ensureDependencies()
            run = TrainingRun(self._set.path, folder, [*arguments, "--device", device])
        except H3DELandmarksError as error:
            self._ui.retrainLabel.text = str(error)
            return
        self._shown = None
        self.watch.start(run)

    def _onPoll(self, run):
        """Show the curve once it begins, and whenever it has grown."""
        record = readRun(run.folder)
        if record is None:
            return
        curves = readCurves(record)
        rows = sum(map(len, curves.values()))
        if rows and self._shown != (run.folder, rows):
            isFirst = self._shown is None or self._shown[0] != run.folder
            self._shown, self._newest = (run.folder, rows), record
            self._show(record, curves, inLayout=isFirst)
            self._ui.curveButton.enabled = True

    def onShowCurve(self):
        """Show the curve of the newest retraining."""
        run = self._newest
        if run is not None:
            self._show(run, readCurves(run), inLayout=True)

    def _show(self, run, curves, inLayout):
        chart = show_curves(slicer.mrmlScene, _("Training of {model}").format(model=run.title), curves)
        if inLayout:
            slicer.modules.plots.logic().ShowChartInLayout(chart)

    def _onTrained(self, run):
        counts = run.result["cases"]
        said = _("The new model {model} has learnt from {count} cases: compare it with the base model below.").format(
            model=f"{run.result['model']} {run.result['version']}", count=counts["train"]
        )
        return " ".join([said, *run.result["notes"], *run.warnings])

    def _onRunChanged(self):
        self._look()
        if not self.watch.isRunning:
            run = self._newest
            if run is not None and not run.isDone:
                self._ui.retrainLabel.text = f"{self._ui.retrainLabel.text} {_toldOf(run)}".strip()
        self._onChange()

    def close(self):
        """End a training that is running; it can be resumed."""
        self._forgetting.stop()
        self.watch.stop()
        remove_curves(slicer.mrmlScene)


def _toldOf(run):
    """One sentence about a retraining that is not done."""
    return _("The training of {model} was interrupted at step {step} of {steps}: resume it, or begin another.").format(
        model=run.title, step=run.step, steps=run.steps
    )
