"""What the sections about learning see of the rest of the panel, and what they ask it to do."""

import slicer
import slicer.util

from H3DELandmarksLib.scene import center_views, show_points_of, volume_of
from H3DELandmarksPanel.ChildProcess import pythonExecutable
from H3DELandmarksPanel.CommandRun import CommandRun, newRunFolder
from H3DELandmarksPanel.Dependencies import ensureDependencies
from H3DELandmarksPanel.Parameters import Device


class Desk:
    """The volume and the points at hand, the models, and starting commands."""

    def __init__(self, panel):
        """Args: the H3DELandmarksWidget."""
        self._panel = panel

    @property
    def pointList(self):
        """The vtkMRMLMarkupsFiducialNode under review, None for none."""
        parameters = self._panel._parameterNode
        return parameters.reviewList if parameters else None

    @property
    def volume(self):
        """The vtkMRMLScalarVolumeNode of the points under review; the chosen one where nothing names it."""
        parameters, points = self._panel._parameterNode, self.pointList
        return (volume_of(points) if points else None) or (parameters.inputVolume if parameters else None)

    @property
    def package(self):
        """The chosen ModelPackage, None for none."""
        return self._panel.models.chosenPackage()

    @property
    def device(self):
        """Where networks run, as the user has chosen it for detection: auto, cpu, cuda or mps."""
        parameters = self._panel._parameterNode
        return parameters.device.value if parameters else Device.AUTO.value

    def show(self, volumeNode, pointList=None, landmark=None, position=None):
        """Bring a volume and its points up for review, and look at a place.

        Args:
            volumeNode: vtkMRMLScalarVolumeNode.
            pointList: vtkMRMLMarkupsFiducialNode to review, None to leave the review alone.
            landmark: name of the landmark to choose.
            position: (3,) RAS world mm to look at where the landmark has no position.
        """
        parameters = self._panel._parameterNode
        if parameters.inputVolume is not volumeNode:
            parameters.inputVolume = volumeNode
        if pointList is not None and parameters.reviewList is not pointList:
            parameters.reviewList = pointList
        if pointList is not None:
            show_points_of(volumeNode, pointList)
        if not _isShown(volumeNode):
            slicer.util.setSliceViewerLayers(background=volumeNode, fit=True)
        if position is not None:
            center_views(slicer.mrmlScene, position)
        if landmark is not None:
            self._panel.review.choose(landmark)

    def modelsChanged(self, key):
        """Look again which models there are, and choose the one of this key for detection."""
        self._panel.models.refresh()
        self._panel.models.choose(key)
        self._panel.onModelChosen(0)

    def ensureDependencies(self):
        """Make sure that networks can run, after asking; raises MissingDependencyError."""
        ensureDependencies(self._panel.resourcePath("requirements.txt"))

    def command(self, arguments, task, **options):
        """A CommandRun of the library's command line, to be polled.

        Args:
            arguments: of the command, or a function that gives them for the folder of the run's files.
            task: what messages call it.
            options: of CommandRun.

        Raises:
            InputError: Slicer's Python is missing.
        """
        python, folder = pythonExecutable(), newRunFolder(slicer.app.temporaryPath)
        return CommandRun(arguments(folder) if callable(arguments) else arguments, python, folder, task, **options)


def _isShown(volumeNode):
    """Whether every slice view has the volume in its background."""
    kind, scene = "vtkMRMLSliceCompositeNode", slicer.mrmlScene
    views = [scene.GetNthNodeByClass(k, kind) for k in range(scene.GetNumberOfNodesByClass(kind))]
    return all(view.GetBackgroundVolumeID() == volumeNode.GetID() for view in views)
