"""Another computer of the clinic that examines scans: its address and certificates, and the consent to send scans."""

import qt
import slicer.util
from slicer.i18n import tr as _

from H3DELandmarksLib.cohort.address import Address
from H3DELandmarksPanel.PanelContext import onSignal

SETTING = "H3DELandmarks/ClinicComputer/"


class ClinicComputer:
    """Connects the widgets of "On another computer of the clinic"."""

    def __init__(self, ui, onChange):
        """Args: the widgets by name, what to call when something was typed."""
        self._ui = ui
        self._paths = {
            "authority": ui.clinicAuthorityPath,
            "certificate": ui.clinicCertificatePath,
            "key": ui.clinicKeyPath,
        }
        ui.clinicAddress.text = slicer.util.settingsValue(f"{SETTING}address", "")
        onSignal(ui.clinicAddress, "textChanged(QString)", onChange, ui.batchLabel)
        for name, widget in self._paths.items():
            widget.currentPath = slicer.util.settingsValue(SETTING + name, "")
            onSignal(widget, "currentPathChanged(QString)", onChange, ui.batchLabel)

    def setEnabled(self, enabled):
        """Let the address be changed, or not."""
        for widget in (self._ui.clinicAddress, *self._paths.values()):
            widget.enabled = enabled

    def whyNot(self):
        """One sentence about why the computer cannot be asked, empty where it can or where none is given."""
        address = self._address()
        if address is None:
            return ""
        if not address.host:
            return _("Write the address of the other computer as tls://NAME:PORT, or leave it empty.")
        if address.is_here and not address.address.startswith("tls://"):
            return ""
        if not address.is_encrypted:
            return _(
                "Scans are sent to another computer encrypted only: write its address as tls://NAME:PORT and choose "
                "the three certificate files, or leave the address empty."
            )
        return ""

    def arguments(self, scans):
        """Arguments of the command that name the computer; none where scans stay here, None where the user refuses.

        Args:
            scans: the folder of the scans, for the question.
        """
        address = self._address()
        if address is None:
            return []
        if not address.is_here and not _agreed(address.host, scans):
            return None
        arguments = ["--scheduler", address.address, "--consent", address.host]
        if address.is_encrypted:
            files = (address.authority, address.certificate, address.key)
            arguments += [word for pair in zip(("--tls-ca", "--tls-cert", "--tls-key"), files) for word in pair]
        return arguments

    def remember(self):
        """Keep what was typed for the next time; files are remembered by their paths alone."""
        qt.QSettings().setValue(f"{SETTING}address", self._ui.clinicAddress.text.strip())
        for name, widget in self._paths.items():
            qt.QSettings().setValue(SETTING + name, widget.currentPath.strip())

    def _address(self):
        text = self._ui.clinicAddress.text.strip()
        files = {name: widget.currentPath.strip() or None for name, widget in self._paths.items()}
        return Address(text, **files) if text else None


def _agreed(host, scans):
    """Ask whether scans may leave this computer."""
    question = _(
        "All scans in '{scans}' are sent to the computer '{host}', which finds the landmarks: their voxels and "
        "geometry, encrypted, without names, dates or other data of the patient. A face in a scan of a head, or text "
        "that is part of a picture, can be recognised.\n\nSend the scans to '{host}'?"
    )
    return slicer.util.confirmYesNoDisplay(question.format(scans=scans, host=host))
