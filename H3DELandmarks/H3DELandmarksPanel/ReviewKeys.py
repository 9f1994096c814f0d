"""Keys for the review, while the review or a view has the focus."""

import qt
import slicer
import slicer.util

from H3DELandmarksPanel.PanelContext import onSignal

SETTING = "H3DELandmarks/ReviewKeys"
OWN_USE = ("QComboBox", "qMRMLNodeComboBox", "QAbstractItemView")  # of letters and Space: they choose rows


class ReviewKeys:
    """Shortcuts of the review and of the area of the views, one decision for each time that a key is pressed.

    A text field that has the focus keeps its letters; where a list of something else has it, keys decide nothing.
    """

    def __init__(self, reviewWidget, table, checkBox, actions, label):
        """Connect.

        Args:
            reviewWidget: QWidget of the panel's part that reviews; elsewhere Space presses the button with the focus.
            table: QTableWidget of the landmarks.
            checkBox: QCheckBox that switches the keys on and off; the choice is kept in the settings.
            actions: {key sequence: function}.
            label: QLabel that tells what goes wrong.
        """
        self._table, self._checkBox, self._shortcuts, self._label = table, checkBox, [], label
        viewport = slicer.app.layoutManager().viewport()
        for owner in (reviewWidget, viewport):
            for key, action in actions.items():
                self._add(owner, key, action)
        checkBox.checked = slicer.util.settingsValue(SETTING, True, converter=slicer.util.toBool)
        onSignal(checkBox, "toggled(bool)", self.onSwitched, label)
        self.setActive(False)

    def _add(self, owner, key, action):
        shortcut = qt.QShortcut(qt.QKeySequence(key), owner)
        shortcut.setContext(qt.Qt.WidgetWithChildrenShortcut)
        shortcut.autoRepeat = False  # a key that is held down would accept what nobody has looked at
        onSignal(shortcut, "activated()", lambda: self._act(owner, action), self._label)
        self._shortcuts.append(shortcut)

    def _act(self, owner, action):
        focused = owner.focusWidget()
        if focused is None or focused == self._table or not any(map(focused.inherits, OWN_USE)):
            action()

    def setActive(self, isActive):
        """Let the keys work, where the user has not switched them off."""
        self._isActive = isActive
        for shortcut in self._shortcuts:
            shortcut.enabled = isActive and self._checkBox.checked

    def onSwitched(self, isOn):
        """Keep the choice of the user."""
        qt.QSettings().setValue(SETTING, isOn)
        self.setActive(self._isActive)

    def close(self):
        """Take the keys away from the views, which outlive the panel."""
        for shortcut in self._shortcuts:
            shortcut.enabled = False
            shortcut.deleteLater()
        self._shortcuts = []


def clicker(button):
    """A function that clicks a QAbstractButton, where the user could do so."""

    def click():
        if button.enabled and button.visible:
            button.click()

    return click
