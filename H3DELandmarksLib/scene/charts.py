"""Tables and charts of the scene: how far a point list is from a reference, and the learning curve of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import THRESHOLDS_MM
from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.evaluation import Evaluation, evaluate_sets
from H3DELandmarksLib.evaluation.metrics import mean_radial_error, success_rates
from H3DELandmarksLib.scene.point_list import list_unit, nodes_of, place_beside
from H3DELandmarksLib.scene.proposal import landmarks_of_list

LANDMARK_COLUMN = "Landmark"
RESULT_COLUMN = "Result"
_COLOR = (0.2, 0.45, 0.75)
CURVE_NAME = "Learning curve"
CURVE_TAG = "H3DELandmarks.LearningCurve"  # attribute of every node, so that no other node of that name is touched
STEP_COLUMN = "step"
MEAN_COLUMN, P90_COLUMN = "mean_mm", "p90_mm"
CURVE_COLUMNS = (STEP_COLUMN, "loss", MEAN_COLUMN, "median_mm", P90_COLUMN, "presence")
_COLORS = ((0.12, 0.47, 0.71), (0.85, 0.37, 0.01), (0.17, 0.63, 0.17), (0.58, 0.40, 0.74), (0.55, 0.34, 0.29))


@dataclass(frozen=True)
class PointComparison:
    """A point list against a reference, and the nodes that show it.

    Attributes:
        evaluation: the figures, of one case.
        errors: vtkMRMLTableNode with one row per landmark that both lists name.
        summary: vtkMRMLTableNode with the mean error and the success detection rates.
        chart: vtkMRMLPlotChartNode with the errors as bars.
    """

    evaluation: Evaluation
    errors: object
    summary: object
    chart: object

    @property
    def count(self) -> int:
        """Number of landmarks that are present in both lists."""
        return int(np.isfinite(self.evaluation.errors).sum())

    @property
    def mean_error(self) -> float:
        """Mean radial error in mm, NaN without a landmark that is present in both lists."""
        return mean_radial_error(self.evaluation.errors)[0]

    @property
    def success_rates(self) -> dict[float, float]:
        """From 0 to 1 by threshold in mm: the part of the landmarks present in the reference that was found so near."""
        evaluation = self.evaluation
        rates = success_rates(evaluation.errors, evaluation.present, evaluation.thresholds)
        return dict(zip(evaluation.thresholds, rates.tolist()))


def compare_point_lists(node, reference, thresholds: Sequence[float] = THRESHOLDS_MM) -> PointComparison:
    """Compare a point list with a reference by the names of the points, and put the result into the scene.

    Nodes of an earlier comparison of the same name are filled anew.

    Args:
        node: vtkMRMLMarkupsFiducialNode to judge.
        reference: vtkMRMLMarkupsFiducialNode that counts as true.
        thresholds: mm within which a landmark counts as detected.

    Raises:
        InputError: the lists share no name, or a label is empty or used twice.
    """
    evaluation = evaluate_sets(
        {"": landmarks_of_list(node)}, {"": landmarks_of_list(reference)}, thresholds, _unit(node, reference)
    )
    if not evaluation.landmarks:
        raise InputError(
            f"The point lists '{node.GetName()}' and '{reference.GetName()}' share no name: label the points alike."
        )
    scene, name = node.GetScene(), f"{node.GetName()} against {reference.GetName()}"
    errors = _table(_node(scene, "vtkMRMLTableNode", f"{name}: errors"), error_columns(evaluation))
    summary = _table(_node(scene, "vtkMRMLTableNode", f"{name}: summary"), summary_columns(evaluation))
    chart = _chart(scene, name, f"Distance from {reference.GetName()}", errors, error_column(evaluation))
    for made in (errors, summary, chart):
        place_beside(made, node)
    return PointComparison(evaluation, errors, summary, chart)


def _unit(*lists) -> LengthUnit:
    return "px" if "px" in map(list_unit, lists) else "mm"


def error_column(evaluation: Evaluation) -> str:
    """The name of the column of errors."""
    return f"Error ({evaluation.unit})"


def error_columns(evaluation: Evaluation) -> dict[str, list]:
    """One row per landmark: name, error in mm (NaN where there is none), and what was found."""

    def result(k: int) -> str:
        if not evaluation.known[0, k]:
            return "not stated in the reference"
        found, there = evaluation.predicted[0, k], evaluation.present[0, k]
        return {
            (True, True): "found",
            (False, True): "missed",
            (True, False): "found, but absent in the reference",
            (False, False): "absent in both",
        }[bool(found), bool(there)]

    return {
        LANDMARK_COLUMN: list(evaluation.landmarks),
        error_column(evaluation): evaluation.errors[0].tolist(),
        RESULT_COLUMN: [result(k) for k in range(len(evaluation.landmarks))],
    }


def summary_columns(evaluation: Evaluation) -> dict[str, list]:
    """Rows of measure and value: mean radial error, success detection rates, counts."""
    rates = success_rates(evaluation.errors, evaluation.present, evaluation.thresholds)
    detected = [
        (f"Detected within {limit:g} {evaluation.unit} (%)", 100 * float(r))
        for limit, r in zip(evaluation.thresholds, rates)
    ]
    rows = [
        (f"Mean radial error ({evaluation.unit})", mean_radial_error(evaluation.errors)[0]),
        *detected,
        ("Landmarks compared", float(np.isfinite(evaluation.errors).sum())),
        ("Landmarks missed", float(evaluation.missed.sum())),
        ("Presence right (%)", 100 * evaluation.presence.accuracy),
    ]
    return {"Measure": [name for name, _ in rows], "Value": [value for _, value in rows]}


def _chart(scene, name: str, title: str, errors, column: str):
    series = _node(scene, "vtkMRMLPlotSeriesNode", f"{name}: series")
    series.SetAndObserveTableNodeID(errors.GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetYColumnName(column)
    series.SetLabelColumnName(LANDMARK_COLUMN)
    series.SetColor(*_COLOR)
    chart = _node(scene, "vtkMRMLPlotChartNode", f"{name}: chart")
    chart.RemoveAllPlotSeriesNodeIDs()
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle(title)
    chart.SetXAxisTitle(LANDMARK_COLUMN)
    chart.SetYAxisTitle(column)
    chart.SetLegendVisibility(False)
    return chart


def show_curves(scene, title: str, curves: Mapping[str, Sequence[Mapping[str, float]]], unit: LengthUnit = "mm"):
    """Put the curves of a training into the scene, in place of those that are there.

    The nodes are hidden from lists and not saved: they belong to the cases, not to the patient of the scene.

    Args:
        scene: vtkMRMLScene.
        title: of the chart.
        curves: for each stage the rows of its curve, each with CURVE_COLUMNS; NaN where there is no figure.
        unit: of the errors.

    Returns:
        vtkMRMLPlotChartNode with two lines for each stage that has rows: mean error, and what nine of ten are below.
    """
    chart = _curve_node(scene, "vtkMRMLPlotChartNode", CURVE_NAME)
    wanted = []
    for number, (stage, rows) in enumerate(curves.items()):
        if rows:
            columns = {name: [row[name] for row in rows] for name in CURVE_COLUMNS}
            table = _table(_curve_node(scene, "vtkMRMLTableNode", f"{CURVE_NAME}: {stage}"), columns)
            color = _COLORS[number % len(_COLORS)]
            wanted.append(_series(scene, f"{stage}, mean", table, MEAN_COLUMN, color, dashed=False))
            wanted.append(_series(scene, f"{stage}, 9 of 10 below", table, P90_COLUMN, color, dashed=True))
    _set_series(chart, wanted)
    chart.SetTitle(title)
    chart.SetXAxisTitle("Step")
    chart.SetYAxisTitle(f"Error on cases not learned from ({unit})")
    chart.SetLegendVisibility(True)
    return chart


def remove_curves(scene) -> None:
    """Take the chart with its tables out of the scene."""
    for node in _curve_nodes(scene, "vtkMRMLNode"):
        scene.RemoveNode(node)


def _series(scene, name: str, table, column: str, color: tuple[float, float, float], dashed: bool):
    kind = slicer.vtkMRMLPlotSeriesNode
    series = _curve_node(scene, "vtkMRMLPlotSeriesNode", name)
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


def _table(node, columns: Mapping[str, Sequence]):
    """Fill a vtkMRMLTableNode with columns of texts or numbers."""
    was_modifying = node.StartModify()
    node.RemoveAllColumns()
    for title, values in columns.items():
        array = vtk.vtkStringArray() if isinstance(values[0], str) else vtk.vtkDoubleArray()
        array.SetName(title)
        for value in values:
            array.InsertNextValue(value)
        node.AddColumn(array)
    node.SetLocked(True)
    node.EndModify(was_modifying)
    return node


def _node(scene, kind: str, name: str):
    """The node of this class and name, a new one where there is none."""
    found = next((node for node in nodes_of(scene, kind) if node.GetName() == name), None)
    return found if found is not None else scene.AddNewNodeByClass(kind, name)


def _curve_node(scene, kind: str, name: str):
    """The node of a learning curve of this class and name, a new one, hidden and not saved, where there is none."""
    found = next((node for node in _curve_nodes(scene, kind) if node.GetName() == name), None)
    if found is not None:
        return found
    node = scene.CreateNodeByClass(kind)
    node.UnRegister(None)  # Python has a reference of its own
    node.SetName(name)
    node.SetAttribute(CURVE_TAG, "1")
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    return scene.AddNode(node)


def _curve_nodes(scene, kind: str) -> list:
    return [node for node in nodes_of(scene, kind) if node.GetAttribute(CURVE_TAG)]
