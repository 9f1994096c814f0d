"""The program that detects stays for the next detection, ends with what it belongs to, and leaves no scan behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import slicer
from operating import add_volume, click, files_of_runs, is_running, type_path, wait_until, worker_processes
from scene_voxels import head

from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.scene import landmarks_from_point_list

LEFT = "H3DELandmarks-left"


@pytest.fixture
def panel(open_panel, tiny_model):
    """The panel with one model and one volume."""
    add_volume()
    return open_panel()


def detect(panel):
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    assert "3 of 3 landmarks found" in panel.ui.statusLabel.text
    return landmarks_from_point_list(panel.ui.pointListSelector.currentNode())


def test_a_second_detection_runs_in_the_same_program(panel):
    first = detect(panel)
    processes = worker_processes()
    assert len(processes) == 2, "a launcher and the Python that it starts"
    second = detect(panel)
    assert worker_processes() == processes and files_of_runs() == []
    np.testing.assert_array_equal(second.positions, first.positions)


def test_ranking_uses_the_program_that_has_detected(panel, tmp_path):
    detect(panel)
    processes = worker_processes()
    (tmp_path / "scans").mkdir()
    write_volume(tmp_path / "scans" / "head.nrrd", head(0)[0])
    ui = panel.learning.ui
    click(ui.nextCaseSection)
    type_path(ui.scansPath, tmp_path / "scans")
    click(ui.rankButton)
    wait_until(lambda: not panel.learning.nextCase.progress.isRunning)
    assert "1 scans in random order" in ui.rankLabel.text and worker_processes() == processes


@pytest.mark.parametrize("end", ["scene", "panel"])
def test_the_program_ends_with_the_scene_and_the_panel(panel, scene, end):
    detect(panel)
    processes = worker_processes()
    {"scene": lambda: scene.Clear(False), "panel": panel.cleanup}[end]()
    wait_until(lambda: not any(map(is_running, processes)), seconds=5)
    assert os.listdir(slicer.app.temporaryPath) == []


def test_a_program_that_has_died_meanwhile_is_replaced(panel):
    detect(panel)
    processes = worker_processes()
    for process in processes:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, processes)), seconds=5)
    detect(panel)
    assert not set(worker_processes()) & set(processes)


def test_a_program_of_another_environment_is_replaced(panel, monkeypatch):
    detect(panel)
    processes = worker_processes()
    monkeypatch.setenv("H3DE_MODELS", os.environ["H3DE_MODELS"] + os.pathsep)
    detect(panel)
    assert not set(worker_processes()) & set(processes)


def test_a_changed_model_is_loaded_again(panel, tiny_model):
    detect(panel)
    processes = worker_processes()
    weights = tiny_model / "localizer.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-4] + b"abcd")
    click(panel.ui.applyButton)
    wait_until(lambda: not panel.detection.run)
    assert "SHA-256" in panel.ui.statusLabel.text
    weights.write_bytes(kept)
    detect(panel)
    assert worker_processes() == processes, "an error that is told ends no program"


# What a crash, or a system that holds on to files, leaves


def leave(name=LEFT, lock=True):
    """A folder with a scan as an ended Slicer leaves it."""
    folder = Path(slicer.app.temporaryPath) / name
    folder.mkdir()
    (folder / "scan.nrrd").write_bytes(b"a patient")
    if lock:
        (folder / "in-use.lock").touch()
    return folder


def test_what_a_crash_has_left_is_removed_when_the_panel_opens(open_panel, models, scene):
    left = leave()
    old = leave("H3DELandmarks-old", lock=False)
    os.utime(old, (0, 0))
    others = [leave("another module's"), leave("H3DELandmarks-new", lock=False)]
    open_panel()
    assert not left.exists() and not old.exists() and all(folder.exists() for folder in others)


@pytest.mark.skipif(os.name == "nt", reason="locks of another kind")
def test_what_another_slicer_uses_stays(open_panel, models, scene):
    left = leave()
    code = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'ab'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, left / "in-use.lock"], stdout=subprocess.PIPE)
    other.stdout.readline()
    open_panel()
    assert left.exists()
    other.kill()
    other.wait()
    other.stdout.close()
    open_panel()
    assert not left.exists()


def test_what_could_not_be_removed_is_removed_at_the_next_start(panel, monkeypatch):
    remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda folder, ignore_errors=False: None)  # as Windows, of an open file
    detect(panel)
    assert any(name.endswith("scan.nrrd") for name in files_of_runs())
    monkeypatch.setattr(shutil, "rmtree", remove)
    detect(panel)
    assert files_of_runs() == []


PLAY = """
import os, sys, time
from pathlib import Path
import application
app = application.start()
module = application.load_module(sys.argv[1])
app.temporaryPath = sys.argv[2]
import numpy as np, slicer.util
slicer.util.addVolumeFromArray(np.random.default_rng(0).normal(0, 300, (150, 150, 150)).astype(np.int16), name="CT")
panel = application.open_panel(module)
panel.ui.applyButton.click()
while not (panel.detection.run and panel.detection.run.progress):
    app.processEvents()
    time.sleep(0.01)
print("detects", flush=True)
time.sleep(600)
"""


def test_a_crash_of_slicer_ends_the_program_and_leaves_no_scan(tiny_model, python_slicer, scene, tmp_path):
    root = Path(__file__).resolve().parents[2]
    temporary = tmp_path / "of the other Slicer"
    temporary.mkdir()
    paths = os.pathsep.join(map(str, (root / "Testing" / "standin", root / "Testing" / "panel")))
    words = [sys.executable, "-c", PLAY, str(root / "H3DELandmarks" / "H3DELandmarks.py"), str(temporary)]
    other = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE)
    assert other.stdout.readline().strip() == b"detects"
    processes = worker_processes()
    assert len(processes) >= 2 and list(temporary.glob("*/scan.nrrd"))
    other.kill()
    other.wait()
    other.stdout.close()
    end = time.monotonic() + 10
    while any(map(is_running, processes)) or list(temporary.glob("*/*.nrrd")):
        assert time.monotonic() < end, "the program or the scan is still there"
        time.sleep(0.05)
