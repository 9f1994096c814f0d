"""Landmarks that no model knows, from corrected cases, by clicks in the panel."""

import numpy as np
import pytest
import qt
import slicer.util
from example_projects import project_of_blobs
from example_scans import bent, marked, picture_of, still
from operating import bring_tab, choose, click, create_node, type_path, wait_until

from H3DELandmarksLib.cases import ReviewState, open_project
from H3DELandmarksLib.scene import landmarks_from_point_list, provenance_of_list

pytestmark = pytest.mark.usefixtures("shared_program")

MOVE = bent(2)


def add_scan(name="next", axes=2, move=MOVE, seed=0):
    """A scan of blobs in the scene."""
    volume = picture_of(axes, move, seed)
    to_ras = np.diag([-1, -1, 1, 1]) @ volume.affine
    return slicer.util.addVolumeFromArray(np.ascontiguousarray(volume.array.T), ijkToRAS=to_ras, name=name)


@pytest.fixture
def folder(tmp_path):
    """A folder with two cases, whose landmarks no model finds."""
    return project_of_blobs(tmp_path / "my points", 2).folder


@pytest.fixture
def panel(open_panel, tiny_model, scene, folder):
    """The panel with one model, a scan, and the folder of the cases typed."""
    add_scan()
    panel = open_panel()
    type_folder(panel, folder)
    return panel


def type_folder(panel, folder):
    """Type the path of the cases, and go back to the detection."""
    bring_tab(qt.unwrapped(panel.learning.ui.casesPath))
    type_path(panel.learning.ui.casesPath, folder)
    bring_tab(qt.unwrapped(panel.ui.modelSelector))


def models_of(panel):
    combo = panel.ui.modelSelector
    return [combo.itemText(row) for row in range(combo.count)]


def detect(panel):
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    return panel.ui.reviewSelector.currentNode()


def test_points_of_cases_are_offered_beside_the_models_with_what_is_known_of_them(panel):
    assert "Your points 'my points' (from 2 examples)" in models_of(panel)
    assert panel.detection.models.chosenPackage().id == "tiny", "nothing is chosen in place of the user"
    choose(panel.ui.modelSelector, "Your points 'my points' (from 2 examples)")
    facts = panel.ui.modelFactsLabel.text
    assert "no model finds" in facts and "unknown" in facts and "disagree" in facts and len(facts.splitlines()) == 3
    assert not panel.ui.modelCardButton.enabled and panel.ui.landmarksButton.text == "All 6"
    assert panel.ui.applyButton.enabled and not panel.batch.ui.batchButton.enabled


def test_the_second_scan_is_detected_reviewed_and_kept_as_the_next_example(panel, folder):
    choose(panel.ui.modelSelector, "Your points 'my points' (from 2 examples)")
    node = detect(panel)
    assert node.GetName() == "next Your points 'my points' (from 2 examples) landmarks"
    assert panel.ui.statusLabel.text.startswith("6 of 6 landmarks found")
    found = landmarks_from_point_list(node)
    assert np.linalg.norm(found.positions - marked(2, MOVE).positions, axis=1).max() < 1.5
    assert (found.radius > 0).all() and np.isnan(found.confidence).all()
    origin = provenance_of_list(node)
    assert origin.model is None and len(origin.examples.cases) == 2 and "from 2 examples" in origin.line()
    assert panel.review.isWaiting
    for _ in range(6):
        if panel.ui.nextButton.enabled:
            click(panel.ui.nextButton)
            click(panel.ui.acceptButton)
    click(panel.learning.ui.addCaseButton)
    wait_until(lambda: not panel.learning.cases.progress.isRunning)
    cases = open_project(folder).cases()
    assert len(cases) == 3
    newest = max((case.revision() for case in cases), key=lambda revision: revision.time)
    assert str(newest.model) == "examples@2" and {p.state for p in newest.landmarks} == {ReviewState.ACCEPTED}
    assert panel.ui.modelSelector.currentText == "Your points 'my points' (from 3 examples)"


def test_one_example_is_enough_and_states_no_radius(open_panel, models, scene, tmp_path):
    add_scan()
    panel = open_panel()
    type_folder(panel, project_of_blobs(tmp_path / "one", 1).folder)
    assert models_of(panel) == ["Your points 'one' (from 1 example)"]
    assert "no radius" in panel.ui.modelFactsLabel.text
    assert np.isnan(landmarks_from_point_list(detect(panel)).radius).all()


def test_of_a_scan_unlike_the_examples_the_panel_says_so_and_shows_no_points(panel):
    panel.ui.volumeSelector.setCurrentNode(add_scan("other", move=still, seed=None))
    choose(panel.ui.modelSelector, "Your points 'my points' (from 2 examples)")
    node = detect(panel)
    assert "does not look like the 2 examples" in panel.ui.statusLabel.text
    assert not landmarks_from_point_list(node).present.any() and not panel.ui.acceptAllButton.enabled


def test_a_volume_and_a_region_are_refused_before_anything_is_searched(panel):
    choose(panel.ui.modelSelector, "Your points 'my points' (from 2 examples)")
    create_node(panel.ui.regionSelector)
    assert not panel.ui.applyButton.enabled and "no region" in panel.ui.applyButton.toolTip
    panel.ui.regionSelector.setCurrentNode(None)
    panel.ui.volumeSelector.setCurrentNode(add_scan("volume", axes=3, move=still))
    assert not panel.ui.applyButton.enabled and "radiographs" in panel.ui.applyButton.toolTip


def test_points_that_a_model_finds_are_not_offered_from_examples(panel, tmp_path, tiny):
    from H3DELandmarksLib.cases import CaseLandmark, create_project

    project = create_project(tmp_path / "known", tiny.scheme)
    places = [CaseLandmark(name, ReviewState.PLACED, (9.0, 9, 0)) for name in tiny.scheme.names]
    project.add(picture_of(2, still), places)
    type_folder(panel, project.folder)
    assert not any("Your points" in text for text in models_of(panel))


def test_another_folder_takes_the_choice_back(panel, tmp_path):
    choose(panel.ui.modelSelector, "Your points 'my points' (from 2 examples)")
    type_folder(panel, tmp_path / "none")
    assert not any("Your points" in text for text in models_of(panel))
    assert panel.detection.models.chosenPackage().id == "tiny" and panel.ui.landmarksButton.text == "All 3"
