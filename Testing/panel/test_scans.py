"""Scans of all kinds in the panel: two at once, oblique ones, radiographs; the points are the command line's."""

import numpy as np
import pytest
import slicer
import slicer.util
from flat_cases import radiograph
from operating import PARENT, add_volume, choose, click, wait_until
from tiny_model import write_tiny_radiograph_package

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.scene import landmarks_from_point_list, volume_from_node

pytestmark = pytest.mark.usefixtures("shared_program")

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def detect(panel):
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    node = panel.ui.reviewSelector.currentNode()
    assert node is not None, panel.ui.statusLabel.text
    return node


def by_command_line(package, volume, folder):
    """What the command line finds in a library volume."""
    write_volume(folder / "scan.nrrd", volume)
    arguments = ["detect", str(folder / "scan.nrrd"), "--model", str(package.path), "--output", str(folder)]
    assert main(arguments) == 0
    return read_markups(folder / "scan.mrk.json")


def put_under_transform(scene, node, matrix):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def test_each_of_two_volumes_gets_its_own_result(open_panel, tiny_model, tiny, tmp_path):
    first = add_volume("first")
    second = add_volume("second", transformed=True)
    slicer.util.arrayFromVolume(second)[:] = slicer.util.arrayFromVolume(second)[::-1]
    panel = open_panel()
    for k, volume in enumerate((first, second)):
        panel.ui.volumeSelector.setCurrentNode(volume)
        assert panel.ui.pointListSelector.currentNode() is None
        node = detect(panel)
        assert node.GetName() == f"{volume.GetName()} Tiny model landmarks"
        (tmp_path / str(k)).mkdir()
        expected = by_command_line(tiny, volume_from_node(volume), tmp_path / str(k))
        np.testing.assert_allclose(landmarks_from_point_list(node).positions, expected.positions, atol=1e-3)
    panel.ui.volumeSelector.setCurrentNode(first)
    assert panel.ui.pointListSelector.currentNode().GetName() == "first Tiny model landmarks"


def test_the_volume_that_was_chosen_at_the_start_gets_the_result(open_panel, tiny_model, scene):
    add_volume("first")
    panel = open_panel()
    click(panel.ui.applyButton)
    assert not panel.ui.volumeSelector.enabled, "it cannot be changed meanwhile"
    panel.parameterNode.inputVolume = add_volume("second")  # but a script may do so
    wait_until(lambda: not panel.detection.run)
    assert panel.ui.reviewSelector.currentNode().GetName() == "first Tiny model landmarks"


@pytest.mark.parametrize("degrees", [10, 130])
def test_an_oblique_volume_of_any_direction(open_panel, tiny_model, tiny, scene, tmp_path, degrees):
    angle = np.deg2rad(degrees)
    turned = np.array([[np.cos(angle), 0, np.sin(angle)], [0, -1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    geometry = np.eye(4)
    geometry[:3, :3], geometry[:3, 3] = turned * (1.2, 0.9, 2.1), (15, -20, 40)
    assert np.linalg.det(geometry) < 0, "left-handed as well"
    voxels = np.random.default_rng(1).normal(0, 300, (18, 22, 26)).astype(np.int16)
    volume = slicer.util.addVolumeFromArray(voxels, ijkToRAS=geometry, name="oblique")
    put_under_transform(scene, volume, PARENT)
    node = detect(open_panel())
    expected = by_command_line(tiny, volume_from_node(volume), tmp_path)
    np.testing.assert_allclose(landmarks_from_point_list(node).positions, expected.positions, atol=1e-3)


@pytest.fixture
def radiograph_model(models):
    """A tiny model for radiographs, installed."""
    return write_tiny_radiograph_package(models / "flat", title="Tiny film model")


def add_radiograph():
    """A volume node of one slice."""
    film = radiograph(1)[0]
    affine = RAS_FROM_LPS @ film.affine
    return slicer.util.addVolumeFromArray(film.array.T.copy(), ijkToRAS=affine, name="cephalogram"), film


@pytest.mark.parametrize("transformed", [False, True], ids=["plain", "under a transform"])
def test_a_radiograph_of_one_slice(open_panel, radiograph_model, scene, tmp_path, transformed):
    volume, film = add_radiograph()
    if transformed:
        put_under_transform(scene, volume, PARENT)
    panel = open_panel()
    node = detect(panel)
    shown = volume_from_node(volume)
    expected = by_command_line(radiograph_model, Volume(shown.array, shown.affine), tmp_path)
    found = landmarks_from_point_list(node)
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-3)
    index = shown.grid.ijk_from_lps(found.positions[found.present])
    np.testing.assert_allclose(index[:, 2], 0, atol=1e-6, err_msg="points lie in the plane of the film")
    assert panel.ui.reviewTable.rowCount == len(radiograph_model.scheme)


def test_the_button_says_which_kind_of_scan_the_model_reads(open_panel, radiograph_model, tiny_model, scene):
    volume, (picture, _) = add_volume("CBCT"), add_radiograph()
    panel = open_panel()
    button, film_model = panel.ui.applyButton, radiograph_model.manifest.title
    panel.ui.volumeSelector.setCurrentNode(volume)
    choose(panel.ui.modelSelector, "Tiny model")
    assert button.enabled
    choose(panel.ui.modelSelector, f"{film_model} - not for this volume")
    assert not button.enabled and button.toolTip.endswith("choose a single image, or a model for volumes.")
    panel.ui.volumeSelector.setCurrentNode(picture)
    assert button.enabled
    choose(panel.ui.modelSelector, "Tiny model - not for this volume")
    assert not button.enabled and "this scan is a single slice" in button.toolTip
