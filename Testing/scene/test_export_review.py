"""The corrected points of a scene as files that other programs read, with who has decided what."""

import json

import numpy as np
import pytest
import slicer
import vtk
from scene_cases import GEOMETRIES, LINEAR, add_linear_transform, add_volume

from H3DELandmarksLib.core.errors import OutputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.formats.provenance import read_provenance
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksLib.scene import Review, export_review, show_detection

NAMES = ("accepted", "moved", "absent", "waiting", "placed")
FOUND = LandmarkSet(
    NAMES,
    [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [np.nan] * 3],
    presence=[0.9, 0.9, 0.9, 0.9, 0.1],
    confidence=[0.8, 0.8, 0.8, 0.8, np.nan],
    radius=[1.0, 1.0, 1.0, 1.0, np.nan],
)


@pytest.fixture
def volume(scene):
    return add_volume(scene, np.zeros((8, 9, 10), np.int16), GEOMETRIES["oblique"], name="Head: CT/1")


@pytest.fixture
def points(volume):
    node = show_detection(FOUND, volume, "tiny@1.0.0", "points")
    review = Review(node)
    review.accept("accepted")
    node.SetNthControlPointPositionWorld(1, vtk.vtkVector3d(-4, -5, 8))
    review.mark_absent("absent")
    node.SetNthControlPointPositionWorld(4, vtk.vtkVector3d(-1, -1, 1))
    return node


def test_every_form_and_who_has_decided_what(volume, points, tmp_path):
    target = export_review(points, volume, tmp_path)
    assert target == tmp_path / "Head_ CT_1 landmarks"
    landmarks = read_markups(target / "Slicer" / "Head_ CT_1.mrk.json")
    np.testing.assert_allclose(landmarks.positions[[0, 1, 4]], [[1, 2, 3], [4, 5, 8], [1, 1, 1]], atol=1e-4)
    assert landmarks.present.tolist() == [True, True, False, True, True]
    assert np.isfinite(landmarks.radius).tolist() == [True, False, False, True, False], "a model's, around its points"
    assert np.isfinite(landmarks.confidence).tolist() == [True, False, False, True, False]
    assert (target / "Slicer fcsv" / "Head_ CT_1.fcsv").is_file()
    table = (target / "table" / "landmarks.csv").read_text(encoding="utf-8")
    assert "accepted" in table and "person" in table
    assert len(list((target / "TPS").glob("*.tps"))) == 1
    for form in ("Slicer", "Slicer fcsv", "table", "TPS"):
        record = json.loads((target / form / "export.json").read_text())
        assert record["cases"][0]["model"] == "tiny@1.0.0"
    origin = read_provenance(target / "Head_ CT_1.provenance.json").by_name()
    assert {name: (point.state, point.by) for name, point in origin.items()} == {
        "accepted": ("accepted", "person"),
        "moved": ("moved", "person"),
        "absent": ("absent", "person"),
        "waiting": ("proposed", "program"),
        "placed": ("placed", "person"),
    }
    assert origin["moved"].proposed_lps_mm == pytest.approx((4, 5, 6)) and origin["moved"].moved_mm == pytest.approx(2)
    assert origin["absent"].position_lps_mm is None and origin["placed"].proposed_lps_mm is None


def test_nothing_that_is_there_is_touched(volume, points, tmp_path):
    first = export_review(points, volume, tmp_path)
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    second = export_review(points, volume, tmp_path)
    assert second.name == "Head_ CT_1 landmarks 2"
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "kept"), [("aux", "aux_"), ("Com1", "Com1_"), ("\u6f22" * 100, "\u6f22" * 53), ("?", "landmarks")]
)
def test_files_are_named_as_every_system_takes_it(volume, points, tmp_path, name, kept):
    volume.SetName(name)
    target = export_review(points, volume, tmp_path)
    assert target.name == f"{kept} landmarks" and (target / f"{kept}.provenance.json").is_file()


def test_what_cannot_be_written_whole_is_not_left_in_part(volume, points, tmp_path, monkeypatch):
    def fail(path, origin):
        raise OutputError(f"'{path}' cannot be written: the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr("H3DELandmarksLib.scene.export.write_provenance", fail)
        with pytest.raises(OutputError, match="full"):
            export_review(points, volume, tmp_path)
    assert not list(tmp_path.glob("*landmarks*"))
    with pytest.raises(OutputError, match="gone"):
        export_review(points, volume, tmp_path / "gone")


def test_positions_are_those_of_the_scan_as_it_was_loaded(scene, volume, points, tmp_path):
    plain = read_markups(next((export_review(points, volume, tmp_path) / "Slicer").glob("*.mrk.json")))
    transform = add_linear_transform(scene, LINEAR["rotated and moved"])
    for node in (volume, points):
        node.SetAndObserveTransformNodeID(transform.GetID())
    moved = read_markups(next((export_review(points, volume, tmp_path) / "Slicer").glob("*.mrk.json")))
    np.testing.assert_allclose(moved.positions, plain.positions, atol=1e-3)
    assert isinstance(transform, slicer.vtkMRMLLinearTransformNode)


def test_lengths_are_those_of_the_scan_where_a_transform_scales_it(scene, volume, tmp_path):
    transform = add_linear_transform(scene, np.diag([10.0, 10.0, 10.0, 1.0]))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    points = show_detection(FOUND, volume, "tiny@1.0.0", "points")
    points.SetNthControlPointPositionWorld(1, vtk.vtkVector3d(-4, -5, 8))
    target = export_review(points, volume, tmp_path)
    origin = read_provenance(target / "Head_ CT_1.provenance.json").by_name()
    assert origin["moved"].position_lps_mm == pytest.approx((0.4, 0.5, 0.8))
    assert origin["moved"].moved_mm == pytest.approx(0.2) and origin["waiting"].radius90_mm == pytest.approx(0.1)
    assert origin["placed"].radius90_mm is None
    assert read_markups(target / "Slicer" / "Head_ CT_1.mrk.json").radius[0] == pytest.approx(0.1)


def test_points_in_another_order_are_exported_with_what_was_said_of_each(volume, tmp_path):
    radius = [1.0, 2.0, 3.0, 4.0, np.nan]
    found = LandmarkSet(NAMES, FOUND.positions, FOUND.presence, FOUND.confidence, radius)
    points = show_detection(found, volume, "tiny@1.0.0", "points")
    points.SwapControlPoints(0, 3)
    points.SwapControlPoints(1, 2)
    exported = read_markups(next((export_review(points, volume, tmp_path) / "Slicer").glob("*.mrk.json")))
    assert dict(zip(exported.names[:4], exported.radius)) == dict(zip(NAMES[:4], radius))
