"""Which point lists detection makes, and which it may replace."""

import numpy as np
import pytest
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_volume

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.provenance import (
    ExamplesOrigin,
    ModelOrigin,
    Provenance,
    RunSettings,
    ScanOrigin,
    proposed_points,
)
from H3DELandmarksLib.scene import (
    landmarks_from_point_list,
    latest_detection,
    may_be_replaced,
    provenance_of_list,
    show_detection,
)

LANDMARKS = LandmarkSet(
    ("left", "right", "absent"), [[1.0004999, 2, 3], [-4, -0.0001, 6], [np.nan] * 3], presence=[0.9, 0.8, 0.2]
)
MODEL = "tiny@1.0.0"


@pytest.fixture
def volume(scene):
    return add_volume(scene, np.zeros((3, 4, 5), dtype=np.int16), GEOMETRIES["axial"], "CBCT")


def detect(volume, point_list=None, landmarks=LANDMARKS, model=MODEL):
    return show_detection(landmarks, volume, model, "CBCT Tiny landmarks", point_list)


def test_a_detection_is_found_again_by_volume_and_model(scene, volume):
    other = add_volume(scene, np.zeros((3, 4, 5)), GEOMETRIES["axial"], "other")
    node = detect(volume)
    detect(volume, model="tiny@2.0.0")
    assert node.GetName() == "CBCT Tiny landmarks"
    assert latest_detection(volume, MODEL) is node
    assert latest_detection(other, MODEL) is None
    newer = detect(volume)
    assert latest_detection(volume, MODEL) is newer is not node


def test_an_unedited_list_is_replaced(volume):
    node = detect(volume)
    moved = LANDMARKS.with_positions(LANDMARKS.positions + 1)
    assert detect(volume, node, moved) is node
    np.testing.assert_allclose(landmarks_from_point_list(node).positions, moved.positions)
    assert detect(volume, node) is node


def positions(node):
    return [tuple(node.GetNthControlPointPositionWorld(k)) for k in range(3)]


def edit_position(node, scene):
    node.SetNthControlPointPosition(1, 4.0, 0.0, 6.1)


def edit_label(node, scene):
    node.SetNthControlPointLabel(0, "Left")


def edit_status(node, scene):
    node.SetNthControlPointPositionMissing(0)


def place_absent(node, scene):
    node.SetNthControlPointPosition(2, 1.0, 1.0, 1.0)


def repeat_label(node, scene):
    node.SetNthControlPointLabel(0, "right")


def transform(node, scene):
    node.SetAndObserveTransformNodeID(add_linear_transform(scene, LINEAR["mirrored"]).GetID())


def lock_all(node, scene):
    node.SetLocked(True)


def lock_point(node, scene):
    node.SetNthControlPointLocked(1, True)


def describe(node, scene):
    node.SetNthControlPointDescription(0, "seen by both readers")


EDITS = [edit_position, edit_label, edit_status, place_absent, repeat_label, transform, lock_all, lock_point, describe]


@pytest.mark.parametrize("edit", EDITS, ids=lambda f: f.__name__)
def test_an_edited_list_is_kept(scene, volume, edit):
    node = detect(volume)
    edit(node, scene)
    before = positions(node)
    newer = detect(volume, node)
    assert newer is not node and newer.GetName() == "CBCT Tiny landmarks_1"
    assert positions(node) == before


def test_a_list_that_has_a_name_of_its_own_is_kept(scene, volume):
    node = detect(volume)
    clone = scene.CopyNode(node)
    clone.SetName("backup")
    before = positions(clone)
    assert detect(volume, clone, LANDMARKS.with_positions(LANDMARKS.positions + 1)) not in (clone, node)
    assert positions(clone) == before
    node.SetName("baseline")
    assert detect(volume, node) is not node


def test_a_list_of_another_volume_is_kept(scene, volume):
    node = detect(volume)
    other = add_volume(scene, np.zeros((3, 4, 5)), GEOMETRIES["axial"], "other")
    assert detect(other, node) is not node


def test_a_list_that_a_person_made_is_kept(scene, volume):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "reference")
    assert not may_be_replaced(node, volume)


def test_a_reloaded_list_counts_as_unedited(make_scene, tmp_path):
    scene = make_scene()
    volume = add_volume(scene, np.zeros((3, 4, 5), dtype=np.int16), GEOMETRIES["oblique"], "CBCT")
    node = detect(volume)
    for saved in (volume, node):
        saved.AddDefaultStorageNode()
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"), None)
    other = make_scene()
    assert other.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    loaded = other.GetFirstNodeByName("CBCT")
    assert may_be_replaced(latest_detection(loaded, MODEL), loaded)


def test_points_from_examples_say_from_which(volume):
    examples = ExamplesOrigin(cases=("case-a", "case-b"), guide="tiny@1.0.0", correlation=0.8)
    origin = Provenance(software="0.2.0", time="2026-11-29T10:00:00Z", model=None, scan=None, examples=examples)
    node = show_detection(LANDMARKS, volume, examples.key, "points", provenance=origin)
    assert provenance_of_list(node) == origin and node.GetAttribute("H3DELandmarks.Model") == "examples@2"
    assert "from 2 examples: case-a, case-b" in node.GetDescription()


def test_the_scene_keeps_where_points_come_from_without_names_of_files(volume):
    origin = Provenance(
        software="0.2.0",
        time="2026-11-29T10:00:00Z",
        model=ModelOrigin(id="tiny", version="1.0.0", sha256="a" * 64, confidence_within_mm=2.0),
        scan=ScanOrigin(file="Müller.nrrd", voxels_sha256="b" * 64, shape=(3, 4, 5), spacing_mm=(1.0, 1.0, 2.0)),
        settings=RunSettings(device="cpu", backend="torch", precision="fp32"),
        points=proposed_points(LANDMARKS),
    )
    node = show_detection(LANDMARKS, volume, "tiny@1.0.0", "points", provenance=origin)
    kept = provenance_of_list(node)
    assert kept.model == origin.model and kept.settings == origin.settings and kept.time == origin.time
    assert kept.scan.voxels_sha256 == "b" * 64 and kept.scan.file is None
    assert "tiny@1.0.0" in node.GetDescription() and "b" * 12 in node.GetDescription()
    for name in node.GetAttributeNames():
        assert "ller.nrrd" not in node.GetAttribute(name) and node.GetAttribute(name).isascii()
    again = show_detection(LANDMARKS, volume, "tiny@1.0.0", "points", node)
    assert again is node and provenance_of_list(node) is None and node.GetDescription() == ""
