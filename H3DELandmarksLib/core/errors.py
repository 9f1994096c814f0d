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
