"""The Slicer module H3DE Landmarks: finds anatomical landmarks in the volumes of a scene.

This file wires widgets, parameters and the parts in H3DELandmarksPanel together; H3DELandmarksLib computes.
"""

import sys
import time
from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# In a checkout the library lies beside this folder, and Slicer knows this folder only; once packaged they lie together.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "H3DELandmarksLib").is_dir() and str(_checkout) not in sys.path:
    sys.path.append(str(_checkout))

from H3DELandmarksPanel.ChildProcess import pythonExecutable
from H3DELandmarksPanel.CommandRun import RunState, remainingText
from H3DELandmarksPanel.CompareSection import CompareSection
from H3DELandmarksPanel.Dependencies import ensureDependencies
from H3DELandmarksPanel.DetectionRun import DetectionRun, summary
from H3DELandmarksPanel.LandmarkChoice import LandmarkChoice
from H3DELandmarksPanel.LearningSections import LearningSections
from H3DELandmarksPanel.ModelChoice import ModelChoice, modelKey
from H3DELandmarksPanel.Parameters import H3DELandmarksParameterNode
from H3DELandmarksPanel.ReviewSection import ReviewSection
from H3DELandmarksPanel.SampleScans import registerSamples
from H3DELandmarksPanel.SelfTest import testDetection, testPanel, whyUntestable

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.core.region import FEWEST
from H3DELandmarksLib.scene import (
    current_frame,
    detections,
    fit_to_points,
    fit_to_volume,
    landmarks_from_point_list,
    region_from_node,
    show_detection,
    volume_from_node,
    why_not_for_model,
    why_unusable,
)

MILLISECONDS_BETWEEN_POLLS = 100
# How far around the points under review a region is laid: room for what a coarser model's points only lead to.
REGION_MARGIN_MM = 20.0


class H3DELandmarks(ScriptedLoadableModule):
    """What Slicer shows of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("H3DE Landmarks")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["The SlicerH3DELandmarks contributors"]
        parent.helpText = _(
            "Finds anatomical landmarks in CT, cone-beam CT and micro-CT volumes and says how certain each is. "
            "Results are proposals for an expert to check, not a basis for treatment."
        )
        parent.acknowledgementText = _("The networks follow H3DE-Net (arXiv:2502.14221).")
        slicer.app.connect("startupCompleted()", self.registerSampleData)

    def registerSampleData(self):
        """Offer the sample scans in the module Sample Data."""
        registerSamples(Path(__file__).parent / "Resources" / "Icons")


class H3DELandmarksWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._choiceOfResult = None  # (volume, model) that the result in the panel was looked up for
        self._observedVolume = None
        self._volumeTags = []
        self._run = None
        self._runInputs = None  # (volume node, package, point list or None, frame) of the run

    def setup(self):
        """Called when the panel is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/H3DELandmarks.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.ui.pointListSelector.addAttribute(detections.POINT_LIST_CLASS, detections.MODEL_ATTRIBUTE)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = H3DELandmarksLogic()
        self.models = ModelChoice(self.ui.modelSelector, self.ui.modelCard)
        self.landmarks = LandmarkChoice(self.ui, self.onLandmarksChosen)
        self.review = ReviewSection(self.ui)
        self.comparison = CompareSection(self.ui)
        panelLayout = uiWidget.layout()
        self.learning = LearningSections(self, panelLayout, panelLayout.count() - 1)  # above the spacer
        self.timer = qt.QTimer()
        self.timer.interval = MILLISECONDS_BETWEEN_POLLS
        self.timer.connect("timeout()", self.onPoll)
        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        self.ui.regionSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onRegionAdded)
        self.ui.regionAroundPointsButton.connect("clicked(bool)", self.onRegionAroundPoints)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancelButton)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)
        self.initializeParameterNode()
        self.showRun()

    def cleanup(self):
        """Called when Slicer closes or the module is reloaded."""
        self.stopRun()
        self.setParameterNode(None)
        self.review.close()
        self.learning.close()
        self.removeObservers()

    def enter(self):
        """Called when the user opens the module."""
        self.initializeParameterNode()

    def exit(self):
        """Called when the user opens another module; a detection goes on."""
        self.review.placing.stop()
        self.review.hideSphere()

    def onSceneStartClose(self, caller, event):
        """The volume goes away, and the detection with it."""
        self.stopRun()
        self.showStatus("")
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        """Take up the parameters of the new scene."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        """Take up the parameters that were loaded; loading does not tell that they have changed."""
        if self._parameterNode:
            self.setParameterNode(None)
            self.initializeParameterNode()

    def onNodeRemoved(self, caller, event):
        """Stop a detection whose volume was removed."""
        if self._parameterNode:
            self.onParametersModified()
        if self._run and not slicer.mrmlScene.IsNodePresent(self._runInputs[0]):
            self.stopRun()
            self.showStatus(_("The volume was removed, so the detection was stopped."))

    # Parameters

    def initializeParameterNode(self):
        """Take up the parameters of the scene, with the first volume where none is chosen."""
        self.models.refresh()
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")

    def setParameterNode(self, parameterNode):
        """Connect the panel to these parameters, None for no parameters."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.observeVolume(None)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._choiceOfResult = self.choiceOfResult()
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.showLandmarks()
            self.onParametersModified()
        else:
            self.review.setPointList(None)
            self.comparison.setLists(None, None)
            self.learning.refresh()

    def onParametersModified(self, caller=None, event=None):
        """Show the chosen model, look up the result of a new choice, and say whether detection can start."""
        parameters = self._parameterNode
        if parameters.model and parameters.model != self.models.chosenKey():
            self.models.choose(parameters.model)
            self.showLandmarks()
        choice = self.choiceOfResult()
        self.observeVolume(choice[0])
        if choice != self._choiceOfResult:
            self._choiceOfResult = choice
            parameters.pointList = detections.latest_detection(*choice) if all(choice[:2]) else None
        self.review.setPointList(parameters.reviewList)
        self.comparison.setLists(parameters.reviewList, parameters.reference)
        self.learning.refresh()
        self.updateButtons()

    def choiceOfResult(self):
        """Volume, model and frame that a result belongs to."""
        volumeNode = self._parameterNode.inputVolume
        return (volumeNode, self.models.chosenKey(), current_frame(volumeNode) if volumeNode else "")

    def observeVolume(self, volumeNode):
        """Follow the chosen volume; the mixin is not used for it, because it would keep removed volumes in memory."""
        if volumeNode is not self._observedVolume:
            for tag in self._volumeTags:
                self._observedVolume.RemoveObserver(tag)
            events = (slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, slicer.vtkMRMLVolumeNode.TransformModifiedEvent)
            self._volumeTags = [volumeNode.AddObserver(e, self.updateButtons) for e in events] if volumeNode else []
            self._observedVolume = volumeNode

    def onModelChosen(self, index):
        """Keep the user's choice with the scene."""
        self.models.showCard()
        if self._parameterNode:
            self._parameterNode.model = self.models.chosenKey()
        self.showLandmarks()
        self.updateButtons()

    def onLandmarksChosen(self):
        """Keep the user's choice with the scene."""
        if self._parameterNode:
            self._parameterNode.excludedLandmarks = self.landmarks.excludedText()
        self.updateButtons()

    def onRegionAdded(self, regionNode):
        """Lay a new region around the volume, for the user to make it smaller."""
        if self._parameterNode and self._parameterNode.inputVolume:
            fit_to_volume(regionNode, self._parameterNode.inputVolume)

    def onRegionAroundPoints(self):
        """Lay the region, or a new one where none is chosen, around the points under review."""
        parameters = self._parameterNode
        try:
            found = landmarks_from_point_list(parameters.reviewList)
        except H3DELandmarksError as error:
            self.showStatus(str(error))
            return
        if found.present.sum() < FEWEST:
            self.showStatus(_("A region needs three points or more: detect or place them first."))
            return
        if not parameters.region:
            parameters.region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", _("Region"))
        fit_to_points(parameters.region, parameters.reviewList, REGION_MARGIN_MM)
        self.showStatus("")

    def showLandmarks(self):
        """Show the landmarks of the chosen model, checked as the parameters say."""
        excluded = self._parameterNode.excludedLandmarks if self._parameterNode else ""
        self.landmarks.show(self.models.chosenPackage(), excluded)

    def updateButtons(self, caller=None, event=None):
        """Offer what can be done now, with the reason where detection can't start."""
        volumeNode = self._parameterNode.inputVolume if self._parameterNode else None
        reason = self.whyNotReady(volumeNode)
        self.ui.applyButton.enabled = not reason
        self.ui.applyButton.toolTip = reason or _("Find the landmarks of the model in the volume")
        self.ui.cancelButton.enabled = self._run is not None
        hasPoints = bool(self._parameterNode and self._parameterNode.reviewList)
        self.ui.regionAroundPointsButton.enabled = hasPoints and self._run is None
        ui = self.ui
        for widget in (
            ui.volumeSelector,
            ui.modelSelector,
            ui.landmarksChoice,
            ui.regionSelector,
            ui.deviceSelector,
            ui.pointListSelector,
        ):
            widget.enabled = self._run is None

    def whyNotReady(self, volumeNode):
        """One sentence about why detection can't start, empty where it can."""
        if self._run:
            return _("A detection is running.")
        if not volumeNode:
            return _("Load and choose a volume first.")
        if not self.models.chosenPackage():
            return self.models.whyNone()
        if not self.landmarks.chosenNames():
            return _("Choose at least one landmark.")
        return why_unusable(volumeNode) or why_not_for_model(volumeNode, self.models.chosenPackage())

    # Detection

    def onApplyButton(self):
        """Start a detection."""
        parameters, package = self._parameterNode, self.models.chosenPackage()
        self.showStatus("")
        try:
            ensureDependencies(self.resourcePath("requirements.txt"))
            names = None if self.landmarks.isEverything() else self.landmarks.chosenNames()
            self._run = self.logic.startDetection(
                parameters.inputVolume, package, parameters.device.value, names, parameters.region
            )
        except H3DELandmarksError as error:
            self.showStatus(str(error))
            return
        frame = current_frame(parameters.inputVolume)
        self._runInputs = (parameters.inputVolume, package, parameters.pointList, frame)
        self.timer.start()
        self.showRun()

    def onPoll(self):
        """Show how far the detection is, and its result."""
        if not self._run:
            return
        self._run.poll()
        if self._run.state is RunState.RUNNING:
            self.showRun()
        elif self._run.state is RunState.SUCCEEDED:
            self.takeResult()
        else:
            self.endRun(self._run.stage)

    def takeResult(self):
        """Put the result of the run that has ended into the scene."""
        run, inputs = self._run, self._runInputs
        try:
            pointList = self.logic.showResult(run, *inputs)
        except H3DELandmarksError as error:
            self.endRun(str(error))
            return
        if self._parameterNode:
            self._parameterNode.pointList = pointList
            self._parameterNode.reviewList = pointList
            self.review.restart()
        self.endRun(" ".join([summary(run.landmarks, pointList), *run.warnings]))

    def isDetecting(self):
        """Whether a detection is running."""
        return self._run is not None

    def onCancelButton(self):
        """Stop the detection; the scene has not been touched."""
        self.stopRun()
        self.showStatus(_("Cancelled. The scene is as it was."))

    def stopRun(self):
        """End the detection, if one is running, without a result."""
        if self._run:
            self._run.cancel()
            self.endRun("")

    def endRun(self, status):
        """Make the panel ready for the next detection."""
        self.timer.stop()
        self._run = self._runInputs = None
        self.showRun()
        self.showStatus(status)

    def showRun(self):
        """Show the progress of the run, and which buttons can be used."""
        self.ui.progressBar.visible = self._run is not None
        if self._run:
            known = self._run.fraction is not None
            self.ui.progressBar.maximum = 100 if known else 0  # 0: busy, without a percentage
            self.ui.progressBar.value = round(100 * self._run.fraction) if known else 0
            remaining = remainingText(self._run.remaining)
            self.showStatus(f"{self._run.stage}, {remaining}" if remaining else self._run.stage)
        self.updateButtons()

    def showStatus(self, text):
        """Show a sentence below the buttons."""
        self.ui.statusLabel.text = text


class H3DELandmarksLogic(ScriptedLoadableModuleLogic):
    """Detection for panels, scripts and tests; needs no GUI."""

    def getParameterNode(self):
        """The parameters of the scene."""
        return H3DELandmarksParameterNode(super().getParameterNode())

    def startDetection(self, volumeNode, package, device="auto", landmarkNames=None, regionNode=None):
        """Start a detection in a child process.

        Args:
            volumeNode: vtkMRMLScalarVolumeNode, under any linear transform.
            package: ModelPackage.
            device: auto, cpu, cuda or mps.
            landmarkNames: what to look for, None for every landmark of the model.
            regionNode: vtkMRMLMarkupsROINode that the search is restricted to, None for the whole volume.

        Returns:
            DetectionRun, to be polled until it has ended; the scene is not changed.

        Raises:
            InputError: the volume or the region cannot be used, or Slicer's Python is missing.
        """
        volume = volume_from_node(volumeNode)
        region = region_from_node(regionNode) if regionNode else None
        return DetectionRun(
            volume,
            volumeNode.GetName(),
            package.path,
            device,
            pythonExecutable(),
            slicer.app.temporaryPath,
            landmarkNames,
            region,
        )

    def showResult(self, run, volumeNode, package, pointList=None, frame=""):
        """Put the result of a run that succeeded into the scene.

        Args:
            run: DetectionRun of this volume and this model.
            volumeNode: vtkMRMLScalarVolumeNode.
            package: ModelPackage.
            pointList: earlier result to replace, unless somebody has edited it.
            frame: which frame of a sequence the volume showed when the run began.

        Returns:
            vtkMRMLMarkupsFiducialNode.

        Raises:
            InputError: the volume was moved or replaced since the run began.
        """
        volume = volume_from_node(volumeNode)
        unmoved = abs(volume.affine - run.volume.affine).max() < 1e-6
        if volume.array.shape != run.volume.array.shape or not unmoved:
            raise InputError(_("The volume was moved or changed while landmarks were being detected: detect again."))
        volumeName = f"{volumeNode.GetName()} {frame}" if frame else volumeNode.GetName()
        name = _("{volume} {model} landmarks").format(volume=volumeName, model=package.manifest.title)
        pairs = package.scheme.pairs
        return show_detection(run.landmarks, volumeNode, modelKey(package), name, pointList, pairs, frame)

    def process(self, volumeNode, package, device="auto", landmarkNames=None, regionNode=None):
        """Detect and wait for the result, for scripts; arguments as for `startDetection`.

        Returns:
            A new vtkMRMLMarkupsFiducialNode.

        Raises:
            H3DELandmarksError: one sentence about what went wrong.
        """
        frame = current_frame(volumeNode)
        run = self.startDetection(volumeNode, package, device, landmarkNames, regionNode)
        try:
            while run.state is RunState.RUNNING:
                run.poll()
                slicer.app.processEvents()
                time.sleep(MILLISECONDS_BETWEEN_POLLS / 1000)
        finally:
            run.cancel()
        if run.state is not RunState.SUCCEEDED:
            raise H3DELandmarksError(run.stage)
        return self.showResult(run, volumeNode, package, frame=frame)


class H3DELandmarksTest(ScriptedLoadableModuleTest):
    """The self-test that runs inside Slicer."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear(False)

    def runTest(self):
        """Detect in a small volume under a transform; then detect, review, save and load by the panel's buttons."""
        reason = whyUntestable()
        if reason:
            self.delayDisplay(f"Nothing was tested. {reason}")
            return
        self.setUp()
        testDetection(self, H3DELandmarksLogic())
        self.setUp()
        testPanel(self, slicer.util.getModuleWidget(slicer.modules.h3delandmarks))
        self.setUp()
        self.delayDisplay("The test passed.")
