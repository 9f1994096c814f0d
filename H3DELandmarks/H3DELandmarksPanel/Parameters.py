"""The choices in the panel, as Slicer keeps them with the scene."""

import enum

from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper


class Device(enum.Enum):
    """Where networks run; the values are those of the command line."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self):
        """What the panel shows."""
        labels = {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("NVIDIA GPU (CUDA)"), "mps": _("Apple GPU (MPS)")}
        return labels[self.value]


@parameterNodeWrapper
class H3DELandmarksParameterNode:
    """The choices in the panel, saved with the scene.

    Attributes:
        inputVolume: where landmarks are searched.
        model: id and version of the model.
        excludedLandmarks: names that are not looked for, separated by line breaks.
        region: the box that the search is restricted to; None for the whole volume.
        device: where networks run.
        pointList: the result to replace; None for a new one.
        reviewList: the point list under review.
        reference: the point list that it is compared with.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    model: str
    excludedLandmarks: str
    region: vtkMRMLMarkupsROINode
    device: Device
    pointList: vtkMRMLMarkupsFiducialNode
    reviewList: vtkMRMLMarkupsFiducialNode
    reference: vtkMRMLMarkupsFiducialNode

    def forget(self, node):
        """Choose none wherever a vtkMRMLNode is chosen."""
        for name in self.allParameters:
            if getattr(self, name) is node:
                setattr(self, name, None)
