"""Plays the learning loop in the stand-in with the bundled model, and keeps pictures of its sections beside real views.

    python Testing/panel/take_learning_pictures.py FOLDER

Everything is real: a scan is detected, reviewed and added to cases of simulated jaws, the cases are checked, the
bundled model is retrained for a few steps, compared, and scans are ranked. Takes some minutes.
"""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Testing" / "panel"))

from take_pictures import MODEL_TITLE, VIEW_SIZE, Stage, model_titles, show_volume  # first: it sets the paths

import application  # isort: skip
import numpy as np
import qt
import slicer
import views
import vtk
from operating import choose, click, press, type_path, wait_until
from PySide6.QtCore import QPoint

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, create_project
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.models import find_model
from H3DELandmarksResearch.phantom import generate_phantom

CASES, STEPS, HELD_OUT = 11, 16, 45
SPACING_MM = 0.9
NEW_SCANS = 3
SECTIONS = ("casesSection", "retrainSection", "promotionSection", "nextCaseSection")
LINES = {1: vtk.vtkPen.SOLID_LINE, 2: vtk.vtkPen.DASH_LINE}


def curve_image(chart):
    """The chart of a learning curve as Slicer's plot view draws it: lines by series, with a legend."""
    view, plot = vtk.vtkContextView(), vtk.vtkChartXY()
    view.GetRenderWindow().SetOffScreenRendering(1)
    view.GetRenderWindow().SetSize(*VIEW_SIZE)
    view.GetScene().AddItem(plot)
    for k in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(k)
        line = plot.AddPlot(vtk.vtkChart.LINE)
        line.SetInputData(series.GetTableNode().GetTable(), series.GetXColumnName(), series.GetYColumnName())
        line.SetColorF(*series.GetColor())
        line.SetLabel(series.GetName())
        line.GetPen().SetWidth(2)
        line.GetPen().SetLineType(LINES[series.GetLineStyle()])
    plot.SetTitle(chart.GetTitle())
    plot.SetShowLegend(True)
    plot.GetAxis(vtk.vtkAxis.LEFT).SetTitle(chart.GetYAxisTitle())
    plot.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(chart.GetXAxisTitle())
    return views.image_of(view.GetRenderWindow())


def write_jaws(folder, scans):
    """Cases of simulated jaws, with two points of the last one exchanged, and a folder of new scans.

    Simulating them takes minutes, so those of an earlier call are taken where there are any.
    """
    if folder.exists() and scans.exists():
        return
    package = find_model(MODEL_TITLE)
    project, model = create_project(folder, package.scheme), ModelName(package.id, package.version)
    for seed in range(CASES):
        jaw = generate_phantom(500 + seed, spacing=SPACING_MM)
        points = dict(zip(jaw.landmarks.names, jaw.landmarks.positions))
        if seed == CASES - 1:
            first, second = [name for name in points if np.isfinite(points[name]).all()][:2]
            points[first], points[second] = points[second], points[first]
        known = [
            CaseLandmark(name, ReviewState.PLACED, p)
            if np.isfinite(p).all()
            else CaseLandmark(name, ReviewState.ABSENT)
            for name, p in points.items()
        ]
        project.add(jaw.volume, known, model)
    scans.mkdir(parents=True)
    for seed in range(NEW_SCANS):
        write_volume(scans / f"jaw {seed + 1}.nrrd", generate_phantom(700 + seed, spacing=SPACING_MM).volume)


def open_only(ui, name):
    """Open one of the sections and close the others."""
    for section in SECTIONS:
        if getattr(ui, section).collapsed == (section == name):
            click_header(getattr(ui, section))


def click_header(section):
    """Open or close a section."""
    press(qt.unwrapped(section), QPoint(40, 10))


def play(folder):
    """The learning loop."""
    folder = Path(folder).resolve()
    shutil.rmtree(folder / "learning", ignore_errors=True)
    (folder / "learning").mkdir(parents=True)
    os.environ["XDG_DATA_HOME"] = str(folder / "learning" / "data")  # promoted models go there, in child processes, too
    made = folder / "simulated jaws"
    write_jaws(made / "Jaws", made / "New scans")
    stage = Stage(folder)
    jaws, scans = (shutil.copytree(made / name, folder / "learning" / name) for name in ("Jaws", "New scans"))
    detect_and_accept(stage)
    keep_and_check(stage, jaws)
    retrain(stage)
    compare(stage)
    suggest(stage, scans)
    application.close_panel(stage.panel)


def detect_and_accept(stage):
    """The sample, found and reviewed."""
    import SampleData  # there once the application has started

    ui = stage.ui
    volume, reference = SampleData.SampleDataLogic().downloadSamples("MandibularMolarPhantom")
    reference.GetDisplayNode().SetVisibility(False)
    show_volume(stage, volume)
    ui.volumeSelector.setCurrentNode(volume)
    choose(ui.modelSelector, next(t for t in model_titles(ui) if "molar" in t.lower()))
    click(ui.applyButton)
    wait_until(lambda: not stage.panel.detection.run, 900)
    ui.reviewSelector.currentNode().GetDisplayNode().SetTextScale(3.5)
    ui.thresholdSpinBox.value = 0
    click(ui.acceptAllButton)
    click_header(ui.detectSection)


def keep_and_check(stage, jaws):
    """The case is added, and the cases are checked; the first finding that names a point is looked at."""
    from test_cases_by_clicks import choose_finding, finding_rows

    learning, ui = stage.panel.learning, stage.panel.learning.ui
    open_only(ui, "casesSection")
    type_path(ui.casesPath, jaws)
    click(ui.addCaseButton)
    wait_until(lambda: not learning.cases.progress.isRunning, 900)
    click(ui.checkButton)
    wait_until(lambda: not learning.check.progress.isRunning, 900)
    row = next(k for k, texts in enumerate(finding_rows(stage.panel)) if texts[1])
    choose_finding(stage.panel, row)
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetFirstNodeByName("bone"))
    show_volume(stage, stage.ui.volumeSelector.currentNode())
    choose_finding(stage.panel, row)
    for view in stage.slices.values():
        view.node.SetFieldOfView(60.0, 60.0, view.node.GetFieldOfView()[2])
    stage.panel.ui.reviewSelector.currentNode().GetDisplayNode().SetTextScale(3.5)
    stage.take("7-cases")
    click_header(stage.ui.reviewSection)


def retrain(stage):
    """The bundled model learns for a few steps."""
    learning, ui = stage.panel.learning, stage.panel.learning.ui
    open_only(ui, "retrainSection")
    ui.stepsSpinBox.value = STEPS
    ui.heldOutSpinBox.value = HELD_OUT
    click(ui.retrainButton)

    def is_halfway():
        run = learning.retrain.progress.run
        return run is None or run.progress.get("step", 0) > 1.5 * STEPS

    wait_until(is_halfway, 3600)
    stage.take("8-retraining", curve_image(slicer.mrmlScene.GetFirstNodeByName("Learning curve")))
    wait_until(lambda: not learning.retrain.progress.isRunning, 3600)
    stage.take("9-retrained", curve_image(slicer.mrmlScene.GetFirstNodeByName("Learning curve")))


def compare(stage):
    """The retrained model against the bundled one."""
    learning, ui = stage.panel.learning, stage.panel.learning.ui
    open_only(ui, "promotionSection")
    click(ui.compareModelsButton)
    wait_until(lambda: not learning.promotion.progress.isRunning, 3600)
    choose(ui.versionsSelector, find_model(MODEL_TITLE).manifest.title)
    stage.take("10-promotion")


def suggest(stage, scans):
    """New scans in the order of what would be learnt from them."""
    learning, ui = stage.panel.learning, stage.panel.learning.ui
    open_only(ui, "nextCaseSection")
    type_path(ui.scansPath, scans)
    click(ui.rankButton)
    wait_until(lambda: not learning.nextCase.progress.isRunning, 3600)
    from test_next_case_by_clicks import double_click

    double_click(stage.panel, 0)
    stage.take("11-next-case")


if __name__ == "__main__":
    play(sys.argv[1] if len(sys.argv) > 1 else ROOT / "pictures")
