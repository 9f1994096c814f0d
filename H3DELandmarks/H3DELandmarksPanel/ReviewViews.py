"""What the views show for the point list under review, and whether they show its scan at all."""

import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from H3DELandmarksLib.scene import (
    ReviewDisplay,
    can_follow_scan,
    center_views,
    current_frame,
    drawn_measurements,
    follow_scan,
    frame_of,
    has_left_scan,
    has_lost_scan,
    hide_list,
    hide_radius,
    hide_surface,
    hide_trace,
    looks_of,
    review_field_of_view,
    show_hidden_list,
    show_surface,
    show_window,
    shown_volumes,
    shows_frame,
    volume_of,
    voxel_time,
    why_apart,
)
from H3DELandmarksPanel.PanelContext import Observers, onClick

COMPOSITE_CLASS = "vtkMRMLSliceCompositeNode"
VOLUME_CLASS = "vtkMRMLScalarVolumeNode"
VOLUME_EVENTS = (
    slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,  # another frame of a sequence
    slicer.vtkMRMLVolumeNode.TransformModifiedEvent,
    "ModifiedEvent",  # origin and directions
)


class ReviewViews:
    """Draws the review of one point list while the views show its scan."""

    def __init__(self, ui, onViewsChanged):
        """Args: the widgets by name, and what to call when the views show another volume or frame."""
        self._ui = ui
        self._observers = Observers(onViewsChanged, ui.reviewStatusLabel)
        self._node = self._display = None
        self._wasVisible = True  # the point list, before the review
        self._hiddenLines = []  # what was drawn of measurements, while the views show another scan
        self._surfaceOf = None  # see `_scan`
        self._looks = None  # how the views looked when the review paused
        self._window = None  # (volume node, (automatic, width, level) before, (width, level) that was set)
        onClick(ui.moveAlongButton, self.onMoveAlong, ui.reviewStatusLabel)

    def begin(self, node):
        """Draw the review of a vtkMRMLMarkupsFiducialNode from now on."""
        self._node = node
        self._wasVisible = node.GetDisplayNode() is None or bool(node.GetDisplayVisibility())
        self._observeAll()

    def _observeAll(self):
        """Notice what slice views show, and where the scan lies; also views and a scan that have come since."""
        kinds = (COMPOSITE_CLASS, "vtkMRMLLayoutNode")
        wanted = [(node, ("ModifiedEvent",)) for kind in kinds for node in slicer.util.getNodesByClass(kind)]
        wanted += [(self.volume, VOLUME_EVENTS)] if self.volume is not None else []
        for node, events in wanted:
            if not self._observers.isOn(node):
                self._observers.add(node, *events)

    def end(self):
        """Give the views back as the user had set them up."""
        self._observers.clear()
        node, self._node, self._looks = self._node, None, None
        self._stopDrawing()
        self._showLines()
        if node is not None and slicer.mrmlScene.IsNodePresent(node):
            show_hidden_list(node)
            node.SetDisplayVisibility(self._wasVisible)

    def pause(self):
        """As `end`, but the next `begin` goes on looking where the review was."""
        looks = looks_of(slicer.mrmlScene) if self._display else None
        self.end()
        self._looks = looks

    @property
    def volume(self):
        """The volume node of the points, None where nobody knows."""
        return volume_of(self._node) if self._node else None

    def shown(self):
        """The volume node that the slice views show: of several the first that is not that of the points; or None."""
        volume, shown = self.volume, shown_volumes(slicer.mrmlScene)
        return next((node for node in shown if node is not volume), shown[0] if shown else None)

    def scanForPoints(self):
        """What the views show where that can be a scan, as no label map can; None where it cannot."""
        shown = self.shown()
        return shown if shown is not None and shown.GetClassName() == VOLUME_CLASS else None

    def disagreement(self):
        """One sentence about why the views do not show the scan of the points, empty where they do."""
        node, volume, shown = self._node, self.volume, self.shown()
        if node is not None and has_lost_scan(node):
            return why_apart(node)
        if volume is None or shown is None:
            return self._whyApart()
        if volume is not shown:
            told = _("The views show '{shown}', the points are of '{volume}'.")
            if volume.GetName() == shown.GetName():
                told = _("The views show another volume of the name '{shown}' than that of the points.")
            return told.format(shown=shown.GetName(), volume=volume.GetName())
        frame, now = frame_of(self._node), current_frame(volume)
        if frame != now:
            return _("The views show {now}, the points are of {frame}.").format(
                now=now or _("no frame"), frame=frame or _("another recording")
            )
        return self._whyApart()

    def _whyApart(self):
        return why_apart(self._node) if self._node is not None and has_left_scan(self._node) else ""

    def onMoveAlong(self):
        """Put the points under the transform of their volume."""
        follow_scan(self._node)

    def _offerRemedies(self):
        """Show the buttons that bring the points and their scan together, or leave the points."""
        ui, shown = self._ui, self.shown()
        isElsewhere = self.volume is not None and (shown is not self.volume or not shows_frame(self._node))
        ui.showScanButton.visible = isElsewhere and shown is not None
        ui.goOnButton.visible = self.scanForPoints() is not None and (isElsewhere or self.volume is None)
        ui.moveAlongButton.visible = not isElsewhere and can_follow_scan(self._node)

    def show(self, landmarks, chosen, expected=None):
        """Draw the landmarks, or hide them where they would lie on the pictures of another scan.

        Args:
            landmarks: ReviewedLandmark objects.
            chosen: name of the one that is looked at, None for none.
            expected: (3,) RAS world mm where that one would lie if it has no position, None where nobody knows.
        """
        if self._node is None:
            return
        self._observeAll()
        if self.disagreement():
            self._offerRemedies()
            self._stopDrawing(slices=False)
            hide_list(self._node)
            self._hideLines()
            return
        self._showLines()
        isNew = self._display is None
        if isNew:
            self._display = ReviewDisplay(self._node, self._width(landmarks))
        if isNew or self._surfaceOf != self._scan():
            self._showSurface()
        self._display.show(landmarks, chosen, expected)
        if self._looks:
            self._display.look_again(self._looks)
            self._looks = None

    def _hideLines(self):
        """Hide what was drawn of measurements on the points."""
        lines = [line for line in drawn_measurements(self._node) if line.GetDisplayVisibility()]
        self._hiddenLines += lines
        for line in lines:
            line.SetDisplayVisibility(False)

    def _showLines(self):
        lines, self._hiddenLines = self._hiddenLines, []
        for line in lines:
            line.SetDisplayVisibility(True)

    def lookClosely(self):
        """Zoom to the anatomy."""
        if self._display:
            self._display.look_closely()

    def centerOn(self, position):
        """Look at a place; (3,) RAS world mm."""
        center_views(slicer.mrmlScene, position)
        if self._display:
            self._display.note_looks()

    def showWindow(self, tissue):
        """Show bone, teeth or soft tissue in the slice views."""
        volume = self.volume or self.shown()
        if volume is None:
            return
        if self._window is None or self._window[0] is not volume:
            self._restoreWindow()
            volume.CreateDefaultDisplayNodes()
            before = volume.GetDisplayNode()
            kept = (before.GetAutoWindowLevel(), before.GetWindow(), before.GetLevel())
        else:
            kept = self._window[1]
        show_window(volume, tissue)
        display = volume.GetDisplayNode()
        self._window = (volume, kept, (display.GetWindow(), display.GetLevel()))

    def onSurface(self):
        """The user wants to see the bone in 3D, or not."""
        if self._display:
            self._showSurface()

    def _scan(self):
        """What the surface is made of: it changes with voxels and place of the scan."""
        volume, matrix = self.volume, vtk.vtkMatrix4x4()
        if volume is None or volume.GetImageData() is None:
            return None
        volume.GetIJKToRASMatrix(matrix)
        place = [matrix.GetElement(row, column) for row in range(3) for column in range(4)]
        return volume.GetID(), volume.GetTransformNodeID(), voxel_time(volume), place

    def _showSurface(self):
        volume, self._surfaceOf = self.volume, self._scan()
        if volume is not None and self._ui.surfaceCheckBox.checked:
            show_surface(volume)
        else:
            hide_surface(slicer.mrmlScene)

    def _width(self, landmarks):
        """How many millimeters a view shows while a landmark is looked at."""
        volume = self.volume or self.shown()
        if volume is None or volume.GetImageData() is None:
            return review_field_of_view([p.radius for p in landmarks], [1.0], [100.0])
        spacing = volume.GetSpacing()
        extent = [count * step for count, step in zip(volume.GetImageData().GetDimensions(), spacing)]
        return review_field_of_view([p.radius for p in landmarks], spacing, extent)

    def _stopDrawing(self, slices=True):
        hide_radius(slicer.mrmlScene)
        hide_trace(slicer.mrmlScene)
        display, self._display = self._display, None
        if display:
            display.end(slices)
            hide_surface(slicer.mrmlScene)
        self._restoreWindow()

    def _restoreWindow(self):
        """The window of before, unless the user has changed it since."""
        if self._window is None:
            return
        (volume, (automatic, width, level), (setWidth, setLevel)), self._window = self._window, None
        display = volume.GetDisplayNode() if slicer.mrmlScene.IsNodePresent(volume) else None
        if display is not None and (display.GetWindow(), display.GetLevel()) == (setWidth, setLevel):
            display.SetWindowLevel(width, level)
            display.SetAutoWindowLevel(automatic)
