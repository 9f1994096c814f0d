"""What libraries of readers have done to hostile files, by the name of the file; all others are really read."""

import ctypes
import logging
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io import images

READ_VOLUME = f"{__name__}:read_volume"


class Unportable(Exception):
    """An error that cannot be made again from its arguments."""

    def __init__(self, one, other):
        super().__init__(one + other)


def read_volume(path, spacing=None, series=None, as_stored=False, needs_size=True):
    """As `io.images.read_volume`."""
    misdeed = MISDEEDS.get(Path(path).name.partition("-")[0])
    return misdeed(path) if misdeed else images.read_volume(path, spacing, series, as_stored)


def hold_everything(path):
    ctypes.PyDLL(None).sleep(600)  # in C, and without letting other threads run


def spin(path):
    while True:
        pass


def read_in_circles(path):
    while True:
        Path(path).read_bytes()


def read_slowly(path):
    with Path(path).open("rb", buffering=0) as file:
        while file.read(1):
            time.sleep(0.1)
    return Volume(np.zeros((2, 2, 2)), np.eye(4))


def fill_memory(path):
    return [np.ones(2**27) for _ in range(64)]


def print_much(path):
    print("noise" * 10000)
    os.write(1, b"more noise")
    os.write(2, b"and more")
    warnings.warn("noise of a library", stacklevel=1)
    logging.getLogger("pydicom").warning("noise of another library")
    logging.getLogger("H3DELandmarksLib.io.images").warning("'%s' is odd.", path)
    return Volume(np.zeros((2, 2, 2)), np.eye(4))


def refuse(path):
    raise InputError(f"'{path}' is refused.")


def break_down(path):
    raise ZeroDivisionError("odd")


def break_down_oddly(path):
    raise Unportable("very ", "odd")


def tell_process(path):
    return os.getpid()


MISDEEDS = {
    "segfault": lambda path: ctypes.string_at(0),
    "abort": lambda path: os.abort(),
    "exit": lambda path: os._exit(0),
    "killed": lambda path: os.kill(os.getpid(), 9),
    "spin": spin,
    "hold": hold_everything,
    "circles": read_in_circles,
    "slow": read_slowly,
    "memory": fill_memory,
    "noise": print_much,
    "refused": refuse,
    "broken": break_down,
    "oddly": break_down_oddly,
    "process": tell_process,
    "quit": lambda path: sys.exit(3),
}


def is_running(pid):
    """Whether a process is there and has not ended; its first thread may have ended before the others."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def ends(pid, seconds=5.0):
    """Whether it ends soon."""
    until = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_running(pid)
