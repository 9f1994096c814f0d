"""Missing Python packages: the question, the installation, and the sentence when there is none."""

import importlib.metadata
import os
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
import slicer
import slicer.util
from operating import add_volume, click, files_of_runs, type_path, wait_until
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QMessageBox

from H3DELandmarksLib.core.errors import InputError

OLD, NEW = "1.10.2", "9999.9"


@pytest.fixture
def panel(open_panel, tiny_model):
    """The panel with one model and one volume."""
    add_volume()
    return open_panel()


class Installer:
    """What is installed as the panel sees it, and a pip and a PyTorch extension that change that and nothing else.

    Attributes:
        absent: names of packages that cannot be imported.
        versions: of packages, by name, where it is not the real one.
        calls: what was asked for.
        constraints: what pip had to keep at each call.
        fails_at: name of the package at which an installation fails.
        meanwhile: called in each installation while Slicer handles events.
    """

    def __init__(self):
        self.absent, self.versions, self.calls, self.constraints = set(), {}, [], []
        self.fails_at, self.meanwhile = None, lambda: None

    def find_spec(self, name):
        return None if name in self.absent else find_spec(name)

    def version(self, name):
        return self.versions.get(name) or importlib.metadata.version(name)

    def pip_install(self, requirements):
        self._install([requirement.partition(">")[0] for requirement in requirements], requirements)

    def installTorch(
        self,
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):
        assert not askConfirmation, "the user was asked already"
        self._install(["torch"], (torchVersionRequirement, torchvisionVersionRequirement))
        return types.ModuleType("torch")

    def _install(self, names, call):
        self.calls.append(call)
        self.constraints.append(Path(unquote(urlparse(os.environ["PIP_CONSTRAINT"]).path)).read_text())
        QTimer.singleShot(0, self.meanwhile)  # Slicer handles events at each line that pip prints
        for _ in range(3):
            slicer.app.processEvents()
        if self.fails_at in names:
            raise subprocess.CalledProcessError(1, "pip")
        for name in names:
            self.absent.discard(name)
            self.versions[name] = NEW


@pytest.fixture
def installer(module, monkeypatch):
    """The Installer, with the PyTorch extension installed and a network."""
    from H3DELandmarksPanel import Dependencies

    installer = Installer()
    monkeypatch.setattr(Dependencies, "_met", set())
    for name in ("find_spec", "version"):
        monkeypatch.setattr(Dependencies, name, getattr(installer, name))
    monkeypatch.setattr(Dependencies, "_canReachIndex", lambda: True)
    monkeypatch.setattr(slicer.util, "pip_install", installer.pip_install)
    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = lambda: installer
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    return installer


@pytest.fixture
def agree(answer):
    """Agrees to the next question; gives the list of questions."""
    return lambda: answer(QMessageBox.StandardButton.Ok)


def status_after_click(panel):
    click(panel.ui.applyButton)
    text = panel.ui.statusLabel.text
    if panel.detection.run:
        click(panel.ui.cancelButton)
        return "started"
    return text


# The question


def test_nothing_is_asked_or_installed_where_nothing_is_missing(panel, installer):
    assert status_after_click(panel) == "started"
    assert installer.calls == []


def test_one_question_names_all_packages_with_their_sizes(panel, installer, agree):
    installer.absent |= {"torch", "safetensors", "pydantic"}
    questions = agree()
    assert status_after_click(panel) == "started"
    (question,) = questions
    for text in ("PyTorch 2.2.2 or later: 0.2 to 3 GB", "safetensors 0.4", "1 MB", "pydantic 2", "3 MB"):
        assert text in question
    assert [type(call) for call in installer.calls] == [list, tuple]
    assert [text.partition(">")[0] for text in installer.calls[0]] == ["safetensors", "pydantic"]
    assert installer.calls[1] == (">=2.2.2", ">=0.17")


def test_only_what_is_missing_is_asked_for(panel, installer, agree):
    installer.absent.add("safetensors")
    questions = agree()
    assert status_after_click(panel) == "started"
    ((requirement,),) = installer.calls
    assert requirement.startswith("safetensors>=") and "PyTorch" not in questions[0] and "pydantic" not in questions[0]


def test_another_computer_of_the_clinic_needs_no_pytorch_here(panel, installer, agree):
    installer.absent |= {"torch", "distributed"}
    panel.ui.clinicCheckBox.setChecked(True)
    panel.ui.clinicAddress.setText("tcp://127.0.0.1:1")  # this computer, about which nothing is asked
    questions = agree()
    assert status_after_click(panel) == "started"
    ((requirement,),) = installer.calls
    assert requirement.startswith("distributed>=") and "PyTorch" not in questions[0]


def test_a_package_that_is_too_old_is_replaced_after_consent(panel, installer, agree):
    installer.versions["pydantic"] = OLD
    questions = agree()
    assert status_after_click(panel) == "started"
    assert OLD in questions[0] and installer.calls[0][0].startswith("pydantic>=2")


def test_without_consent_nothing_is_installed(panel, installer, answer):
    installer.absent |= {"torch", "pydantic"}
    answer(QMessageBox.StandardButton.Cancel)
    text = status_after_click(panel)
    assert "PyTorch, pydantic" in text and "agree to the installation" in text
    assert installer.calls == [] and panel.ui.applyButton.enabled


# What is left as it is


def test_packages_that_are_installed_are_never_replaced(panel, installer, agree, monkeypatch, tmp_path):
    """Nor by the version of another folder, which Python sees behind the one that it imports."""
    hidden = tmp_path / "behind" / "NumPy-99.0.dist-info"
    hidden.mkdir(parents=True)
    (hidden / "METADATA").write_text("Metadata-Version: 2.1\nName: NumPy\nVersion: 99.0\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path, str(hidden.parent)])
    monkeypatch.setenv("PIP_CONSTRAINT", "")
    installer.absent |= {"torch", "safetensors"}
    agree()
    assert status_after_click(panel) == "started"
    assert len(installer.constraints) == 2, "pip and the PyTorch extension"
    for text in installer.constraints:
        kept = dict(line.lower().split("==") for line in text.splitlines())
        for name in ("numpy", "scipy", "simpleitk", "pydicom"):
            assert kept[name] == importlib.metadata.version(name)
        assert len(kept) == len(text.splitlines())
        assert not {"torch", "safetensors", "pip"} & set(kept)
    assert os.environ["PIP_CONSTRAINT"] == "" and files_of_runs() == []


def test_an_early_pytorch_extension_is_asked_for_what_it_knows(panel, installer, agree, monkeypatch):
    class Early:
        def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
            return installer.installTorch(False, None, torchVersionRequirement)

    monkeypatch.setattr(sys.modules["PyTorchUtils"], "PyTorchUtilsLogic", Early)
    installer.absent.add("torch")
    agree()
    assert status_after_click(panel) == "started"
    assert installer.calls == [(">=2.2.2", None)]


# Versions of PyTorch


@pytest.mark.parametrize("version", ["2.1.2+cu118", "1.13.1", "2.2.1"])
def test_torch_that_is_too_old_is_told(panel, installer, version):
    installer.versions["torch"] = version
    text = status_after_click(panel)
    assert version in text and "2.2.2" in text and "uninstall" in text and installer.calls == []


@pytest.mark.parametrize("version", ["2.2.2", "2.3.0", "2.14.1+cpu", "3.0", "2.10.0a0+git1234"])
def test_later_versions_of_torch_do(panel, installer, version):
    installer.versions["torch"] = version
    assert status_after_click(panel) == "started"


def test_without_the_pytorch_extension_one_sentence_says_what_to_do(panel, installer, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    installer.absent |= {"torch", "pydantic"}
    text = status_after_click(panel)
    assert "extension PyTorch" in text and "Extensions Manager" in text
    assert installer.calls == [] and panel.ui.applyButton.enabled


def test_a_folder_that_an_uninstallation_left_is_no_torch(panel, installer, agree, monkeypatch):
    left = types.SimpleNamespace(origin=None)
    monkeypatch.setattr(installer, "absent", {"torch"})
    from H3DELandmarksPanel import Dependencies

    monkeypatch.setattr(
        Dependencies, "find_spec", lambda name: left if name in installer.absent else installer.find_spec(name)
    )
    agree()
    assert status_after_click(panel) == "started" and installer.calls == [(">=2.2.2", ">=0.17")]


# Failures


@pytest.mark.parametrize("package", ["torch", "pydantic"])
@pytest.mark.parametrize(("online", "word"), [(True, "disk space"), (False, "network")])
def test_a_failed_installation_is_told(panel, installer, agree, monkeypatch, package, online, word):
    from H3DELandmarksPanel import Dependencies

    monkeypatch.setattr(Dependencies, "_canReachIndex", lambda: online)
    installer.absent.add(package)
    installer.fails_at = package
    agree()
    text = status_after_click(panel)
    assert word in text and "start again" in text and panel.ui.applyButton.enabled
    assert "PIP_CONSTRAINT" not in os.environ and os.listdir(slicer.app.temporaryPath) == []
    installer.fails_at = None
    agree()
    assert status_after_click(panel) == "started"


def test_what_cannot_be_used_after_its_installation_is_told(panel, installer, agree, monkeypatch):
    monkeypatch.setattr(slicer.util, "pip_install", lambda requirements: None)
    installer.absent.add("pydantic")
    agree()
    assert "restart Slicer" in status_after_click(panel)


# Meanwhile


def start_buttons(panel):
    """All buttons that start something, or change models and cases."""
    ui = panel.learning.ui
    return {
        panel.ui.applyButton,
        ui.addCaseButton,
        ui.checkButton,
        ui.retrainButton,
        ui.resumeButton,
        ui.compareModelsButton,
        ui.promoteButton,
        ui.overrideButton,
        ui.revertButton,
        ui.shareButton,
        ui.addPackageButton,
        ui.rankButton,
    }


@pytest.mark.parametrize("package", ["torch", "pydantic"])
def test_clicking_again_during_the_installation_starts_nothing(panel, installer, agree, package, tmp_path, scene):
    click(panel.learning.ui.nextCaseSection)
    type_path(panel.learning.ui.scansPath, tmp_path)
    assert panel.learning.ui.rankButton.enabled and panel.learning.ui.shareButton.enabled
    installer.absent.add(package)
    agree()
    seen = []

    def click_again():
        seen.append((panel.ui.statusLabel.text, [button for button in start_buttons(panel) if button.enabled]))
        for button in start_buttons(panel):
            button.click()
        add_volume("another")  # what happens in the scene offers nothing either
        panel.enter()
        seen.append((panel.ui.statusLabel.text, [button for button in start_buttons(panel) if button.enabled]))
        with pytest.raises(InputError, match="being installed"):
            panel.context.ensureDependencies(panel.ui.statusLabel)

    installer.meanwhile = click_again
    click(panel.ui.applyButton)
    title = {"torch": "PyTorch", "pydantic": "pydantic"}[package]
    assert seen == [(f"Installing {title}, this takes some minutes.", [])] * 2
    assert len(installer.calls) == 1 and panel.detection.run is not None
    click(panel.ui.cancelButton)
    assert panel.ui.applyButton.enabled and panel.learning.ui.addPackageButton.enabled
    assert files_of_runs() == []


def test_a_scene_that_is_closed_during_the_installation_is_told(panel, installer, agree, scene):
    installer.absent.add("torch")
    agree()
    installer.meanwhile = lambda: scene.Clear(False)
    click(panel.ui.applyButton)
    assert panel.detection.run is None and panel.ui.statusLabel.text == "Load and choose a volume first."
    assert os.listdir(slicer.app.temporaryPath) == []


def test_inputs_are_read_again_after_the_installation(panel, installer, agree, scene):
    installer.absent.add("torch")
    agree()
    first = panel.ui.volumeSelector.currentNode()

    def change():
        panel.ui.volumeSelector.setCurrentNode(add_volume("chosen meanwhile"))
        scene.RemoveNode(first)

    installer.meanwhile = change
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    assert panel.ui.pointListSelector.currentNode().GetName().startswith("chosen meanwhile")


def test_a_panel_that_is_closed_during_the_installation_stays_quiet(panel, installer, agree):
    installer.absent.add("torch")
    agree()
    installer.meanwhile = panel.cleanup
    click(panel.ui.applyButton)
    assert panel.detection.run is None and os.listdir(slicer.app.temporaryPath) == []


@pytest.mark.parametrize("button", ["shareButton", "addPackageButton", "rankButton"])
def test_every_action_that_needs_packages_asks_for_them(panel, installer, answer, button, tmp_path):
    ui = panel.learning.ui
    for section in (ui.nextCaseSection, ui.promotionSection):
        click(section)
    type_path(ui.scansPath, tmp_path)
    installer.absent |= {"torch", "pydantic"}
    questions = answer(QMessageBox.StandardButton.Cancel)
    click(getattr(ui, button))
    assert len(questions) == 1 and installer.calls == []
    label = ui.rankLabel if button == "rankButton" else ui.versionsStatusLabel
    assert "agree to the installation" in label.text
