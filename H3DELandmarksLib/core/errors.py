"""Exceptions whose message tells a clinician what is wrong and what to do."""

from __future__ import annotations


class H3DELandmarksError(Exception):
    """Base of every error that this library raises on purpose; the message is one sentence for the user."""


class InputError(H3DELandmarksError):
    """A file, folder or value given by the user cannot be used."""


class ModelPackageError(H3DELandmarksError):
    """A model package is unknown, incomplete, damaged or of an unsupported version."""


class MissingDependencyError(H3DELandmarksError):
    """A package that this step needs is not installed."""


class Cancelled(H3DELandmarksError):
    """The user asked to stop."""


class OutputError(InputError, OSError):
    """A file or folder cannot be written; also an OSError, with its number, for code that handles those."""

    def __init__(self, message: str, reason: OSError | None = None) -> None:
        """Make the error.

        Args:
            message: one sentence for the user.
            reason: what the operating system said.
        """
        super().__init__(message)
        self.errno = reason.errno if reason else None
        self.strerror = reason.strerror if reason else None

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownPixelSize(InputError):
    """A radiograph does not state how large its pixels are."""
