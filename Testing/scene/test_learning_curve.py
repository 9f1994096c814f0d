"""The learning curve as real tables, series and a chart of the scene."""

import math

import pytest
import slicer
from hypothesis import given
from hypothesis import strategies as st

from H3DELandmarksLib.scene import remove_curves, show_curves


def row(step, mean, p90=None):
    return {
        "step": step,
        "loss": 5.0,
        "mean_mm": mean,
        "median_mm": mean,
        "p90_mm": 2 * mean if p90 is None else p90,
        "presence": 1.0,
    }


def drawn(chart):
    """{series name: [(x, y)]} as a plot view reads them."""
    lines = {}
    for k in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(k)
        table = series.GetTableNode().GetTable()
        columns = [table.GetColumnByName(name) for name in (series.GetXColumnName(), series.GetYColumnName())]
        lines[series.GetName()] = [tuple(c.GetValue(r) for c in columns) for r in range(table.GetNumberOfRows())]
    return lines


def test_each_stage_has_its_mean_and_what_nine_of_ten_are_below(scene):
    chart = show_curves(scene, "Retraining", {"localizer": [row(100, 3.0), row(200, 1.5)], "refiner": []})
    assert drawn(chart) == {
        "localizer, mean": [(100, 3.0), (200, 1.5)],
        "localizer, 9 of 10 below": [(100, 6.0), (200, 3.0)],
    }
    assert chart.GetTitle() == "Retraining" and chart.GetYAxisTitle().endswith("(mm)")
    assert chart.GetNthPlotSeriesNode(0).GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter


def test_a_longer_curve_fills_the_same_nodes(scene):
    chart = show_curves(scene, "a", {"localizer": [row(100, 3.0)]})
    count = scene.GetNumberOfNodes()
    assert show_curves(scene, "a", {"localizer": [row(100, 3.0), row(200, math.nan)]}) is chart
    assert scene.GetNumberOfNodes() == count
    assert len(drawn(chart)["localizer, mean"]) == 2 and math.isnan(drawn(chart)["localizer, mean"][1][1])


@given(steps=st.lists(st.integers(0, 4), max_size=6))
def test_whatever_came_before_the_chart_shows_the_last_curves_only(steps):
    scene = slicer.vtkMRMLScene()
    for length in steps:
        stages = {f"stage {k}": [row(k, 1.0)] * (k > 0) for k in range(length)}
        chart = show_curves(scene, "t", stages)
        assert len(drawn(chart)) == 2 * max(0, length - 1)


def test_nothing_of_it_is_saved_or_listed_and_other_nodes_of_its_name_are_left_alone(scene):
    other = scene.AddNewNodeByClass("vtkMRMLTableNode", "Learning curve: localizer")
    show_curves(scene, "Retraining", {"localizer": [row(100, 3.0)]})
    kinds = ("vtkMRMLTableNode", "vtkMRMLPlotSeriesNode", "vtkMRMLPlotChartNode")
    nodes = [scene.GetNthNodeByClass(k, kind) for kind in kinds for k in range(scene.GetNumberOfNodesByClass(kind))]
    assert len(nodes) == 5
    for node in nodes:
        if node is not other:
            assert node.GetHideFromEditors() and not node.GetSaveWithScene()
    assert other.GetTable() is None or other.GetNumberOfColumns() == 0
    remove_curves(scene)
    assert [scene.GetNumberOfNodesByClass(kind) for kind in kinds] == [1, 0, 0] and scene.IsNodePresent(other)


def test_a_row_without_a_column_is_an_error(scene):
    with pytest.raises(KeyError):
        show_curves(scene, "t", {"localizer": [{"step": 1.0}]})
