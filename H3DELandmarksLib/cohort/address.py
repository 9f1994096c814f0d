"""Where a Dask scheduler listens, and whether scans may be sent there."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from H3DELandmarksLib.core.errors import InputError


@dataclass(frozen=True)
class Address:
    """Where a scheduler listens, and what this program shows it.

    Attributes:
        address: for example ``tls://dgx.clinic.example:8786``.
        authority, certificate, key: files of TLS: the authority that both sides trust, and this side's own.
        consent: the host to which the user agrees to send scans.
        as_paths: whether workers see the same files, so that paths are sent in place of voxels.
    """

    address: str
    authority: str | None = None
    certificate: str | None = None
    key: str | None = None
    consent: str | None = None
    as_paths: bool = False

    @property
    def host(self) -> str:
        """The host alone, empty where the address does not name a host and a port over TCP or TLS."""
        try:
            parts = urlsplit(self.address if "://" in self.address else f"tcp://{self.address}")
            return (parts.hostname or "") if parts.port and parts.scheme in ("tcp", "tls") else ""
        except ValueError:  # brackets that do not close, or a port that is no number
            return ""

    @property
    def is_here(self) -> bool:
        """Whether the host is this computer by its name or number."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS with certificates of both sides is asked for."""
        return self.address.startswith("tls://") and all((self.authority, self.certificate, self.key))

    def check(self) -> None:
        """Refuse to send scans to another computer without TLS, or without the user's consent.

        Raises:
            InputError: what is missing.
        """
        if not self.host:
            raise InputError(f"'{self.address}' is no address: write tls://HOST:PORT.")
        if self.address.startswith("tls://") and not self.is_encrypted:
            raise InputError("tls:// needs the certificates of both sides: give --tls-ca, --tls-cert and --tls-key.")
        if self.is_here and not self.is_encrypted and any((self.authority, self.certificate, self.key)):
            raise InputError("Certificates are used over TLS only: give the address as tls://HOST:PORT.")
        if self.is_here:
            return
        if not self.is_encrypted:
            raise InputError(
                f"Scans are sent to '{self.host}' over TLS only: give the address as tls://HOST:PORT, with --tls-ca, "
                "--tls-cert and --tls-key."
            )
        if (self.consent or "").lower() != self.host.lower():
            what = "paths of scans" if self.as_paths else "voxels and geometry of scans"
            raise InputError(f"This would send {what} to '{self.host}': agree with --consent {self.host}.")
