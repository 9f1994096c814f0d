"""The checkable list of the landmarks of a model."""

import qt
from slicer.i18n import tr as _

SEPARATOR = "\n"  # no landmark has it in its name


class LandmarkChoice:
    """Which landmarks of the chosen model are looked for."""

    def __init__(self, ui, onChanged):
        """Args: the widgets of the panel by name, and what to call after the user has changed the choice."""
        self._list, self._button = ui.landmarksList, ui.landmarksButton
        self._onChanged = onChanged
        self._list.connect("itemChanged(QListWidgetItem*)", self._onItemChanged)
        ui.allLandmarksButton.connect("clicked(bool)", lambda: self._checkAll(True))
        ui.noLandmarksButton.connect("clicked(bool)", lambda: self._checkAll(False))

    def show(self, package, excluded):
        """Show the landmarks of a model.

        Args:
            package: ModelPackage, None for an empty list.
            excluded: text of `excludedText`; names that the model does not have are passed over.
        """
        names = excluded.split(SEPARATOR)
        wasBlocked = self._list.blockSignals(True)
        self._list.clear()
        for landmark in package.scheme.landmarks if package else ():
            item = qt.QListWidgetItem(landmark.name)
            item.setToolTip(landmark.definition)
            item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled)
            item.setCheckState(qt.Qt.Unchecked if landmark.name in names else qt.Qt.Checked)
            self._list.addItem(item)
        self._list.blockSignals(wasBlocked)
        self._showCount()

    def excludedText(self):
        """The landmarks that are not looked for, as parameters keep them."""
        return SEPARATOR.join(item.text() for item in self._items() if item.checkState() != qt.Qt.Checked)

    def chosenNames(self):
        """Names of the landmarks to look for."""
        return [item.text() for item in self._items() if item.checkState() == qt.Qt.Checked]

    def isEverything(self):
        """Whether no landmark is left out."""
        return len(self.chosenNames()) == self._list.count

    def _items(self):
        return [self._list.item(row) for row in range(self._list.count)]

    def _checkAll(self, checked):
        wasBlocked = self._list.blockSignals(True)
        for item in self._items():
            item.setCheckState(qt.Qt.Checked if checked else qt.Qt.Unchecked)
        self._list.blockSignals(wasBlocked)
        self._changed()

    def _onItemChanged(self, item):
        self._changed()

    def _changed(self):
        self._showCount()
        self._onChanged()

    def _showCount(self):
        count, chosen = self._list.count, len(self.chosenNames())
        everything = _("All {count}") if chosen == count else _("{chosen} of {count}")
        self._button.text = everything.format(chosen=chosen, count=count)
