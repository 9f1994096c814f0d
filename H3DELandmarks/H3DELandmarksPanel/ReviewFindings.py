"""The line of the review that tells of errors of many points at once, with a button that mends them."""

from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.core.systematic import Systematic
from H3DELandmarksLib.scene import corrections_of, mend, revealed_error, systematic_error

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
