"""Where pictures of the panel are taken: the panel beside the four views that Slicer shows, in the test window.

Nothing is set up for a picture: fields of view, windows, marks and the surface of the bone are those that the panel
makes after the clicks that stand below the picture. Every picture says that it shows the test window.
"""

import io
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "standin"), str(ROOT / "Testing" / "panel"), str(ROOT)]

import application  # isort: skip
import qt
import slicer
import views
import vtk
from PIL import Image
from PySide6.QtCore import QBuffer, QRect, Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QImage, QPainter

# Folders that pictures show are named alike everywhere.
FILES = Path(tempfile.gettempdir()) / "h3de pictures"
MARK = "test window, not Slicer"
PANEL_WIDTH, VIEW_SIDE, GAP, STRIP = 420, 347, 6, 22
SIZE = (PANEL_WIDTH + 2 * (GAP + VIEW_SIDE), 2 * VIEW_SIDE + GAP + STRIP)
COLORS = (255, 224, 192, 160, 128, 112, 96, 80, 64, 48, 40, 32)
MAX_BYTES = 110_000
LAUNCHER = '#!/bin/sh\nexec "{python}" "$@"\n'


class Stage:
    """The panel, four views, and the folder of the pictures."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        FILES.mkdir(exist_ok=True)
        app = application.start()
        app.defaultScenePath = str(FILES / "Documents")
        _use_font_of_the_system()
        _provide_python()
        module = application.load_module(ROOT / "H3DELandmarks" / "H3DELandmarks.py")
        app.complete_startup()
        self.slices = {name: views.SliceView(name, (VIEW_SIDE, VIEW_SIDE)) for name in views.ORIENTATIONS}
        self.three_d = views.ThreeDView((VIEW_SIDE, VIEW_SIDE))
        self.panel = application.open_panel(module)
        self.ui = self.panel.ui

    def take(self, name, clicks, top=None, chart=None):
        """Keep a picture of the panel with all views.

        Args:
            name: of the file, without its ending.
            clicks: what the user has done since the picture before; stands below the picture.
            top: widget that the panel is scrolled to, None for its beginning.
            chart: QImage in place of the last view, None for none.
        """
        total = QImage(*SIZE, QImage.Format.Format_RGB32)
        total.fill(QColor("#f0f0f0"))
        painter = QPainter(total)
        height = SIZE[1] - STRIP
        shot, start = self._panel_image(top)
        painter.drawImage(0, 0, shot, 0, start, PANEL_WIDTH, height)
        shown = [self.slices["Red"], self.three_d, self.slices["Green"], self.slices["Yellow"]]
        images = [view.image() for view in shown][: 4 - (chart is not None)] + ([chart] if chart else [])
        for k, image in enumerate(images):
            row, column = divmod(k, 2)
            painter.drawImage(PANEL_WIDTH + GAP + column * (VIEW_SIDE + GAP), row * (VIEW_SIDE + GAP), image)
        _write_strip(painter, clicks)
        painter.end()
        save_small(total, self.folder / f"{name}.png")

    def _panel_image(self, top):
        """The whole panel, and at which pixel the part of it begins that is in sight."""
        widget = qt.unwrapped(self.panel.parent)
        for _ in range(2):  # texts that wrap ask for their height once the width is known
            slicer.app.processEvents()
            widget.resize(PANEL_WIDTH, max(widget.sizeHint().height(), SIZE[1] - STRIP))
        slicer.app.processEvents()
        shot = widget.grab().toImage()
        wanted = 0 if top is None else qt.unwrapped(top).mapTo(widget, qt.unwrapped(top).rect().topLeft()).y()
        return shot, max(0, min(wanted, shot.height() - (SIZE[1] - STRIP)))


def _write_strip(painter, clicks):
    """What was clicked, and that this is no Slicer."""
    strip = QRect(0, SIZE[1] - STRIP, SIZE[0], STRIP)
    painter.fillRect(strip, QColor("#26323c"))
    painter.setFont(QFont("DejaVu Sans", 8))
    painter.setPen(QColor("white"))
    inside = strip.adjusted(8, 0, -8, 0)
    painter.drawText(inside, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, clicks)
    painter.setPen(QColor("#ffd479"))
    painter.drawText(inside, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, MARK)


def save_small(image, path):
    """Write a QImage as PNG with as many colors of a palette as MAX_BYTES allow."""
    buffer = QBuffer()
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    picture = Image.open(io.BytesIO(bytes(buffer.data()))).convert("RGB")
    for colors in COLORS:
        content = io.BytesIO()
        picture.quantize(colors, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            content, "PNG", optimize=True
        )
        if content.tell() <= MAX_BYTES:
            break
    Path(path).write_bytes(content.getvalue())


def bar_chart_image(chart):
    """The chart of a comparison as Slicer's plot view draws it: bars with the labels of their landmarks."""
    series = chart.GetNthPlotSeriesNode(0)
    table = series.GetTableNode().GetTable()
    plotted, positions, labels = vtk.vtkTable(), vtk.vtkDoubleArray(), vtk.vtkStringArray()
    index, heights = vtk.vtkDoubleArray(), vtk.vtkDoubleArray()
    index.SetName("index")
    heights.SetName("error")
    for row in range(table.GetNumberOfRows()):
        value = table.GetColumn(1).GetValue(row)
        if value == value:  # missed landmarks have no bar
            index.InsertNextValue(positions.GetNumberOfValues())
            heights.InsertNextValue(value)
            positions.InsertNextValue(positions.GetNumberOfValues())
            labels.InsertNextValue(table.GetColumn(0).GetValue(row))
    plotted.AddColumn(index)
    plotted.AddColumn(heights)
    view, plot = vtk.vtkContextView(), vtk.vtkChartXY()
    view.GetRenderWindow().SetOffScreenRendering(1)
    view.GetRenderWindow().SetSize(VIEW_SIDE, VIEW_SIDE)
    view.GetScene().AddItem(plot)
    bars = plot.AddPlot(vtk.vtkChart.BAR)
    bars.SetInputData(plotted, 0, 1)
    bars.SetColorF(*series.GetColor())
    plot.SetTitle(chart.GetTitle())
    plot.GetAxis(vtk.vtkAxis.LEFT).SetTitle(chart.GetYAxisTitle())
    plot.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(chart.GetXAxisTitle())
    plot.GetAxis(vtk.vtkAxis.BOTTOM).SetCustomTickPositions(positions, labels)
    return views.image_of(view.GetRenderWindow())


def _use_font_of_the_system():
    """Qt's offscreen platform has no fonts of its own."""
    for path in Path("/usr/share/fonts").rglob("*.ttf"):
        QFontDatabase.addApplicationFont(str(path))


def _provide_python():
    """PythonSlicer on the path, as in Slicer."""
    launcher = FILES / "bin" / "PythonSlicer"
    launcher.parent.mkdir(exist_ok=True)
    launcher.write_text(LAUNCHER.format(python=sys.executable), encoding="utf-8")
    launcher.chmod(0o755)
    os.environ["PATH"] = f"{launcher.parent}{os.pathsep}{os.environ['PATH']}"
