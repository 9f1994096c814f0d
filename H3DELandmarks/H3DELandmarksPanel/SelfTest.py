"""The scenario that the module's self-test plays inside Slicer."""

from importlib.util import find_spec

import numpy as np
import slicer

from H3DELandmarksLib.models import available_models
from H3DELandmarksLib.scene import landmarks_from_point_list


def testDetection(test, logic):
    """Detect in a small volume under a transform, and compare the result with the model's landmarks.

    Args:
        test: the ScriptedLoadableModuleTest that runs.
        logic: H3DELandmarksLogic.
    """
    packages = [entry.package for entry in available_models() if entry.package]
    if not packages or find_spec("torch") is None:
        test.delayDisplay("Nothing was tested: there is no model, or PyTorch is not installed.")
        return
    volumeNode = addVolumeUnderTransform()
    pointList = logic.process(volumeNode, packages[0], device="cpu")
    landmarks = landmarks_from_point_list(pointList)
    test.assertEqual(landmarks.names, packages[0].scheme.names)
    test.assertTrue(np.isfinite(landmarks.positions[landmarks.present]).all())
    test.assertTrue(pointList.GetName().startswith(volumeNode.GetName()))
    test.delayDisplay("The test passed.")


def addVolumeUnderTransform():
    """A vtkMRMLScalarVolumeNode of noise whose parent transform turns and moves it."""
    voxels = np.random.default_rng(0).normal(0, 300, (24, 26, 28)).astype(np.int16)
    volumeNode = slicer.util.addVolumeFromArray(voxels, ijkToRAS=np.diag([2.0, 2.0, 2.0, 1.0]), name="noise")
    turned = np.array([[0, -1, 0, 10], [1, 0, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1.0]])
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turned))
    volumeNode.SetAndObserveTransformNodeID(transform.GetID())
    return volumeNode
