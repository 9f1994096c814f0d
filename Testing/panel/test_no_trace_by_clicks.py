"""What the user has set up is there again when a review ends, and the main job is two clicks and a key a landmark."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
import slicer.util
import views
from operating import add_volume, choose, click, content, press_key, wait_until
from test_review_by_clicks import FOUND, click_row, rows

from H3DELandmarksLib.scene import show_detection

pytestmark = pytest.mark.usefixtures("shared_program")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def three_d(app):
    """Slicer's 3D view."""
    return views.ThreeDView()


@pytest.fixture
def set_up(scene, red, three_d):
    """A scan with points, and views as a user has them: zoomed, turned, in another window, with a list out of sight."""
    volume = add_volume("A", shape=(40, 44, 48))
    points = show_detection(FOUND, volume, "tiny@1.0.0", "points", pairs=[("L", "R")])
    other = show_detection(FOUND, volume, "tiny@1.0.0", "others")
    hidden = show_detection(FOUND, volume, "tiny@1.0.0", "hidden")
    hidden.SetDisplayVisibility(False)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    display = volume.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(777, 55)
    red.node.SetFieldOfView(170, 170, 1)
    red.node.JumpSliceByCentering(3, 4, 5)
    camera = scene.GetFirstNodeByClass("vtkMRMLCameraNode")
    camera.SetPosition(250, 310, 40)
    camera.SetFocalPoint(3, 2, 1)
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    interaction.SetCurrentInteractionMode(interaction.AdjustWindowLevel)
    selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    selection.SetReferenceActivePlaceNodeClassName(other.GetClassName())
    selection.SetActivePlaceNodeID(other.GetID())
    return points, other, hidden


def user_made(scene):
    """The scene as a file would hold it, without what a review decides: points, and choices in the panel."""
    parts = re.findall(r"<(\w+)\b(.*?)/?>", content(scene), re.DOTALL)
    kept = [
        part
        for part in parts
        if part[0] not in ("ScriptedModule", "SubjectHierarchy", "MarkupsFiducial", "Interaction")
    ]
    computed = r" (id|scalarRange)=\"[^\"]*\""  # the range of a list's points, as Slicer makes it up
    return [f"{kind} {re.sub(computed, '', words)}" for kind, words in kept]


def looks(scene, red):
    camera = scene.GetFirstNodeByClass("vtkMRMLCameraNode")
    plane = slicer.util.arrayFromVTKMatrix(red.node.GetSliceToRAS()).ravel()
    return np.array(
        [*red.node.GetFieldOfView(), *plane, *camera.GetPosition(), *camera.GetFocalPoint(), *camera.GetViewUp()]
    )


def mouse(scene):
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    return interaction.GetCurrentInteractionMode(), selection.GetActivePlaceNodeID()


def visible(lists):
    return [bool(node.GetDisplayVisibility()) for node in lists]


def choose_no_list(panel):
    panel.ui.reviewSelector.setCurrentNode(None)


def leave(panel):
    panel.exit()


def review_everything(panel, red):
    """Look, window, accept, place, mark absent: whatever changes the views."""
    ui = panel.ui
    click_row(panel, "middle")
    click(ui.teethButton)
    click(ui.acceptButton)
    click_row(panel, "gone")
    click(ui.placeButton)
    red.render()
    red.click((200, 200))
    click_row(panel, "é")
    click(ui.placeButton)
    click(ui.placeButton)
    click(ui.softButton)


@pytest.mark.parametrize("end", [choose_no_list, leave])
@pytest.mark.parametrize("number", [0, 2], ids=["in sight", "hidden"])
def test_everything_is_as_it_was(open_panel, tiny_model, scene, red, set_up, end, number):
    before, looked, did, seen = user_made(scene), looks(scene, red), mouse(scene), visible(set_up)
    panel = open_panel()
    panel.ui.reviewSelector.setCurrentNode(set_up[number])
    assert mouse(scene) == did, "the mouse places points of the user's list, not marks"
    review_everything(panel, red)
    during = looks(scene, red)
    assert np.abs(during - looked).max() > 1 and visible(set_up) == [k == number for k in range(3)]
    end(panel)
    np.testing.assert_allclose(looks(scene, red), looked, atol=1e-6)
    assert mouse(scene) == did and visible(set_up) == seen
    after = user_made(scene)
    assert [line for line in after if line not in before] == []
    assert len(after) == len(before)
    if end is leave:
        panel.enter()
        np.testing.assert_allclose(looks(scene, red), during, atol=1e-6)


def test_saving_the_scene_does_not_disturb_the_look(open_panel, tiny_model, scene, red, set_up, tmp_path):
    panel = open_panel()
    panel.ui.reviewSelector.setCurrentNode(set_up[0])
    click_row(panel, "middle")
    looked = looks(scene, red)
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    np.testing.assert_allclose(looks(scene, red), looked, atol=1e-6)


def test_another_mode_of_the_mouse_that_the_user_takes_while_placing_stays(open_panel, tiny_model, scene, set_up):
    panel = open_panel()
    panel.ui.reviewSelector.setCurrentNode(set_up[0])
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    interaction.SwitchToViewTransformMode()
    click_row(panel, "gone")
    click(panel.ui.placeButton)
    interaction.SetCurrentInteractionMode(interaction.AdjustWindowLevel)
    assert not panel.ui.placeButton.checked
    assert interaction.GetCurrentInteractionMode() == interaction.AdjustWindowLevel


@pytest.mark.slow
def test_the_main_job_is_two_clicks_and_a_key_a_landmark(open_panel, models, scene, red, app, tmp_path, monkeypatch):
    import SampleData

    monkeypatch.setattr(app, "defaultScenePath", str(tmp_path))

    shutil.copytree(ROOT / "Resources" / "Models" / "mandibular-molar-phantom", models / "molars")
    app.complete_startup()
    SampleData.SampleDataLogic().downloadSamples("MandibularMolarPhantom")
    panel = open_panel()
    ui = panel.ui
    choose(ui.modelSelector, ui.modelSelector.itemText(0))
    clicks = keys = 0

    click(ui.applyButton)
    clicks += 1
    longest = wait_until(lambda: not panel.isDetecting())
    assert longest < 0.4, f"the panel was blocked for {longest:.3f} s"
    assert len(rows(panel)) == 14 and ui.detectSection.collapsed
    while panel.review.isWaiting:
        press_key(ui.reviewTable, "Space")
        keys += 1
        assert keys <= 14
    window = qt.unwrapped(panel.parent)
    window.resize(420, 700)
    slicer.app.processEvents()
    for widget in (ui.reviewTable, ui.acceptButton, ui.nextButton, ui.exportButton):
        inside = qt.unwrapped(widget)
        corner = inside.mapTo(window, inside.rect().bottomRight())
        assert corner.x() < 420 and corner.y() < 700, "in sight without scrolling"
    click(ui.exportButton)
    clicks += 1
    assert (clicks, keys) == (2, 14)
    assert (tmp_path / "Jaw phantom landmarks" / "Jaw phantom.provenance.json").is_file()
