"""Missing Python packages: the question, the installation, and the sentence when there is none."""

import os
import subprocess
import sys
import types
from importlib.util import find_spec

import pytest
import qt
import slicer
from operating import add_volume, click
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QMessageBox

from H3DELandmarksLib.core.errors import InputError


@pytest.fixture
def panel(open_panel, tiny_model):
    """The panel with one model and one volume."""
    add_volume()
    return open_panel()


@pytest.fixture
def missing(module, monkeypatch):
    """Makes Python packages look absent."""
    from H3DELandmarksPanel import Dependencies

    absent = set()
    monkeypatch.setattr(Dependencies, "find_spec", lambda name: None if name in absent else find_spec(name))
    return absent


@pytest.fixture
def pytorch_extension(missing, monkeypatch):
    """The PyTorch extension, as far as this module may use it; calls are noted."""
    calls = []

    class PyTorchUtilsLogic:
        succeeds = True
        while_installing = staticmethod(lambda: None)  # what happens as Slicer handles events

        def installTorch(
            self,
            askConfirmation=False,
            forceComputationBackend=None,
            torchVersionRequirement=None,
            torchvisionVersionRequirement=None,
        ):
            calls.append((torchVersionRequirement, torchvisionVersionRequirement))
            self.while_installing()
            if not self.succeeds:
                raise subprocess.CalledProcessError(1, "pip")
            missing.discard("torch")
            return types.ModuleType("torch")

    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = PyTorchUtilsLogic
    extension.calls = calls
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    return extension


@pytest.fixture
def answer(app, monkeypatch):
    """Answers the next question by a click, and notes it."""
    questions = []
    monkeypatch.setattr(app, "_testing", False)

    def give(button):
        def click_it():
            box = QApplication.activeModalWidget()
            if not isinstance(box, QMessageBox):
                QTimer.singleShot(20, click_it)
                return
            questions.append(box.text())
            click(qt.Wrapper(box.button(button)))

        QTimer.singleShot(0, click_it)
        return questions

    return give


def status_after_click(panel):
    click(panel.ui.applyButton)
    text = panel.ui.statusLabel.text
    if panel.detection.run:
        click(panel.ui.cancelButton)
        return "started"
    return text


def test_without_torch_and_its_extension_one_sentence_says_what_to_do(panel, missing):
    missing.add("torch")
    assert status_after_click(panel) == (
        "Detection needs PyTorch: install the extension PyTorch in the Extensions Manager and restart Slicer."
    )
    assert panel.ui.applyButton.enabled


def test_torch_is_installed_after_consent(panel, missing, pytorch_extension, answer):
    missing.add("torch")
    questions = answer(QMessageBox.StandardButton.Ok)
    assert status_after_click(panel) == "started"
    assert len(questions) == 1 and "3 GB" in questions[0]
    assert pytorch_extension.calls == [(">=2.2", ">=0.17")]


def test_torch_is_not_installed_without_consent(panel, missing, pytorch_extension, answer):
    missing.add("torch")
    answer(QMessageBox.StandardButton.Cancel)
    assert status_after_click(panel) == "Nothing was detected, because PyTorch is not installed."
    assert pytorch_extension.calls == []


def test_a_failed_installation_of_torch_is_told(panel, missing, pytorch_extension, answer):
    missing.add("torch")
    answer(QMessageBox.StandardButton.Ok)
    pytorch_extension.PyTorchUtilsLogic.succeeds = False
    assert status_after_click(panel).startswith("PyTorch could not be installed: check the network connection")


def test_nothing_is_asked_or_installed_where_nothing_is_missing(panel, pytorch_extension, monkeypatch):
    monkeypatch.setattr(slicer.util, "pip_install", lambda requirements: pytest.fail("installed something"))
    assert status_after_click(panel) == "started"
    assert pytorch_extension.calls == []


def test_packages_are_installed_after_consent_in_slicer_5_10(panel, missing, answer, monkeypatch):
    installed = []
    monkeypatch.setattr(slicer.util, "pip_install", installed.append)
    missing.add("safetensors")
    questions = answer(QMessageBox.StandardButton.Ok)
    assert status_after_click(panel) == "started"
    assert installed == ["safetensors>=0.4"] and "safetensors" in questions[0]


def test_packages_are_not_installed_without_consent_in_slicer_5_10(panel, missing, answer, monkeypatch):
    monkeypatch.setattr(slicer.util, "pip_install", lambda requirements: pytest.fail("installed something"))
    missing.add("safetensors")
    answer(QMessageBox.StandardButton.Cancel)
    assert "Python packages are missing: allow their installation" in status_after_click(panel)


@pytest.mark.parametrize("error", [None, RuntimeError("User declined"), subprocess.CalledProcessError(1, "pip")])
def test_slicer_5_12_installs_packages_itself(panel, monkeypatch, error):
    calls = []

    def pip_ensure(
        requirements,
        constraints=None,
        skip_packages=None,
        prompt_install=True,
        prompt_restart=True,
        requester=None,
        skip_in_testing=True,
        show_progress=True,
    ):
        calls.append((requirements, requester))
        if error:
            raise error

    packaging = types.ModuleType("slicer.packaging")
    packaging.load_requirements = lambda path: [f"from {path[-16:]}"]
    packaging.pip_ensure = pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    text = status_after_click(panel)
    assert calls == [(["from requirements.txt"], "H3DE Landmarks")]
    assert text == "started" if error is None else "Python packages are missing" in text


def while_torch_is_installed(pytorch_extension, act):
    """Do something each time pip prints a line; Slicer handles clicks then."""

    def handle_events():
        QTimer.singleShot(0, act)
        for _ in range(3):
            slicer.app.processEvents()

    pytorch_extension.PyTorchUtilsLogic.while_installing = staticmethod(handle_events)


def test_clicking_again_while_torch_is_installed_starts_nothing(panel, missing, pytorch_extension, answer, module):
    missing.add("torch")
    answer(QMessageBox.StandardButton.Ok)
    seen, buttons = [], (panel.ui.applyButton, panel.learning.ui.addPackageButton)

    def click_again():
        seen.append((panel.ui.statusLabel.text, [button.enabled for button in buttons]))
        for button in buttons:
            button.click()
        with pytest.raises(InputError, match="being installed"):
            panel.context.ensureDependencies(panel.ui.statusLabel)

    while_torch_is_installed(pytorch_extension, click_again)
    click(panel.ui.applyButton)
    ((text, enabled),) = seen
    assert "Installing" in text and enabled == [False, False]
    assert len(pytorch_extension.calls) == 1 and len(os.listdir(slicer.app.temporaryPath)) == 1, "one run"
    click(panel.ui.cancelButton)
    assert panel.ui.applyButton.enabled and panel.learning.ui.addPackageButton.enabled


def test_a_scene_that_is_closed_while_torch_is_installed_is_told(panel, missing, pytorch_extension, answer, scene):
    missing.add("torch")
    answer(QMessageBox.StandardButton.Ok)
    while_torch_is_installed(pytorch_extension, lambda: scene.Clear(False))
    click(panel.ui.applyButton)
    assert panel.detection.run is None and panel.ui.statusLabel.text == "Load and choose a volume first."
    assert os.listdir(slicer.app.temporaryPath) == []


def test_torch_that_is_too_old_is_told(panel, pytorch_extension, monkeypatch):
    from H3DELandmarksPanel import Dependencies

    monkeypatch.setattr(Dependencies, "version", lambda name: "2.1.2+cu118")
    text = status_after_click(panel)
    assert "2.1.2" in text and "2.2" in text and pytorch_extension.calls == []
    for fine in ("2.2.0", "2.14.1+cpu", "3.0", "2.10.0a0+git1234"):
        monkeypatch.setattr(Dependencies, "version", lambda name, fine=fine: fine)
        assert status_after_click(panel) == "started"
