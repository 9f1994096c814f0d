"""The part of the panel that shows what is measured on the points under review."""

import contextlib

import qt
import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.scene import (
    definitions_of_list,
    draw_measurements,
    drawn_measurements,
    measure_list,
    measured_lists,
    remove_measurements,
    remove_orphaned_measurements,
    update_measurements,
)
from H3DELandmarksPanel.PanelContext import Observers, guarded, onClick, onSignal
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
        self._observers = Observers(self.onPointsChanged, ui.measureLabel)
        self._timer = qt.QTimer()  # dragging sends more events than a table needs
        self._timer.setSingleShot(True)
        self._timer.interval = MILLISECONDS_TO_REFRESH
        self.refresh = guarded(self._refresh, ui.measureLabel)  # points of one name cannot be measured
        onSignal(self._timer, "timeout()", self.refresh, ui.measureLabel)
        onClick(ui.measureDrawButton, self.onDraw, ui.measureLabel)
        onSignal(ui.measureSection, "contentsCollapsed(bool)", self.refresh, ui.measureLabel)
        self.setPointList(None)

    def setPointList(self, node):
        """Measure on this vtkMRMLMarkupsFiducialNode; None for none. What is drawn for the former one stays."""
        if node is not None and node is self._node:
            return
        self._node = node
        self._observe()
        self.refresh()

    def _observe(self):
        """Notice changes of the points, and of other points whose measurements are drawn."""
        self._forget()
        for node in {self._node, *measured_lists(slicer.mrmlScene)} - {None}:
            self._observers.add(node, node.PointModifiedEvent, node.TransformModifiedEvent, "ModifiedEvent")

    def _forget(self):
        self._timer.stop()
        self._observers.clear()

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
        self._observe()
        self.refresh()

    def _refresh(self):
        """Show what is measured on the points as they are now, and let what is drawn follow them.

        A folded section has time until it is opened, unless something is drawn.
        """
        ui, node = self._ui, self._node
        self._followOthers()
        drawn = drawn_measurements(node) if node is not None else []
        if ui.measureSection.collapsed and not drawn:
            return
        self._table.show([])  # where nothing can be measured, what was measured before is not shown
        package = self._context.packageOf(node) if node is not None else None
        self._definitions = definitions_of_list(node, package) if node is not None else None
        results = measure_list(node, self._definitions, package) if self._definitions else ()
        if drawn and self._definitions:
            update_measurements(node, self._definitions)
        self._table.show([self._texts(result) for result in results], [self._toolTip(result) for result in results])
        ui.measureDrawButton.enabled = bool(results) or bool(drawn)
        ui.measureDrawButton.checked = bool(drawn)
        ui.measureLabel.text = self._sentence(results)

    def _followOthers(self):
        """Let what is drawn for lists that are not under review follow their points."""
        for other in measured_lists(slicer.mrmlScene):
            with contextlib.suppress(H3DELandmarksError):  # told once that list is under review
                definitions = definitions_of_list(other, self._context.packageOf(other))
                if definitions and other is not self._node:
                    update_measurements(other, definitions)

    def close(self):
        """Let go of all point lists."""
        self._node = None
        self._forget()

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
