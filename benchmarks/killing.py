"""Work in a child process that is killed, or meets a full disk, at a chosen file operation, so that all are met."""

from __future__ import annotations

import errno
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
    said, status = _in_child(folder, work, _Counter(folder))
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
    said, status = _in_child(folder, work, _Counter(folder, operation))
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"The work ended before its file operation {operation}.")
    return said


def fail_at(operation: int, folder: Path, work: Work) -> list[str]:
    """Do some work on a disk that is full from its so many-th file operation on; only removing works then.

    Args:
        operation, folder, work: as for `kill_at`.

    Returns:
        What the work had acknowledged, and last what it raised: a class and a message; nothing where it raised nothing.
    """
    return _in_child(folder, work, _Counter(folder, operation, is_full=True))[0]


def limit_files(size: int, folder: Path, work: Work) -> list[str]:
    """Do some work where no file can grow beyond so many bytes, whoever writes it; returns the same as `fail_at`."""
    import resource

    def limited(acknowledge: Callable[[str], None]) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        work(acknowledge)

    return _in_child(folder, limited, _Counter(folder))[0]


def _in_child(folder: Path, work: Work, counter: _Counter) -> tuple[list[str], int]:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read_end)
            sys.addaudithook(counter)
            work(lambda line: os.write(write_end, f"{line}\n".encode()))
            os.write(write_end, f"{counter.count}\n".encode())
            status = 0
        except Exception as error:
            os.write(write_end, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read().decode().splitlines()
    return said, os.waitpid(child, 0)[1]


class _Counter:
    """An audit hook that counts file operations, and at one of them kills its own process or begins to refuse them."""

    def __init__(self, folder: Path, stop_at: int | None = None, is_full: bool = False) -> None:
        self.folder, self.stop_at, self.is_full, self.count = str(folder), stop_at, is_full, 0

    def __call__(self, event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITING)
        if not (writes or event in EVENTS) or not self._is_below(arguments[0]):
            return
        self.count += 1
        if self.stop_at is None or self.count < self.stop_at:
            return
        if self.is_full:
            if writes or event in ("os.mkdir", "os.link"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(arguments[0]))
            return
        self.stop_at = None
        if writes and arguments[2] & os.O_TRUNC:
            Path(os.fsdecode(arguments[0])).write_bytes(b'{"half')
        os.kill(os.getpid(), signal.SIGKILL)

    def _is_below(self, path: object) -> bool:
        return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(self.folder)
