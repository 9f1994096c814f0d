"""What to detect and where: landmarks, region, frames of sequences; and how the remaining time is told."""

import json
import shutil

import numpy as np
import pytest
import qt
import slicer
import slicer.util
from operating import add_volume, choose, click, content, create_node, type_path, wait_until
from scene_voxels import write_heads

from H3DELandmarksLib.cases import create_project
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.scene import (
    fit_to_volume,
    landmarks_from_point_list,
    provenance_of_list,
    region_from_node,
    volume_from_node,
)

pytestmark = pytest.mark.usefixtures("shared_program")


@pytest.fixture
def panel(open_panel, tiny_model):
    """The panel with one model and one volume."""
    add_volume()
    return open_panel()


def detect(panel):
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    return panel.ui.pointListSelector.currentNode()


def check(panel, name, checked):
    """Check or uncheck a landmark in the list that is one click away."""
    if not panel.ui.landmarksList.visible:
        click(panel.ui.landmarksButton)
    items = [panel.ui.landmarksList.item(row) for row in range(panel.ui.landmarksList.count)]
    item = next(item for item in items if item.text() == name)
    item.setCheckState(qt.Qt.Checked if checked else qt.Qt.Unchecked)


def add_region(panel, center, size):
    """Create a region in the selector, as a user does, and make it smaller."""
    region = create_node(panel.ui.regionSelector)
    region.SetCenterWorld(*center)
    region.SetSizeWorld(*size)
    return region


def by_command_line(tiny, volume, folder, *options):
    """What the command line finds in a volume node."""
    write_volume(folder / "scan.nrrd", volume_from_node(volume))
    arguments = ["detect", str(folder / "scan.nrrd"), "--model", str(tiny.path), "--output", str(folder)]
    assert main([*arguments, *map(str, options)]) == 0
    return read_markups(folder / "scan.mrk.json")


# Landmarks


def test_all_landmarks_are_chosen_at_first(panel):
    assert panel.ui.landmarksButton.text == "All 3" and not panel.ui.landmarksChoice.visible
    click(panel.ui.landmarksButton)
    items = [panel.ui.landmarksList.item(row) for row in range(panel.ui.landmarksList.count)]
    assert [item.text() for item in items] == ["Left", "Middle", "Right"]
    assert items[0].toolTip() == "the left point"


def test_only_chosen_landmarks_are_reported(panel, tiny, tmp_path):
    check(panel, "Middle", False)
    assert panel.ui.landmarksButton.text == "2 of 3"
    found = landmarks_from_point_list(detect(panel))
    assert panel.ui.statusLabel.text.startswith("2 of 2 landmarks found")
    expected = by_command_line(tiny, panel.ui.volumeSelector.currentNode(), tmp_path)
    assert found.names == ("Left", "Right")
    np.testing.assert_allclose(found.positions, expected.positions[[0, 2]], atol=1e-3)


def test_of_a_scan_of_something_else_the_panel_says_so_and_offers_nothing_to_accept(panel):
    volume = slicer.util.addVolumeFromArray(np.full((20, 22, 24), -1000, np.int16), name="air")
    panel.ui.volumeSelector.setCurrentNode(volume)
    node = detect(panel)
    assert panel.ui.statusLabel.text.startswith("This does not look like")
    assert not landmarks_from_point_list(node).present.any()
    assert panel.ui.reviewStatusLabel.text == "Not recognised: 3." and not panel.ui.acceptAllButton.enabled
    assert provenance_of_list(node).model.id == "tiny" and provenance_of_list(node).scan.file is None


def test_none_and_all(panel):
    click(panel.ui.landmarksButton)
    click(panel.ui.noLandmarksButton)
    assert panel.ui.landmarksButton.text == "0 of 3"
    assert not panel.ui.applyButton.enabled and panel.ui.applyButton.toolTip == "Choose at least one landmark."
    check(panel, "Left", True)
    assert panel.ui.applyButton.enabled
    click(panel.ui.allLandmarksButton)
    assert panel.ui.landmarksButton.text == "All 3"


def test_the_choice_is_kept_with_the_scene(panel, open_panel):
    check(panel, "Right", False)
    panel.cleanup()
    again = open_panel()
    assert again.ui.landmarksButton.text == "2 of 3"
    assert again.detection.landmarks.chosenNames() == ["Left", "Middle"]


def test_the_choice_survives_saving_and_loading(panel, scene, tmp_path):
    check(panel, "Right", False)
    check(panel, "Left", False)
    region = create_node(panel.ui.regionSelector)
    for node in (panel.ui.volumeSelector.currentNode(), region):
        node.AddDefaultStorageNode()
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    scene.Clear(False)
    assert panel.ui.landmarksButton.text == "All 3" and panel.ui.regionSelector.currentNode() is None
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    assert panel.detection.landmarks.chosenNames() == ["Middle"] and panel.ui.landmarksButton.text == "1 of 3"
    assert panel.ui.regionSelector.currentNode() is not None
    assert panel.ui.volumeSelector.currentNode().GetName() == "CBCT 7" and panel.ui.applyButton.enabled


# Region


def test_a_new_region_lies_around_the_volume(panel):
    region = region_from_node(create_node(panel.ui.regionSelector))
    volume = volume_from_node(panel.ui.volumeSelector.currentNode())
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(volume.array.shape) - 1)
    assert region.contains(volume.grid.lps_from_ijk(corners)).all()
    assert panel.ui.regionSelector.currentNode().GetDisplayNode().GetVisibility()


@pytest.mark.parametrize("transformed", [False, True], ids=["plain", "under a transform"])
def test_the_search_is_restricted_to_the_region(open_panel, tiny_model, tiny, tmp_path, transformed):
    volume = add_volume(transformed=transformed)
    panel = open_panel()
    center = np.reshape([*_bounds(volume)], (3, 2)).mean(axis=1)
    region = add_region(panel, center, (26, 22, 24))
    found = landmarks_from_point_list(detect(panel))
    storage = slicer.vtkMRMLMarkupsROIJsonStorageNode()
    storage.SetFileName(str(tmp_path / "roi.mrk.json"))
    assert storage.WriteData(region)
    expected = by_command_line(tiny, volume, tmp_path, "--roi", tmp_path / "roi.mrk.json")
    np.testing.assert_array_equal(found.unknown, expected.unknown)
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-3)
    assert region_from_node(region).contains(found.positions[found.present]).all()
    outside = [name for name, unknown in zip(found.names, found.unknown) if unknown]
    assert ("Not in the region: " + ", ".join(outside) + "." in panel.ui.statusLabel.text) == bool(outside)


def test_a_region_is_laid_around_the_points_under_review_by_one_click(panel, scene):
    assert not panel.ui.regionAroundPointsButton.enabled
    found = landmarks_from_point_list(detect(panel))
    click(panel.ui.regionAroundPointsButton)
    node = panel.ui.regionSelector.currentNode()
    assert node.GetName() == "Region" and panel.parameterNode.region is node
    low, high = (getattr(found.positions[found.present], end)(axis=0) for end in ("min", "max"))
    region = region_from_node(node)
    assert region.contains(np.array([low - 19.9, high + 19.9])).all()
    assert not region.contains(np.array([low - 20.1, high + 20.1])).any()
    count = scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode")
    node.SetCenterWorld(300, 300, 300)
    click(panel.ui.regionAroundPointsButton)
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == count
    np.testing.assert_allclose(region_from_node(node).affine, region.affine)


def test_too_few_points_for_a_region_are_told_and_nothing_is_made(panel, scene):
    points = detect(panel)
    points.UnsetNthControlPointPosition(0)
    before = content(scene)
    click(panel.ui.regionAroundPointsButton)
    assert "needs three points or more" in panel.ui.statusLabel.text
    assert content(scene) == before and panel.ui.regionSelector.currentNode() is None


def test_a_region_is_an_outline_that_belongs_to_its_volume(panel, scene):
    region = create_node(panel.ui.regionSelector)
    display = region.GetDisplayNode()
    assert not display.GetFillVisibility() and display.GetOutlineVisibility() and display.GetVisibility()
    first, other = panel.ui.volumeSelector.currentNode(), add_volume("other")
    panel.ui.volumeSelector.setCurrentNode(other)
    assert panel.ui.regionSelector.currentNode() is None and not region.GetDisplayVisibility()
    panel.ui.volumeSelector.setCurrentNode(first)
    panel.ui.regionSelector.setCurrentNode(region)
    assert panel.parameterNode.region is region


@pytest.mark.parametrize("source", ["panel", "markups"])
def test_a_region_belongs_to_the_volume_that_it_was_chosen_for(panel, scene, source):
    ui, other = panel.ui, add_volume("other")
    first = ui.volumeSelector.currentNode()
    if source == "panel":
        region = create_node(ui.regionSelector)
    else:
        region = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "mine")
        region.SetSize(20, 20, 20)
        ui.regionSelector.setCurrentNode(region)
    for volume in (other, first):
        ui.volumeSelector.setCurrentNode(volume)
        assert panel.parameterNode.region is None
        ui.regionSelector.setCurrentNode(region)  # on purpose
        assert panel.parameterNode.region is region


@pytest.mark.parametrize("others", [0, 1])
def test_a_region_goes_with_its_volume(panel, scene, others):
    for _ in range(others):
        add_volume("other")
    region = create_node(panel.ui.regionSelector)
    scene.RemoveNode(panel.ui.volumeSelector.currentNode())
    slicer.app.processEvents()
    assert panel.parameterNode.region is None and not region.GetDisplayVisibility()


def test_a_region_that_was_chosen_first_belongs_to_the_volume_that_is_chosen_next(open_panel, tiny_model, scene):
    panel = open_panel()
    region = create_node(panel.ui.regionSelector)
    first = add_volume("first")
    panel.ui.volumeSelector.setCurrentNode(first)
    assert panel.parameterNode.region is region
    panel.ui.volumeSelector.setCurrentNode(add_volume("second"))
    assert panel.parameterNode.region is None


def test_a_region_that_misses_the_volume_is_warned_of_until_it_lies_well(panel, scene):
    region = add_region(panel, (900, 900, 900), (10, 10, 10))
    assert "outside the scan" in panel.ui.applyWhy.text and panel.ui.applyButton.enabled
    fit_to_volume(region, panel.ui.volumeSelector.currentNode())
    assert panel.ui.applyWhy.text == ""


def test_a_region_beside_the_volume_is_told(panel, scene):
    add_region(panel, (900, 900, 900), (10, 10, 10))
    before = content(scene)
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    assert "The region of interest lies outside the scan" in panel.ui.statusLabel.text
    assert content(scene) == before


def test_a_flat_region_is_told(panel):
    add_region(panel, (0, 0, 0), (10, 0, 10))
    click(panel.ui.applyButton)
    assert panel.ui.statusLabel.text.startswith("The region of interest has no volume")
    assert not panel.detection.run and panel.ui.applyButton.enabled


def _bounds(volume):
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    return bounds


# What a result looks like


def test_a_result_has_all_that_is_known_about_each_point(panel, tmp_path):
    check(panel, "Middle", False)
    node = detect(panel)
    assert node.GetUndoEnabled() and not node.GetLocked() and node.GetFixedNumberOfControlPoints()
    assert [node.GetNthControlPointDescription(k) for k in range(2)] == ["the left point", "the right point"]
    values = {name: node.GetMeasurement(name).GetControlPointValues() for name in ("confidence", "radius90")}
    assert [values["radius90"].GetValue(k) for k in range(2)] == [1.0, 3.0]
    assert all(0 <= values["confidence"].GetValue(k) <= 1 for k in range(2))
    assert node.GetDisplayNode().GetVisibility2D() and node.GetDisplayNode().GetVisibility3D()
    storage = slicer.vtkMRMLMarkupsJsonStorageNode()
    storage.SetFileName(str(tmp_path / "points.mrk.json"))
    assert storage.WriteData(node)
    saved = json.loads((tmp_path / "points.mrk.json").read_text(encoding="utf-8"))["markups"][0]
    assert [m["name"] for m in saved["measurements"]] == ["presence", "confidence", "radius90"]


def test_a_result_is_ready_for_review(panel):
    node = detect(panel)
    assert panel.ui.reviewSelector.currentNode() is node and panel.ui.reviewTable.rowCount == 3
    click(panel.ui.nextButton)
    assert panel.ui.definitionLabel.text
    click(panel.ui.acceptButton)
    again = detect(panel)
    assert again is not node, "a reviewed list is kept"
    assert panel.ui.reviewSelector.currentNode() is again and not panel.ui.undoButton.enabled


def test_detecting_again_replaces_an_untouched_result_and_its_review(panel):
    node = detect(panel)
    assert detect(panel) is node
    assert panel.ui.reviewTable.rowCount == 3 and not panel.ui.undoButton.enabled


# Sequences


@pytest.fixture
def browser(scene):
    """A browser of a sequence with two frames, and nothing else."""
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "heart")
    for k in range(2):
        frame = add_volume("frame")
        slicer.util.arrayFromVolume(frame)[:] += np.int16(100 * k)
        sequence.SetDataNodeAtValue(frame, str(k))
        scene.RemoveNode(frame)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.app.logics["Sequences"].UpdateAllProxyNodes()
    browser.GetProxyNode(sequence).SetName("heart")
    return browser


def test_sequences_are_searched_in_the_current_frame(open_panel, tiny_model, tiny, tmp_path, browser):
    panel = open_panel()
    volume = browser.GetProxyNode(browser.GetMasterSequenceNode())
    browser.SetSelectedItemNumber(1)
    assert panel.ui.volumeSelector.currentNode() is volume
    expected = by_command_line(tiny, volume, tmp_path)
    click(panel.ui.applyButton)
    browser.SetSelectedItemNumber(0)  # while the detection runs
    wait_until(lambda: not panel.detection.run)
    node = panel.ui.reviewSelector.currentNode()
    assert node.GetName() == "heart time 1 s Tiny model landmarks"
    np.testing.assert_allclose(landmarks_from_point_list(node).positions, expected.positions, atol=1e-3)
    first = detect(panel)
    assert first is not node and first.GetName() == "heart time 0 s Tiny model landmarks"


# Remaining time


def test_the_remaining_time_is_told_once_it_is_known(module):
    from H3DELandmarksPanel.CommandRun import remainingSeconds, remainingText

    assert remainingSeconds(1.0, 0.5) is None, "too early"
    assert remainingSeconds(30.0, 0.01) is None and remainingSeconds(30.0, None) is None
    assert remainingSeconds(30.0, 1.0) is None
    assert remainingSeconds(30.0, 0.25) == pytest.approx(90)
    assert [remainingText(s) for s in (None, 0.2, 41.6, 150)] == [
        "",
        "about 1 s left",
        "about 42 s left",
        "about 2 min left",
    ]


def test_stage_and_remaining_time_are_shown(panel, monkeypatch):
    from H3DELandmarksPanel.CommandRun import DetectionRun

    monkeypatch.setattr(DetectionRun, "remaining", property(lambda run: 41.6 if run.fraction else None))
    click(panel.ui.applyButton)
    wait_until(lambda: panel.detection.run is None or panel.detection.run.fraction)
    if panel.detection.run:
        assert panel.ui.statusLabel.text.endswith(", about 42 s left") and panel.ui.progressBar.maximum == 100
    wait_until(lambda: not panel.detection.run)
    assert "left" not in panel.ui.statusLabel.text


def test_a_warning_of_the_child_is_told_in_one_line(panel, tmp_path, monkeypatch):
    """For example that a graphics card ran out of memory and the CPU goes on."""
    warned = "The cuda device ran out of memory: continuing on the CPU."
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import logging, sys, threading\n"
        "def warn():\n"
        "    logger = logging.getLogger('H3DELandmarksLib.detection')\n"
        "    if logging.getLogger('H3DELandmarksLib').handlers:\n"
        f"        logger.warning({warned!r})\n"
        "    else:\n"
        "        threading.Timer(0.01, warn).start()\n"
        "if any('worker' in word for word in sys.orig_argv):\n"  # not in the one that reads scans
        "    threading.Timer(0.01, warn).start()\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    node = detect(panel)
    assert panel.ui.statusLabel.text == f"3 of 3 landmarks found, see the point list '{node.GetName()}'. {warned}"


# Which model


@pytest.fixture
def coarse_and_fine(models, tiny):
    """A model for voxels of any size, and before it by name one for micro-CT only."""
    for name, limit in (("fine", 0.001), ("tiny", 100.0)):
        shutil.copytree(tiny.path, models / name)
        manifest = json.loads((models / name / "manifest.json").read_text())
        manifest |= {"id": name, "title": f"{name.title()} model", "max_spacing_mm": limit}
        (models / name / "manifest.json").write_text(json.dumps(manifest))


def offered(panel):
    return [panel.ui.modelSelector.itemText(row) for row in range(panel.ui.modelSelector.count)]


def test_models_that_cannot_fit_the_volume_come_last_with_the_reason(open_panel, coarse_and_fine):
    panel = open_panel()
    assert offered(panel) == ["Fine model", "Tiny model"]
    add_volume()
    panel.enter()
    assert offered(panel) == ["Tiny model", "Fine model - not for this volume"]
    assert panel.ui.modelSelector.currentText == "Tiny model"
    assert panel.parameterNode.model == "tiny@1.0.0"
    assert "0.001 mm" in panel.ui.modelSelector.itemData(1, qt.Qt.ToolTipRole)


def test_models_of_one_title_can_be_told_apart(open_panel, models, tiny, tmp_path):
    for name in ("tiny-clinic", "tiny-other"):
        shutil.copytree(tiny.path, models / name)
        manifest = models / name / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"id": "tiny"', f'"id": "{name}"'))
    write_heads(create_project(tmp_path / "heads", tiny.scheme), 1)
    panel = open_panel()
    assert offered(panel) == ["Tiny model [tiny-clinic]", "Tiny model [tiny-other]"]
    ui = panel.learning.ui
    listed = [ui.versionsSelector.itemText(row) for row in range(ui.versionsSelector.count)]
    assert listed == offered(panel)
    click(ui.casesSection)
    type_path(ui.casesPath, tmp_path / "heads")
    starts = [ui.baseModelSelector.itemText(row) for row in range(ui.baseModelSelector.count)]
    assert len(set(starts)) == 5 and starts[:2] == [f"{title} (1.0.0)" for title in listed]
    choose(ui.baseModelSelector, "Tiny model [tiny-other] (1.0.0)")
    assert panel.learning.retrain._starts[ui.baseModelSelector.currentIndex].key == "tiny-other@1.0.0"


def test_the_last_choice_is_offered_to_the_next_session(open_panel, models, tiny):
    for name in ("first", "second"):
        shutil.copytree(tiny.path, models / name)
        manifest = models / name / "manifest.json"
        manifest.write_text(
            manifest.read_text().replace('"id": "tiny"', f'"id": "{name}"').replace("Tiny", name.title())
        )
    add_volume()
    panel = open_panel()
    assert panel.ui.modelSelector.currentText == "First model"
    choose(panel.ui.modelSelector, "Second model")
    panel.parameterNode.model = ""
    panel.cleanup()
    assert open_panel().ui.modelSelector.currentText == "Second model"
