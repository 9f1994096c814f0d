"""The real panel in the stand-in for Slicer, with a tiny model and a scene of its own for each test."""

import inspect
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[2]
STANDIN = str(ROOT / "Testing" / "standin")
if STANDIN not in sys.path:
    sys.path.insert(0, STANDIN)
try:  # Qt needs system libraries that a computer without a desktop may lack
    import slicer  # noqa: F401
    from PySide6 import QtWidgets  # noqa: F401
except ImportError:
    collect_ignore_glob = ["test_*.py"]

TEMPORARY = "temporary"
# PythonSlicer starts Slicer's real Python as a child and waits for it, as this does.
LAUNCHER = '#!/bin/sh\n"{python}" "$@"\nexit $?\n'


@pytest.fixture(scope="session")
def app():
    """The application."""
    import application

    return application.start()


@pytest.fixture(scope="session")
def module(app):
    """The Slicer module, imported as from a checkout."""
    import application

    return application.load_module(ROOT / "H3DELandmarks" / "H3DELandmarks.py")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny model package."""
    from tiny_model import write_tiny_package

    return write_tiny_package(tmp_path_factory.mktemp("packages") / "tiny")


def shares_program(item):
    """Whether a test may ask a program that the test before it has started: most are not about how one starts."""
    return "shared_program" in item.fixturenames


def pytest_pyfunc_call(pyfuncitem):
    """A program is asked again only in the environment that it was started in, so that no test's name may be there."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)


@pytest.fixture
def shared_program():
    """Starting Python and PyTorch anew takes seconds: the test goes on with the program of the test before it."""


@pytest.fixture
def places(request, module, tmp_path, shared_places):
    """An empty folder for what the panel's programs know of; of tests that share a program it is always the same."""
    from H3DELandmarksPanel.Worker import workers

    if not shares_program(request.node):
        return tmp_path
    kept = workers._waiting and workers._waiting.folder
    for place in [*shared_places.iterdir(), *(shared_places / TEMPORARY).glob("*")]:
        if place.is_dir() and place not in (shared_places / TEMPORARY, kept):
            shutil.rmtree(place)
        elif place.is_file():
            place.unlink()
    return shared_places


@pytest.fixture(scope="session")
def shared_places(tmp_path_factory):
    """The folder of tests that share a program."""
    return tmp_path_factory.mktemp("places")


@pytest.fixture
def models(places, monkeypatch):
    """An empty folder that is the only one with models."""
    from H3DELandmarksLib.models import registry

    folder = places / "models"
    folder.mkdir()
    monkeypatch.setenv("H3DE_MODELS", str(folder))
    monkeypatch.setattr(registry, "bundled_folder", lambda: places / "no models")
    for variable in ("XDG_DATA_HOME", "APPDATA"):  # of child processes, too
        monkeypatch.setenv(variable, str(places / "data"))
    return folder


@pytest.fixture
def tiny_model(tiny, models):
    """The tiny model, installed."""
    return shutil.copytree(tiny.path, models / "tiny")


@pytest.fixture
def python_slicer(places, monkeypatch):
    """Slicer's Python on the path, a launcher as in the application."""
    launcher = places / "bin" / "PythonSlicer"
    launcher.parent.mkdir()
    launcher.write_text(LAUNCHER.format(python=sys.executable), encoding="utf-8")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{launcher.parent}{os.pathsep}{os.environ['PATH']}")
    return launcher


@pytest.fixture
def scene(app, places, monkeypatch):
    """The application's scene, empty, with settings that are empty, too."""
    import qt

    monkeypatch.setattr(app, "temporaryPath", str(places / TEMPORARY))
    Path(app.temporaryPath).mkdir(exist_ok=True)
    qt.QSettings().clear()
    app.mrmlScene().Clear(False)  # as Slicer closes a scene: views, selection and interaction stay
    return app.mrmlScene()


@pytest.fixture(scope="session")
def red(app):
    """Slicer's axial slice view."""
    import views

    return views.SliceView("Red")


@pytest.fixture
def unexpected():
    """Errors that nobody expects, as the panel tells them; a test that asks for this fixture makes some."""
    from H3DELandmarksPanel import PanelContext

    class Collector(logging.Handler):
        def emit(self, record):
            errors.append(record.exc_info[1])

    errors, collector = [], Collector(logging.ERROR)
    PanelContext.logger.addHandler(collector)
    yield errors
    PanelContext.logger.removeHandler(collector)


@pytest.fixture
def open_panel(request, module, scene, models, python_slicer, unexpected):
    """Opens the panel; what fails in its slots fails the test."""
    import application
    from H3DELandmarksPanel.Worker import workers

    if not shares_program(request.node):
        workers.close()
    with application.failing_on_errors():
        yield lambda: application.open_panel(module)
        if shares_program(request.node):  # the panel would end it
            waiting, workers._waiting = workers._waiting, None
        for host in list(application.hosts):
            application.close_panel(host.self())
        if shares_program(request.node):
            workers._waiting = waiting
        if unexpected and "unexpected" not in inspect.signature(request.function).parameters:
            raise AssertionError(f"an action of the panel failed: {unexpected[0]!r}") from unexpected[0]


@pytest.fixture
def answer(app, monkeypatch):
    """Answers the next question by a click, once something is so, and notes it."""
    import qt
    from operating import click
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication, QMessageBox

    questions = []
    monkeypatch.setattr(app, "_testing", False)

    def give(button, when=lambda: True):
        def click_it():
            box = QApplication.activeModalWidget()
            if not isinstance(box, QMessageBox) or not when():
                QTimer.singleShot(20, click_it)
                return
            questions.append(box.text())
            click(qt.Wrapper(box.button(button)))

        QTimer.singleShot(0, click_it)
        return questions

    return give


@pytest.fixture
def scans(tmp_path):
    """A folder of three scans and one that is broken."""
    from scene_voxels import head

    from H3DELandmarksLib.io.images import write_volume

    folder = tmp_path / "new scans é"
    folder.mkdir()
    for seed in range(3):
        write_volume(folder / f"head {seed}.nrrd", head(seed)[0])
    (folder / "broken.nrrd").write_bytes(b"NRRD0004\nnonsense")
    return folder
