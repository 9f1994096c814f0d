"""The right node, always: what the panel works with when nodes are removed, renamed, added, loaded or closed."""

import numpy as np
import pytest
import slicer
from operating import add_volume, choose, click, content, create_node, wait_until

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.scene import Review, ReviewState, create_point_list, proposed_landmarks, show_detection
from H3DELandmarksLib.scene.proposal import ATTRIBUTE

pytestmark = pytest.mark.usefixtures("shared_program")

FOUND = LandmarkSet(("a", "b"), [[-14, 6, 9], [-14, 0, 8]], confidence=[0.9, 0.4], radius=[1, 2])


@pytest.fixture
def volume(scene):
    return add_volume()


@pytest.fixture
def truth(scene):
    """The points of an expert, hidden so that they do not give the answer away."""
    node = create_point_list(scene, FOUND, "truth")
    node.SetDisplayVisibility(False)
    return node


@pytest.fixture
def result(volume):
    return show_detection(FOUND, volume, "tiny@1.0.0", "result")


@pytest.fixture
def panel(open_panel, tiny_model, truth, result):
    """The panel with a result under review, and the truth as its reference."""
    panel = open_panel()
    panel.ui.reviewSelector.setCurrentNode(result)
    panel.ui.referenceSelector.setCurrentNode(truth)
    return panel


def written(node):
    """What a person's work and the panel's leave in a point list."""
    return node.GetAttribute(ATTRIBUTE), [node.GetNthControlPointPosition(k) for k in range(2)]


# Removed nodes


@pytest.mark.parametrize("others", [0, 3])
def test_removing_the_reviewed_list_never_puts_another_one_under_review(panel, scene, truth, result, others):
    for k in range(others):
        create_point_list(scene, FOUND, f"other {k}")
    before = written(truth)
    scene.RemoveNode(result)
    slicer.app.processEvents()
    assert panel.parameterNode.reviewList is None and panel.ui.reviewSelector.currentNode() is None
    assert panel.ui.reviewTable.rowCount == 0 and not panel.ui.acceptAllButton.enabled
    assert written(truth) == before and not truth.GetDisplayVisibility()
    assert panel.parameterNode.reference is truth is panel.ui.referenceSelector.currentNode()


def test_removing_by_the_selector_itself_does_not_either(panel, truth, result, volume):
    another = show_detection(FOUND, volume, "tiny@1.0.0", "another")
    panel.ui.referenceSelector.removeEnabled = True
    panel.ui.referenceSelector.setCurrentNode(result)
    panel.ui.referenceSelector.removeCurrentNode()
    assert panel.parameterNode.reviewList is panel.parameterNode.reference is None
    assert written(another)[0] is not None and written(truth)[0] is None


def test_removing_the_reference_leaves_none(panel, scene, truth, result):
    create_point_list(scene, FOUND, "other")
    scene.RemoveNode(truth)
    assert panel.parameterNode.reference is None and panel.ui.referenceSelector.currentNode() is None
    assert panel.parameterNode.reviewList is result
    assert panel.ui.compareButton.toolTip == "Choose a reference point list."


def test_removing_the_result_to_replace_leaves_a_new_one(panel, scene, volume, result):
    other = show_detection(FOUND, volume, "tiny@1.0.0", "other")
    panel.ui.pointListSelector.setCurrentNode(other)
    scene.RemoveNode(other)
    assert panel.parameterNode.pointList is None and panel.ui.pointListSelector.currentNode() is None
    assert panel.parameterNode.reviewList is result


def test_removing_the_region_leaves_the_whole_volume(panel, scene):
    regions = [create_node(panel.ui.regionSelector) for _ in range(2)]
    scene.RemoveNode(regions[1])
    assert panel.parameterNode.region is None and panel.ui.regionSelector.currentNode() is None


def test_removing_the_volume_takes_the_one_that_the_views_show(panel, scene, volume, red):
    add_volume("second")
    shown = add_volume("third")
    slicer.util.setSliceViewerLayers(background=shown)
    scene.RemoveNode(volume)
    assert panel.ui.volumeSelector.currentNode() is shown is panel.parameterNode.inputVolume


def test_removing_what_the_panel_does_not_use_changes_nothing(panel, scene, truth, result, volume):
    scene.RemoveNode(create_point_list(scene, FOUND, "other"))
    scene.RemoveNode(add_volume("other"))
    parameters = panel.parameterNode
    assert (parameters.inputVolume, parameters.reviewList, parameters.reference) == (volume, result, truth)


# Nodes that come, change and go together


def test_renamed_and_added_nodes_leave_the_choices_alone(panel, scene, truth, result, volume):
    click(panel.ui.nextButton)
    click(panel.ui.acceptButton)
    for node in (result, truth, volume):
        node.SetName(f"renamed {node.GetName()}")
    added = create_point_list(scene, FOUND, "added by another module")
    slicer.app.processEvents()
    parameters = panel.parameterNode
    assert (parameters.inputVolume, parameters.reviewList, parameters.reference) == (volume, result, truth)
    assert panel.ui.undoButton.enabled and written(added)[0] is None


def test_a_scene_that_is_added_leaves_the_choices_alone(panel, scene, truth, result, tmp_path):
    other = slicer.vtkMRMLScene()
    other.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "added")
    other.SetURL(str(tmp_path / "other.mrml"))
    assert other.Commit()
    click(panel.ui.nextButton)
    scene.SetURL(str(tmp_path / "other.mrml"))
    assert scene.Import()
    slicer.app.processEvents()
    assert scene.GetFirstNodeByName("added") is not None
    assert panel.ui.reviewSelector.currentNode() is result is panel.parameterNode.reviewList
    assert panel.ui.referenceSelector.currentNode() is truth is panel.parameterNode.reference
    assert written(truth)[0] is None


def test_a_closed_scene_leaves_no_choice(panel, scene):
    scene.Clear(False)
    slicer.app.processEvents()
    parameters = panel.parameterNode
    assert parameters.reviewList is parameters.reference is parameters.pointList is parameters.inputVolume is None
    other = create_point_list(scene, FOUND, "of the next patient")
    assert panel.ui.reviewSelector.currentNode() is None and written(other)[0] is None


def test_another_panel_is_left_alone_by_nodes_of_derived_classes(open_panel, tiny_model, scene, red):
    labels = slicer.util.addVolumeFromArray(
        np.ones((4, 4, 4), np.uint8), name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    colors = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colors")
    slicer.util.setSliceViewerLayers(background=colors, label=labels)
    panel = open_panel()
    assert panel.parameterNode.inputVolume is None and panel.ui.volumeSelector.currentNode() is None
    volume = add_volume("scan")
    slicer.util.setSliceViewerLayers(background=volume)
    assert panel.parameterNode.inputVolume is volume
    scene.RemoveNode(volume)
    assert panel.parameterNode.inputVolume is None and panel.ui.volumeSelector.currentNode() is None


# Nothing is written before a decision


def test_choosing_a_list_writes_nothing_into_it(panel, scene, truth):
    truth.SetDisplayVisibility(True)
    before, when = written(truth), truth.GetMTime()
    panel.ui.referenceSelector.setCurrentNode(None)
    panel.ui.reviewSelector.setCurrentNode(truth)
    click(panel.ui.nextButton)
    click(panel.ui.nextButton)
    assert panel.ui.reviewTable.rowCount == 2 and written(truth) == before and truth.GetMTime() == when
    panel.ui.reviewSelector.setCurrentNode(None)
    assert written(truth) == before


def test_the_first_decision_keeps_the_proposal_and_undo_takes_it_back(panel, truth):
    panel.ui.reviewSelector.setCurrentNode(truth)
    click(panel.ui.nextButton)
    click(panel.ui.acceptButton)
    assert proposed_landmarks(truth) is not None
    assert [p.state for p in Review(truth).by_doubt()].count(ReviewState.ACCEPTED) == 1
    click(panel.ui.undoButton)
    assert written(truth)[0] is None and not panel.ui.undoButton.enabled
    click(panel.ui.redoButton)
    assert [p.state for p in Review(truth).by_doubt()].count(ReviewState.ACCEPTED) == 1


def test_moving_a_point_is_a_decision_about_where_it_was(panel, truth):
    panel.ui.reviewSelector.setCurrentNode(truth)
    truth.SetNthControlPointPosition(0, 14, -6, 12)
    wait_until(lambda: panel.ui.undoButton.enabled, 5)
    np.testing.assert_allclose(proposed_landmarks(truth).positions[0], (-14, 6, 9))
    assert Review(truth).landmark("a").state is ReviewState.MOVED
    click(panel.ui.undoButton)
    assert written(truth)[0] is None
    assert panel.ui.reviewStatusLabel.text.startswith("0 of 2")


def test_removing_a_volume_from_the_scene_of_a_detection_leaves_the_lists(panel, scene, volume, truth, result):
    before = content(scene).count("<MarkupsFiducial")
    scene.RemoveNode(volume)
    assert content(scene).count("<MarkupsFiducial") == before
    assert panel.parameterNode.reviewList is result and panel.parameterNode.reference is truth


# Models


def test_the_versions_are_those_of_the_chosen_retraining(open_panel, models, tiny, tmp_path, monkeypatch):
    import json
    import shutil
    from types import SimpleNamespace

    from H3DELandmarksPanel import PromotionSection
    from H3DELandmarksPanel.CasesFolder import CasesFolder

    for model_id in ("alpha", "beta"):
        folder = shutil.copytree(tiny.path, models / model_id)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest.update(id=model_id, title=f"Model {model_id}")
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    runs = [
        SimpleNamespace(
            folder=tmp_path / model_id,
            record=SimpleNamespace(
                is_done=True, updated="2026-01-02T03:04:05Z", model=SimpleNamespace(id=model_id, version="2.0.0")
            ),
        )
        for model_id in ("beta", "alpha", "gone")
    ]
    monkeypatch.setattr(PromotionSection, "_runText", lambda run: run.record.model.id)
    panel = open_panel()
    ui = panel.learning.ui
    assert ui.versionsSelector.currentText == "Model alpha"
    monkeypatch.setattr(CasesFolder, "runs", lambda folder: runs)
    panel.learning.onRetrained()
    assert ui.runSelector.currentText == "beta" and ui.versionsSelector.currentText == "Model beta"
    choose(ui.versionsSelector, "Model alpha")
    panel.learning.refresh()
    assert ui.versionsSelector.currentText == "Model alpha", "the user's own choice stays"
    choose(ui.runSelector, "alpha")
    choose(ui.runSelector, "beta")
    assert ui.versionsSelector.currentText == "Model beta"
    choose(ui.runSelector, "gone")
    assert ui.versionsSelector.currentText == "Model beta", "a model that is not here has no versions to list"
