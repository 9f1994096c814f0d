"""Slicer's module `ctk` for tests: the few widgets in use."""

import qt
from PySide6.QtCore import Property, QRect, QSize, Qt, Signal
from PySide6.QtWidgets import QAbstractButton, QMessageBox, QStyle, QStyleOptionButton, QStylePainter, QWidget

_HEADER = 26


@qt.custom_widget
class ctkCollapsibleButton(QAbstractButton):
    """A header that shows and hides what lies below it."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._collapsed = False
        self.setContentsMargins(0, _HEADER, 0, 0)
        self.clicked.connect(lambda: self._set_collapsed(not self._collapsed))

    def hitButton(self, position):
        """Only the header is a button."""
        return position.y() < _HEADER

    def sizeHint(self):
        """Room for the header and the content."""
        return QSize(200, _HEADER) if self.layout() is None or self._collapsed else self.layout().totalSizeHint()

    def paintEvent(self, event):
        """Draw the header."""
        painter, option = QStylePainter(self), QStyleOptionButton()
        option.initFrom(self)
        option.rect = QRect(0, 0, self.width(), _HEADER - 4)
        painter.drawControl(QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = "▸" if self._collapsed else "▾"
        painter.drawText(option.rect.adjusted(8, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, f"{arrow}  {self.text()}")

    def _set_collapsed(self, collapsed):
        self._collapsed = bool(collapsed)
        for child in self.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            child.setVisible(not collapsed)
        self.setMaximumHeight(_HEADER if collapsed else 16777215)
        self.contentsCollapsed.emit(self._collapsed)

    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)


@qt.custom_widget
class ctkMessageBox(QMessageBox):
    """The message box of `slicer.util`; of what CTK adds nothing is in use."""

