"""The part of take_pictures.py that teaches: cases are kept and checked, and a model is retrained and compared.

Everything is real: the sample joins cases of simulated jaws, two points of one of them were exchanged on purpose, and
the bundled model is retrained for a few steps. Takes some minutes.
"""

import os
import shutil

import numpy as np
import qt
from operating import click, press, type_path, wait_until
from picture_stage import FILES
from PySide6.QtCore import QPoint

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, create_project
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.models import find_model
from H3DELandmarksResearch.phantom import generate_phantom

MODEL_TITLE = "mandibular-molar-phantom"
CASES, STEPS, HELD_OUT = 11, 16, 45
SCANS = 4
SPACING_MM = 0.9


def play(stage):
    """The teaching, after the sample was detected and reviewed."""
    os.environ["XDG_DATA_HOME"] = str(FILES / "data")  # versions of models go there, in child processes, too
    write_jaws(FILES / "simulated jaws" / "Jaws")
    shutil.copytree(FILES / "simulated jaws" / "Jaws", FILES / "Jaws")
    keep_and_check(stage)
    retrain(stage)
    compare_models(stage)
    many_scans(stage)


def many_scans(stage):
    """A folder of simulated jaws, of which one file is damaged; the most doubtful one is opened for review."""
    scans, results = FILES / "Scans", FILES / "Results"
    for folder in (scans, results):
        shutil.rmtree(folder, ignore_errors=True)
    scans.mkdir()
    for seed in range(SCANS):
        jaw = generate_phantom(700 + seed, spacing=SPACING_MM)
        write_volume(scans / f"Jaw {seed + 1}.nrrd", jaw.volume)
    (scans / "Jaw 0.nrrd").write_bytes(b"NRRD0004\ndamaged")
    batch, ui = stage.panel.batch, stage.panel.batch.ui
    click(ui.batchSection)
    type_path(ui.batchScansPath, scans)
    type_path(ui.batchResultsPath, results)
    click(ui.batchButton)
    wait_until(lambda: not batch.progress.isRunning, 3600)
    table = qt.unwrapped(ui.batchTable)
    press(table.viewport(), table.visualItemRect(table.item(0, 0)).center())
    click(ui.openScanButton)
    words = "Many scans; two folders; Find landmarks in all scans; the first row; Open for review"
    stage.take("batch", words, top=ui.batchSection)


def write_jaws(folder):
    """Cases of simulated jaws, with two points of the last one exchanged.

    Simulating them takes minutes, so those of an earlier call are taken where there are any.
    """
    if folder.exists():
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


def keep_and_check(stage):
    """The case is added, and the cases are checked; the first finding that names a point is looked at."""
    from test_cases_by_clicks import choose_finding, finding_rows

    learning, ui = stage.panel.learning, stage.panel.learning.ui
    close(stage.ui.compareSection)
    click(ui.casesSection)
    type_path(ui.casesPath, FILES / "Jaws")
    click(ui.addCaseButton)
    wait_until(lambda: not learning.cases.progress.isRunning, 900)
    click(ui.checkButton)
    wait_until(lambda: not learning.check.progress.isRunning, 900)
    row = next(k for k, texts in enumerate(finding_rows(stage.panel)) if texts[1])
    choose_finding(stage.panel, row)
    stage.take("learning", "Cases; a folder; Add this case; Check the cases; row of a finding", top=ui.casesSection)
    close(ui.casesSection)


def close(section):
    """Click the header of a section that is open."""
    assert not section.collapsed
    press(qt.unwrapped(section), QPoint(40, 10))


def retrain(stage):
    """The bundled model learns for a few steps."""
    learning, ui = stage.panel.learning, stage.panel.learning.ui
    click(ui.retrainSection)
    ui.stepsSpinBox.value = STEPS
    ui.heldOutSpinBox.value = HELD_OUT
    click(ui.retrainButton)
    wait_until(lambda: not learning.retrain.progress.isRunning, 3600)
    close(ui.retrainSection)


def compare_models(stage):
    """The retrained model against the bundled one."""
    learning, ui = stage.panel.learning, stage.panel.learning.ui
    click(ui.promotionSection)
    click(ui.compareModelsButton)
    wait_until(lambda: not learning.promotion.progress.isRunning, 3600)
    words = f"Retrain, Steps {STEPS}, Held out {HELD_OUT} %, Retrain; Compare and use, Compare with the model in use"
    stage.take("promotion", words, top=ui.promotionSection)
