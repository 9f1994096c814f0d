"""What to detect with and what to look for: the list of models with the facts about the chosen one, its landmarks."""

import qt
from slicer.i18n import tr as _

from H3DELandmarksLib.models import available_models
from H3DELandmarksPanel.ModelCard import CardWindow, factsAbout
from H3DELandmarksPanel.PanelContext import onClick, onSignal
from H3DELandmarksPanel.SafeText import plainTip

SEPARATOR = "\n"  # no landmark has it in its name


def modelKey(package):
    """How parameters and nodes name a model: id and version."""
    return f"{package.id}@{package.version}"


class ModelChoice:
    """Fills a combo box with the model packages on this computer."""

    def __init__(self, ui):
        """Args: the widgets of the panel by name."""
        self._comboBox, self._facts, self._cardButton = ui.modelSelector, ui.modelFactsLabel, ui.modelCardButton
        self.card = CardWindow(ui.modelCardButton)
        onClick(ui.modelCardButton, lambda: self.card.show(self.chosenPackage()), ui.statusLabel)
        self._packages = {}
        self._problems = []

    def refresh(self):
        """Look again which models there are; the choice stays if its model does."""
        chosen = self.chosenKey()
        entries = available_models()
        self._packages = {modelKey(entry.package): entry.package for entry in entries if entry.package}
        self._problems = [entry.problem for entry in entries if entry.problem]
        wasBlocked = self._comboBox.blockSignals(True)
        self._comboBox.clear()
        for key, package in self._packages.items():
            self._comboBox.addItem(self._label(package), key)
            self._comboBox.setItemData(self._comboBox.count - 1, self._toolTip(package), qt.Qt.ToolTipRole)
        self._comboBox.blockSignals(wasBlocked)
        self.choose(chosen)

    def choose(self, key):
        """Choose a model by its key; one that is not there leaves the first one chosen."""
        self._comboBox.setCurrentIndex(max(self._comboBox.findData(key), 0))
        self.showFacts()

    def chosenKey(self):
        """The key of the chosen model, empty if there is none."""
        return self._comboBox.itemData(self._comboBox.currentIndex) or ""

    def chosenPackage(self):
        """The chosen ModelPackage, None if there is none."""
        return self._packages.get(self.chosenKey())

    def whyNone(self):
        """One sentence about why no model can be chosen."""
        if self._problems:
            return self._problems[0]
        return _("No model is installed: put a model package into the folder of installed models.")

    def showFacts(self):
        """Say what the chosen model is for, how accurate it is and what it is not for."""
        package = self.chosenPackage()
        self._comboBox.toolTip = self._toolTip(package) if package else plainTip(self.whyNone())
        self._facts.text = factsAbout(package) if package else self.whyNone()
        self._cardButton.enabled = package is not None

    def _label(self, package):
        """The title, with the version where several are there."""
        versions = [other for other in self._packages.values() if other.id == package.id]
        title = package.manifest.title
        return f"{title} ({package.version})" if len(versions) > 1 else title

    @staticmethod
    def _toolTip(package):
        measured = package.manifest.measured
        caution = f" {measured.caution()}" if measured and measured.caution() else ""
        return plainTip(f"{package.manifest.title}: {package.manifest.intended_use}{caution}")


class LandmarkChoice:
    """Which landmarks of the chosen model are looked for."""

    def __init__(self, ui, onChanged):
        """Args: the widgets of the panel by name, and what to call after the user has changed the choice."""
        self._list, self._button = ui.landmarksList, ui.landmarksButton
        self._onChanged = onChanged
        onSignal(self._list, "itemChanged(QListWidgetItem*)", self._onItemChanged, ui.statusLabel)
        onClick(ui.allLandmarksButton, lambda: self._checkAll(True), ui.statusLabel)
        onClick(ui.noLandmarksButton, lambda: self._checkAll(False), ui.statusLabel)

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
            item.setToolTip(plainTip(landmark.definition))
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
