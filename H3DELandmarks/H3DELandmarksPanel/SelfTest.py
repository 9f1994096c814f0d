"""The scenarios that the module's self-test plays inside Slicer: the same clicks as a user's, without a mouse."""

import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import slicer
import slicer.util

from H3DELandmarksLib.models import available_models
from H3DELandmarksLib.scene import Review, ReviewState, create_point_list, landmarks_from_point_list
from H3DELandmarksPanel.ModelChoice import modelKey
from H3DELandmarksPanel.SampleScans import registerSamples

SAMPLE = "MandibularMolarPhantom"
SAMPLE_MODEL = "mandibular-molar-phantom"
SECONDS_FOR_DETECTION = 600


def openPanel():
    """The H3DELandmarksWidget, opened as a user opens it; where Slicer has no main window it is only entered."""
    if slicer.util.mainWindow():
        slicer.util.selectModule("H3DELandmarks")
    panel = slicer.util.getModuleWidget(slicer.modules.h3delandmarks)
    panel.enter()
    return panel


def whyNoDetection():
    """One sentence about why nothing can be detected here, empty where it can."""
    if not any(entry.package for entry in available_models()):
        return "There is no model."
    return "" if find_spec("torch") else "PyTorch is not installed."


def testWithoutNetworks(test, panel):
    """Load the sample; choose, review, undo, compare, remove, save, load and close, with the panel's widgets.

    Args:
        test: the ScriptedLoadableModuleTest that runs.
        panel: H3DELandmarksWidget.
    """
    volumeNode, reference = loadSample(panel)
    test.delayDisplay("The sample was loaded.")
    bind(test, panel, volumeNode, reference)
    other = addMovedCopy(reference)
    compare(test, panel, reference, other)
    test.delayDisplay("Choices follow the panel, and lists are compared.")
    reviewSome(test, panel, reference)
    test.delayDisplay("Landmarks were reviewed.")
    saveAndLoad(test, panel, reference)
    removeReviewed(test, panel)
    closeScene(test, panel)
    test.delayDisplay("The scene was saved, loaded and closed.")


def testDetection(test, logic):
    """Detect in a small volume under a transform, by a script, and compare the result with the model's landmarks.

    Args:
        test: the ScriptedLoadableModuleTest that runs.
        logic: H3DELandmarksLogic.
    """
    package = preferredPackage()
    volumeNode = addVolumeUnderTransform()
    pointList = logic.process(volumeNode, package, device="cpu")
    landmarks = landmarks_from_point_list(pointList)
    test.assertEqual(landmarks.names, package.scheme.names)
    test.assertTrue(np.isfinite(landmarks.positions[landmarks.present]).all())
    test.assertTrue(pointList.GetName().startswith(volumeNode.GetName()))
    test.delayDisplay("Landmarks were detected by a script.")


def testPanel(test, panel):
    """Load the sample, detect, cancel, review, compare, keep, save, load and close, with the panel's buttons.

    Args:
        test: the ScriptedLoadableModuleTest that runs.
        panel: H3DELandmarksWidget.
    """
    pointList, reference = detectInSample(test, panel)
    cancelDetection(test, panel)
    reviewSome(test, panel, pointList)
    compare(test, panel, pointList, reference)
    test.delayDisplay("Landmarks were reviewed and compared.")
    keepAndCheck(test, panel)
    test.delayDisplay("A case was kept and checked.")
    saveAndLoad(test, panel, pointList)
    closeScene(test, panel)


def detectInSample(test, panel):
    """Detect in the sample by clicks, which first installs what is missing; the point list and its reference."""
    volumeNode, reference = loadSample(panel)
    ui = panel.ui
    ui.volumeSelector.setCurrentNode(volumeNode)
    ui.modelSelector.setCurrentIndex(ui.modelSelector.findData(modelKey(preferredPackage())))
    pointList = detect(test, panel)
    test.delayDisplay("Landmarks were detected by clicks.")
    return pointList, reference


def loadSample(panel):
    """The volume and the reference points of the sample."""
    import SampleData

    samples = SampleData.SampleDataLogic()
    if samples.sourceForSampleName(SAMPLE) is None:  # the test runs before Slicer has started completely
        registerSamples(Path(panel.resourcePath("Icons")))
    return samples.downloadSamples(SAMPLE)


def bind(test, panel, volumeNode, reference):
    """Widgets and parameters follow one another, and no label map is taken for a scan."""
    ui, parameters = panel.ui, panel.parameterNode
    test.assertIs(ui.volumeSelector.currentNode(), volumeNode)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    test.assertEqual(ui.volumeSelector.nodeCount(), 1)
    ui.reviewSelector.setCurrentNode(reference)
    test.assertIs(parameters.reviewList, reference)
    test.assertEqual(ui.reviewTable.rowCount, reference.GetNumberOfControlPoints())
    parameters.reviewList = None
    test.assertIsNone(ui.reviewSelector.currentNode())
    ui.deviceSelector.setCurrentIndex(1)
    test.assertEqual(parameters.device.value, "cpu")


def addMovedCopy(pointList):
    """A list of the same points, a millimeter away."""
    landmarks = landmarks_from_point_list(pointList)
    moved = landmarks.with_positions(landmarks.positions + (1.0, 0.0, 0.0))
    return create_point_list(slicer.mrmlScene, moved, "moved copy")


def removeReviewed(test, panel):
    """Where the reviewed list is removed, no other one is put under review."""
    ui = panel.ui
    before = ui.reviewSelector.currentNode()
    gone = addMovedCopy(before)
    ui.reviewSelector.setCurrentNode(gone)
    slicer.mrmlScene.RemoveNode(gone)
    test.assertIsNone(panel.parameterNode.reviewList)
    test.assertIsNone(ui.reviewSelector.currentNode())
    test.assertEqual(ui.reviewTable.rowCount, 0)
    ui.reviewSelector.setCurrentNode(before)


def closeScene(test, panel):
    """A closed scene leaves nothing in the panel."""
    slicer.mrmlScene.Clear(False)
    test.assertEqual(panel.ui.reviewTable.rowCount, 0)
    test.assertFalse(panel.ui.applyButton.enabled)


def cancelDetection(test, panel):
    """A cancelled detection leaves no trace in the scene."""
    count = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.applyButton.click()
    test.assertTrue(panel.isDetecting(), panel.ui.statusLabel.text)
    panel.ui.cancelButton.click()
    test.assertFalse(panel.isDetecting())
    test.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), count)


def detect(test, panel):
    """Detect; the point list under review."""
    panel.ui.applyButton.click()
    waitWhile(test, panel.isDetecting)
    pointList = panel.ui.reviewSelector.currentNode()
    test.assertIsNotNone(pointList, panel.ui.statusLabel.text)
    test.assertEqual(panel.ui.reviewTable.rowCount, pointList.GetNumberOfControlPoints())
    return pointList


def reviewSome(test, panel, pointList):
    """Accept the most doubtful landmark, mark the next absent, and take that back."""
    review, ui = Review(pointList), panel.ui
    ui.reviewSelector.setCurrentNode(pointList)
    first = review.by_doubt()[0].name
    panel.review.choose(first)
    ui.acceptButton.click()
    test.assertTrue(review.landmark(first).state.is_decided)
    second = review.by_doubt()[0].name
    ui.backButton.click()
    ui.absentButton.click()
    test.assertIs(review.landmark(second).state, ReviewState.ABSENT)
    ui.undoButton.click()
    test.assertIsNot(review.landmark(second).state, ReviewState.ABSENT)
    ui.redoButton.click()
    test.assertIs(review.landmark(second).state, ReviewState.ABSENT)


def compare(test, panel, pointList, reference):
    """Compare with another list, where both have landmarks of the same names."""
    found = landmarks_from_point_list(pointList).names
    if set(found) & set(landmarks_from_point_list(reference).names):
        panel.ui.reviewSelector.setCurrentNode(pointList)
        panel.ui.referenceSelector.setCurrentNode(reference)
        panel.ui.compareButton.click()
        test.assertIn("Mean radial error", panel.ui.compareLabel.text)


def keepAndCheck(test, panel):
    """Keep the case in a new folder, and check that; the user's own cases are left alone."""
    ui, learning = panel.learning.ui, panel.learning
    before, folder = ui.casesPath.currentPath, Path(slicer.app.temporaryPath) / "H3DELandmarksCases"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        ui.casesPath.currentPath = str(folder)
        ui.addCaseButton.click()
        waitWhile(test, lambda: learning.cases.progress.isRunning)
        test.assertIn("Added as a new case.", ui.casesLabel.text)
        ui.checkButton.click()
        waitWhile(test, lambda: learning.check.progress.isRunning)
        test.assertIn("1 case", ui.checkLabel.text)
    finally:
        ui.casesPath.currentPath = before
        shutil.rmtree(folder, ignore_errors=True)


def waitWhile(test, isGoingOn):
    """Let Slicer work while something goes on."""
    end = time.monotonic() + SECONDS_FOR_DETECTION
    while isGoingOn():
        test.assertLess(time.monotonic(), end, "it takes too long")
        slicer.app.processEvents()
        time.sleep(0.02)


def saveAndLoad(test, panel, pointList):
    """A saved and reloaded scene has the same states."""

    def states(node):
        return [(landmark.name, landmark.state) for landmark in Review(node).landmarks()]

    panel.ui.reviewSelector.setCurrentNode(pointList)
    before, name = states(pointList), pointList.GetName()
    path = Path(slicer.app.temporaryPath) / "H3DELandmarksTest.mrb"
    pointList.AddDefaultStorageNode()
    test.assertTrue(slicer.mrmlScene.WriteToMRB(str(path), None))
    slicer.mrmlScene.Clear(False)
    test.assertTrue(slicer.mrmlScene.ReadFromMRB(str(path), False))
    path.unlink()
    panel.enter()  # without a main window nobody else does
    loaded = panel.ui.reviewSelector.currentNode()
    test.assertIsNotNone(loaded)
    test.assertEqual(loaded.GetName(), name)
    test.assertEqual(states(loaded), before)


def preferredPackage():
    """The model of the sample, another one where it is not there."""
    packages = [entry.package for entry in available_models() if entry.package]
    return next((package for package in packages if package.id == SAMPLE_MODEL), packages[0])


def addVolumeUnderTransform():
    """A vtkMRMLScalarVolumeNode of noise whose parent transform turns and moves it."""
    voxels = np.random.default_rng(0).normal(0, 300, (24, 26, 28)).astype(np.int16)
    volumeNode = slicer.util.addVolumeFromArray(voxels, ijkToRAS=np.diag([2.0, 2.0, 2.0, 1.0]), name="noise")
    turned = np.array([[0, -1, 0, 10], [1, 0, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1.0]])
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turned))
    volumeNode.SetAndObserveTransformNodeID(transform.GetID())
    return volumeNode
