"""The part of the panel in which a person reviews and corrects the landmarks of a point list."""

from pathlib import Path

import ctk
import qt
import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.scene import (
    HardeningWatches,
    Review,
    ReviewHistory,
    ReviewState,
    begin_placing,
    bind_decided_points,
    end_placing,
    expected_position,
    export_review,
    follow_point,
    forget_placing,
    frame_of,
    hide_list,
    hide_radius,
    interaction_node,
    is_placing,
    list_unit,
    provenance_of_list,
    rejoin_scan_of_original,
    select_frame,
    show_hidden_list,
    show_radius,
    volume_of,
)
from H3DELandmarksPanel.ModelCard import CardWindow, hasLandmarkPicture
from H3DELandmarksPanel.PanelContext import guarded, isFolder, onClick, onSignal
from H3DELandmarksPanel.ReviewKeys import clicker
from H3DELandmarksPanel.ReviewViews import ReviewViews
from H3DELandmarksPanel.Revisions import Following, ReviewFindings, SecondLook
from H3DELandmarksPanel.Tables import ReviewTable, causeText, lengthText, percentText, showLegend, stateText

MILLISECONDS_TO_REFRESH = 50
EXPORT_SETTING = "H3DELandmarks/ExportFolder"


class PointPlacing:
    """The time between "Place" and the click, or the end of it by other means."""

    def __init__(self, onEnd):
        """Args: what to call when the point was placed, or placing has ended."""
        self._onEnd = onEnd
        self._node = self._placing = None
        self._pointID = None
        self._tag = None

    def isActive(self):
        """Whether the next click places the point."""
        return self._node is not None

    def start(self, node, index):
        """Let the next click place a point.

        Args:
            node: vtkMRMLMarkupsFiducialNode.
            index: of a control point without a position.
        """
        self.stop()
        self._node, self._pointID = node, node.GetNthControlPointID(index)
        self._placing = begin_placing(node, node.GetNthControlPointLabel(index))
        interaction = interaction_node(self._placing.scene)
        self._tag = interaction.AddObserver(interaction.InteractionModeChangedEvent, self._onModeChanged)

    def _onModeChanged(self, caller, event):
        if self._node is not None and not is_placing(self._placing):
            self.stop()

    def stop(self):
        """End it, with what was clicked so far."""
        if self._node is None:
            return
        node, self._node = self._node, None
        placing, self._placing = self._placing, None
        interaction_node(placing.scene).RemoveObserver(self._tag)
        end_placing(placing)
        index, position = node.GetNthControlPointIndexByID(self._pointID), placing.position
        if index >= 0 and position is not None:
            node.SetNthControlPointPositionWorld(index, position)
        qt.QTimer.singleShot(0, lambda: forget_placing(placing))  # the view still handles the click
        self._onEnd()


class ReviewSection:
    """Connects the widgets of the section "Review and correct" with the review of one point list."""

    def __init__(self, ui, context):
        """Args: the widgets of the panel by name, and the PanelContext."""
        self.ui, self._context = ui, context
        self.table = ReviewTable(ui.reviewTable)
        self.placing = PointPlacing(self.refresh)
        self.pictures = CardWindow(ui.pictureButton)
        self.views = ReviewViews(ui, self.onChanged)
        self.findings, self.following = ReviewFindings(ui, context), Following(ui.followCheckBox, context)
        self.secondLook = SecondLook(ui, context, self.refresh)
        self._review = self._history = None
        self._hardenings = HardeningWatches()  # also of lists that are not under review
        self._chosen = None
        self._expected = None  # RAS mm where the chosen landmark would lie if it has no position
        self._package = None  # the model of the points, where its card has a picture of them
        self._order = []  # names as the table lists them, until somebody asks for another order
        self._seen = set()  # names of landmarks that were looked at
        self._kept = {}  # {node id: (history, order, seen)} of lists that were left
        self._places = {}  # {name: RAS mm} when they were shown last
        self._tags = []
        self._isDragging = self._isPaused = False
        self._isNew = self._beginsLater = False  # what was chosen, and is to be looked at, while the review pauses
        self._timer = qt.QTimer()  # dragging sends more events than a table needs
        self._timer.setSingleShot(True)
        self._timer.interval = MILLISECONDS_TO_REFRESH
        onSignal(self._timer, "timeout()", self.refresh, ui.reviewStatusLabel)
        self._connectWidgets()
        ui.reviewSection.collapsed = True  # until there is something to review
        self.refresh()

    def _connectWidgets(self):
        ui = self.ui
        for signal in ("itemSelectionChanged()", "cellClicked(int,int)"):  # who clicks a chosen row looks at it again
            onSignal(ui.reviewTable, signal, self.onRowChosen, ui.reviewStatusLabel)
        actions = {
            ui.nextButton: lambda: self.step(backward=False),
            ui.previousButton: lambda: self.step(backward=True),
            ui.acceptButton: self.onAccept,
            ui.acceptAllButton: self.onAcceptAll,
            ui.absentButton: lambda: self._do(self._review.mark_absent),
            ui.backButton: lambda: self._do(self._review.back_to_proposal),
            ui.swapButton: lambda: self._do(self._review.swap_sides),
            ui.placeButton: self.onPlace,
            ui.undoButton: lambda: self._travel(self._history.undo),
            ui.redoButton: lambda: self._travel(self._history.redo),
            ui.lockPointButton: self.onLockPoint,
            ui.lockAllButton: self.onLockAll,
            ui.sortButton: self.onSort,
            ui.pictureButton: self.onPicture,
            ui.showScanButton: self.onShowScan,
            ui.exportButton: self.onExport,
            ui.goOnButton: self.onGoOn,
            ui.mendButton: lambda: self._doAll(self.findings.mend),
            ui.dismissButton: lambda: self._doAll(Review.dismiss),
            ui.boneButton: lambda: self.views.showWindow("bone"),
            ui.teethButton: lambda: self.views.showWindow("teeth"),
            ui.softButton: lambda: self.views.showWindow("soft tissue"),
        }
        for button, action in actions.items():
            onClick(button, action, ui.reviewStatusLabel)
        onSignal(ui.surfaceCheckBox, "toggled(bool)", lambda isOn: self.views.onSurface(), ui.reviewStatusLabel)
        showLegend(ui)
        ui.exportPath.filters = ctk.ctkPathLineEdit.Dirs
        ui.exportPath.currentPath = slicer.util.settingsValue(EXPORT_SETTING, slicer.app.defaultScenePath)

    def keys(self):
        """{key sequence: function} of the review."""
        ui = self.ui
        buttons = {
            "Space": ui.acceptButton,
            "X": ui.absentButton,
            "P": ui.placeButton,
            "N": ui.nextButton,
            "B": ui.previousButton,
            "S": ui.swapButton,
            "Ctrl+Z": ui.undoButton,
            "Ctrl+Y": ui.redoButton,
        }
        clicks = {key: clicker(button) for key, button in buttons.items()}
        return {**clicks, "A": self.onAcceptAndStay}

    # The point list

    def setPointList(self, node):
        """Review this vtkMRMLMarkupsFiducialNode; None for none. Who comes back to a list can undo its steps again."""
        self._hardenings.look(slicer.mrmlScene)
        if node is (self._review.node if self._review else None):
            return
        self._forget()
        self.ui.reviewSection.collapsed = node is None
        if node is not None:
            rejoin_scan_of_original(node)
            try:
                self._review = Review(node)
            except H3DELandmarksError as error:
                self.refresh()
                self.ui.reviewStatusLabel.text = str(error)
                return
            self._history, order, seen = self._takeKept(node)
            package = self._context.packageOf(node)
            self._package = package if package and hasLandmarkPicture(package) else None
            self._order = order or [landmark.name for landmark in self._review.by_doubt()]
            self._seen = set(seen)
            self.following.begin(self._review)
            self._observe(node)
            self._isNew = True
            self._takeViews()
        self.refresh()

    def _takeViews(self):
        """Let the views show a list that was chosen, once they are the panel's to change."""
        if self._isPaused:
            return
        self._isNew = False
        show_hidden_list(self._review.node)
        self._showScan()
        self.views.begin(self._review.node)

    def _takeKept(self, node):
        """History, order and seen names of a list, as far as they are known and still hold of its points."""
        history, order, seen = self._kept.pop(node.GetID(), (None, [], ()))
        isHardened = self._hardenings.of(node).follow()
        if history is None or history.node is not node:
            return ReviewHistory(node), [], ()
        if isHardened:  # steps of before are positions in a frame that is gone
            return ReviewHistory(node), order, seen
        if history.is_outdated:  # a detection has replaced the points
            return ReviewHistory(node), [], ()
        return history, order, seen

    def _showScan(self):
        """Bring the scan of the points into the views, and into the choice of the volume."""
        volume = volume_of(self._review.node)
        if volume is not None:
            self._context.show(volume, self._review.node)

    def pause(self):
        """Give the views back while another module is open."""
        if not self._isPaused:
            self._isPaused = True
            self.placing.stop()
            self.following.hideTrace()
            self.views.pause()

    def resume(self):
        """Go on after `pause`."""
        if self._isPaused:
            self._isPaused = False
            if self._review and self._isNew:
                self._takeViews()
            elif self._review:
                self.views.begin(self._review.node)
            self.refresh()
            if self._beginsLater:
                self.begin()

    @property
    def isWaiting(self):
        """Whether a landmark waits for a decision."""
        return self._review is not None and any(landmark.state.is_waiting for landmark in self._review.landmarks())

    def begin(self):
        """Choose the most doubtful landmark that waits for a decision and look at it, once the panel is on show."""
        self._beginsLater = self._isPaused
        if self._isPaused:
            if self._review and self.views.shown() is not volume_of(self._review.node):
                hide_list(self._review.node)  # which nobody has seen yet, from the pictures of another patient
            return
        self.step(backward=False)
        self.views.lookClosely()
        focused = self.ui.landmarksTab.focusWidget()
        if focused is not None and focused.focus and focused.inherits("QAbstractButton"):
            self.ui.reviewTable.setFocus()  # for the keys, unless the user types or chooses something meanwhile

    def restart(self):
        """Look anew at the same point list, whose points a detection may have replaced."""
        node = self._review.node if self._review else None
        self.setPointList(None)
        self.setPointList(node)

    def close(self):
        """Let go of the point list, and of what the views show for it."""
        self.setPointList(None)
        self._kept.clear()
        self._hardenings.close()

    def _forget(self):
        self.placing.stop()
        for tag in self._tags:
            self._review.node.RemoveObserver(tag)
        self._timer.stop()
        self._keep()
        self.following.hideTrace()
        self.secondLook.close()
        self._tags, self._review, self._history, self._chosen, self._isDragging = [], None, None, None, False
        self._order, self._seen, self._places, self._package = [], set(), {}, None
        self._isNew = self._beginsLater = False
        self.views.end()

    def _keep(self):
        """Remember the steps of a list that is left, as long as the scene has it."""
        isThere = slicer.mrmlScene.IsNodePresent
        self._kept = {key: kept for key, kept in self._kept.items() if isThere(kept[0].node)}
        if self._history is not None and isThere(self._review.node):
            self._kept[self._review.node.GetID()] = (self._history, self._order, self._seen)

    @property
    def chosen(self):
        """Name of the landmark that is looked at, None for none."""
        return self._chosen

    def _observe(self, node):
        changes = (
            node.PointModifiedEvent,
            node.PointAddedEvent,
            node.PointRemovedEvent,
            node.LockModifiedEvent,
            node.PointPositionDefinedEvent,
            node.PointPositionUndefinedEvent,
            node.PointPositionMissingEvent,
            node.PointPositionNonMissingEvent,
            node.TransformModifiedEvent,
            vtk.vtkCommand.ModifiedEvent,
        )
        observed = [(event, self.onChanged) for event in changes]
        observed.append((node.PointStartInteractionEvent, self.onDragBegins))
        observed.append((node.PointEndInteractionEvent, self.onDragEnds))
        label = self.ui.reviewStatusLabel
        self._tags = [node.AddObserver(event, guarded(slot, label)) for event, slot in observed]

    def onChanged(self, caller, event):
        """Show a change of the points, or of what the views show, soon, together with those that follow at once."""
        if not self._timer.active:
            self._timer.start()

    def onDragBegins(self, caller, event):
        """What happens until the mouse button is released is one step."""
        self._isDragging = True

    def onDragEnds(self, caller, event):
        """The mouse button was released: what was dragged is what the user looks at."""
        self._isDragging = False
        dragged = self._moved()
        if dragged and not self._isPaused:  # a short drag is over before the views have followed
            self._chosen, self._expected = dragged, self._review.landmark(dragged).position
            follow_point(slicer.mrmlScene, self._expected)
        self._seen.add(self._chosen)
        self.refresh()

    def _moved(self):
        """Name of a landmark that lies elsewhere than it was shown last, None where none does."""
        for landmark in self._review.landmarks():
            before, now = self._places.get(landmark.name), landmark.position
            if before is not None and now is not None and (before != now).any():
                return landmark.name
        return None

    # Showing

    def refresh(self):
        """Remember what has changed as a step, and show the points as they are now."""
        self._timer.stop()  # else a sentence that comes next would last for milliseconds
        if self._review and not self._isDragging and not self.placing.isActive():
            if self._hardenings.of(self._review.node).follow():  # steps of before are positions in a frame that is gone
                self._review, self._history = Review(self._review.node), ReviewHistory(self._review.node)
            if self._history.has_changed:
                self._review.keep()
                self._bind()
                self.following.follow(self._review)
            if self._isPaused:
                self.following.hideTrace()
            self._history.note()
        landmarks = self._inOrder()
        if self._chosen not in self._order:
            self._chosen = None
        self.table.show(landmarks, self._chosen, self._seen, list_unit(self._review.node) if self._review else "mm")
        self._showChosen(next((landmark for landmark in landmarks if landmark.name == self._chosen), None))
        self._showButtons(landmarks)
        self._showViews(landmarks)
        if not self._isDragging:
            self.findings.show(self._review)
            self.secondLook.consider(self._review)

    def _bind(self):
        """What was decided about is of the scan that the views show."""
        volume = self.views.scanForPoints() or self._context.volume
        if volume is not None:
            bind_decided_points(self._review.node, volume)

    def _inOrder(self):
        """All landmarks as the table lists them; new ones come last, and of points of one name there is the first."""
        landmarks = {}
        for landmark in self._review.landmarks() if self._review else []:
            landmarks.setdefault(landmark.name, landmark)
        self._order = [name for name in self._order if name in landmarks]
        self._order += [name for name in landmarks if name not in self._order]
        return [landmarks[name] for name in self._order]

    def _showViews(self, landmarks):
        """Draw the points where the views show their scan; where they show another one, say so and change nothing."""
        if self._isPaused:
            return
        ui, disagreement = self.ui, self.views.disagreement()
        ui.disagreementBar.visible = bool(disagreement)
        ui.disagreementLabel.text = disagreement
        self.secondLook.allow(not disagreement)
        ui.mendButton.enabled = ui.dismissButton.enabled = not disagreement
        if disagreement:
            self.placing.stop()  # the click would place the point on pictures of another scan
            decisions = (ui.acceptButton, ui.absentButton, ui.placeButton, ui.swapButton, ui.acceptAllButton)
            for button in (*decisions, ui.backButton, ui.undoButton, ui.redoButton):
                button.enabled = False
        dragged = self._moved() if self._isDragging else None
        if dragged:
            follow_point(slicer.mrmlScene, self._review.landmark(dragged).position)
        else:
            self._places = {landmark.name: landmark.position for landmark in landmarks}
        self.views.show(landmarks, dragged or self._chosen, self._expected)
        if not (disagreement or self._isDragging):
            self._showRadius(next((landmark for landmark in landmarks if landmark.name == self._chosen), None))

    @staticmethod
    def _showRadius(landmark):
        if landmark is not None and lengthText(landmark.radius):
            show_radius(slicer.mrmlScene, landmark.proposed, landmark.radius)
        else:
            hide_radius(slicer.mrmlScene)

    def _showChosen(self, landmark):
        ui = self.ui
        for button in (ui.absentButton, ui.backButton, ui.swapButton, ui.acceptButton, ui.lockPointButton):
            button.enabled = landmark is not None
        ui.placeButton.enabled = landmark is not None and (not landmark.state.has_position or self.placing.isActive())
        ui.placeButton.checked = self.placing.isActive()
        ui.lockPointButton.checked = landmark is not None and landmark.locked
        ui.definitionLabel.text = self._description(landmark) if landmark else ""
        ui.pictureButton.visible = landmark is not None and self._package is not None
        if landmark is None:
            return
        ui.absentButton.enabled = landmark.state is not ReviewState.ABSENT  # also where it was accepted in bulk
        ui.swapButton.enabled = landmark.partner is not None
        ui.acceptButton.enabled = landmark.state.is_proposal or landmark.state.in_bulk
        ui.backButton.enabled = landmark.state.is_decided

    def _description(self, landmark):
        """The definition, and how far the proposal can be trusted."""
        definition = landmark.definition.rstrip(".") or _("no definition is known")
        sentences = [f"{landmark.name}: {definition}."]
        if landmark.cause:
            stated = stateText(ReviewState(landmark.cause.statement.value)).capitalize()
            sentences.append(f"{stated}: {causeText(landmark.cause)}.")
        if percentText(landmark.presence) and landmark.proposed is None:
            sentences.append(_("Proposed as absent, presence {share}.").format(share=percentText(landmark.presence)))
        if percentText(landmark.confidence):
            sentences.append(self._confidence(percentText(landmark.confidence)))
        unit = list_unit(self._review.node)
        if lengthText(landmark.radius):
            sentences.append(
                _("Nine of ten errors are below {radius}.").format(radius=lengthText(landmark.radius, unit))
            )
        if landmark.revised_by:
            sentences.append(_("Proposal revised: {by}.").format(by=landmark.revised_by))
        if not landmark.state.has_position:
            sentences.append(_("To place it: Place (P), then click where it lies."))
        return " ".join(sentences)

    def _confidence(self, share):
        """What a confidence means, as far as the point list says with which model it was found."""
        provenance = provenance_of_list(self._review.node)
        if provenance is None or provenance.model is None:
            return _("Confidence {share}.").format(share=share)
        within = lengthText(provenance.model.confidence_within_mm, provenance.model.unit)
        text = _("Confidence {share} that the proposal is within {within} of the right place.")
        return text.format(share=share, within=within)

    def _showButtons(self, landmarks):
        ui, waiting = self.ui, sum(landmark.state.is_waiting for landmark in landmarks)
        ui.nextButton.enabled = ui.previousButton.enabled = waiting > 0
        ui.acceptAllButton.enabled = any(landmark.state.is_proposal for landmark in landmarks)
        ui.undoButton.enabled = self._history is not None and self._history.can_undo
        ui.redoButton.enabled = self._history is not None and self._history.can_redo
        ui.exportButton.enabled = self._review is not None and self._context.volume is not None
        for button in (ui.lockAllButton, ui.sortButton, ui.boneButton, ui.teethButton, ui.softButton):
            button.enabled = self._review is not None
        ui.lockAllButton.checked = self._review is not None and bool(self._review.node.GetLocked())
        repeated = self._review.repeated_names() if self._review is not None else []
        ui.reviewStatusLabel.text = self._progress(landmarks, waiting, repeated)

    @staticmethod
    def _progress(landmarks, waiting, repeated):
        """How many landmarks are decided, how many the model says nothing about, and which names are used twice."""
        states = [landmark.state for landmark in landmarks]
        sentences = []
        count = sum(not state.is_unexamined for state in states)
        if count:
            decided = _("{decided} of {count} landmarks decided.")
            sentences.append(decided.format(decided=count - waiting, count=count))
        for state in (ReviewState.NOT_EXAMINED, ReviewState.NOT_RECOGNISED):
            if state in states:
                sentences.append(f"{stateText(state).capitalize()}: {states.count(state)}.")
        if repeated:
            told = _("Several points are called {names}: rename all but one of each, the others are not reviewed.")
            sentences.append(told.format(names=", ".join(repeated)))
        return " ".join(sentences)

    # Choosing

    def onRowChosen(self):
        """A row was chosen by mouse or keyboard."""
        self.choose(self.table.chosenName())

    def choose(self, name):
        """Choose a landmark and look at it in all views."""
        if name != self._chosen:
            self.placing.stop()
            self.following.hideTrace()
        isFirst, self._chosen = self._chosen is None, name
        if name:
            self._seen.add(name)
        landmark = self._review.landmark(name) if self._review and name else None
        here = self._expected = None if landmark is None else self._placeOf(landmark)
        self.refresh()
        if landmark is None or self._isPaused or self.views.disagreement():
            return
        if isFirst:
            self.views.lookClosely()
        if here is not None:
            self.views.centerOn(here)

    def _placeOf(self, landmark):
        """(3,) RAS mm where a landmark lies, was proposed, or is expected from the others; None where nobody knows."""
        if landmark.position is not None:
            return landmark.position
        if landmark.proposed is not None:
            return landmark.proposed
        package = self._context.packageOf(self._review.node)
        try:
            return expected_position(self._review.landmarks(), landmark.name, package) if package else None
        except H3DELandmarksError:  # nothing that reads the model is installed
            return None

    def step(self, backward):
        """Choose the next doubtful landmark, or the one before."""
        if self._review:
            self._inOrder()  # of points that were added just now
            name = self._review.doubtful_after(self._chosen, backward, self._order)
            if name:
                self.choose(name)

    # Deciding

    def _do(self, change, *arguments):
        """Change the chosen landmark."""
        if self._review and self._chosen:
            self.placing.stop()
            change(self._chosen, *arguments)
            self.refresh()

    def _doAll(self, change):
        """Change the review as a whole."""
        self.placing.stop()
        change(self._review)
        self.refresh()

    def onAccept(self):
        """Accept the chosen landmark and go on to the next doubtful one."""
        self._do(self._review.accept)
        self.step(backward=False)

    def onAcceptAndStay(self):
        """Accept the chosen landmark and go on looking at it."""
        if self.ui.acceptButton.enabled:
            self._do(self._review.accept)

    def onAcceptAll(self):
        """Accept what the model was certain of: what was looked at, and the rest where the user confirms it."""
        self.placing.stop()
        review, limit = self._review, self.ui.thresholdSpinBox.value / 100
        certain = review.certain_above(limit)
        seen = [name for name in certain if name in self._seen]
        if not certain:
            self.ui.reviewStatusLabel.text = _("No proposal is certain enough: lower the limit.")
            return
        question = _(
            "The model is certain enough of {count} landmarks that wait for a decision, and you have looked at {seen} "
            "of them. Accept all {count}, also those that you have not looked at? They are kept as accepted in bulk."
        ).format(count=len(certain), seen=len(seen))
        names = certain if slicer.util.confirmYesNoDisplay(question) else seen
        if review is not self._review:  # a detection that ended while the question was open
            self.ui.reviewStatusLabel.text = _("Nothing was accepted, because other points came under review.")
            return
        review.accept_in_bulk(*set(names).intersection(review.certain_above(limit)))
        self.refresh()

    def onSort(self):
        """Bring the most doubtful landmarks that wait for a decision to the top."""
        self._order = [landmark.name for landmark in self._review.by_doubt()]
        self.refresh()

    def onPicture(self):
        """Show where the landmarks lie, as the model's card has it."""
        if self._package is not None and self._chosen:
            self.pictures.showLandmarks(self._package, self._chosen)

    def onExport(self):
        """Write the points as they are now into a new folder in the one that is shown."""
        folder = Path(self.ui.exportPath.currentPath.strip())
        if not isFolder(folder):
            raise InputError(_("There is no folder '{folder}': choose another one.").format(folder=folder))
        qt.QSettings().setValue(EXPORT_SETTING, str(folder))
        self.placing.stop()
        target = export_review(self._review.node, self._context.volume, folder)
        self.refresh()
        self.ui.reviewStatusLabel.text = _("Exported to '{folder}'.").format(folder=target)

    # One patient at a time

    def onShowScan(self):
        """Bring the scan of the points back into the views."""
        self._showFrame()
        self._showScan()
        self.refresh()

    def _showFrame(self):
        """Go back to the frame of a sequence that the points were found in."""
        volume, frame = self.views.volume, frame_of(self._review.node)
        if volume is not None and frame:
            select_frame(volume, frame)

    def onGoOn(self):
        """Take the scan in the views for the next detection, and its newest points for the review."""
        self._context.goOnWith(self.views.shown())

    def onPlace(self, checked):
        """Let the next click in a view place the chosen landmark, or stop that."""
        if checked and not self._chosen:
            checked = False
        if checked:
            self.placing.start(self._review.node, self._review.landmark(self._chosen).index)
        else:
            self.placing.stop()
        self.refresh()

    def onLockPoint(self, checked):
        """Protect the chosen point."""
        self._do(self._review.set_locked, checked)

    def onLockAll(self, checked):
        """Protect all points of the list."""
        self._review.node.SetLocked(checked)
        self.refresh()

    def _travel(self, undoOrRedo):
        self.placing.stop()
        undoOrRedo()
        self._review = Review(self._review.node)  # before the first step of a loaded list nothing was kept
        self.following.begin(self._review)
        self.refresh()
