"""The lower part of the panel: keeping corrected cases and learning from them."""

import slicer.util

from H3DELandmarksPanel.CheckSection import CheckSection
from H3DELandmarksPanel.Desk import Desk
from H3DELandmarksPanel.NextCaseSection import NextCaseSection
from H3DELandmarksPanel.PromotionSection import PromotionSection
from H3DELandmarksPanel.RetrainSection import RetrainSection
from H3DELandmarksPanel.TrainingSetSection import TrainingSetSection
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
        widget = slicer.util.loadUI(panel.resourcePath("UI/Learning.ui"))
        layout.insertWidget(position, widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        self.desk = Desk(panel)
        self.cases = TrainingSetSection(self.ui, self.desk, self.onSetChanged)
        self.check = CheckSection(self.ui, self.desk, self.cases.trainingSet)
        trainingSet = self.cases.trainingSet
        self.retrain = RetrainSection(self.ui, self.desk, trainingSet, self.onRetrained)
        self.promotion = PromotionSection(self.ui, self.desk, trainingSet, self.onModelsChanged)
        self.versions = VersionsSection(self.ui, self.desk, self.onModelsChanged)
        self.nextCase = NextCaseSection(self.ui, self.desk, trainingSet)
        self._sections = [self.cases, self.check, self.retrain, self.promotion, self.versions, self.nextCase]
        self.onSetChanged()

    def refresh(self):
        """Offer what can be done now."""
        for section in self._sections:
            section.refresh()

    def onSetChanged(self):
        """The training set is another one, or has a case more."""
        for section in (self.check, self.retrain, self.promotion):
            section.onSetChanged()
        self.refresh()

    def onRetrained(self):
        """A retraining has begun or ended."""
        self.promotion.onSetChanged()
        self.refresh()

    def onModelsChanged(self):
        """Another version of a model is in use."""
        self.retrain.refreshModels()
        self.promotion.onSetChanged()
        self.versions.onModelsChanged()
        self.refresh()

    def close(self):
        """End everything that is running."""
        for section in self._sections:
            section.close()
