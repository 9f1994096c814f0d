"""Tests of the stand-in itself."""

import os

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
try:  # Qt needs system libraries that a computer without a desktop may lack
    import slicer  # noqa: F401
    from PySide6 import QtWidgets  # noqa: F401
except ImportError:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def app():
    """The application."""
    import application

    return application.start()
