"""The part of the panel that compares a point list with a reference."""

import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.scene import compare_point_lists
from H3DELandmarksPanel.PanelContext import onClick, showReason
from H3DELandmarksPanel.SafeText import plainTip


class CompareSection:
    """Connects the widgets of the section "Compare"."""

    def __init__(self, ui):
        """Args: the widgets of the panel by name."""
        self._ui = ui
        self._lists = (None, None)
        onClick(ui.compareButton, self.onCompare, ui.compareLabel)
        self.setLists(None, None)

    def setLists(self, node, reference):
        """Offer the comparison of a vtkMRMLMarkupsFiducialNode with a reference, either may be None."""
        if (node, reference) != self._lists:
            self._ui.compareLabel.text = ""
        self._lists = (node, reference)
        reason = self._whyNot(node, reference)
        self._ui.compareButton.enabled = not reason
        showReason(self._ui.compareWhy, reason)
        self._ui.compareButton.toolTip = plainTip(reason) or _("Show the distance of every landmark from the reference")

    @staticmethod
    def _whyNot(node, reference):
        if node is None:
            return _("Choose a point list to review first.")
        if reference is None:
            return _("Choose a reference point list.")
        return _("Choose two different point lists.") if node is reference else ""

    def onCompare(self):
        """Put tables and a chart of the errors into the scene and show the chart."""
        comparison = compare_point_lists(*self._lists)
        self._ui.compareLabel.text = self._sentence(comparison)
        slicer.modules.plots.logic().ShowChartInLayout(comparison.chart)

    @staticmethod
    def _sentence(comparison):
        if not comparison.count:
            return _("No landmark is present in both lists.")
        limit, rate = next(iter(comparison.success_rates.items()))
        unit, percent = comparison.evaluation.unit, 100 * rate
        return _(
            "Mean radial error {mean:.2f} {unit} over {count} landmarks, {rate:.0f} % detected within {limit:g} {unit}."
        ).format(unit=unit, mean=comparison.mean_error, count=comparison.count, rate=percent, limit=limit)
