"""Comparison with a reference by clicks, and the samples in Slicer's module Sample Data."""

from pathlib import Path

import numpy as np
import pytest
import slicer
from operating import add_volume, click
from PySide6.QtGui import QImage

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.scene import create_point_list, landmarks_from_point_list, show_detection, volume_from_node

pytestmark = pytest.mark.usefixtures("shared_program")

FOUND = LandmarkSet(("a", "b", "c"), [[0, 0, 0], [3, 4, 0], [np.nan] * 3])
TRUTH = LandmarkSet(("a", "b", "c"), [[0, 0, 1], [0, 0, 0], [9, 9, 9]])


@pytest.fixture
def panel(open_panel, tiny_model, scene):
    """The panel with a result and a reference."""
    show_detection(FOUND, add_volume(), "tiny@1.0.0", "found")
    create_point_list(scene, TRUTH, "truth")
    panel = open_panel()
    click(panel.ui.compareSection) if panel.ui.compareSection.collapsed else None
    return panel


def choose_lists(panel, scene, *names):
    for selector, name in zip((panel.ui.reviewSelector, panel.ui.referenceSelector), names):
        selector.setCurrentNode(scene.GetFirstNodeByName(name))


def test_the_button_says_what_is_missing(panel, scene):
    button = panel.ui.compareButton
    panel.ui.reviewSelector.setCurrentNode(None)
    assert not button.enabled and button.toolTip == "Choose a point list to review first."
    assert panel.ui.compareWhy.text == button.toolTip
    choose_lists(panel, scene, "found")
    assert not button.enabled and button.toolTip == "Choose a reference point list."
    choose_lists(panel, scene, "found", "found")
    assert not button.enabled and button.toolTip == "Choose two different point lists."
    choose_lists(panel, scene, "found", "truth")
    assert button.enabled


def test_comparing_shows_figures_tables_and_a_chart(panel, scene):
    choose_lists(panel, scene, "found", "truth")
    click(panel.ui.compareButton)
    assert panel.ui.compareLabel.text == "Mean radial error 3.00 mm over 2 landmarks, 33 % detected within 2 mm."
    table = scene.GetFirstNodeByName("found against truth: errors")
    assert [table.GetCellText(row, 0) for row in range(table.GetNumberOfRows())] == ["a", "b", "c"]
    assert table.GetCellText(2, 2) == "missed"
    chart = scene.GetFirstNodeByName("found against truth: chart")
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActivePlotChartID() == chart.GetID(), "the chart is shown"
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    assert hierarchy.GetItemByDataNode(table) and hierarchy.GetItemByDataNode(chart)
    choose_lists(panel, scene, "truth", "found")
    assert panel.ui.compareLabel.text == "", "figures of other lists are not shown"


def test_a_reference_of_another_volume_is_told(panel, scene):
    show_detection(TRUTH, add_volume("other patient"), "tiny@1.0.0", "of another")
    choose_lists(panel, scene, "found", "of another")
    click(panel.ui.compareButton)
    assert panel.ui.compareLabel.text.endswith("The reference is of another volume, 'other patient'.")


@pytest.mark.parametrize("name", ["found", "truth"])
def test_figures_of_points_that_have_moved_since_are_not_shown(panel, scene, name):
    choose_lists(panel, scene, "found", "truth")
    for place in (5, 7):
        click(panel.ui.compareButton)
        assert panel.ui.compareLabel.text.startswith("Mean radial error")
        scene.GetFirstNodeByName(name).SetNthControlPointPosition(0, place, 0, 0)
        assert "have changed since they were compared" in panel.ui.compareLabel.text


def test_lists_that_share_no_name_are_told(panel, scene):
    create_point_list(scene, LandmarkSet(("x",), [[0, 0, 0]]), "other")
    choose_lists(panel, scene, "found", "other")
    click(panel.ui.compareButton)
    assert panel.ui.compareLabel.text == "The point lists 'found' and 'other' share no name: label the points alike."


# Sample data


@pytest.fixture
def source(module, app):
    """The registered sample."""
    app.complete_startup()
    (source,) = slicer.modules.sampleDataSources["Anatomical Landmarks"]
    return source


def test_the_sample_loads_without_a_network(source, scene):
    import SampleData

    assert all(uri.startswith("file:///") for uri in source.uris)
    volume, reference = SampleData.SampleDataLogic().downloadSamples(source.sampleName)
    assert volume.GetName() == "Jaw phantom" and reference.GetName() == "Jaw phantom reference"
    truth = landmarks_from_point_list(reference)
    assert len(truth) == 14 and volume_from_node(volume).grid.contains(truth.positions[truth.present]).all()


def test_the_sample_has_a_thumbnail_and_checksums(source):
    image = QImage(source.thumbnailFileName)
    assert 64 <= image.width() <= 512 and abs(image.width() - image.height()) <= 1
    assert all(checksum.startswith("SHA256:") and len(checksum) == 71 for checksum in source.checksums)
    assert Path(source.thumbnailFileName).parent.name == "Icons"
