"""Another computer of the clinic that examines scans: its address and certificates, and the consent to send scans."""

from dataclasses import dataclass

import qt
import slicer.util
from slicer.i18n import tr as _

from H3DELandmarksLib.cohort.address import Address
from H3DELandmarksPanel.PanelContext import onSignal
from H3DELandmarksPanel.SafeText import plainTip

SETTING = "H3DELandmarks/ClinicComputer/"


@dataclass(frozen=True)
class Destination:
    """Where scans are examined.

    Attributes:
        host: the other computer, empty for this one.
        arguments: of the command that name it.
        device: where it runs networks; empty where the user's choice for this computer holds.
    """

    host: str = ""
    arguments: tuple = ()
    device: str = ""


class ClinicComputer:
    """Connects the widgets of "On another computer of the clinic"."""

    def __init__(self, ui, onChange):
        """Args: the widgets by name, what to call when something was chosen or typed."""
        self._ui = ui
        self._paths = {
            "authority": ui.clinicAuthorityPath,
            "certificate": ui.clinicCertificatePath,
            "key": ui.clinicKeyPath,
        }
        ui.clinicAddress.text = slicer.util.settingsValue(f"{SETTING}address", "")
        ui.clinicCheckBox.checked = slicer.util.settingsValue(f"{SETTING}chosen", False, converter=slicer.util.toBool)
        for name, widget in self._paths.items():
            widget.currentPath = slicer.util.settingsValue(SETTING + name, "")
            onSignal(widget, "currentPathChanged(QString)", onChange, ui.statusLabel)
        onSignal(ui.clinicAddress, "textChanged(QString)", onChange, ui.statusLabel)
        onSignal(ui.clinicCheckBox, "toggled(bool)", onChange, ui.statusLabel)

    @property
    def isChosen(self):
        """Whether scans are to be examined there."""
        return self._ui.clinicCheckBox.checked

    def whyNot(self):
        """One sentence about why the computer cannot be asked, empty where it can or is not chosen."""
        if not self.isChosen:
            return ""
        address = self._address()
        if not address.host:
            return _("Write the address of the other computer of the clinic as tls://NAME:PORT (Advanced).")
        if address.is_here and not address.address.startswith("tls://"):
            return ""
        if not address.is_encrypted:
            return _(
                "Scans are sent to another computer encrypted only: write its address as tls://NAME:PORT and choose "
                "the three certificate files (Advanced)."
            )
        return ""

    def destination(self, scans):
        """The Destination that is chosen, after the user has agreed that scans are sent; None where not.

        Args:
            scans: what is sent, for the question.
        """
        if not self.isChosen:
            self._remember()
            return Destination()
        address = self._address()
        if not address.is_here and not _agreed(address.host, scans):
            return None
        self._remember()
        arguments = ["--scheduler", address.address, "--consent", address.host]
        if address.is_encrypted:
            files = (address.authority, address.certificate, address.key)
            arguments += [word for pair in zip(("--tls-ca", "--tls-cert", "--tls-key"), files) for word in pair]
        return Destination(address.host, tuple(arguments), "auto")

    def _remember(self):
        """Keep what was chosen and typed for the next time; files are remembered by their paths alone."""
        qt.QSettings().setValue(f"{SETTING}chosen", self.isChosen)
        qt.QSettings().setValue(f"{SETTING}address", self._ui.clinicAddress.text.strip())
        for name, widget in self._paths.items():
            qt.QSettings().setValue(SETTING + name, widget.currentPath.strip())

    def _address(self):
        files = {name: widget.currentPath.strip() or None for name, widget in self._paths.items()}
        return Address(self._ui.clinicAddress.text.strip(), **files)


def _agreed(host, scans):
    """Ask whether scans may leave this computer."""
    question = _(
        "The computer '{host}' is to find the landmarks. What is sent: {scans}, as voxels and geometry, encrypted, "
        "without names, dates or other data of the patient. A face in a scan of a head, or text that is part of a "
        "picture, can be recognised.\n\nSend this to '{host}'?"
    )
    return slicer.util.confirmYesNoDisplay(plainTip(question.format(scans=scans, host=host)))
