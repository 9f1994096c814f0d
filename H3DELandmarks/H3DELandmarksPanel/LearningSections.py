"""The lower part of the panel: keeping corrected cases and learning from them."""

import slicer.util

from H3DELandmarksPanel.CasesSection import CasesSection, CheckSection
from H3DELandmarksPanel.NextCaseSection import NextCaseSection
from H3DELandmarksPanel.PanelContext import onSignal
from H3DELandmarksPanel.PromotionSection import PromotionSection
from H3DELandmarksPanel.RetrainSection import RetrainSection
from H3DELandmarksPanel.VersionsSection import VersionsSection


class LearningSections:
    """Loads the widgets and connects the sections with one another."""

    def __init__(self, panel, layout, position):
        """Add the sections to the panel.

        Args:
            panel: H3DELandmarksWidget.
            layout: QVBoxLayout that they are put into.
            position: where in the layout.
        """
        widget = slicer.util.loadUI(panel.resourcePath("UI/H3DELandmarksLearning.ui"))
        layout.insertWidget(position, widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        self._context = context = panel.context
        self._runOfVersions = None  # folder of the retraining whose model's versions were listed last
        self.cases = CasesSection(self.ui, context, self.onCasesChanged)
        folder = self.cases.folder
        self.check = CheckSection(self.ui, context, folder)
        self.retrain = RetrainSection(self.ui, context, folder, self.onRetrained)
        self.promotion = PromotionSection(self.ui, context, folder, self.onModelsChanged)
        self.versions = VersionsSection(self.ui, context, self.onModelsChanged)
        self.nextCase = NextCaseSection(self.ui, context, folder)
        self._sections = [self.cases, self.check, self.retrain, self.promotion, self.versions, self.nextCase]
        onSignal(self.ui.runSelector, "currentIndexChanged(int)", self.showVersions, self.ui.promotionLabel)
        self.onCasesChanged()

    def refresh(self):
        """Offer what can be done now."""
        for section in self._sections:
            section.refresh()

    def onCasesChanged(self):
        """The folder is another one, or has a case more."""
        for section in (self.check, self.retrain, self.promotion):
            section.onCasesChanged()
        self._context.offerExamples(self.cases.folder.examples())
        self.showVersions()
        self.refresh()

    def onRetrained(self):
        """A retraining has begun or ended."""
        self.promotion.onCasesChanged()
        self.showVersions()
        self.refresh()

    def showVersions(self):
        """List the versions of the model that another retraining belongs to, once that one is chosen."""
        run, before = self.promotion.chosenRun, self._runOfVersions
        self._runOfVersions = run.folder if run else None
        if run and run.folder != before:
            self.versions.onModelsChanged(run.record.model.id)

    def onModelsChanged(self):
        """Another version of a model is in use."""
        self.retrain.refreshModels()
        self.promotion.onCasesChanged()
        self.versions.onModelsChanged()
        self._context.offerExamples(self.cases.folder.examples())
        self.refresh()

    def close(self):
        """End everything that is running."""
        for section in self._sections:
            section.close()
