"""The part of the panel that compares a retrained model with the one in use, and puts it in its place."""

import math
from datetime import datetime, timezone

from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.formats.case_record import TIME_FORMAT
from H3DELandmarksLib.formats.comparison import read_comparison
from H3DELandmarksLib.formats.run import COMPARISON
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.retraining.promote import promote_run
from H3DELandmarksPanel.CommandRun import CommandRun
from H3DELandmarksPanel.ModelChoice import modelKey
from H3DELandmarksPanel.PanelContext import offer, onClick, onSignal
from H3DELandmarksPanel.RunProgress import RunProgress
from H3DELandmarksPanel.Tables import TextTable

COARSE_MM = 1.0  # where a tolerance is no less, hundredths of a millimeter are told, else thousandths


class PromotionSection:
    """Connects the upper widgets of the section "Compare and use"."""

    def __init__(self, ui, context, folder, onPromoted):
        """Args: the widgets by name, PanelContext, CasesFolder, what to call when another model is in use."""
        self._ui, self._context, self._folder, self._onPromoted = ui, context, folder, onPromoted
        self._runs, self._comparison = [], None
        self._listed = None  # Path of the cases that the retrainings are of
        self._current = None  # the ModelPackage in use of the model that the chosen retraining has made a version of
        self._table = TextTable(ui.promotionTable, _headers("mm"), rightAligned=(1, 2, 3))
        self.progress = RunProgress(
            ui.compareModelsProgressBar,
            ui.promotionLabel,
            ui.cancelCompareModelsButton,
            self._onCompared,
            self._onRunChanged,
        )
        onSignal(ui.runSelector, "currentIndexChanged(int)", self.onRunChosen, ui.promotionLabel)
        onClick(ui.compareModelsButton, self.onCompare, ui.promotionLabel)
        onClick(ui.promoteButton, lambda: self.onPromote(None), ui.promotionLabel)
        onClick(ui.overrideButton, lambda: self.onPromote(ui.overrideReasonEdit.text), ui.promotionLabel)
        onSignal(ui.overrideReasonEdit, "textChanged(QString)", self.refresh, ui.promotionLabel)
        self.onCasesChanged()

    # What there is

    def onCasesChanged(self):
        """The folder is another one, or a retraining has ended: look which models there are to compare."""
        if self.progress.isRunning or self._context.whyBusy():
            return
        chosen = self.chosenRun.folder if self.chosenRun else None
        self._listed = self._folder.path
        self._runs = [run for run in self._folder.runs() if run.record.is_done]
        selector = self._ui.runSelector
        wasBlocked = selector.blockSignals(True)
        selector.clear()
        for run in self._runs:
            selector.addItem(_runText(run))
        folders = [run.folder for run in self._runs]
        if chosen in folders:
            selector.setCurrentIndex(folders.index(chosen))
        selector.blockSignals(wasBlocked)
        self.onRunChosen(0)

    def _onRunChanged(self):
        if not self.progress.isRunning and self._listed != self._folder.path:
            self.onCasesChanged()  # another folder was chosen during the comparison
        self.refresh()

    def onRunChosen(self, index):
        """Show what is known about another retraining."""
        run = self.chosenRun
        self._current = _inUse(run) if run else None
        self._comparison = _readComparison(run) if run else None
        self._showComparison()
        self.refresh()

    @property
    def chosenRun(self):
        """The RunFolder of the chosen retraining, None where none is chosen."""
        index = self._ui.runSelector.currentIndex
        return self._runs[index] if 0 <= index < len(self._runs) else None

    # What can be done

    def refresh(self):
        """Say what can be done now."""
        ui, run, busy = self._ui, self.chosenRun, self._whyBusy()
        reason = self._whyNotCompare(run, busy)
        about = _("Let both models look at the cases that neither has learnt from")
        offer(ui.compareModelsButton, reason, about, ui.compareModelsWhy)
        about = _("Use the new model from now on; you can go back to the old one")
        offer(ui.promoteButton, self._whyNotPromote(run, busy), about, ui.promoteWhy)
        reason = self._whyNotOverride(run, busy)
        ui.overrideReasonEdit.enabled = not reason
        unsaid = "" if ui.overrideReasonEdit.text.strip() else _("Write down your reason first.")
        offer(
            ui.overrideButton, reason or unsaid, _("Use the new model against the advice; your reason is kept with it")
        )
        ui.runSelector.enabled = not busy

    def _whyBusy(self):
        return _("A comparison is running.") if self.progress.isRunning else self._context.whyBusy()

    def _whyNotCompare(self, run, busy):
        if busy:
            return busy
        if run is None:
            return _("Retrain a model first.")
        return "" if self._current else _("No model of this name is in use, so there is nothing to compare with.")

    def _whyNotPromote(self, run, busy):
        if busy or run is None:
            return self._whyNotCompare(run, busy)
        if self._isInUse(run):
            return _("This model is in use already.")
        if self._comparison is None:
            return _("Compare the models first.") if self._current else ""
        if self._current is not None and self._comparison.base.version != self._current.version:
            return _("Another version is in use than at the time of the comparison: compare again.")
        return "" if self._comparison.decision.promote else _("The comparison advises against it, see above.")

    def _whyNotOverride(self, run, busy):
        if busy or run is None:
            return self._whyNotCompare(run, busy)
        if self._isInUse(run):
            return _("This model is in use already.")
        return "" if self._whyNotPromote(run, busy) else _("Nothing speaks against using it.")

    def _isInUse(self, run):
        return self._current is not None and modelKey(self._current) == modelKey(run.record.model)

    # Comparing

    def onCompare(self):
        """Start a comparison."""
        self._context.ensureDependencies(self._ui.promotionLabel)
        run = self.chosenRun
        reason = self._whyNotCompare(run, self._whyBusy())  # what is chosen may have changed meanwhile
        if reason:
            self._ui.promotionLabel.text = reason
            return
        files = ["--cases", self._folder.path, "--run", run.folder, "--output", run.folder / COMPARISON]
        arguments = [
            "models",
            "compare",
            self._current.id,
            run.package_folder,
            *files,
            "--overwrite",  # an older comparison, which is of the program's own making
            "--device",
            self._context.device,
        ]
        self.progress.start(CommandRun(arguments, _("comparison")))

    def _onCompared(self, run):
        self._comparison = _readComparison(self.chosenRun)
        self._showComparison()
        return self._ui.promotionLabel.text

    def _showComparison(self):
        comparison = self._comparison
        if comparison is None:
            self._table.show([])
            self._ui.promotionLabel.text = ""
            return
        decimals = 2 if comparison.tolerance_mm >= COARSE_MM else 3
        rows = [(_("All landmarks"), comparison.total), *((row.name, row) for row in comparison.landmarks)]
        unit = comparison.unit
        self._ui.promotionTable.setHorizontalHeaderLabels(_headers(unit))
        self._table.show([_texts(*row, decimals) for row in rows], [_toolTip(*row, decimals, unit) for row in rows])
        decision = comparison.decision
        advice = _("The new model can be used.") if decision.promote else _("Better keep the model in use.")
        points = [f"\u2022 {text}" for text in (*decision.reasons, *comparison.remarks)]
        beside = comparison.beside_readers()
        told = [f"{comparison.sentence()} {advice}", *([beside] if beside else []), *points]
        self._ui.promotionLabel.text = "\n".join(told)

    # Promoting

    def onPromote(self, reason):
        """Put the new model in the place of the one in use.

        Args:
            reason: why it is promoted against the advice, None where that is not needed.
        """
        told, run = self._ui.promotionLabel.text, self.chosenRun
        self._context.ensureDependencies(self._ui.promotionLabel)
        self._ui.promotionLabel.text = told
        if run is not self.chosenRun:
            self._ui.promotionLabel.text = _("The model in use was kept, because another model was chosen meanwhile.")
            return
        package = promote_run(run.folder, override=reason).package
        self._ui.overrideReasonEdit.text = ""
        self._context.modelsChanged(modelKey(package))
        self._onPromoted()
        self._ui.promotionLabel.text = _("{title} {version} is in use from now on.").format(
            title=package.manifest.title, version=package.version
        )

    def close(self):
        """End a comparison that is running."""
        self.progress.stop()


def _headers(unit):
    headers = (_("In use ({unit})"), _("New ({unit})"), _("Better by ({unit})"))
    return [_("Landmark"), *(header.format(unit=unit) for header in headers)]


def _runText(run):
    updated = datetime.strptime(run.record.updated, TIME_FORMAT).replace(tzinfo=timezone.utc).astimezone()
    model = run.record.model
    return _("{model}, {when}").format(model=f"{model.id} {model.version}", when=updated.strftime("%Y-%m-%d %H:%M"))


def _inUse(run):
    """The version in use of the model that a run has made a version of, None where there is none."""
    try:
        return find_model(run.record.model.id)
    except H3DELandmarksError:
        return None


def _readComparison(run):
    """The comparison that was made before, None where there is none that can be read."""
    try:
        comparison = read_comparison(run.folder / COMPARISON)
    except H3DELandmarksError:
        return None
    return comparison if comparison.decision is not None else None


def _texts(name, row, decimals):
    gain = row.improvement.mean
    lengths = [_length(value, decimals) for value in (row.base.mean_mm, row.candidate.mean_mm, gain)]
    return (name, *lengths[:2], ("+" if gain > 0 else "") + lengths[2])


def _toolTip(name, row, decimals, unit):
    gain = row.improvement
    said = _(
        "{name}: {points} points, missed {before} before and {after} now; between {low} and {high} {unit} better, "
        "95 % sure"
    )
    return said.format(
        name=name,
        unit=unit,
        points=row.points,
        before=row.base.missed,
        after=row.candidate.missed,
        low=_length(gain.low, decimals),
        high=_length(gain.high, decimals),
    )


def _length(value, decimals):
    return f"{value:.{decimals}f}" if math.isfinite(value) else ""
