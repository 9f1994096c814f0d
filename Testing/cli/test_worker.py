"""The command line as a program that stays: events, models that stay loaded, and how it ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_tiny_package

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cohort import detectors as detect
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.images import write_volume

ROOT = Path(__file__).resolve().parents[2]
ON_WINDOWS = os.name == "nt"


@pytest.fixture
def tiny(tmp_path):
    """Path of a tiny model package."""
    return write_tiny_package(tmp_path / "tiny").path


@pytest.fixture
def scan(tmp_path):
    """Path of a small scan."""
    array = np.random.default_rng(0).normal(0, 300, (24, 22, 20)).astype(np.int16)
    write_volume(tmp_path / "scan.nrrd", Volume(array, np.diag([2.0, 2.0, 2.0, 1.0])))
    return tmp_path / "scan.nrrd"


class Program:
    """A worker with its folder."""

    def __init__(self, tmp_path, *words):
        self.folder = tmp_path / "worker"
        self.folder.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, *(words or ("-m", "H3DELandmarksLib.cli.worker")), self.folder],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def send(self, arguments, folder):
        line = json.dumps({"arguments": [str(argument) for argument in arguments], "folder": str(folder)})
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, arguments, folder):
        """Run a command; its events."""
        self.send(arguments, folder)
        events = []
        while not events or events[-1]["event"] != "done":
            events.append(json.loads(self.process.stdout.readline()))
        return events

    def close(self):
        """Let its input end; the exit code, what it printed for people."""
        self.process.stdin.close()
        self.process.stdin = None
        output, errors = self.process.communicate(timeout=60)
        assert output == b""
        return self.process.returncode, errors.decode()


@pytest.fixture
def program(tmp_path):
    """Starts programs, and ends what is left of them."""
    started = []

    def start(*words):
        started.append(Program(tmp_path, *words))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.02)


def test_commands_run_one_after_the_other_and_say_how_they_ended(program, tiny, scan, tmp_path):
    worker = program()
    command = ["detect", scan, "--model", tiny, "--output", tmp_path / "out", "--device", "cpu"]
    first = worker.ask(command, tmp_path / "run")
    second = worker.ask([*command, "--overwrite"], tmp_path / "run")
    missing = worker.ask(["detect", tmp_path / "nothing.nrrd", "--model", tiny, "--output", tmp_path], tmp_path / "run")
    wrong = worker.ask(["detect", "--nonsense"], tmp_path / "run")
    assert [events[-1]["code"] for events in (first, second, missing, wrong)] == [0, 0, 2, 2]
    results = [next(e for e in events if e["event"] == "result") for events in (first, second)]
    assert results[0]["scans"][0]["landmarks"] == results[1]["scans"][0]["landmarks"]
    assert {event["event"] for event in first} == {"progress", "result", "done"}
    assert worker.close()[0] == 0 and not worker.folder.exists()


def test_a_command_that_fails_before_pytorch_is_there_ends_no_program(program, tmp_path):
    (tmp_path / "slow").mkdir()
    code = "import sys, time; sys.is_slow = True; time.sleep(5); raise ImportError"
    (tmp_path / "slow" / "torch.py").write_text(code, encoding="utf-8")
    code = (
        "import sys, time; from H3DELandmarksLib.cli import worker\n"
        "class Slow(worker.Worker):\n"
        "    def _run(self, command):\n"
        "        while not hasattr(sys, 'is_slow'): time.sleep(0.01)\n"
        "        return super()._run(command)\n"
        f"worker.Worker = Slow; sys.path.insert(0, {str(tmp_path / 'slow')!r})\n"
        "sys.exit(worker.serve([sys.argv[1], '--detects']))"
    )
    worker = program("-c", code)
    for _ in range(2):
        assert worker.ask(["models", "--nonsense"], tmp_path / "run")[-1] == {"event": "done", "code": 2}
    assert worker.close()[0] == 0


@pytest.mark.parametrize("detects", [[], ["--detects"]])
@pytest.mark.parametrize("kind", ["ImportError", "OSError"])
def test_a_pytorch_that_cannot_be_loaded_is_told_with_the_reason(program, tmp_path, scan, tiny, kind, detects):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text(f"raise {kind}('lib.so: cannot open')", encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'broken')!r})\n"
        f"from H3DELandmarksLib.cli import worker\nsys.exit(worker.serve([sys.argv[1], *{detects}]))"
    )
    worker = program("-c", code)
    for _ in range(2):
        events = worker.ask(["detect", scan, "--model", tiny, "--output", tmp_path / "out"], tmp_path / "run")
        told = next(event["message"] for event in events if event["event"] == "error")
        assert told.startswith("PyTorch is installed, but cannot be loaded (lib.so: cannot open)")


def test_what_others_print_is_no_event(program, tmp_path):
    worker = program()
    events = worker.ask(["--version"], tmp_path / "run")
    assert events == [{"event": "done", "code": 0}]
    assert __version__ in worker.close()[1]


def test_the_program_ends_when_nobody_asks(program):
    code = (
        "import sys; from H3DELandmarksLib.cli import worker\n"
        "sys.exit(worker.Worker(sys.argv[1], sys.stdout).run(seconds_idle=0.2))"
    )
    worker = program("-c", code)
    assert worker.process.wait(60) == 0 and not worker.folder.exists()


SLOW = """
import os, signal, sys, time
from pathlib import Path
from H3DELandmarksLib.cli import worker

def slow(arguments, program, events):
    Path(arguments[0]).write_text("begun")
    if "keep" in arguments:  # as training, which keeps what it has learnt
        def keep(number, frame):
            Path(arguments[1]).write_text("kept")
            os._exit(3)
        signal.signal(signal.SIGTERM, keep)
        Path(arguments[0]).write_text("listens")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.01)

worker.main = slow
sys.exit(worker.Worker(sys.argv[1], sys.stdout).run())
"""


@pytest.mark.parametrize("keeps", [False, True], ids=["at once", "after it has kept its work"])
def test_the_program_ends_when_the_other_end_is_gone(program, tmp_path, keeps):
    worker, run = program("-c", SLOW), tmp_path / "run"
    run.mkdir()
    (run / "scan.nrrd").write_bytes(b"a patient")
    begun, kept = tmp_path / "begun", tmp_path / "kept"
    worker.send([begun, kept, *["keep"] * keeps], run)
    wait(lambda: begun.exists() and begun.read_text() == ("listens" if keeps else "begun"))
    start = time.monotonic()
    worker.process.stdin.close()
    assert worker.process.wait(30) == (3 if keeps else 130) and time.monotonic() - start < 10
    worker.process.stdin = None
    assert kept.exists() == keeps
    if not keeps:
        assert not run.exists() and not worker.folder.exists()


@pytest.mark.skipif(ON_WINDOWS, reason="no signal ends a program there at once")
def test_a_killed_program_at_the_other_end_leaves_neither_program_nor_scan(tmp_path):
    other = (
        "import json, subprocess, sys, time\n"
        f"worker = subprocess.Popen([sys.executable, '-c', {SLOW!r}, sys.argv[1]], stdin=subprocess.PIPE)\n"
        "line = json.dumps({'arguments': [sys.argv[3], sys.argv[3]], 'folder': sys.argv[2]})\n"
        "worker.stdin.write(line.encode() + b'\\n'); worker.stdin.flush()\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    folders, begun = [tmp_path / "worker", tmp_path / "run"], tmp_path / "begun"
    for folder in folders:
        folder.mkdir()
        (folder / "scan.nrrd").write_bytes(b"a patient")
    slicer = subprocess.Popen([sys.executable, "-c", other, *folders, begun], cwd=ROOT, stdout=subprocess.PIPE)
    pid = int(slicer.stdout.readline())
    wait(begun.exists)
    slicer.kill()
    slicer.wait()
    slicer.stdout.close()
    wait(lambda: not _is_running(pid), 10)
    assert not any(folder.exists() for folder in folders)


def _is_running(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# Models that stay loaded


@pytest.fixture
def kept(monkeypatch):
    """Detectors stay loaded, as in the program, and for this test only."""
    monkeypatch.setattr(detect, "_kept", None)
    detect.keep_detectors()


def test_a_model_is_loaded_once_until_its_files_change(kept, tiny):
    first = detect.load_detector(str(tiny), "cpu")
    assert detect.load_detector(str(tiny), "cpu") is first
    weights = tiny / "localizer.safetensors"
    os.utime(weights, ns=(0, 0))
    second = detect.load_detector(str(tiny), "cpu")
    assert second is not first
    weights.unlink()
    with pytest.raises(Exception, match=r"localizer\.safetensors"):
        detect.load_detector(str(tiny), "cpu")


def test_other_settings_load_another_detector_and_few_are_kept(kept, tiny, tmp_path):
    first = detect.load_detector(str(tiny), "cpu")
    assert detect.load_detector(str(tiny), "cpu", precision="fp32") is not first
    assert detect.load_detector(str(tiny), "cpu") is first
    for number in range(detect.MOST_KEPT):
        detect.load_detector(str(write_tiny_package(tmp_path / f"other {number}").path), "cpu")
    assert len(detect._kept) == detect.MOST_KEPT and detect.load_detector(str(tiny), "cpu") is not first


def test_a_detector_whose_gpu_has_failed_is_loaded_again(kept, tiny):
    first = detect.load_detector(str(tiny), "cpu")
    first.networks[-1].engine.has_fallen_back = True
    assert detect.load_detector(str(tiny), "cpu") is not first


def test_one_command_loads_its_own_detector(tiny, monkeypatch):
    monkeypatch.setattr(detect, "_kept", None)  # as in each new process
    assert detect.load_detector(str(tiny), "cpu") is not detect.load_detector(str(tiny), "cpu")
