"""The choices in the panel, as Slicer keeps them with the scene."""

import enum

from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode
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
        device: where networks run.
        pointList: the result to replace; None for a new one.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    model: str
    device: Device
    pointList: vtkMRMLMarkupsFiducialNode
