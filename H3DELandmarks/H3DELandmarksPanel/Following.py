"""Undecided points follow corrections, where the user has asked for it."""

from H3DELandmarksLib.scene import Follower, corrections_of


class Following:
    """Notices corrections in the review of a point list, and lets its undecided points follow."""

    def __init__(self, checkBox, context):
        """Args: the QCheckBox that switches it on, and the PanelContext."""
        self._checkBox, self._context = checkBox, context
        self._corrections = {}
        self._package = self._follower = None

    def begin(self, review):
        """Take corrections that a Review has already as they are, also after steps that were taken back."""
        self._corrections = corrections_of(review)

    def follow(self, review):
        """Let the points follow if one was corrected since, or a correction was taken back by hand.

        Raises:
            H3DELandmarksError: the model of the points cannot be read.
        """
        before, self._corrections = self._corrections, corrections_of(review)
        now = self._corrections
        if not self._checkBox.checked or _isSame(before, now):
            return
        package = self._context.packageOf(review.node)
        if package is None:
            return
        if package is not self._package:
            self._package, self._follower = package, Follower(package)
        new = [name for name in now if name not in before or (before[name] != now[name]).any()]
        self._follower.follow(review, (new or list(now) or [""])[-1])


def _isSame(before, now):
    return before.keys() == now.keys() and all((before[name] == now[name]).all() for name in now)
