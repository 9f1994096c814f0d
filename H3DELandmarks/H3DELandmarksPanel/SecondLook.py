"""The line of the review that offers a second look at a scan, where corrections show that the first went wrong."""

from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.scene import corrections_of, points_for_second_look, take_second_look, volume_of, why_apart
from H3DELandmarksPanel.CommandRun import DetectionRun
from H3DELandmarksPanel.PanelContext import onClick
from H3DELandmarksPanel.RunProgress import RunProgress


class SecondLook:
    """Looks again in the background; at once where points follow, else where the user wants it."""

    def __init__(self, ui, context, onFound):
        """Connect.

        Args:
            ui: the widgets of the panel by name.
            context: PanelContext.
            onFound: called without arguments when other points are proposed.
        """
        self._ui, self._context, self._onFound = ui, context, onFound
        self._review = self._lookedAt = self._points = None
        self._isAllowed = True  # whether the views show the scan of the points
        self._asked = None  # the point list that was looked at again without being asked
        self.progress = RunProgress(ui.lookAgainProgress, ui.lookAgainLabel, None, self._takeResult, self._show)
        onClick(ui.lookAgainButton, self._onLookAgain, ui.lookAgainLabel)
        onClick(ui.cancelLookButton, self._onCancel, ui.lookAgainLabel)

    def consider(self, review):
        """See whether the corrections of a Review, None for none, ask for a second look."""
        corrections = {} if review is None else {n: tuple(place) for n, place in corrections_of(review).items()}
        lookedAt = None if review is None else (review.node, corrections)
        if lookedAt == self._lookedAt:
            return
        if self.progress.isRunning and (review is None or self._review.node is not review.node):
            self.progress.stop()
        self._review, self._lookedAt = review, lookedAt
        if self.progress.isRunning:
            return
        self._points = self._wanted(review) if corrections else None
        self._ui.lookAgainLabel.text = _("Most points lie where your corrections let nobody expect them.")
        self._show()
        self._startUnasked()

    def allow(self, isAllowed):
        """Offer it only while the views show the scan of the points."""
        if isAllowed != self._isAllowed:
            self._isAllowed = isAllowed
            self._show()

    def close(self):
        """The review ends."""
        self.consider(None)

    def _startUnasked(self):
        isWanted = self._points is not None and self._ui.followCheckBox.checked and self._isAllowed
        if isWanted and self._asked is not self._review.node:
            self._asked = self._review.node
            self._start()

    def _wanted(self, review):
        package = self._context.packageOf(review.node)
        if package is None or volume_of(review.node) is None:
            return None
        try:
            return points_for_second_look(review, package)
        except H3DELandmarksError:  # nothing that reads the model is installed
            return None

    def _onLookAgain(self):
        self._context.ensureDependencies(self._ui.lookAgainLabel)
        self._start()

    def _start(self):
        if self.progress.isRunning or self._points is None:
            return
        node = self._review.node
        if why_apart(node):
            raise InputError(why_apart(node))
        package, device = self._context.packageOf(node), self._context.device
        self.progress.start(DetectionRun(volume_of(node), package, device, decided=self._points))

    def _onCancel(self):
        self._points = None
        if self.progress.isRunning:
            self.progress.onCancel()
        self._show()

    def _takeResult(self, run):
        if why_apart(self._review.node):
            raise InputError(why_apart(self._review.node))
        volumeNode = volume_of(self._review.node)
        if volumeNode is None or not run.isOf(volumeNode):
            raise InputError(_("The volume was moved or changed during the second look."))
        self._points = None
        take_second_look(self._review, run.landmarks)
        self._onFound()
        return ""

    def _show(self):
        isRunning = self.progress.isRunning
        self._ui.lookAgainBar.visible = isRunning or self._points is not None
        self._ui.lookAgainButton.enabled = self._isAllowed and not isRunning
