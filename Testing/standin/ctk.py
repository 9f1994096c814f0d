"""Slicer's module `ctk` for tests: the few widgets in use."""

import qt
from PySide6.QtCore import Property, QEvent, QFileInfo, QRect, QSize, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QHBoxLayout,
    QMessageBox,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QToolButton,
    QWidget,
)

_HEADER = 26
_WANTED = "visibilityToParent"  # CTK's name: whether a child is to be seen when its button is open


@qt.custom_widget
class ctkCollapsibleButton(QAbstractButton):
    """A header that shows and hides what lies below it."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._collapsed, self._forcing = False, False
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

    def childEvent(self, event):
        """Watch every child."""
        if event.added() and event.child().isWidgetType():
            event.child().installEventFilter(self)

    def eventFilter(self, child, event):
        """Remember that somebody has shown or hidden a child, and show none while the button is collapsed."""
        if not self._forcing and event.type() in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent):
            child.setProperty(_WANTED, event.type() == QEvent.Type.ShowToParent)
            if self._collapsed:
                self._force(child)
        return False

    def _force(self, child):
        self._forcing = True
        child.setVisible(not self._collapsed and child.property(_WANTED) is not False)
        self._forcing = False

    def _set_collapsed(self, collapsed):
        self._collapsed = bool(collapsed)
        for child in self.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            self._force(child)
        self.setMaximumHeight(_HEADER if collapsed else 16777215)
        self.contentsCollapsed.emit(self._collapsed)

    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)


@qt.custom_widget
class ctkMessageBox(QMessageBox):
    """The message box of `slicer.util`; of what CTK adds nothing is in use."""


@qt.custom_widget
class ctkPathLineEdit(QWidget):
    """A path to type, or to choose in a dialog."""

    Dirs, Files, Readable, Writable, NoFilter = 0x1, 0x2, 0x10, 0x20, -1

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._filters, self._name_filters, self._history = self.NoFilter, [], True
        self._combo, self._browse = QComboBox(self), QToolButton(self)
        self._combo.setEditable(True)
        self._combo.editTextChanged.connect(self._changed)
        self._browse.setText("...")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo, 1)
        layout.addWidget(self._browse)
        self.setFocusProxy(self._combo)

    def comboBox(self):
        """The editor."""
        return self._combo

    def setCurrentPath(self, path):
        """Show a path."""
        self._combo.setEditText(path)

    def _changed(self, path):
        self.currentPathChanged.emit(path)
        self.validInputChanged.emit(QFileInfo(path).exists())

    def _set(self, name, value):
        setattr(self, name, value)

    currentPath = Property(str, lambda self: self._combo.currentText(), setCurrentPath)
    filters = Property(int, lambda self: self._filters, lambda self, value: self._set("_filters", value))
    nameFilters = Property(
        "QStringList", lambda self: self._name_filters, lambda self, value: self._set("_name_filters", value)
    )
    showHistoryButton = Property(bool, lambda self: self._history, lambda self, value: self._set("_history", value))
