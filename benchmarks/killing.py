"""Work in a child process that is killed with SIGKILL at a chosen file operation, so that every moment is met once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

Work = Callable[[Callable[[str], None]], None]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate")


def count_operations(folder: Path, work: Work) -> int:
    """How many file operations below a folder some work consists of.

    Args:
        folder: others are not counted.
        work: receives a function that acknowledges a line of text.
    """
    said, status = _in_child(folder, work, stop_at=None)
    if status != 0:
        raise RuntimeError("The work failed.")
    return int(said[-1])


def kill_at(operation: int, folder: Path, work: Work) -> list[str]:
    """Do some work until its so many-th file operation, and be killed before it is done.

    A file that would be opened for writing then is left with half a content, as by a kill during writing.

    Args:
        operation: from 1; see `count_operations`.
        folder, work: as there.

    Returns:
        What the work had acknowledged.
    """
    said, status = _in_child(folder, work, stop_at=operation)
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"The work ended before its file operation {operation}.")
    return said


def _in_child(folder: Path, work: Work, stop_at: int | None) -> tuple[list[str], int]:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read_end)
            counter = _Counter(folder, stop_at)
            sys.addaudithook(counter)
            work(lambda line: os.write(write_end, f"{line}\n".encode()))
            os.write(write_end, f"{counter.count}\n".encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read().decode().splitlines()
    return said, os.waitpid(child, 0)[1]


class _Counter:
    """An audit hook that counts file operations and kills its own process at one of them."""

    def __init__(self, folder: Path, stop_at: int | None) -> None:
        self.folder, self.stop_at, self.count = str(folder), stop_at, 0

    def __call__(self, event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITING)
        if not (writes or event in EVENTS) or not self._is_below(arguments[0]):
            return
        self.count += 1
        if self.count == self.stop_at:
            self.stop_at = None
            if writes and arguments[2] & os.O_TRUNC:
                Path(os.fsdecode(arguments[0])).write_bytes(b'{"half')
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_below(self, path: object) -> bool:
        return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(self.folder)
