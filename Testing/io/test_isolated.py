"""Reading in another process: the same results, and a sentence where it crashes, stops or asks for too much."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hostile_reader import READ_VOLUME, ends, is_running

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io import images, isolated
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.isolated import IsolatedReader

ON_LINUX = sys.platform == "linux"
AFFINE = np.diag([0.5, 0.6, 0.7, 1.0])


@pytest.fixture(scope="module")
def reader():
    reader = IsolatedReader(patience_s=2.0)
    yield reader
    reader.close()


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.nrrd"
    write_volume(path, Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE))
    return path


# The same results


def test_a_scan_is_the_same_as_read_here(scan):
    here, there = images.read_volume(scan), isolated.read_volume(scan)
    np.testing.assert_array_equal(there.array, here.array, strict=True)
    np.testing.assert_array_equal(there.affine, here.affine, strict=True)
    there.array[0, 0, 0] = 7  # it can be changed as any other
    assert isolated.read_volume(str(scan), (1.0, 2.0, 3.0)).spacing.tolist() == [1, 2, 3]


def test_a_large_scan_comes_over_unchanged(tmp_path):
    array = np.random.default_rng(0).integers(-1000, 3000, (120, 130, 140)).astype(np.int16)
    write_volume(tmp_path / "large.nii", Volume(array, AFFINE), compress=False)
    np.testing.assert_array_equal(isolated.read_volume(tmp_path / "large.nii").array, array)


def test_paths_relative_to_the_folder_at_hand(scan, tmp_path, monkeypatch):
    for folder in (tmp_path, tmp_path.parent, tmp_path):
        monkeypatch.chdir(folder)
        assert isolated.read_volume(os.path.relpath(scan)).array.shape == (3, 4, 5)
    with pytest.raises(InputError, match="^'none.nrrd' does not exist"):
        isolated.read_volume("none.nrrd")


@pytest.mark.skipif(not ON_LINUX, reason="other systems have only names of Unicode")
def test_a_name_that_is_not_utf8_gets_its_sentence(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.nrrd")
    Path(path).write_bytes(b"NRRD0005\n")
    with pytest.raises(InputError, match="UTF-8"):
        isolated.read_volume(path)


def test_warnings_of_reading_are_warnings_here(reader, caplog, capfd):
    with caplog.at_level(logging.WARNING):
        volume = reader.call(READ_VOLUME, "noise-1.nrrd")
    assert volume.array.shape == (2, 2, 2)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("H3DELandmarksLib.io.images", "'noise-1.nrrd' is odd.")
    ]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [("refused", InputError, "is refused"), ("broken", ZeroDivisionError, "odd"), ("oddly", RuntimeError, "very odd")],
)
def test_errors_of_reading_are_errors_here(reader, name, kind, text):
    with pytest.raises(kind, match=text):
        reader.call(READ_VOLUME, name)


# One file alone


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("segfault", "crash"),
        ("abort", "crash"),
        ("exit", "crash"),
        ("quit", "crash"),
        pytest.param("killed", "memory", marks=pytest.mark.skipif(not ON_LINUX, reason="signals")),
        ("spin", "without progress"),
        pytest.param("hold", "without progress", marks=pytest.mark.skipif(not ON_LINUX, reason="libc")),
        pytest.param("memory", "memory", marks=pytest.mark.skipif(not ON_LINUX, reason="limits of memory")),
    ],
)
def test_a_file_that_ends_or_stops_the_reader_costs_itself_alone(reader, scan, name, text):
    path = scan.rename(scan.with_name(f"{name}-file.nrrd"))
    begun = time.monotonic()
    with pytest.raises((InputError, MemoryError), match=text if name != "memory" else None):
        reader.call(READ_VOLUME, path)
    assert time.monotonic() - begun < 15
    good = path.rename(path.with_name("good.nrrd"))
    assert reader.call(READ_VOLUME, good).array.shape == (3, 4, 5)


@pytest.mark.skipif(not ON_LINUX, reason="only Linux tells how much is read")
def test_a_slow_drive_is_waited_for_and_circles_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(isolated, "_READ_BESIDE", 2**21)
    reader = IsolatedReader(patience_s=0.8)
    reader.call(READ_VOLUME, "process-of-its-own")
    (tmp_path / "slow-drive.nrrd").write_bytes(b"x" * 30)
    begun = time.monotonic()
    assert reader.call(READ_VOLUME, tmp_path / "slow-drive.nrrd").array.shape == (2, 2, 2)
    assert time.monotonic() - begun > 2.5
    (tmp_path / "circles").write_bytes(b"x" * 2**16)
    with pytest.raises(InputError, match="without progress"):
        reader.call(READ_VOLUME, tmp_path / "circles")
    reader.close()


def test_a_large_file_may_take_longer():
    def seconds(size):
        return isolated._Watch(os.getpid(), 20.0, size).limit_s

    assert seconds(0) == 20 and seconds(10**9) >= 20 + 10**9 / isolated._UNPACKED_PER_S


def test_one_process_reads_everything_and_another_follows_when_it_has_ended(reader):
    first = reader.call(READ_VOLUME, "process")
    assert first != os.getpid() and reader.call(READ_VOLUME, "process") == first
    os.kill(first, signal.SIGTERM)
    assert ends(first)
    assert reader.call(READ_VOLUME, "process") not in (first, os.getpid())


@pytest.mark.parametrize("program", ["", "/opt/Slicer/SlicerApp-real", "/none/python"])
def test_a_program_that_cannot_start_a_process_reads_here(scan, monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)
    reader = IsolatedReader()
    assert reader.call(READ_VOLUME, "process") == os.getpid()
    assert reader.call(isolated.READ_VOLUME, scan).array.shape == (3, 4, 5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_child_of_a_fork_has_a_process_of_its_own(reader):
    first = reader.call(READ_VOLUME, "process")
    pid = os.fork()
    if pid == 0:
        other = reader.call(READ_VOLUME, "process")
        reader.close()
        os._exit(0 if other not in (first, os.getpid()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert reader.call(READ_VOLUME, "process") == first


# Nothing is left


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where tests run in the background
from hostile_reader import READ_VOLUME, ends, is_running
from H3DELandmarksLib.io.isolated import IsolatedReader
reader = IsolatedReader()
try:
    print(reader.call(READ_VOLUME, "process"), flush=True)
    if sys.argv[1] == "idle":
        sys.stdin.read()
    else:
        reader.call(READ_VOLUME, sys.argv[1])
except KeyboardInterrupt:
    print("stopped", flush=True)
    if sys.argv[1] == "idle":
        reader.close()
"""


@pytest.mark.skipif(not ON_LINUX, reason="looks into /proc")
@pytest.mark.parametrize("busy", ["idle", "spin", "hold"])
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_the_reader_ends_with_the_program(tmp_path, busy, number):
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "Testing/helpers")])}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, busy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment, "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        start_new_session=True,
        text=True,
    )
    child = int(parent.stdout.readline())
    assert is_running(child)
    time.sleep(0.3)
    assert "/dev/shm" not in Path(f"/proc/{child}/maps").read_text()  # there could be voxels left
    if number == "SIGINT":
        os.killpg(parent.pid, signal.SIGINT)  # as Ctrl-C does, to both
        assert parent.stdout.readline() == "stopped\n"
    else:
        parent.send_signal(getattr(signal, number))
    parent.wait(10)
    assert ends(child)
    assert os.listdir(tmp_path) == []
