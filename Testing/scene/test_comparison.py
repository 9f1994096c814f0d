"""Comparison with a reference: tables and a chart of the scene."""

import numpy as np
import pytest
import slicer
import slicer.util

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.scene import compare_point_lists, create_point_list

NAMES = ("a", "b", "c", "d", "e")
FOUND = LandmarkSet(NAMES, [[0, 0, 0], [3, 4, 0], [np.nan] * 3, [1, 1, 1], [np.nan] * 3])
TRUTH = LandmarkSet(
    ("b", "a", "c", "d", "e", "more"), [[0, 0, 0], [0, 0, 1], [5, 5, 5], [np.nan] * 3, [np.nan] * 3, [7, 7, 7]]
)


def columns(table):
    return {
        table.GetColumnName(c): [table.GetTable().GetColumn(c).GetValue(r) for r in range(table.GetNumberOfRows())]
        for c in range(table.GetNumberOfColumns())
    }


@pytest.fixture
def comparison(scene):
    lists = [create_point_list(scene, points, name) for points, name in ((FOUND, "found"), (TRUTH, "truth"))]
    return compare_point_lists(*lists, thresholds=(2, 5))


def test_the_table_has_an_error_for_each_landmark(comparison):
    shown = columns(comparison.errors)
    assert shown["Landmark"] == ["b", "a", "c", "d", "e"]
    np.testing.assert_array_equal(shown["Error (mm)"], [5, 1, np.nan, np.nan, np.nan])
    assert shown["Result"] == ["found", "found", "missed", "found, but absent in the reference", "absent in both"]
    assert comparison.errors.GetName() == "found against truth: errors"


def test_the_summary_has_mean_error_and_detection_rates(comparison):
    shown = columns(comparison.summary)
    values = dict(zip(shown["Measure"], shown["Value"]))
    assert values["Mean radial error (mm)"] == 3
    assert values["Detected within 2 mm (%)"] == pytest.approx(100 / 3)
    assert values["Detected within 5 mm (%)"] == pytest.approx(200 / 3)
    assert (values["Landmarks compared"], values["Landmarks missed"]) == (2, 1)
    assert values["Presence right (%)"] == pytest.approx(60)


def test_the_chart_shows_the_errors_by_name(comparison):
    chart = comparison.chart
    series = chart.GetNthPlotSeriesNode(0)
    assert chart.GetNumberOfPlotSeriesNodes() == 1 and series.GetTableNode() is comparison.errors
    assert series.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeBar
    names = columns(comparison.errors)
    assert series.GetYColumnName() in names and series.GetLabelColumnName() in names


def test_comparing_again_fills_the_same_nodes(scene, comparison):
    count = scene.GetNumberOfNodes()
    lists = [scene.GetFirstNodeByName(name) for name in ("found", "truth")]
    lists[0].SetNthControlPointPosition(0, 0, 0, 1)
    again = compare_point_lists(*lists)
    assert scene.GetNumberOfNodes() == count and again.errors is comparison.errors
    np.testing.assert_array_equal(columns(again.errors)["Error (mm)"][1], 0)
    assert again.chart.GetNumberOfPlotSeriesNodes() == 1


def test_lists_without_a_common_name_are_refused(scene):
    lists = [create_point_list(scene, LandmarkSet((name,), [[0, 0, 0]]), f"list {name}") for name in ("a", "b")]
    with pytest.raises(InputError, match="'list a' and 'list b' share no name"):
        compare_point_lists(*lists)


def test_lists_under_different_transforms_are_compared_in_the_world(scene):
    lists = [create_point_list(scene, FOUND, name) for name in ("one", "two")]
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 6))
    lists[1].SetAndObserveTransformNodeID(transform.GetID())
    errors = compare_point_lists(*lists).evaluation.errors[0]
    np.testing.assert_allclose(errors[np.isfinite(errors)], 6)
