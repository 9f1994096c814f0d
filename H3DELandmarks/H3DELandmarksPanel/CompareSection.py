"""The part of the panel that compares a point list with a reference."""

import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.scene import compare_point_lists, volume_of
from H3DELandmarksPanel.PanelContext import Observers, offer, onClick


class CompareSection:
    """Connects the widgets of the section "Compare"."""

    def __init__(self, ui):
        """Args: the widgets of the panel by name."""
        self._ui = ui
        self._lists = (None, None)
        self._observers = Observers(self.onPointsChanged, ui.compareLabel)
        onClick(ui.compareButton, self.onCompare, ui.compareLabel)
        self.setLists(None, None)

    def setLists(self, node, reference):
        """Offer the comparison of a vtkMRMLMarkupsFiducialNode with a reference, either may be None."""
        if (node, reference) != self._lists:
            self._ui.compareLabel.text = ""
            self._observers.clear()
        self._lists = (node, reference)
        reason = self._whyNot(node, reference)
        about = _("Show the distance of every landmark from the reference")
        offer(self._ui.compareButton, reason, about, self._ui.compareWhy)

    @staticmethod
    def _whyNot(node, reference):
        if node is None:
            return _("Choose a point list to review first.")
        if reference is None:
            return _("Choose a reference point list.")
        return _("Choose two different point lists.") if node is reference else ""

    def onCompare(self):
        """Put tables and a chart of the errors into the scene and show the chart."""
        self._observers.clear()
        comparison = compare_point_lists(*self._lists)
        self._ui.compareLabel.text = " ".join([self._sentence(comparison), *self._ofOther()])
        for node in self._lists:
            changes = (node.PointModifiedEvent, node.PointAddedEvent, node.PointRemovedEvent)
            self._observers.add(node, *changes, node.TransformModifiedEvent)
        slicer.modules.plots.logic().ShowChartInLayout(comparison.chart)

    def _ofOther(self):
        """A sentence where the reference is of another volume, such as another patient's."""
        volume, other = map(volume_of, self._lists)
        if volume is None or other is None or volume is other:
            return []
        return [_("The reference is of another volume, '{name}'.").format(name=other.GetName())]

    def onPointsChanged(self, caller, event):
        """The figures are those of the points as they were."""
        self._ui.compareLabel.text = _("The points have changed since they were compared: compare them again.")
        self._observers.clear()

    @staticmethod
    def _sentence(comparison):
        if not comparison.count:
            return _("No landmark is present in both lists.")
        limit, rate = next(iter(comparison.success_rates.items()))
        unit, percent = comparison.evaluation.unit, 100 * rate
        return _(
            "Mean radial error {mean:.2f} {unit} over {count} landmarks, {rate:.0f} % detected within {limit:g} {unit}."
        ).format(unit=unit, mean=comparison.mean_error, count=comparison.count, rate=percent, limit=limit)
