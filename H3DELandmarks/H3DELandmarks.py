"""The Slicer module Anatomical Landmarks (H3DE): finds anatomical landmarks in the volumes of a scene.

This file wires widgets, parameters and the parts in H3DELandmarksPanel together; H3DELandmarksLib computes. Both are
imported when they are used first, so that Slicer starts without them.
"""

import functools
import sys
import time
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

OWN_PACKAGES = ("H3DELandmarksPanel", "H3DELandmarksLib")
SECONDS_BETWEEN_POLLS = 0.1
DOCUMENTATION = "https://github.com/SlicerH3DELandmarks/SlicerH3DELandmarks/blob/main/docs/clinicians.md"

# In a checkout the library lies beside this folder, and Slicer knows this folder only; once packaged they lie together.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "H3DELandmarksLib").is_dir() and str(_checkout) not in sys.path:
    sys.path.append(str(_checkout))


def told(method):
    """Decorator of a panel's observer: an error becomes a sentence in the panel, and details a log entry."""

    @functools.wraps(method)
    def call(self, caller=None, event=None, *more):
        try:
            method(self, caller, event, *more)
        except Exception as error:
            from H3DELandmarksPanel.PanelContext import sentenceAbout

            self.detection.say(sentenceAbout(error))

    return call


class H3DELandmarks(ScriptedLoadableModule):
    """What Slicer shows of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Anatomical Landmarks (H3DE)")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        parent.dependencies = []
        parent.contributors = ["SlicerH3DELandmarks contributors (SlicerH3DELandmarks project)"]
        parent.helpText = _(
            "Finds anatomical landmarks in CT, cone-beam CT and micro-CT volumes and in radiographs, says how certain "
            "each is, and learns from your corrections. Results are proposals for an expert to check, not a basis for "
            "treatment: this is not a medical device. For a tutorial by clicks, see the {link_start}documentation"
            "{link_end}."
        ).format(link_start=f'<a href="{DOCUMENTATION}">', link_end="</a>")
        parent.acknowledgementText = _("The networks follow H3DE-Net (arXiv:2502.14221).")
        slicer.app.connect("startupCompleted()", self.registerSampleData)
        slicer.app.connect("startupCompleted()", self.watchScene)

    def registerSampleData(self):
        """Offer the sample scans in the module Sample Data."""
        from H3DELandmarksPanel.SampleScans import registerSamples

        registerSamples(Path(__file__).parent / "Resources" / "Icons")

    def watchScene(self):
        """Scenes may be saved in the middle of a review: show them as they were set up, also without the panel."""
        slicer.mrmlScene.AddObserver(slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)

    def onSceneEndImport(self, caller, event):
        """A scene was loaded."""
        from H3DELandmarksLib.scene import forget_interrupted_review

        forget_interrupted_review(caller)


class H3DELandmarksWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel.

    Attributes:
        parameterNode: H3DELandmarksParameterNode of the scene, None while the panel is not connected with one.
        context: PanelContext.
        detection, review, comparison, measurements, learning, batch: the sections.
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.parameterNode = None
        self._parameterNodeGuiTag = None
        self._isImporting = False

    def setup(self):
        """Called when the panel is opened for the first time."""
        import vtk
        from H3DELandmarksPanel.BatchSection import BatchSection
        from H3DELandmarksPanel.ClinicComputer import ClinicComputer
        from H3DELandmarksPanel.CompareSection import CompareSection
        from H3DELandmarksPanel.DetectionSection import DetectionSection
        from H3DELandmarksPanel.LearningSections import LearningSections
        from H3DELandmarksPanel.MeasurementsSection import MeasurementsSection
        from H3DELandmarksPanel.PanelContext import PanelContext
        from H3DELandmarksPanel.ReviewKeys import ReviewKeys
        from H3DELandmarksPanel.ReviewSection import ReviewSection

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/H3DELandmarks.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.logic = H3DELandmarksLogic()
        self.context = PanelContext(self, ClinicComputer(self.ui, self.refresh))
        self.review = ReviewSection(self.ui, self.context)
        self.detection = DetectionSection(self.ui, self.context, self.logic, self.onDetected)
        self.comparison = CompareSection(self.ui)
        self.measurements = MeasurementsSection(self.ui, self.context)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        ui = self.ui
        keys, label = self.review.keys(), ui.reviewStatusLabel
        self.keys = ReviewKeys(ui.reviewSection, ui.reviewTable, ui.keysCheckBox, keys, label)
        self.learning = LearningSections(self, self.ui.teachTab.layout(), 0)
        layout = ui.landmarksTab.layout()
        self.batch = BatchSection(self, layout, layout.indexOf(ui.statusLabel) + 1, self.onDetected)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        for method in (type(self).onNodeAboutToBeRemoved, type(self).onNodeRemoved):
            method.CallDataType = vtk.VTK_OBJECT
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self.initializeParameterNode()

    def cleanup(self):
        """Called when Slicer closes or the module is reloaded."""
        self.context.close()
        self.detection.close()
        self.setParameterNode(None)
        self.review.close()
        self.measurements.close()
        self.keys.close()
        self.learning.close()
        self.batch.close()
        self.removeObservers()

    def onReload(self):
        """Called by the developer's button "Reload": the parts and the library are read again, too."""
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN_PACKAGES]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        """Called when the user opens the module."""
        self.initializeParameterNode()
        self.keys.setActive(True)
        self.review.resume()

    def exit(self):
        """Called when the user opens another module; a detection goes on, and the views are as they were before."""
        self.keys.setActive(False)
        self.review.pause()

    def onDetected(self):
        """Review what was found, the most doubtful landmark first; choices of the detection make room for it."""
        self.review.restart()
        self.review.begin()
        self.ui.detectSection.collapsed = self.review.isWaiting

    @told
    def onSceneStartClose(self, caller, event):
        """The volume goes away, and the detection with it, and the program that waits for another one."""
        from H3DELandmarksPanel.Worker import workers

        self.detection.close()
        workers.close()
        self.detection.say("")
        self.setParameterNode(None)

    @told
    def onSceneEndClose(self, caller, event):
        """Take up the parameters of the new scene."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    @told
    def onSceneStartImport(self, caller, event):
        """Let the parameters alone: the node selectors are emptied and filled again while a scene is added."""
        self._isImporting = self.parameterNode is not None
        self.setParameterNode(None)

    @told
    def onSceneEndImport(self, caller, event):
        """Take up the parameters again, or those that were loaded; loading does not tell that they have changed."""
        from H3DELandmarksLib.scene import forget_interrupted_review

        forget_interrupted_review(caller)
        if self._isImporting:
            self._isImporting = False
            self.initializeParameterNode()

    @told
    def onNodeAboutToBeRemoved(self, caller, event, node):
        """Choose none before the node selectors choose a neighbor: the points of an expert, or of another patient."""
        if self.parameterNode:
            self.parameterNode.forget(node)

    @told
    def onNodeRemoved(self, caller, event, node):
        """A volume or points may be gone."""
        if node.GetHideFromEditors():
            return  # what a review has drawn
        if self.parameterNode:
            self.measurements.onNodeRemoved(node)
            self.detection.chooseFirstVolume()
            self.onParametersModified()
        self.detection.onNodeRemoved()

    def initializeParameterNode(self):
        """Take up the parameters of the scene, with the first volume where none is chosen."""
        self.detection.models.refresh()
        self.setParameterNode(self.logic.getParameterNode())
        self.detection.chooseFirstVolume()

    def setParameterNode(self, parameterNode):
        """Connect the panel to these parameters, None for no parameters."""
        if self.parameterNode:
            self.parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self.parameterNode, "ModifiedEvent", self.onParametersModified)
        self.parameterNode = parameterNode
        self.detection.takeUp()
        if parameterNode:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, "ModifiedEvent", self.onParametersModified)
            self.detection.showLandmarks()
            self.onParametersModified()
        else:
            self.showChoices()

    @told
    def onParametersModified(self, caller=None, event=None):
        """Follow the choices of the user, or of the scene."""
        self.detection.onParametersModified()
        self.showChoices()

    def showChoices(self):
        """Let every section show what is chosen, and offer what can be done with it."""
        parameters = self.parameterNode
        pointList, reference = (parameters.reviewList, parameters.reference) if parameters else (None, None)
        self.review.setPointList(pointList)
        self.comparison.setLists(pointList, reference)
        self.measurements.setPointList(pointList)
        self.refresh()

    def refresh(self):
        """Offer what can be done now."""
        self.detection.refresh()
        self.learning.refresh()
        self.batch.refresh()

    def isDetecting(self):
        """Whether a detection is running."""
        return self.detection.progress.isRunning


class H3DELandmarksLogic(ScriptedLoadableModuleLogic):
    """Detection for panels, scripts and tests; needs no GUI."""

    def getParameterNode(self):
        """The parameters of the scene."""
        from H3DELandmarksPanel.Parameters import H3DELandmarksParameterNode

        return H3DELandmarksParameterNode(super().getParameterNode())

    def startDetection(self, volumeNode, package, device="auto", landmarkNames=None, regionNode=None, destination=None):
        """Start a detection in a child process.

        Args:
            volumeNode: vtkMRMLScalarVolumeNode, under any linear transform.
            package: ModelPackage, or ExampleSet of corrected cases.
            device: auto, cpu, cuda or mps.
            landmarkNames: what to look for, None for every landmark of the model.
            regionNode: vtkMRMLMarkupsROINode that the search is restricted to, None for the whole volume.
            destination: where the scan is sent, see `ClinicComputer.destination`; None for this computer.

        Returns:
            DetectionRun, to be polled until it has ended; the scene is not changed.

        Raises:
            InputError: the volume or the region cannot be used.
        """
        from H3DELandmarksPanel.CommandRun import DetectionRun

        from H3DELandmarksLib.scene import region_from_node

        region = region_from_node(regionNode) if regionNode else None
        return DetectionRun(volumeNode, package, device, landmarkNames, region, destination)

    def showResult(self, run, volumeNode, package, pointList=None, frame=""):
        """Put the result of a run that succeeded into the scene.

        Args:
            run: DetectionRun of this volume and this model.
            volumeNode: vtkMRMLScalarVolumeNode.
            package: ModelPackage, or ExampleSet of corrected cases.
            pointList: earlier result to replace, unless somebody has edited it.
            frame: which frame of a sequence the volume showed when the run began.

        Returns:
            vtkMRMLMarkupsFiducialNode.

        Raises:
            InputError: the volume was moved or changed since the run began.
        """
        from H3DELandmarksPanel.ModelChoice import modelKey, titleOf

        from H3DELandmarksLib.core.errors import InputError
        from H3DELandmarksLib.scene import current_frame, show_detection

        if not run.isOf(volumeNode, isSameFrame=current_frame(volumeNode) == frame):
            raise InputError(_("The volume was moved or changed while landmarks were being detected: detect again."))
        volumeName = f"{volumeNode.GetName()} {frame}" if frame else volumeNode.GetName()
        name = _("{volume} {model} landmarks").format(volume=volumeName, model=titleOf(package))
        pairs = package.scheme.pairs
        model, origin = modelKey(package), run.provenance
        return show_detection(run.landmarks, volumeNode, model, name, pointList, pairs, frame, origin, run.candidates)

    def process(self, volumeNode, package, device="auto", landmarkNames=None, regionNode=None):
        """Detect and wait for the result, for scripts; arguments as for `startDetection`.

        Returns:
            A new vtkMRMLMarkupsFiducialNode.

        Raises:
            H3DELandmarksError: one sentence about what went wrong.
        """
        from H3DELandmarksPanel.CommandRun import RunState

        from H3DELandmarksLib.core.errors import H3DELandmarksError
        from H3DELandmarksLib.scene import current_frame

        frame = current_frame(volumeNode)
        run = self.startDetection(volumeNode, package, device, landmarkNames, regionNode)
        try:
            while run.state is RunState.RUNNING:
                run.poll()
                slicer.app.processEvents()
                time.sleep(SECONDS_BETWEEN_POLLS)
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

    def runTest(self, **options):
        """Play what needs no network by the panel's widgets; then detect by a script and by clicks, where that can be.

        Args:
            options: none is in use; the module Self Tests hands over some.
        """
        from H3DELandmarksPanel.SelfTest import openPanel, testDetection, testPanel, testWithoutNetworks, whyNoDetection

        self.setUp()
        testWithoutNetworks(self, openPanel())
        reason = whyNoDetection()
        if reason:
            self.delayDisplay(f"Detection was not tested. {reason}")
        else:
            self.setUp()
            testDetection(self, H3DELandmarksLogic())
            self.setUp()
            testPanel(self, openPanel())
        self.setUp()
        self.delayDisplay("The test passed.")
