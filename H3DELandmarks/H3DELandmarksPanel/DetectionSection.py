"""The part of the panel that detects landmarks: what is searched where, the run, and its result in the scene."""

import slicer
import slicer.util
from slicer.i18n import tr as _

from H3DELandmarksLib.cases.examples import EXAMPLES
from H3DELandmarksLib.core.region import FEWEST
from H3DELandmarksLib.scene import (
    bind_region,
    current_frame,
    detections,
    exceeds_spacing,
    fit_to_points,
    fit_to_volume,
    give_region,
    has_volume,
    is_region_of_other,
    landmarks_from_point_list,
    scan_facts,
    why_not_for_model,
    why_region_misses,
    why_unusable,
)
from H3DELandmarksPanel.CommandRun import RunState, summary
from H3DELandmarksPanel.ModelChoice import LandmarkChoice, ModelChoice, modelKey
from H3DELandmarksPanel.PanelContext import Observers, offer, onClick, onSignal, showReason
from H3DELandmarksPanel.RunProgress import RunProgress

VOLUME_CLASS = "vtkMRMLScalarVolumeNode"
# How far around the points under review a region is laid: room for what a coarser model's points only lead to.
REGION_MARGIN_MM = 20.0


class DetectionSection:
    """Connects the widgets of the section "Detect".

    Attributes:
        models: ModelChoice.
        landmarks: LandmarkChoice.
        progress: RunProgress of the detection.
    """

    def __init__(self, ui, context, logic, onDetected):
        """Connect.

        Args:
            ui: the widgets of the panel by name.
            context: PanelContext.
            logic: H3DELandmarksLogic.
            onDetected: called without arguments when a result is in the scene and under review.
        """
        self._ui, self._context, self._logic, self._onDetected = ui, context, logic, onDetected
        self._choiceOfResult = None  # (volume, model, frame) that the result in the panel was looked up for
        self._missing = ""  # key of the scene's model where that is not there
        self._observed = (None, None)
        self._observers = Observers(self.refresh, ui.statusLabel)
        self._runInputs = None  # (volume node, model or examples, point list or None, frame) of the run
        self._run = None  # until it is known how it has ended; it holds the memory of the volume
        self._hasFailedElsewhere = False  # whether another computer was asked last, and could not do it
        self.models = ModelChoice(ui)
        self.landmarks = LandmarkChoice(ui, self._onLandmarksChosen)
        self.progress = RunProgress(ui.progressBar, ui.statusLabel, ui.cancelButton, self._takeResult, self.refresh)
        self.progress.cancelText = _("Cancelled. The scene is as it was.")
        ui.pointListSelector.addAttribute(detections.POINT_LIST_CLASS, detections.MODEL_ATTRIBUTE)
        onSignal(ui.modelSelector, "currentIndexChanged(int)", self.onModelChosen, ui.statusLabel)
        onSignal(ui.regionSelector, "nodeAddedByUser(vtkMRMLNode*)", self._onRegionAdded, ui.statusLabel)
        onClick(ui.regionAroundPointsButton, self.onRegionAroundPoints, ui.statusLabel)
        onClick(ui.applyButton, self.onApply, ui.statusLabel)
        onClick(ui.hereButton, self.onHere, ui.statusLabel)

    # Parameters

    def takeUp(self):
        """Take up other parameters of the context, before widgets are connected with them."""
        if self._context.parameters:
            self._choiceOfResult = self._currentChoice()
        else:
            self._observe(None, None)

    def onParametersModified(self):
        """Show the chosen model, and look up the result of a new choice."""
        parameters = self._context.parameters
        wanted, missing = parameters.model, ""
        if wanted and wanted != self.models.chosenKey():
            missing = "" if self.models.choose(wanted) else wanted
            self.showLandmarks()
        self._offerModels(parameters.inputVolume)
        choice = self._currentChoice()
        self._followRegion(choice[0])
        self._observe(choice[0], parameters.region)
        if choice != self._choiceOfResult:
            isOtherVolume = choice[0] is not self._choiceOfResult[0]
            self._choiceOfResult = choice
            parameters.pointList = detections.latest_detection(*choice) if all(choice[:2]) else None
            if isOtherVolume and not self.progress.isRunning:
                self.say("")  # what was said is of another scan
            if isOtherVolume and choice[0]:
                self._context.follow(choice[0])
        self._tellMissing(missing)

    def _tellMissing(self, key):
        """Say once that the model of the scene is not there; another one is chosen in its place."""
        isNew, self._missing = key not in ("", EXAMPLES, self._missing), key
        if isNew and not self.progress.isRunning:
            self.say(
                _("The model '{model}' of this scene is not on this computer: choose another one.").format(model=key)
            )

    def _offerModels(self, volumeNode):
        """Offer first what may fit the volume."""
        self.models.offer(scan_facts(volumeNode) if volumeNode and not why_unusable(volumeNode) else None)

    def _currentChoice(self):
        """Volume, model and frame that a result belongs to."""
        volumeNode = self._context.parameters.inputVolume
        model = self.models.chosen()
        return (volumeNode, modelKey(model) if model else "", current_frame(volumeNode) if volumeNode else "")

    def _observe(self, volumeNode, regionNode):
        """Follow volume and region."""
        if (volumeNode, regionNode) == self._observed:
            return
        self._observers.clear()
        if volumeNode:
            self._observers.add(volumeNode, volumeNode.ImageDataModifiedEvent, volumeNode.TransformModifiedEvent)
        if regionNode:
            self._observers.add(regionNode, "ModifiedEvent")
        self._observed = (volumeNode, regionNode)

    def chooseFirstVolume(self):
        """Choose a volume where none is chosen: one that a slice view shows, else the first."""
        if not self._context.parameters.inputVolume:
            self._context.parameters.inputVolume = _shownVolume(slicer.mrmlScene)

    def onModelChosen(self, index=0):
        """Keep the user's choice with the scene."""
        self.models.showFacts()
        if self._context.parameters:
            self._context.parameters.model = self.models.chosenKey()
        self.showLandmarks()
        self.refresh()

    def showLandmarks(self):
        """Show the landmarks of the chosen model, checked as the parameters say."""
        parameters = self._context.parameters
        self.landmarks.show(self.models.chosen(), parameters.excludedLandmarks if parameters else "")

    def _onLandmarksChosen(self):
        if self._context.parameters:
            self._context.parameters.excludedLandmarks = self.landmarks.excludedText()
        self.refresh()

    # Region

    def _onRegionAdded(self, regionNode):
        """Lay a new region around the volume, for the user to make it smaller."""
        parameters = self._context.parameters
        if parameters and parameters.inputVolume:
            fit_to_volume(regionNode, parameters.inputVolume)
            bind_region(regionNode, parameters.inputVolume)

    def onRegionAroundPoints(self):
        """Lay the region, or a new one where none is chosen, around the points under review."""
        parameters = self._context.parameters
        if landmarks_from_point_list(parameters.reviewList).present.sum() < FEWEST:
            self.say(_("A region needs three points or more: detect or place them first."))
            return
        if not parameters.region:
            parameters.region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", _("Region"))
        fit_to_points(parameters.region, parameters.reviewList, REGION_MARGIN_MM)
        if self._context.volume:
            bind_region(parameters.region, self._context.volume)
        self.say("")

    def _followRegion(self, volumeNode):
        """A box that is chosen belongs to the volume, wherever it comes from.

        In another patient it means nothing: hide it and search the whole of the other volume.
        """
        parameters = self._context.parameters
        region = parameters.region
        if not region:
            return
        isNew = region is not self._observed[1] or not has_volume(region)
        if volumeNode and isNew:
            give_region(region, volumeNode)
        elif is_region_of_other(region, volumeNode):
            region.SetDisplayVisibility(False)
            parameters.region = None

    # What can be done

    def refresh(self, caller=None, event=None):
        """Offer what can be done now, with the reason where detection can't start."""
        ui, isFree = self._ui, not (self.progress.isRunning or self._context.whyBusy())
        reason = self._whyNot()
        offer(ui.applyButton, reason, _("Find the landmarks of the model in the volume"))
        showReason(ui.applyWhy, "" if self.progress.isRunning else reason or self._regionWarning())
        ui.regionAroundPointsButton.enabled = isFree and self._context.pointList is not None
        inputs = (ui.volumeSelector, ui.modelSelector, ui.landmarksChoice, ui.regionSelector, ui.deviceSelector)
        for widget in (*inputs, ui.pointListSelector):
            widget.enabled = isFree
        self._noteEnd()
        ui.hereButton.visible = isFree and self._hasFailedElsewhere and self._context.clinic.isChosen

    def _whyNot(self):
        """One sentence about why detection can't start, empty where it can."""
        parameters, model = self._context.parameters, self.models.chosen()
        if self.progress.isRunning:
            return _("A detection is running.")
        if self._context.whyBusy():
            return self._context.whyBusy()
        volumeNode = parameters.inputVolume if parameters else None
        if not volumeNode:
            return _("Load and choose a volume first.")
        if not model:
            return self.models.whyNone()
        if not self.landmarks.chosenNames():
            return _("Choose at least one landmark.")
        reason = why_unusable(volumeNode) or why_not_for_model(volumeNode, model)
        if not reason and model.id == EXAMPLES:
            return self._whyNotByExamples()
        return reason or self._context.clinic.whyNot()

    def _whyNotByExamples(self):
        """What keeps examples from being laid over the volume, empty if nothing does."""
        if self._context.parameters.region:
            return _("Examples are laid over whole volumes: choose no region.")
        if self._context.clinic.isChosen:
            return _("Examples are laid over the volume on this computer: choose no other one.")
        return ""

    def _noteEnd(self):
        if self._run is not None and self._run.state is not RunState.RUNNING:
            self._hasFailedElsewhere = bool(self._run.host) and self._run.state is RunState.FAILED
            self._run = None

    def _regionWarning(self):
        """One sentence about a region in which nothing can be found, empty where it lies well."""
        parameters = self._context.parameters
        if not parameters or not parameters.region or not parameters.inputVolume:
            return ""
        return why_region_misses(parameters.region, parameters.inputVolume)

    # Detection

    @property
    def run(self):
        """The DetectionRun that goes on, None for none."""
        return self.progress.run

    def onApply(self):
        """Start a detection."""
        clinic = self._context.clinic
        self._context.ensureDependencies(self._ui.statusLabel, clinic.isChosen)
        reason = self._whyNot()  # the scene may have changed meanwhile
        if reason:
            self.say(reason)
            return
        parameters, model = self._context.parameters, self.models.chosen()
        volumeNode = parameters.inputVolume
        where = clinic.destination(_("the scan '{name}'").format(name=volumeNode.GetName()))
        isSame = parameters is self._context.parameters and parameters.inputVolume is volumeNode
        if where is None or not isSame:  # what another run has chosen while the question was open was not asked about
            self.say(_("Nothing was sent."))
            return
        names = None if self.landmarks.isEverything() else self.landmarks.chosenNames()
        device = where.device or parameters.device.value
        run = self._logic.startDetection(volumeNode, model, device, names, parameters.region, where)
        self._runInputs = (volumeNode, model, parameters.pointList, current_frame(volumeNode))
        self._run, self._hasFailedElsewhere = run, False
        self.progress.start(run)

    def onHere(self):
        """The other computer could not do it: do it here."""
        self._ui.clinicCheckBox.checked = False
        self.onApply()

    def _takeResult(self, run):
        """Put the result into the scene; returns what there is to say."""
        pointList = self._logic.showResult(run, *self._runInputs)
        parameters = self._context.parameters
        if parameters:
            with slicer.util.NodeModify(parameters.parameterNode):  # the panel follows both at once
                parameters.pointList = parameters.reviewList = pointList
            self._onDetected()
        where = [_("Examined on {host}.").format(host=run.host)] if run.host else []
        said = [summary(run.landmarks, pointList, run.headline), *where]
        isCoarse = exceeds_spacing(run.volume, self._runInputs[1])
        return " ".join([*run.warnings, *said] if isCoarse else [*said, *run.warnings])

    def onNodeRemoved(self):
        """Stop a detection whose volume was removed."""
        if self.progress.isRunning and not slicer.mrmlScene.IsNodePresent(self._runInputs[0]):
            self.progress.stop(_("The volume was removed, so the detection was stopped."))

    def say(self, text):
        """Show a sentence below the buttons."""
        self._ui.statusLabel.text = text

    def close(self):
        """End a detection that is running."""
        self.progress.stop()


def _shownVolume(scene):
    """A scalar volume in the background of a slice view, else the first one of the scene, None where there is none.

    Label maps and color volumes, which are of derived classes, do not count: the selector does not list them.
    """
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene)
    shown = [scene.GetNodeByID(composite.GetBackgroundVolumeID() or "") for composite in composites]
    candidates = [*shown, *slicer.util.getNodesByClass(VOLUME_CLASS, scene)]
    return next((node for node in candidates if node and node.GetClassName() == VOLUME_CLASS), None)
