"""Plays the tutorial and the teaching by clicks in the test window, with the bundled model, and takes its pictures.

    python Testing/panel/take_pictures.py [--tutorial-only] [FOLDER]

``make pictures`` puts them where the documentation shows them, in Resources/Screenshots. Everything is real: a scan is
detected, reviewed and exported; then, which takes minutes, cases are checked and a model is retrained and compared.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from picture_stage import FILES, ROOT, Stage, bar_chart_image  # isort: skip  # sets the paths

import application
import numpy as np
import qt
import slicer
from operating import activate_row, choose, click, press_key, type_path, wait_until


def play(folder, tutorial_only=False):
    """All pictures."""
    for name in ("Export", "Jaws", "data"):
        shutil.rmtree(FILES / name, ignore_errors=True)
    stage = Stage(folder)
    detect(stage)
    review(stage)
    export(stage)
    compare(stage)
    if not tutorial_only:
        import take_learning_pictures

        take_learning_pictures.play(stage)
    application.close_panel(stage.panel)


def detect(stage):
    """From Sample Data to proposals."""
    import SampleData  # there once the application has started

    ui = stage.ui
    SampleData.SampleDataLogic().downloadSamples("MandibularMolarPhantom")
    activate_row(qt.unwrapped(ui.volumeSelector)._combo, "Jaw phantom")
    choose(ui.modelSelector, next(title for title in model_titles(ui) if "molar" in title.lower()))
    stage.take("load", "Sample Data > Jaw phantom; Volume: Jaw phantom; Model: lower molars")
    click(ui.applyButton)
    wait_until(lambda: not stage.panel.detection.run, 900)
    stage.take("detect", "Detect landmarks")


def model_titles(ui):
    """The rows of the model selector."""
    return [ui.modelSelector.itemText(row) for row in range(ui.modelSelector.count)]


def review(stage):
    """The landmark that lies farthest from the true place is dragged there, and the others are accepted."""
    from test_review_by_clicks import click_row, rows

    ui, panel = stage.ui, stage.panel
    click(ui.teethButton)
    stage.take("review", "Teeth")
    reference = slicer.mrmlScene.GetFirstNodeByName("Jaw phantom reference")
    points = ui.reviewSelector.currentNode()
    found, true = places_of(points), places_of(reference)
    name = max(found, key=lambda name: np.linalg.norm(found[name] - true[name]))
    click_row(panel, name)
    view = max(stage.slices.values(), key=lambda view: in_plane(view, found[name], true[name]))
    view.render()
    view.drag(view.pixel_of(found[name]), view.pixel_of(true[name]))
    wait_until(lambda: not panel.review._timer.active, 5)
    stage.take("correct", f"row {name}; the point dragged in the {view.node.GetOrientation().lower()} view")
    keys = 0
    press_key(ui.reviewTable, "N")
    while any(row[1] in ("to check", "absent?") for row in rows(panel)):
        press_key(ui.reviewTable, "Space")
        keys += 1
    click_row(panel, name)
    stage.take("reviewed", f"N; Space {keys} times; row {name}")


def places_of(node):
    """{name: (3,) RAS mm} of the points of a list that have a position."""
    count, status = node.GetNumberOfControlPoints(), node.GetNthControlPointPositionStatus
    defined = [k for k in range(count) if status(k) == node.PositionDefined]
    return {node.GetNthControlPointLabel(k): np.array(node.GetNthControlPointPositionWorld(k)) for k in defined}


def in_plane(view, start, end):
    """How far, in pixels, two places lie from each other in a view."""
    return float(np.linalg.norm(np.subtract(view.pixel_of(start), view.pixel_of(end))))


def export(stage):
    """The corrected points as files."""
    ui, folder = stage.ui, FILES / "Export"
    folder.mkdir()
    type_path(ui.exportPath, folder)
    click(ui.exportButton)
    assert "Exported" in ui.reviewStatusLabel.text, ui.reviewStatusLabel.text
    stage.take("export", "Export points to the folder beside it")


def compare(stage):
    """The points beside the true ones."""
    ui = stage.ui
    click(ui.compareSection)
    activate_row(qt.unwrapped(ui.referenceSelector)._combo, "Jaw phantom reference")
    click(ui.compareButton)
    chart = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    words = "Teach, Compare; Reference: Jaw phantom reference; Compare with the reference"
    stage.take("compare", words, chart=bar_chart_image(chart), top=ui.compareSection)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tutorial-only", action="store_true", help="without the teaching, which takes minutes")
    parser.add_argument("folder", nargs="?", default=ROOT / "pictures", help="for the pictures")
    arguments = parser.parse_args()
    play(arguments.folder, arguments.tutorial_only)
