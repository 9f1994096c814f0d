"""The part of the panel that lists the versions of a model, goes back to one, and shares one."""

import qt
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.models import available_models
from H3DELandmarksLib.models.sharing import add_shared, share_model
from H3DELandmarksLib.models.versions import revert, versions_of
from H3DELandmarksPanel.ModelChoice import modelKey, titleAmong
from H3DELandmarksPanel.PanelContext import offer, onClick, onSignal
from H3DELandmarksPanel.Tables import TextTable


class VersionsSection:
    """Connects the lower widgets of the section "Compare and use"."""

    def __init__(self, ui, context, onReverted):
        """Args: the widgets by name, the PanelContext, what to call when another version is in use."""
        self._ui, self._context, self._onReverted = ui, context, onReverted
        self._ids, self._versions = [], []
        headers = [_("Version"), _("In use"), _("Cases"), _("Made from"), _("Date")]
        self._table = TextTable(ui.versionsTable, headers)
        onSignal(ui.versionsSelector, "currentIndexChanged(int)", self.onModelChosen, ui.versionsStatusLabel)
        onSignal(ui.versionsTable, "itemSelectionChanged()", self.refresh, ui.versionsStatusLabel)
        onClick(ui.revertButton, self.onRevert, ui.versionsStatusLabel)
        onClick(ui.shareButton, self.onShare, ui.versionsStatusLabel)
        onClick(ui.addPackageButton, self.onAdd, ui.versionsStatusLabel)
        self.onModelsChanged()

    def onModelsChanged(self, chosen=None):
        """Look again which models there are.

        Args:
            chosen: id of the model to list; by default, or where it is not there, the one that is listed, else that of
                the panel.
        """
        selector = self._ui.versionsSelector
        package = self._context.package
        wanted = [chosen, self._id, package.id if package else None]
        packages = [entry.package for entry in available_models() if entry.package]
        titles = {package.id: titleAmong(package, packages) for package in packages}
        self._ids = list(titles)
        wasBlocked = selector.blockSignals(True)
        selector.clear()
        for title in titles.values():
            selector.addItem(title)
        there = [model for model in wanted if model in self._ids]
        if there:
            selector.setCurrentIndex(self._ids.index(there[0]))
        selector.blockSignals(wasBlocked)
        self.onModelChosen(0)

    @property
    def _id(self):
        index = self._ui.versionsSelector.currentIndex
        return self._ids[index] if 0 <= index < len(self._ids) else None

    def onModelChosen(self, index):
        """List the versions of a model."""
        try:
            self._versions = versions_of(self._id) if self._id else []
        except H3DELandmarksError as error:
            self._versions = []
            self._ui.versionsStatusLabel.text = str(error)
        self._table.show([_texts(version) for version in self._versions], [_toolTip(v) for v in self._versions])
        self.refresh()

    def refresh(self):
        """Say what can be done with the chosen version."""
        ui, chosen = self._ui, self._chosen()
        current = next((version for version in self._versions if version.is_current), None)
        if chosen is not None and chosen is not current:
            ui.revertButton.text = _("Use version {version}").format(version=chosen.package.version)
        else:
            ui.revertButton.text = _("Go back to the previous version")
        busy = self._context.whyBusy()
        reason = "" if len(self._versions) > 1 else _("There is only one version of this model.")
        offer(ui.revertButton, busy or reason, _("No version is deleted; choose one in the list to use that one"))
        reason = "" if current is not None else _("There is no model.")
        about = _("Write the chosen version, else the one in use, as a file for another site")
        offer(ui.shareButton, busy or reason, about)
        ui.addPackageButton.enabled = not busy

    def _chosen(self):
        row = self._table.chosenRow()
        return self._versions[row] if row is not None and row < len(self._versions) else None

    def onRevert(self):
        """Use the chosen version, else the one that was used before."""
        chosen = self._chosen()
        version = chosen.package.version if chosen is not None and not chosen.is_current else None
        now = revert(self._id, version).package
        self._context.modelsChanged(modelKey(now))
        self._onReverted()
        self._ui.versionsStatusLabel.text = _("{title} {version} is in use from now on.").format(
            title=now.manifest.title, version=now.version
        )

    def onShare(self):
        """Write a version as a file for another site."""
        self._context.ensureDependencies(self._ui.versionsStatusLabel)
        version = self._chosen() or next((version for version in self._versions if version.is_current), None)
        if version is None:
            self._ui.versionsStatusLabel.text = _("There is no model.")
            return
        package = version.package
        path = qt.QFileDialog.getSaveFileName(
            self._ui.shareButton.window(),
            _("Share package"),
            f"{package.id}-{package.version}.zip",
            _("Zip file (*.zip)"),
        )
        if not path:
            return
        path = path if path.lower().endswith(".zip") else f"{path}.zip"
        share_model(modelKey(package), path)
        self._ui.versionsStatusLabel.text = _(
            "Written: {path}. Read the model's card before you send it: its texts go along as they are."
        ).format(path=path)

    def onAdd(self):
        """Add a model that another site has shared; the version in use stays in use."""
        self._context.ensureDependencies(self._ui.versionsStatusLabel)
        path = qt.QFileDialog.getOpenFileName(
            self._ui.addPackageButton.window(), _("Add package"), "", _("Zip file (*.zip)")
        )
        if not path:
            return
        added = add_shared(path)
        package = added.package
        chosen = self._context.package
        self._context.modelsChanged(modelKey(chosen or package))
        self._onReverted()
        self.onModelsChanged(package.id)
        said = _("{title} {version} was added.") if added.is_new else _("{title} {version} was here already.")
        if not added.is_current:
            said += " " + _("To use it, choose it in the list.")
        self._ui.versionsStatusLabel.text = said.format(title=package.manifest.title, version=package.version)

    def close(self):
        """Nothing goes on here."""


def _texts(version):
    return (
        version.package.version,
        _("yes") if version.is_current else "",
        str(version.cases or ""),
        (version.base or "").rpartition("@")[2],
        (version.date or "")[:10],
    )


def _toolTip(version):
    told = [version.comparison or _("Not compared with another version.")]
    if version.override:
        told.append(_("Used against the advice: {reason}").format(reason=version.override))
    return " ".join(told)
