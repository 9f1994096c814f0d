"""Undecided points follow corrections, where the user has asked for it."""

import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.scene import Follower, corrections_of, hide_trace, show_trace
from H3DELandmarksPanel.PanelContext import onClick


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
