"""What the review does where points look wrong together: it tells of systematic errors, lets undecided points follow
corrections, where the user has asked for it, and offers a second look where corrections show that the first went wrong.
"""

import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.core.systematic import Systematic
from H3DELandmarksLib.scene import (
    Follower,
    corrections_of,
    hide_trace,
    mend,
    points_for_second_look,
    revealed_error,
    show_trace,
    systematic_error,
    take_second_look,
    volume_of,
    why_apart,
)
from H3DELandmarksPanel.CommandRun import DetectionRun
from H3DELandmarksPanel.PanelContext import onClick
from H3DELandmarksPanel.RunProgress import RunProgress

MOST_NAMES = 6


class ReviewFindings:
    """Connects the bar of findings with the review of a point list.

    Attributes:
        finding: what the bar tells of, None for nothing.
    """

    def __init__(self, ui, context):
        """Args: the widgets of the panel by name, and the PanelContext."""
        self._ui, self._context = ui, context
        self._lookedAt = self.finding = None

    def show(self, review):
        """Tell of the points of a Review, None for none; a model's statements are looked at once."""
        lookedAt = _statements(review)
        if review is not None and not self._ui.followCheckBox.checked:  # else the points have followed
            lookedAt += ({name: tuple(place) for name, place in corrections_of(review).items()},)
        if lookedAt != self._lookedAt:
            self._lookedAt, self.finding = lookedAt, self._found(review)
        isOpen = self.finding is not None and set(self.finding.landmarks) <= review.free
        self._ui.findingBar.visible = isOpen
        if isOpen:
            self._ui.findingLabel.text = _sentence(self.finding)
            self._ui.mendButton.visible = self.finding.order is not None

    def mend(self, review):
        """Apply the remedy."""
        mend(review, self._context.packageOf(review.node), self.finding)

    def _found(self, review):
        package = self._context.packageOf(review.node) if review else None
        try:
            if package is None:
                return None
            isOffered = not self._ui.followCheckBox.checked
            return systematic_error(review, package) or (revealed_error(review, package) if isOffered else None)
        except H3DELandmarksError:  # nothing that reads the model is installed
            return None


def _statements(review):
    """What decides what is found beside corrections: it stays the same while points follow."""
    if review is None:
        return None
    proposal = review.proposal
    said = {name: landmark.before or landmark for name, landmark in proposal.landmarks.items()}
    return review.node, proposal.dismissed, said


def _sentence(finding):
    names = ", ".join(finding.landmarks[:MOST_NAMES])
    if len(finding.landmarks) > MOST_NAMES:
        names = _("{names} and {count} more").format(names=names, count=len(finding.landmarks) - MOST_NAMES)
    sentences = {
        Systematic.SIDES: _("Left and right seem to be exchanged, or the scan is mirrored: {names}. Check a pair."),
        Systematic.SHIFTED: _("Points seem to lie one structure off, as a tooth or a vertebra: {names}."),
        Systematic.MISCOUNTED: _("All points may be counted one structure off: check the first and the last one."),
        Systematic.TOGETHER: _("Two landmarks seem to lie on one structure: {names}."),
        Systematic.MIRRORED: _(
            "The scan seems to be mirrored, or to look to the other side than usual: if left and right are wrong, load "
            "it with its right orientation, and detect again."
        ),
    }
    return sentences[finding.kind].format(names=names)


class Following:
    """Notices corrections in the review of a point list, and lets its undecided points follow."""

    def __init__(self, checkBox, context):
        """Args: the QCheckBox that switches it on, and the PanelContext."""
        self._checkBox, self._context = checkBox, context
        self._corrections = {}
        self._package = self._follower = None
        self._chosen = {}  # {id of a model: whether the user wants its points to follow}
        self._about = checkBox.toolTip
        onClick(checkBox, self._onChosen, None)

    def begin(self, review):
        """Take corrections that a Review has already as they are, also after steps that were taken back.

        Points follow where that has surely saved corrections with their model, or where the user wants it.
        """
        self._corrections = corrections_of(review)
        self.hideTrace()
        package = self._context.packageOf(review.node)
        if package is not self._package:
            self._package, self._follower = package, None
        measured = package.manifest.calibration.following if package is not None else None
        helps = measured is not None and measured.helps
        self._checkBox.checked = self._chosen.get(package.id, helps) if package is not None else False
        self._checkBox.toolTip = f"{self._about} {_said(measured)}"

    def hideTrace(self):
        """The user does something else."""
        hide_trace(slicer.mrmlScene)

    def follow(self, review):
        """Let the points follow if one was corrected since, or a correction was taken back by hand.

        Raises:
            H3DELandmarksError: the model of the points cannot be read.
        """
        self.hideTrace()
        before, self._corrections = self._corrections, corrections_of(review)
        now = self._corrections
        if not self._checkBox.checked or self._package is None or _isSame(before, now):
            return
        if review.repeated_names():  # nobody knows which of them the model has proposed
            return
        if self._follower is None:
            self._follower = Follower(self._package)
        new = [name for name in now if name not in before or (before[name] != now[name]).any()]
        lay = _places(review)
        self._follower.follow(review, (new or list(now) or [""])[-1])
        lie = _places(review)
        show_trace(slicer.mrmlScene, [(lay[n], lie[n]) for n in lie if n in lay and (lay[n] != lie[n]).any()])

    def _onChosen(self, isOn):
        if self._package is not None:
            self._chosen[self._package.id] = isOn


def _places(review):
    return {p.name: p.position for p in review.landmarks() if p.position is not None}


def _said(measured):
    """What is known of the use of it, for a tool tip."""
    if measured is None:
        return _("Nobody has measured whether it saves corrections with this model.")
    figures = {"cases": measured.cases, "without": measured.without, "helped": measured.helped}
    if measured.helps:
        text = _("On {cases} scans new to this model it took {helped} corrections in place of {without}.")
    else:
        text = _("It is off because it did not surely save any with this model: {helped} in place of {without}.")
    return text.format(**figures)


def _isSame(before, now):
    return before.keys() == now.keys() and all((before[name] == now[name]).all() for name in now)


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
