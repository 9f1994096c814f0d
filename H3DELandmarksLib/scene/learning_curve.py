"""The learning curve of a model as tables and a chart of the scene, filled anew while training goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import slicer
import vtk

NAME = "Learning curve"
TAG = "H3DELandmarks.LearningCurve"  # attribute of every node, so that no other node of that name is touched
STEP_COLUMN = "step"
MEAN_COLUMN, P90_COLUMN = "mean_mm", "p90_mm"
COLUMNS = (STEP_COLUMN, "loss", MEAN_COLUMN, "median_mm", P90_COLUMN, "presence")
_COLORS = ((0.12, 0.47, 0.71), (0.85, 0.37, 0.01), (0.17, 0.63, 0.17), (0.58, 0.40, 0.74), (0.55, 0.34, 0.29))


def show_curves(scene, title: str, curves: Mapping[str, Sequence[Mapping[str, float]]]):
    """Put the curves of a training into the scene, in place of those that are there.

    The nodes are hidden from lists and not saved: they belong to a training set, not to the patient of the scene.

    Args:
        scene: vtkMRMLScene.
        title: of the chart.
        curves: for each stage the rows of its curve, each with COLUMNS; NaN where there is no figure.

    Returns:
        vtkMRMLPlotChartNode with two lines for each stage that has rows: mean error, and what nine of ten are below.
    """
    chart = _node(scene, "vtkMRMLPlotChartNode", NAME)
    wanted = []
    for number, (stage, rows) in enumerate(curves.items()):
        if rows:
            table = _table(scene, f"{NAME}: {stage}", rows)
            color = _COLORS[number % len(_COLORS)]
            wanted.append(_series(scene, f"{stage}, mean", table, MEAN_COLUMN, color, dashed=False))
            wanted.append(_series(scene, f"{stage}, 9 of 10 below", table, P90_COLUMN, color, dashed=True))
    _set_series(chart, wanted)
    chart.SetTitle(title)
    chart.SetXAxisTitle("Step")
    chart.SetYAxisTitle("Error on cases not learned from (mm)")
    chart.SetLegendVisibility(True)
    return chart


def remove_curves(scene) -> None:
    """Take the chart with its tables out of the scene."""
    for node in _own_nodes(scene, "vtkMRMLNode"):
        scene.RemoveNode(node)


def _table(scene, name: str, rows: Sequence[Mapping[str, float]]):
    node = _node(scene, "vtkMRMLTableNode", name)
    wasModifying = node.StartModify()
    node.RemoveAllColumns()
    for title in COLUMNS:
        array = vtk.vtkDoubleArray()
        array.SetName(title)
        for row in rows:
            array.InsertNextValue(row[title])
        node.AddColumn(array)
    node.SetLocked(True)
    node.EndModify(wasModifying)
    return node


def _series(scene, name: str, table, column: str, color: tuple[float, float, float], dashed: bool):
    kind = slicer.vtkMRMLPlotSeriesNode
    series = _node(scene, "vtkMRMLPlotSeriesNode", name)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(kind.PlotTypeScatter)
    series.SetXColumnName(STEP_COLUMN)
    series.SetYColumnName(column)
    series.SetColor(*color)
    series.SetLineStyle(kind.LineStyleDash if dashed else kind.LineStyleSolid)
    series.SetMarkerStyle(kind.MarkerStyleNone if dashed else kind.MarkerStyleCircle)
    return series


def _set_series(chart, wanted: Sequence) -> None:
    """Let a chart show these series; one that shows them already is left alone, so that views don't flicker."""
    ids = [series.GetID() for series in wanted]
    shown = [chart.GetNthPlotSeriesNodeID(k) for k in range(chart.GetNumberOfPlotSeriesNodes())]
    if shown != ids:
        chart.RemoveAllPlotSeriesNodeIDs()
        for node_id in ids:
            chart.AddAndObservePlotSeriesNodeID(node_id)


def _node(scene, kind: str, name: str):
    """The own node of this class and name, a new one where there is none."""
    found = next((node for node in _own_nodes(scene, kind) if node.GetName() == name), None)
    if found is not None:
        return found
    node = scene.CreateNodeByClass(kind)
    node.UnRegister(None)  # Python has a reference of its own
    node.SetName(name)
    node.SetAttribute(TAG, "1")
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    return scene.AddNode(node)


def _own_nodes(scene, kind: str) -> list:
    nodes = [scene.GetNthNodeByClass(k, kind) for k in range(scene.GetNumberOfNodesByClass(kind))]
    return [node for node in nodes if node.GetAttribute(TAG)]
