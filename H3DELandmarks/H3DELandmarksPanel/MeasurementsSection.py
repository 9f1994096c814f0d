"""The part of the panel that shows what is measured on the points under review."""

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from H3DELandmarksLib.scene import (
    definitions_of_list,
    draw_measurements,
    drawn_measurements,
    measure_list,
    remove_measurements,
    remove_orphaned_measurements,
    update_measurements,
)
from H3DELandmarksPanel.PanelContext import guarded, onClick, onSignal
from H3DELandmarksPanel.Tables import TextTable

MILLISECONDS_TO_REFRESH = 200
DECIMALS = {"ratio": 3}


class MeasurementsSection:
    """Connects the widgets of the section "Measurements" with one point list."""

    def __init__(self, ui, context):
        """Args: the widgets of the panel by name, and the PanelContext."""
        self._ui, self._context = ui, context
        headers = [_("Measurement"), _("Value"), _("90 % interval"), _("Norm"), _("Note")]
        self._table = TextTable(ui.measureTable, headers, rightAligned=(1, 2, 3))
        self._node = self._definitions = None
        self._tags = []
        self._timer = qt.QTimer()  # dragging sends more events than a table needs
        self._timer.setSingleShot(True)
        self._timer.interval = MILLISECONDS_TO_REFRESH
        onSignal(self._timer, "timeout()", self.refresh, ui.measureLabel)
        onClick(ui.measureDrawButton, self.onDraw, ui.measureLabel)
        onSignal(ui.measureSection, "contentsCollapsed(bool)", self.refresh, ui.measureLabel)
        self.setPointList(None)

    def setPointList(self, node):
        """Measure on this vtkMRMLMarkupsFiducialNode; None for none. What is drawn for the former one stays."""
        if node is not None and node is self._node:
            return
        for tag in self._tags:
            self._node.RemoveObserver(tag)
        self._timer.stop()
        self._node, self._tags = node, []
        if node is not None:
            events = (node.PointModifiedEvent, node.TransformModifiedEvent, vtk.vtkCommand.ModifiedEvent)
            slot = guarded(self.onPointsChanged, self._ui.measureLabel)
            self._tags = [node.AddObserver(event, slot) for event in events]
        self.refresh()

    def onPointsChanged(self, caller, event):
        """Measure anew soon, together with changes that follow at once."""
        if not self._timer.active:
            self._timer.start()

    def onNodeRemoved(self, node):
        """With a point list goes what was drawn for it."""
        if node.IsA("vtkMRMLMarkupsFiducialNode"):
            remove_orphaned_measurements(slicer.mrmlScene)
            self.refresh()

    def onDraw(self, checked):
        """Put lines, angles and planes into the views, or take them away."""
        if checked:
            draw_measurements(self._node, self._definitions)
        else:
            remove_measurements(self._node)
        self.refresh()

    def refresh(self):
        """Show what is measured on the points as they are now, and let what is drawn follow them.

        A folded section has time until it is opened, unless something is drawn.
        """
        ui, node = self._ui, self._node
        drawn = drawn_measurements(node) if node is not None else []
        if ui.measureSection.collapsed and not drawn:
            return
        package = self._context.packageOf(node) if node is not None else None
        self._definitions = definitions_of_list(node, package) if node is not None else None
        results = measure_list(node, self._definitions, package) if self._definitions else ()
        if drawn and self._definitions:
            update_measurements(node, self._definitions)
        self._table.show([self._texts(result) for result in results], [self._toolTip(result) for result in results])
        ui.measureDrawButton.enabled = bool(results) or bool(drawn)
        ui.measureDrawButton.checked = bool(drawn)
        ui.measureLabel.text = self._sentence(results)

    def close(self):
        """Let go of the point list."""
        self.setPointList(None)

    def _sentence(self, results):
        if self._node is None:
            return _("Choose a point list to review first.")
        if not results:
            return _("No measurements are defined for these points.")
        computed = sum(result.value is not None for result in results)
        return _("{computed} of {count} measurements could be computed.").format(computed=computed, count=len(results))

    @staticmethod
    def _texts(result):
        decimals, unit = DECIMALS.get(result.unit, 1), {"degrees": "°", "ratio": ""}.get(result.unit, f" {result.unit}")
        value = "" if result.value is None else f"{result.value:.{decimals}f}{unit}"
        interval = norm = ""
        if result.low90 is not None:
            interval = _("{low} to {high}").format(
                low=f"{result.low90:.{decimals}f}", high=f"{result.high90:.{decimals}f}"
            )
        if result.norm is not None:
            norm = f"{result.norm.mean:g} ± {result.norm.sd:g}"
            if result.within_norm is False:
                norm += f" ({result.z:+.1f} SD)"
        return result.name, value, interval, norm, result.category or result.reason or ""

    @staticmethod
    def _toolTip(result):
        parts = [result.title, result.reason, result.norm.source if result.norm else ""]
        return ". ".join(part for part in parts if part) or result.name
