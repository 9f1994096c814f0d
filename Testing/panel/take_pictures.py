"""Plays the tutorial in the stand-in with the bundled model, and keeps pictures of the panel beside real views.

    python Testing/panel/take_pictures.py FOLDER

Panel, slice views and 3D view show one real scene: detection runs, landmarks are reviewed, dragged and placed with the
mouse, and compared with the truth. ``pictures/`` in the repository's root is ignored by git.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "standin"), str(ROOT / "Testing" / "panel"), str(ROOT)]

import application
import numpy as np
import qt
import slicer
import slicer.util
import views
import vtk
from operating import choose, click, wait_until
from PySide6.QtGui import QFontDatabase

MODEL_TITLE = "mandibular-molar-phantom"
VIEW_SIZE = (455, 455)
PANEL_WIDTH = 470
FIELD_OF_VIEW_MM = 32.0
LAUNCHER = '#!/bin/sh\nexec "{python}" "$@"\n'


class Stage:
    """The panel, four views, and the folder of the pictures."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        app = application.start()
        use_font_of_the_system()
        provide_python(self.folder)
        module = application.load_module(ROOT / "H3DELandmarks" / "H3DELandmarks.py")
        app.complete_startup()
        self.slices = {name: views.SliceView(name, VIEW_SIZE) for name in views.ORIENTATIONS}
        self.three_d = views.ThreeDView(VIEW_SIZE)
        self.three_d.node.SetBoxVisible(False)
        self.three_d.node.SetAxisLabelsVisible(False)
        self.panel = application.open_panel(module)
        self.ui = self.panel.ui

    def take(self, name, *extra):
        """Keep a picture of the panel with all views, or with other images in place of the last ones."""
        slicer.app.processEvents()
        widget = qt.unwrapped(self.panel.parent)
        widget.resize(PANEL_WIDTH, max(widget.sizeHint().height(), 2 * VIEW_SIZE[1] + 6))
        slicer.app.processEvents()
        shown = [self.slices["Red"], self.three_d, self.slices["Green"], self.slices["Yellow"]]
        images = [view.image() for view in shown][: 4 - len(extra)] + list(extra)
        views.beside(self.panel.parent, images).save(str(self.folder / f"{name}.png"))

    def choose(self, name):
        """Click the row of a landmark."""
        from test_review_by_clicks import click_row

        click_row(self.panel, name)


def use_font_of_the_system():
    """Qt's offscreen platform has no fonts of its own."""
    for path in Path("/usr/share/fonts").rglob("*.ttf"):
        QFontDatabase.addApplicationFont(str(path))


def provide_python(folder):
    """PythonSlicer on the path, as in Slicer."""
    launcher = folder / "bin" / "PythonSlicer"
    launcher.parent.mkdir(exist_ok=True)
    launcher.write_text(LAUNCHER.format(python=sys.executable), encoding="utf-8")
    launcher.chmod(0o755)
    os.environ["PATH"] = f"{launcher.parent}{os.pathsep}{os.environ['PATH']}"


def show_volume(stage, volume):
    """The volume in slices with a window for bone, and its bone as a surface in 3D."""
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindow(3500)
    display.SetLevel(900)
    for view in stage.slices.values():
        view.show(volume)
    surface = vtk.vtkFlyingEdges3D()
    surface.SetInputData(volume.GetImageData())
    surface.SetValue(0, 800)
    surface.ComputeScalarsOff()
    matrix, place = vtk.vtkMatrix4x4(), vtk.vtkTransform()
    volume.GetIJKToRASMatrix(matrix)
    place.SetMatrix(matrix)
    to_ras = vtk.vtkTransformPolyDataFilter()
    to_ras.SetInputConnection(surface.GetOutputPort())
    to_ras.SetTransform(place)
    to_ras.Update()
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "bone")
    model.SetAndObserveMesh(to_ras.GetOutput())
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetColor(0.93, 0.88, 0.76)
    model.GetDisplayNode().SetOpacity(0.3)
    look_from_the_front(model)


def look_from_the_front(model):
    """A camera before and above the jaw."""
    bounds = np.reshape(model.GetPolyData().GetBounds(), (3, 2))
    center, size = bounds.mean(axis=1), np.ptp(bounds, axis=1).max()
    camera = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCameraNode")
    camera.SetFocalPoint(*center)
    camera.SetPosition(*(center + np.array([0.25, 1.3, 0.9]) * size * 1.25))
    camera.SetViewUp(0, 0, 1)
    camera.ResetClippingRange()


def chart_image(chart):
    """The chart of a comparison as Slicer's plot view draws it: bars with the labels of their landmarks."""
    table = chart.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    errors = np.array([table.GetColumn(1).GetValue(row) for row in range(table.GetNumberOfRows())])
    shown = [row for row in range(table.GetNumberOfRows()) if np.isfinite(errors[row])]
    plotted, positions, labels = vtk.vtkTable(), vtk.vtkDoubleArray(), vtk.vtkStringArray()
    index, heights = vtk.vtkDoubleArray(), vtk.vtkDoubleArray()
    index.SetName("index")
    heights.SetName("error")
    for k, row in enumerate(shown):
        index.InsertNextValue(k)
        heights.InsertNextValue(errors[row])
        positions.InsertNextValue(k)
        labels.InsertNextValue(table.GetColumn(0).GetValue(row))
    plotted.AddColumn(index)
    plotted.AddColumn(heights)
    view, plot = vtk.vtkContextView(), vtk.vtkChartXY()
    view.GetRenderWindow().SetOffScreenRendering(1)
    view.GetRenderWindow().SetSize(*VIEW_SIZE)
    view.GetScene().AddItem(plot)
    bars = plot.AddPlot(vtk.vtkChart.BAR)
    bars.SetInputData(plotted, 0, 1)
    bars.SetColorF(*chart.GetNthPlotSeriesNode(0).GetColor())
    plot.SetTitle(chart.GetTitle())
    plot.GetAxis(vtk.vtkAxis.LEFT).SetTitle(chart.GetYAxisTitle())
    plot.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(chart.GetXAxisTitle())
    plot.GetAxis(vtk.vtkAxis.BOTTOM).SetCustomTickPositions(positions, labels)
    return views.image_of(view.GetRenderWindow())


def play(folder):
    """The tutorial."""
    stage = Stage(folder)
    import SampleData  # there once the application has started

    ui = stage.ui
    volume, reference = SampleData.SampleDataLogic().downloadSamples("MandibularMolarPhantom")
    reference.CreateDefaultDisplayNodes()
    reference.GetDisplayNode().SetVisibility(False)
    show_volume(stage, volume)
    ui.volumeSelector.setCurrentNode(volume)
    stage.slices["Green"].image().copy(60, 60, 320, 320).scaled(128, 128).save(str(stage.folder / "thumbnail.png"))
    choose(ui.modelSelector, next(t for t in model_titles(ui) if "molar" in t.lower()))
    click(ui.applyButton)
    wait_until(lambda: stage.panel.detection.run is None or stage.panel.detection.run.fraction)
    stage.take("1-detecting")
    wait_until(lambda: not stage.panel.detection.run)
    points = ui.reviewSelector.currentNode()
    points.GetDisplayNode().SetTextScale(3.5)
    stage.take("2-detected")
    for view in stage.slices.values():
        view.node.SetFieldOfView(FIELD_OF_VIEW_MM, FIELD_OF_VIEW_MM, view.node.GetFieldOfView()[2])
    click(ui.nextButton)
    stage.take("3-most-doubtful")
    review_some(stage, points, reference)
    stage.take("4-reviewed")
    click(ui.compareSection)
    ui.referenceSelector.setCurrentNode(reference)
    click(ui.compareButton)
    chart = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    stage.take("5-compared", chart_image(chart))
    click(ui.landmarksButton)
    click(ui.modelCardButton)
    stage.take("6-choices")
    application.close_panel(stage.panel)


def model_titles(ui):
    """The rows of the model selector."""
    return [ui.modelSelector.itemText(row) for row in range(ui.modelSelector.count)]


def review_some(stage, points, reference):
    """Accept what is certain, and drag the most doubtful point to where the tooth's apex is seen."""
    from test_review_by_clicks import rows

    red, name = stage.slices["Red"], rows(stage.panel)[0][0]
    stage.ui.thresholdSpinBox.value = 95
    click(stage.ui.acceptAllButton)
    stage.choose(name)
    red.render()
    found, truth = (
        red.pixel_of(node.GetNthControlPointPositionWorld(node.GetControlPointIndexByLabel(name)))
        for node in (points, reference)
    )
    red.drag(found, truth)
    slicer.app.processEvents()


if __name__ == "__main__":
    play(sys.argv[1] if len(sys.argv) > 1 else ROOT / "pictures")
