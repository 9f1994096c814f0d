"""Comparing, promoting, going back and sharing by clicks, with a model that was really retrained."""

import json
import shutil
import zipfile

import pytest
import qt
from operating import click, columns_of, in_dialog, press, type_path, wait_until
from PySide6.QtTest import QTest
from scene_voxels import write_heads

from H3DELandmarksLib.cases import create_project
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import MissingDependencyError
from H3DELandmarksLib.models import find_model


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """A folder with cases of heads, and two retrainings of the tiny model: a good one, a hasty one."""
    folder = tmp_path_factory.mktemp("trained")
    write_heads(create_project(folder / "heads", tiny.scheme), 10)
    with pytest.MonkeyPatch.context() as patch:
        (folder / "models").mkdir()
        shutil.copytree(tiny.path, folder / "models" / "tiny")
        patch.setenv("H3DE_MODELS", str(folder / "models"))
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        for number, steps, share in ((1, 1, 0.2), (2, 40, 0.5)):
            run = folder / "heads-runs" / f"run-{number:03d}"
            assert (
                main(
                    [
                        "train",
                        "--from-cases",
                        str(folder / "heads"),
                        "--base-model",
                        "tiny",
                        "--output",
                        str(run),
                        "--steps",
                        str(steps),
                        "--held-out",
                        str(share),
                        "--device",
                        "cpu",
                    ]
                )
                == 0
            )
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the cases with their retrainings."""
    shutil.copytree(trained / "heads-runs", tmp_path / "heads-runs")
    return shutil.copytree(trained / "heads", tmp_path / "heads")


@pytest.fixture
def panel(open_panel, tiny_model, scene, folder):
    """The panel with the section open."""
    panel = open_panel()
    click(panel.learning.ui.casesSection)
    type_path(panel.learning.ui.casesPath, folder)
    click(panel.learning.ui.promotionSection)
    return panel


def rows(table):
    return [tuple(table.item(r, c).text() for c in range(table.columnCount)) for r in range(table.rowCount)]


def choose_run(panel, number):
    """The newest is the first."""
    panel.learning.ui.runSelector.setCurrentIndex(2 - number)


def compare(panel):
    ui = panel.learning.ui
    click(ui.compareModelsButton)
    assert ui.cancelCompareModelsButton.enabled and ui.compareModelsProgressBar.visible
    longest = wait_until(lambda: not panel.learning.promotion.progress.isRunning)
    assert longest < 0.2, f"the panel was blocked for {longest:.3f} s"


def versions(panel):
    return [row[:2] for row in rows(panel.learning.ui.versionsTable)]


@pytest.mark.slow
def test_a_better_model_is_compared_promoted_and_taken_back(panel, folder, tiny_model):
    ui = panel.learning.ui
    assert ui.runSelector.count == 2 and ui.runSelector.currentText.startswith("tiny 1.")
    assert not ui.promoteButton.enabled and ui.promoteButton.toolTip == "Compare the models first."
    assert versions(panel) == [("1.0.0", "yes")]
    assert not ui.revertButton.enabled and ui.revertButton.toolTip == "There is only one version of this model."
    compare(panel)
    assert columns_of(ui.promotionTable) == ["Landmark", "In use (mm)", "New (mm)", "Better by (mm)"]
    table = rows(ui.promotionTable)
    assert [row[0] for row in table] == ["All landmarks", "Left", "Middle", "Right"]
    assert float(table[0][1]) > float(table[0][2]) and table[0][3].startswith("+")
    assert ui.promotionLabel.text.startswith("The new model is better by"), ui.promotionLabel.text
    assert "The new model can be used." in ui.promotionLabel.text
    assert not ui.overrideReasonEdit.enabled

    click(ui.promoteButton)
    new = find_model("tiny")
    assert new.version != "1.0.0" and versions(panel) == [(new.version, "yes"), ("1.0.0", "")]
    assert ui.promotionLabel.text == f"Tiny model {new.version} is in use from now on."
    assert panel.detection.models.chosenKey() == f"tiny@{new.version}", "detection uses it"
    assert not ui.promoteButton.enabled and ui.promoteButton.toolTip == "This model is in use already."

    assert ui.revertButton.text == "Go back to the previous version"
    click(ui.revertButton)
    assert find_model("tiny").version == "1.0.0" and panel.detection.models.chosenKey() == "tiny@1.0.0"
    assert ui.versionsStatusLabel.text == "Tiny model 1.0.0 is in use from now on."
    table = qt.unwrapped(ui.versionsTable)
    press(table.viewport(), table.visualItemRect(table.item(0, 0)).center())
    assert ui.revertButton.text == f"Use version {new.version}"
    click(ui.revertButton)
    assert find_model("tiny").version == new.version and versions(panel)[0] == (new.version, "yes")


@pytest.mark.slow
def test_after_a_comparison_the_retrainings_are_those_of_the_folder_that_is_chosen(panel, folder, tmp_path):
    ui = panel.learning.ui
    click(ui.compareModelsButton)
    type_path(ui.casesPath, tmp_path / "other")
    assert not ui.promoteButton.enabled
    click(ui.cancelCompareModelsButton)
    assert ui.runSelector.count == 0 and not ui.promoteButton.enabled and not ui.overrideButton.enabled
    type_path(ui.casesPath, folder)
    assert ui.runSelector.count == 2


@pytest.mark.slow
def test_a_model_that_is_not_shown_to_be_better_needs_a_reason(panel, folder):
    ui = panel.learning.ui
    choose_run(panel, 1)
    compare(panel)
    assert "Better keep the model in use." in ui.promotionLabel.text and "too few" in ui.promotionLabel.text
    assert not ui.promoteButton.enabled and "advises against it" in ui.promoteButton.toolTip
    assert ui.overrideReasonEdit.enabled and not ui.overrideButton.enabled
    assert ui.overrideButton.toolTip == "Write down your reason first."
    choose_run(panel, 2)
    assert ui.promotionLabel.text == "" and not ui.promotionTable.visible, "it has not been compared"
    choose_run(panel, 1)
    assert "Better keep the model in use." in ui.promotionLabel.text, "the comparison is kept with the run"
    QTest.keyClicks(qt.unwrapped(ui.overrideReasonEdit), "A trial")
    click(ui.overrideButton)
    assert ui.promotionLabel.text.endswith("is in use from now on.") and ui.overrideReasonEdit.text == ""
    assert "Used against the advice: A trial" in ui.versionsTable.item(0, 0).toolTip()
    click(ui.revertButton)
    assert "advises against it" in ui.promoteButton.toolTip, "compared with the version that is in use again"


def test_a_comparison_is_made_again_in_the_place_of_the_one_before(panel, folder):
    choose_run(panel, 1)
    compare(panel)
    verdict, file = panel.learning.ui.promotionLabel.text, folder.parent / "heads-runs" / "run-001" / "comparison.json"
    file.write_bytes(file.read_bytes() + b" ")
    written = file.read_bytes()
    compare(panel)
    assert panel.learning.ui.promotionLabel.text == verdict and file.read_bytes() != written


def test_a_comparison_is_cancelled(panel):
    ui = panel.learning.ui
    click(ui.compareModelsButton)
    click(ui.cancelCompareModelsButton)
    assert ui.promotionLabel.text == "Cancelled." and ui.compareModelsButton.enabled and not ui.promotionTable.visible


def test_a_damaged_candidate_is_told_in_one_sentence(panel, folder):
    ui = panel.learning.ui
    for path in (folder.parent / "heads-runs" / "run-002" / "package").glob("*.safetensors"):
        path.write_bytes(b"nonsense")
    QTest.keyClicks(qt.unwrapped(ui.overrideReasonEdit), "A trial")
    click(ui.overrideButton)
    assert ui.promotionLabel.text and "Traceback" not in ui.promotionLabel.text
    assert versions(panel) == [("1.0.0", "yes")]


def test_without_a_finished_training_the_buttons_say_so(panel, tmp_path):
    ui = panel.learning.ui
    panel.learning.cases.onFolderChosen(str(tmp_path / "new"))
    for button in (ui.compareModelsButton, ui.promoteButton, ui.overrideButton):
        assert not button.enabled and button.toolTip == "Retrain a model first."


def test_a_model_is_shared_as_a_file(panel, tmp_path):
    ui = panel.learning.ui
    in_dialog(ui.shareButton, None)
    assert ui.versionsStatusLabel.text == ""
    in_dialog(ui.shareButton, tmp_path / "for others")
    file = tmp_path / "for others.zip"
    assert ui.versionsStatusLabel.text.startswith(f"Written: {file}.")
    with zipfile.ZipFile(file) as content:
        assert json.loads(content.read("manifest.json"))["id"] == "tiny"
    in_dialog(ui.shareButton, tmp_path / "no" / "such" / "folder.zip")
    assert "Traceback" not in ui.versionsStatusLabel.text and ui.versionsStatusLabel.text


def test_packages_that_are_missing_are_installed_first(panel, monkeypatch):
    from H3DELandmarksPanel import PanelContext

    def decline(*_, **__):
        raise MissingDependencyError("declined")

    monkeypatch.setattr(PanelContext, "ensureDependencies", decline)
    ui = panel.learning.ui
    QTest.keyClicks(qt.unwrapped(ui.overrideReasonEdit), "A trial")
    click(ui.overrideButton)
    assert ui.promotionLabel.text == "declined" and versions(panel) == [("1.0.0", "yes")]
    for button in (ui.shareButton, ui.addPackageButton):
        ui.versionsStatusLabel.text = ""
        click(button)  # no file is asked for
        assert ui.versionsStatusLabel.text == "declined"


def test_a_model_of_another_site_is_added_and_can_be_used(panel, tmp_path, tiny_model):
    ui = panel.learning.ui
    in_dialog(ui.shareButton, tmp_path / "tiny.zip")
    shutil.rmtree(tiny_model)
    panel.learning.onModelsChanged()
    assert versions(panel) == []
    in_dialog(ui.addPackageButton, tmp_path / "tiny.zip")
    assert ui.versionsStatusLabel.text == "Tiny model 1.0.0 was added."
    assert versions(panel) == [("1.0.0", "yes")] and panel.detection.models.chosenKey() == "tiny@1.0.0"
    in_dialog(ui.addPackageButton, tmp_path / "tiny.zip")
    assert ui.versionsStatusLabel.text == "Tiny model 1.0.0 was here already."
    (tmp_path / "bad.zip").write_bytes(b"PK nonsense")
    in_dialog(ui.addPackageButton, tmp_path / "bad.zip")
    assert "bad.zip" in ui.versionsStatusLabel.text and "Traceback" not in ui.versionsStatusLabel.text
