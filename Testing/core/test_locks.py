"""A lock is held by one and goes with its program."""

import os
import signal
import subprocess
import sys

import pytest

from H3DELandmarksLib.core.files import held, is_held

HOLDER = (
    "import sys, time; from pathlib import Path; from H3DELandmarksLib.core.files import held\n"
    "with held(Path(sys.argv[1])) as mine: print(mine, flush=True); time.sleep(60)"
)


def test_one_holds_it(tmp_path):
    path = tmp_path / "lock"
    assert not is_held(path) and not path.exists()
    with held(path) as first, held(path) as second:
        assert (first, second, is_held(path)) == (True, False, True)
    assert not is_held(path)
    with held(path) as again:
        assert again


def test_it_goes_with_a_killed_program(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline().strip() == "True"
        with held(path) as mine:
            assert not mine and is_held(path)
        os.kill(holder.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        holder.wait()
    with held(path) as mine:
        assert mine


def test_a_lock_in_no_folder_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"), held(tmp_path / "none" / "lock"):
        pass
    assert not is_held(tmp_path / "none" / "lock")
