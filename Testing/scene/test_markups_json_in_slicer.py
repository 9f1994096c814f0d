"""Our point lists in the real Slicer: its storage node loads what we write, and we read what it saves."""

import numpy as np
import pytest

from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.io.markups import read_markups, read_stamp, write_markups

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

LANDMARKS = LandmarkSet(
    ("nasion", "molar", "é", "porion"),
    [[1 / 3, -2e-7, 1e4 / 7], [np.nan] * 3, [np.nan] * 3, [-70.25, 12.5, -1000 / 3]],
    presence=[0.97, 0.1, np.nan, 1.0],
    confidence=[0.8, np.nan, np.nan, 0.1 + 0.2],
    radius=[1.25, 3.5, np.nan, 2 / 3],
    definitions=("where the bones meet", "", "größte Tiefe", "top of the ear canal"),
)
DEFINED, MISSING, UNDEFINED = 2, 3, 0


@pytest.fixture
def scene():
    """A scene that knows markups."""
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    logic = slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    yield scene
    logic.SetMRMLScene(None)
    application.SetMRMLScene(None)


def test_slicer_takes_no_notice_of_the_stamp_and_drops_it(scene, tmp_path):
    write_markups(tmp_path / "ours.mrk.json", LANDMARKS, {"scan": "0" * 64})
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert storage(scene, tmp_path / "ours.mrk.json").ReadData(node)
    assert node.GetNumberOfControlPoints() == len(LANDMARKS)
    assert read_stamp(tmp_path / "ours.mrk.json") == {"scan": "0" * 64}
    assert storage(scene, tmp_path / "ours.mrk.json").WriteData(node)
    assert read_stamp(tmp_path / "ours.mrk.json") is None


@pytest.fixture
def node(scene, tmp_path):
    """The point list that Slicer makes of our file."""
    write_markups(tmp_path / "ours.mrk.json", LANDMARKS)
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert storage(scene, tmp_path / "ours.mrk.json").ReadData(node)
    return node


def storage(scene, path):
    storage = scene.AddNewNodeByClass("vtkMRMLMarkupsJsonStorageNode")
    storage.SetFileName(str(path))
    return storage


def measurement_values(node, name):
    values = node.GetMeasurement(name).GetControlPointValues()
    return [values.GetValue(k) for k in range(values.GetNumberOfTuples())]


def test_slicer_shows_our_points(node):
    indices = range(node.GetNumberOfControlPoints())
    assert tuple(node.GetNthControlPointLabel(k) for k in indices) == LANDMARKS.names
    assert tuple(node.GetNthControlPointDescription(k) for k in indices) == LANDMARKS.definitions
    status = [node.GetNthControlPointPositionStatus(k) for k in indices]
    assert status == [DEFINED, MISSING, UNDEFINED, DEFINED]
    for k in np.flatnonzero(LANDMARKS.present):
        position = node.GetNthControlPointPosition(k)  # Slicer's reader of numbers is off by up to one bit
        np.testing.assert_allclose(position, LANDMARKS.positions[k] * (-1, -1, 1), rtol=1e-15)
    assert not any(node.GetNthControlPointLocked(k) for k in indices)
    assert all(node.GetNthControlPointVisibility(k) for k in indices)


def test_slicer_shows_our_measurements(node):
    assert measurement_values(node, "presence") == [0.97, 0.1, -1, 1]
    assert measurement_values(node, "confidence") == [0.8, -1, -1, 0.1 + 0.2]
    assert measurement_values(node, "radius90") == [1.25, 3.5, -1, 2 / 3]
    assert node.GetMeasurement("radius90").GetUnits() == "mm"
    assert all(node.GetMeasurement(name).GetEnabled() for name in ("presence", "confidence", "radius90"))


@pytest.mark.parametrize("coordinate_system", ["LPS", "RAS"])
def test_what_slicer_saves_of_ours_is_the_same_set(scene, node, tmp_path, coordinate_system):
    saver = storage(scene, tmp_path / "slicers.mrk.json")
    saver.SetCoordinateSystem(saver.GetCoordinateSystemFromString(coordinate_system))
    assert saver.WriteData(node)
    assert f'"{coordinate_system}"' in (tmp_path / "slicers.mrk.json").read_text(encoding="utf-8")
    read = read_markups(tmp_path / "slicers.mrk.json")
    assert read.names == LANDMARKS.names and read.definitions == LANDMARKS.definitions
    for name in ("positions", "presence", "confidence", "radius"):
        np.testing.assert_allclose(getattr(read, name), getattr(LANDMARKS, name), rtol=1e-12, atol=1e-12)


def test_a_point_deleted_or_placed_in_slicer_is_read_so(scene, node, tmp_path):
    node.SetNthControlPointPositionMissing(0)
    node.SetNthControlPointPosition(1, 5.0, 6.0, 7.0)
    assert storage(scene, tmp_path / "slicers.mrk.json").WriteData(node)
    read = read_markups(tmp_path / "slicers.mrk.json")
    np.testing.assert_array_equal(read.presence, [0, 1, np.nan, 1])
    np.testing.assert_allclose(read.positions[1], (-5, -6, 7), atol=1e-12)


def test_values_that_slicer_saves_as_nan_are_read(scene, node, tmp_path):
    node.GetMeasurement("confidence").GetControlPointValues().SetValue(0, np.nan)
    assert storage(scene, tmp_path / "slicers.mrk.json").WriteData(node)
    assert "NaN" in (tmp_path / "slicers.mrk.json").read_text(encoding="utf-8")
    np.testing.assert_array_equal(np.isnan(read_markups(tmp_path / "slicers.mrk.json").confidence), [1, 1, 1, 0])
