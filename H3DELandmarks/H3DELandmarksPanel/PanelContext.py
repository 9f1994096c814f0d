"""What the sections of the panel share: the volume and points at hand, what to install, and telling of errors."""

import contextlib
import inspect
import logging

import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.scene import (
    center_views,
    current_frame,
    detections,
    has_lost_scan,
    hide_other_points,
    is_of,
    show_own_points,
    shown_volumes,
    uncover_background,
    volume_of,
)
from H3DELandmarksLib.scene.proposal import read_proposal
from H3DELandmarksPanel.Dependencies import ensureDependencies
from H3DELandmarksPanel.Parameters import Device
from H3DELandmarksPanel.SafeText import plainTip
from H3DELandmarksPanel.Worker import removeLeftovers, workers

logger = logging.getLogger("H3DELandmarks")


def guarded(slot, label):
    """A function for Qt or VTK to call: an error that `slot` raises becomes a sentence, and details a log entry.

    Args:
        slot: function that takes as many of the arguments as it wants.
        label: QLabel for the sentence, None where there is no room for one.
    """
    count = len(inspect.signature(slot).parameters)

    def call(*arguments):
        try:
            slot(*arguments[:count])
        except Exception as error:
            sentence = sentenceAbout(error)
            with contextlib.suppress(Exception):  # the panel was closed meanwhile, and the label with it
                label.text = sentence

    return call


def onSignal(sender, signal, slot, label):
    """Call a function, `guarded`, whenever a QObject sends a signal, which is given with the types of its arguments."""
    sender.connect(signal, guarded(slot, label))


def onClick(button, slot, label):
    """As `onSignal` for clicks; the slot of a checkable button gets whether it is checked."""
    onSignal(button, "clicked(bool)", slot if button.checkable else lambda: slot(), label)


class Observers:
    """One slot that observes nodes, `guarded`; a node that is removed leaves memory."""

    def __init__(self, slot, label):
        """Args: as of `guarded`."""
        self._slot = guarded(slot, label)
        self._tags = []  # [(vtkWeakReference of a node, tag)]

    def add(self, node, *events):
        """Call the slot at these events of a node."""
        reference = vtk.vtkWeakReference()
        reference.Set(node)
        self._tags += [(reference, node.AddObserver(event, self._slot)) for event in events]

    def isOn(self, node):
        """Whether a node is observed."""
        return any(reference.Get() is node for reference, _tag in self._tags)

    def clear(self):
        """Let go of all nodes."""
        for reference, tag in self._tags:
            if reference.Get() is not None:
                reference.Get().RemoveObserver(tag)
        self._tags = []


def present(reference):
    """The node of a vtkWeakReference, None where the scene does not have it any more."""
    node = reference.Get()
    return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None


def isFolder(path):
    """Whether a Path is that of a folder, given as a whole, that can be looked at now."""
    try:
        return path.is_absolute() and path.is_dir()
    except OSError:  # no permission, or a disk that is gone
        return False


def showReason(label, reason):
    """Say below a button why it cannot be pressed; a QLabel without a reason takes no room."""
    label.text = reason
    label.visible = bool(reason)


def offer(button, reason, about, label=None):
    """Let a button be pressed unless there is a reason why not.

    Args:
        button: QPushButton, whose tool tip says the reason, or what it does.
        reason: one sentence, empty for none.
        about: what the button does.
        label: QLabel below the button that says the reason, too; None where there is none.
    """
    button.enabled = not reason
    button.toolTip = plainTip(reason or about)
    if label is not None:
        showReason(label, reason)


def sentenceAbout(error):
    """One sentence about an exception that is being handled; what nobody expected goes to the application log, too."""
    if isinstance(error, H3DELandmarksError):
        return str(error)
    logger.exception("an action of the panel failed")
    return _("An unexpected problem occurred ({kind}: {reason}): see the application log.").format(
        kind=type(error).__name__, reason=error
    )


class PanelContext:
    """The volume and the points at hand, the models, where scans are examined, and what is installed for that.

    Attributes:
        clinic: ClinicComputer.
    """

    def __init__(self, panel, clinic):
        """Args: the H3DELandmarksWidget and the ClinicComputer."""
        self._panel, self.clinic = panel, clinic
        self._isPreparing = self._isClosed = False
        removeLeftovers(slicer.app.temporaryPath)  # a scan that a crash has left there is somebody's

    @property
    def parameters(self):
        """The H3DELandmarksParameterNode of the scene, None while there is none."""
        return self._panel.parameterNode

    @property
    def pointList(self):
        """The vtkMRMLMarkupsFiducialNode under review, None for none."""
        return self.parameters.reviewList if self.parameters else None

    @property
    def volume(self):
        """The vtkMRMLScalarVolumeNode of the points under review, None where it is gone.

        The chosen one where no points are under review, or points that nobody has decided about in any volume.
        """
        ofPoints = volume_of(self.pointList) if self.pointList else None
        if ofPoints is not None or self.pointList and has_lost_scan(self.pointList):
            return ofPoints
        return self.parameters.inputVolume if self.parameters else None

    @property
    def package(self):
        """The chosen ModelPackage, None for none."""
        return self._panel.detection.models.chosenPackage()

    @property
    def device(self):
        """Where networks run, as the user has chosen it for detection: auto, cpu, cuda or mps."""
        return (self.parameters.device if self.parameters else Device.AUTO).value

    def bookmark(self):
        """What is under review now, as a function that brings it up again, None where nothing is.

        The function returns whether the volume and the points were still there.
        """
        volumeNode, pointList, landmark = self.volume, self.pointList, self._panel.review.chosen
        if volumeNode is None or pointList is None:
            return None

        def comeBack():
            isThere = all(map(slicer.mrmlScene.IsNodePresent, (volumeNode, pointList)))
            if isThere:
                self.show(volumeNode, pointList, landmark)
            return isThere

        return comeBack

    def show(self, volumeNode, pointList=None, landmark=None, position=None):
        """Bring a volume and its points up for review, and look at a place.

        Args:
            volumeNode: vtkMRMLScalarVolumeNode.
            pointList: vtkMRMLMarkupsFiducialNode to review, None to leave the review alone.
            landmark: name of the landmark to choose.
            position: (3,) RAS world mm to look at where the landmark has no position.
        """
        parameters = self.parameters
        if parameters.inputVolume is not volumeNode:
            parameters.inputVolume = volumeNode
        show_own_points(volumeNode, current_frame(volumeNode))
        if pointList is not None and parameters.reviewList is not pointList:
            parameters.reviewList = pointList
        if not _isShown(volumeNode):
            slicer.util.setSliceViewerLayers(background=volumeNode, fit=True)
            uncover_background(slicer.mrmlScene)
        if position is not None:
            center_views(slicer.mrmlScene, position)
        if landmark is not None:
            self._panel.review.choose(landmark)

    def follow(self, volumeNode):
        """Bring a volume that was chosen into the views, and its newest points under review, none where it has none.

        Points that nobody has decided about in any volume stay.

        Args:
            volumeNode: vtkMRMLScalarVolumeNode, whose frame counts where it is one of a sequence.
        """
        if self.pointList is None or not _goesWith(self.pointList, volumeNode):
            self.parameters.reviewList = detections.newest_list(volumeNode, current_frame(volumeNode))
        self.show(volumeNode)
        if self.pointList is None:
            hide_other_points(volumeNode, current_frame(volumeNode))

    def goOnWith(self, volumeNode):
        """Choose a volume for detection, with its newest points for review.

        Args:
            volumeNode: vtkMRMLScalarVolumeNode.
        """
        self.parameters.inputVolume = volumeNode
        self.follow(volumeNode)

    def packageOf(self, pointList):
        """The ModelPackage that has found the points of a list, None where it is unknown or not installed."""
        return self._panel.detection.models.package(pointList.GetAttribute(detections.MODEL_ATTRIBUTE) or "")

    def modelsChanged(self, key):
        """Look again which models there are, and choose the one of this key for detection."""
        detection = self._panel.detection
        detection.models.refresh()
        detection.models.choose(key)
        detection.onModelChosen()

    def offerExamples(self, examples):
        """Offer an ExampleSet for detection, None for none."""
        detection = self._panel.detection
        before = detection.models.chosenKey()
        detection.models.offerExamples(examples)
        if detection.models.chosenKey() != before:
            detection.onModelChosen()

    def whyBusy(self):
        """One sentence about why nothing can be started at this moment, empty where something can."""
        return _("Python packages are being installed: wait until that is done.") if self._isPreparing else ""

    def ensureDependencies(self, label, isElsewhere=False):
        """Make sure that networks can run, after asking once before anything is installed.

        Slicer handles clicks while packages are installed, so whatever was read from the scene or the widgets before
        must be read again.

        Args:
            label: QLabel that says what is going on.
            isElsewhere: whether another computer runs the networks, which needs other packages here.

        Raises:
            MissingDependencyError: one sentence about what is missing and what to do.
            InputError: somebody else has them installed at this moment, or the panel was closed meanwhile.
        """
        if self._isPreparing:
            raise InputError(self.whyBusy())

        told = []

        def tell(sentence):
            told.append(sentence)
            label.text = sentence
            self._panel.refresh()
            slicer.app.processEvents()  # show that before pip says its first line

        self._isPreparing = True
        try:
            name = "requirements-clinic.txt" if isElsewhere else "requirements.txt"
            file = self._panel.resourcePath(f"H3DELandmarks/{name}")
            wasInstalled = ensureDependencies(file, tell, withTorch=not isElsewhere)
        finally:
            self._isPreparing = False
            if told and not self._isClosed:
                self._panel.refresh()
        if self._isClosed:
            raise InputError(_("The panel was closed while Python packages were being installed."))
        if wasInstalled:
            label.text = ""
            workers.close()  # they know nothing of new packages

    def close(self):
        """The panel goes away."""
        self._isClosed = True
        workers.close()


def _goesWith(pointList, volumeNode):
    """Whether points may be reviewed in a volume: they are of what it shows, or nobody has decided about them."""
    if volume_of(pointList) is not None or has_lost_scan(pointList):
        return is_of(pointList, volumeNode, current_frame(volumeNode))
    return read_proposal(pointList) is None


def _isShown(volumeNode):
    """Whether every slice view has the volume in its background, and shows it."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    isBehind = all(view.GetBackgroundVolumeID() == volumeNode.GetID() for view in views)
    return isBehind and all(shown is volumeNode for shown in shown_volumes(slicer.mrmlScene))
