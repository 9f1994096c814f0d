"""What to detect with and what to look for: the list of models with the facts about the chosen one, its landmarks."""

import qt
from slicer.i18n import tr as _

from H3DELandmarksLib.cases.examples import EXAMPLES
from H3DELandmarksLib.models import available_models
from H3DELandmarksLib.models.fit import fitting_first
from H3DELandmarksPanel.ModelCard import CardWindow, factsAbout, factsAboutExamples
from H3DELandmarksPanel.PanelContext import onClick, onSignal
from H3DELandmarksPanel.SafeText import plainTip

SETTING = "H3DELandmarks/model"  # the model that was chosen last, in any scene
SEPARATOR = "\n"  # no landmark has it in its name


def modelKey(package):
    """How nodes name a model, or a set of examples, and parameters a model: id and version of whatever has both."""
    return f"{package.id}@{package.version}"


def titleOf(model):
    """What people call a ModelPackage or an ExampleSet."""
    if model.id != EXAMPLES:
        return model.manifest.title
    count = len(model.cases)
    title = (
        _("Your points '{name}' (from 1 example)") if count == 1 else _("Your points '{name}' (from {count} examples)")
    )
    return title.format(name=model.folder.name, count=count)


def titleAmong(package, packages):
    """What tells a ModelPackage from others: its title, with its id where models of other ids have that, too."""
    title = package.manifest.title
    isShared = any(other.manifest.title == title and other.id != package.id for other in packages)
    return f"{title} [{package.id}]" if isShared else title


class ModelChoice:
    """Fills a combo box with the model packages on this computer."""

    def __init__(self, ui):
        """Args: the widgets of the panel by name."""
        self._comboBox, self._facts, self._cardButton = ui.modelSelector, ui.modelFactsLabel, ui.modelCardButton
        self.card = CardWindow(ui.modelCardButton)
        onClick(ui.modelCardButton, lambda: self.card.show(self.chosenPackage()), ui.statusLabel)
        self._packages = {}
        self._examples = None
        self._problems = []
        self._unfit = {}
        self._scan = None  # ScanFacts
        self._isChosen = self._isOffering = False
        onSignal(self._comboBox, "currentIndexChanged(int)", self._onIndexChanged, ui.statusLabel)

    def refresh(self):
        """Look again which models there are; the choice stays if its model does."""
        chosen = self.chosenKey()
        entries = available_models()
        packages = [entry.package for entry in entries if entry.package]
        self._problems = [entry.problem for entry in entries if entry.problem]
        pairs = fitting_first(packages, self._scan) if self._scan else [(package, "") for package in packages]
        self._packages = {modelKey(package): package for package, _reason in pairs}
        self._unfit = {modelKey(package): reason for package, reason in pairs if reason}
        wasBlocked = self._comboBox.blockSignals(True)
        self._comboBox.clear()
        rows = {key: (self._label(key), self._toolTip(key)) for key in self._packages}
        if self._examples:
            rows[EXAMPLES] = titleOf(self._examples), plainTip(factsAboutExamples(self._examples))
        for key, (label, toolTip) in rows.items():
            self._comboBox.addItem(label, key)
            self._comboBox.setItemData(self._comboBox.count - 1, toolTip, qt.Qt.ToolTipRole)
        self._comboBox.setCurrentIndex(max(self._comboBox.findData(chosen), 0))
        self._comboBox.blockSignals(wasBlocked)
        self.showFacts()

    def offerExamples(self, examples):
        """Offer an ExampleSet beside the models, None for none; the choice stays if it is still there."""
        self._examples = examples
        self.refresh()

    def offer(self, facts):
        """Put the models that may fit a scan first, and say of the others why not.

        Until a model was chosen, that is the one that was chosen last in any scene, or else the first that may fit.

        Args:
            facts: ScanFacts, None where there is no scan.
        """
        if facts == self._scan:
            return
        self._scan = facts
        self.refresh()
        if facts and not self._isChosen:
            last = qt.QSettings().value(SETTING, "")
            fits = last in self._packages and last not in self._unfit or (last == EXAMPLES and self._examples)
            self._isOffering = True
            self._comboBox.setCurrentIndex(self._comboBox.findData(last) if fits else 0)
            self._isOffering = False

    def choose(self, key):
        """Choose a model by its key; returns whether it is there, else the first one is chosen."""
        row = self._comboBox.findData(key)
        self._isChosen = self._isChosen or row >= 0
        self._isOffering = row < 0  # nobody has chosen the first one
        self._comboBox.setCurrentIndex(max(row, 0))
        self._isOffering = False
        self.showFacts()
        return row >= 0

    def _onIndexChanged(self, index):
        """Keep what is chosen for other scenes, unless it is only offered."""
        if not self._isOffering:
            self._isChosen = True
            qt.QSettings().setValue(SETTING, self.chosenKey())

    def chosenKey(self):
        """The key of the chosen model, empty if there is none."""
        return self._comboBox.itemData(self._comboBox.currentIndex) or ""

    def chosen(self):
        """The chosen ModelPackage or ExampleSet, None if there is none."""
        return self._examples if self.chosenKey() == EXAMPLES else self.chosenPackage()

    def chosenPackage(self):
        """The chosen ModelPackage, None if there is none."""
        return self.package(self.chosenKey())

    def package(self, key):
        """The ModelPackage of a key, None if there is none."""
        return self._packages.get(key)

    def whyNone(self):
        """One sentence about why no model can be chosen."""
        if self._problems:
            return self._problems[0]
        return _("No model is installed: put a model package into the folder of installed models.")

    def showFacts(self):
        """Say what the chosen model is for, how accurate it is and what it is not for, and which others are damaged."""
        package, chosen = self.chosenPackage(), self.chosen()
        if chosen and not package:
            facts = factsAboutExamples(chosen)
        else:
            facts = factsAbout(package) if package else self.whyNone()
        self._comboBox.toolTip = self._toolTip(self.chosenKey()) if package else plainTip(facts)
        self._facts.text = "\n".join([facts, *self._problems]) if chosen else facts
        self._cardButton.enabled = package is not None

    def _label(self, key):
        """The title, with the version where several are there, and whether the model cannot fit the scan."""
        package = self._packages[key]
        versions = [other for other in self._packages.values() if other.id == package.id]
        title = titleAmong(package, self._packages.values())
        title = f"{title} ({package.version})" if len(versions) > 1 else title
        return _("{model} - not for this volume").format(model=title) if key in self._unfit else title

    def _toolTip(self, key):
        manifest = self._packages[key].manifest
        caution = f" {manifest.measured.caution()}" if manifest.measured and manifest.measured.caution() else ""
        return plainTip(self._unfit.get(key) or f"{manifest.title}: {manifest.intended_use}{caution}")


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
