"""Reading in a process of its own, so that a file which crashes, stops or fills the reader costs that file alone.

One reader process serves all files in turn; it starts when it is first needed and again after it has ended. Requests
and answers are pickled and go through pipes, voxels as plain bytes, so that nothing of a patient is left behind however
the processes end. What the reader logs is logged here.

A file is given up when nothing of it was read for `PATIENCE_S`, and longer by its size, which is what unpacking takes.
Only Linux tells how much a process reads; elsewhere a file may take as long as it takes a slow drive. On Linux the
reader may use the memory that is free, and for small files less; elsewhere the checks of headers have to do. A reader
whose parent was killed ends at once on Linux, elsewhere when it has answered, or after `_ORPHAN_S`.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib
import logging
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.core.files import shown, walked
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.checks import Spacing
from H3DELandmarksLib.io.scan_folders import FoundScans

log = logging.getLogger(__name__)

READ_VOLUME = "H3DELandmarksLib.io.images:read_volume"
FIND_SCANS = "H3DELandmarksLib.io.scan_folders:find_scans"
PATIENCE_S = 20.0
START_S = 120.0
_TICK_S = 0.25
_UNPACKED_PER_S, _READ_PER_S = 5e6, 1e6  # bytes of a file, on a slow computer and from a slow drive
_READ_TIMES, _READ_BESIDE = 8, 2**24  # how often reading may read a file, and bytes of the program itself
_FREE_BYTES, _BYTES_PER_BYTE = 2**31, 600  # memory for any file, and for each of its bytes
_ORPHAN_S = 3600.0
_PIPE_BYTES = 2**20  # faster than the usual 64 KB by half, and than memory that both processes share
_PACKAGE = "H3DELandmarksLib"
_BOOT = "import sys; sys.path[:] = {path}; from H3DELandmarksLib.io.isolated import _serve; _serve({module!r})"


def read_volume(
    path: str | Path,
    spacing: Spacing | None = None,
    series: str | None = None,
    as_stored: bool = False,
    needs_size: bool = True,
) -> Volume:
    """Read a scan in the reader process; arguments, result and errors as of `io.images.read_volume`.

    Raises:
        InputError: also where reading crashed, made no progress, needed too much memory or met an error of another
            kind.
    """
    try:
        return _free_reader().call(READ_VOLUME, path, spacing, series, as_stored, needs_size)
    except (H3DELandmarksError, ImportError):
        raise
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:
        raise InputError(
            f"'{shown(path)}' cannot be read ({type(error).__name__}): export or copy it again."
        ) from error


def find_scans(folder: str | Path, radiographs: bool = False, series: str | None = None) -> FoundScans:
    """Look through a folder in the reader process; arguments and result as of `io.scan_folders.find_scans`.

    Raises:
        InputError: looking crashed, made no progress or needed too much memory.
    """
    return _SHARED.call(FIND_SCANS, folder, radiographs, series)


def start_reader() -> None:
    """Start the reader process already, so that it is there once something is to be read; does not wait for it."""
    _SHARED.start(READ_VOLUME)


def allow_readers(count: int) -> None:
    """Let so many processes read scans at the same time; each starts when the others are busy."""
    _MORE[count - 1 :] = []
    _MORE.extend(IsolatedReader() for _ in range(count - 1 - len(_MORE)))


def interrupt() -> None:
    """End the reading of all threads, each of which is told that its file has made reading crash."""
    for reader in (_SHARED, *_MORE):
        reader.interrupt()


def _free_reader() -> IsolatedReader:
    return next((reader for reader in (_SHARED, *_MORE) if not reader.is_busy), _SHARED)


class IsolatedReader:
    """Calls functions that read files in another process. One call at a time; threads wait for each other."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        """Args: seconds without progress after which a small file is given up."""
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._owner = os.getpid()

    def start(self, function: str) -> None:
        """Start the process and have it import a function's module, without waiting for it."""
        with self._lock:
            self._running(function)

    def call(self, function: str, path: str | Path, *arguments: Any) -> Any:
        """Call a function there.

        Args:
            function: as ``module:name``.
            path: its first argument, the file or folder to read.
            arguments: the others; they and the result can be pickled.

        Returns:
            What the function returns.

        Raises:
            InputError: the call crashed, made no progress or needed too much memory.
            Exception: what the function raises.
        """
        with self._lock:
            process = self._running(function)
            if process is None:
                return _function(function)(path, *arguments)
            try:
                process.ask((function, os.fsencode(path), arguments, _folder_at_hand(), _level()))
                kind, value = process.answer(path, self._patience_s)
            except BaseException:  # also Ctrl-C: what the process is doing is not wanted any more
                self._end()
                raise
        if kind == "failed":
            raise value
        return value

    @property
    def is_busy(self) -> bool:
        """Whether a call is going on."""
        return self._lock.locked()

    def interrupt(self) -> None:
        """End the process at once, also within the call of another thread."""
        process = self._process
        if process is not None:
            process.end()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        with self._lock:
            self._end()

    def _running(self, function: str) -> _Process | None:
        """The process, which is started where there is none; None where this program cannot start one."""
        if self._owner != os.getpid():  # this is the child of a fork, and the process belongs to its parent
            self._process, self._owner = None, os.getpid()
        if self._process is not None and self._process.is_running():
            return self._process
        self._end()
        if "python" not in Path(sys.executable or "").name.lower():  # embedded, so that it would start another program
            return None
        try:
            self._process = _Process(function.partition(":")[0])
        except OSError as error:
            log.info("No process can be started to read scans (%s).", error)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


class _Process:
    """The other process, and the messages that come from it."""

    def __init__(self, module: str) -> None:
        """Args: module that it imports at once. Raises OSError where it cannot be started."""
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _BOOT.format(path=ascii(sys.path), module=module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=_PIPE_BYTES,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._requests = self._popen.stdin
        self._messages: queue.SimpleQueue = queue.SimpleQueue()
        self._is_ready = False
        threading.Thread(target=_pump, args=(self._popen.stdout, self._messages), daemon=True).start()

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def ask(self, request: tuple) -> None:
        with contextlib.suppress(OSError):  # it has ended, which the answer tells
            _send(self._requests, request)

    def answer(self, path: str | Path, patience_s: float) -> tuple[str, Any]:
        """The kind "returned" or "failed", and the result or the error."""
        watch: _Watch | None = _Watch(self._popen.pid, patience_s if self._is_ready else START_S)
        while True:
            try:
                message = self._messages.get(timeout=_TICK_S)
            except queue.Empty:
                if watch is not None and watch.is_over():
                    raise _stopped(path, watch.limit_s) from None
                continue
            if message is None:
                raise _crashed(path, self._popen.wait())
            kind, value = message
            if kind in ("returned", "failed"):
                return kind, value
            if kind == "logged":
                logging.getLogger(value.name).handle(value)
            elif kind == "size":
                self._is_ready = True
                watch = _Watch(self._popen.pid, patience_s, value)
            else:  # "done": what remains is to hand the result over
                watch = None

    def end(self) -> None:
        self._popen.kill()
        self._popen.wait()
        with contextlib.suppress(OSError):
            self._requests.close()


class _Watch:
    """Notices when a process does not read on.

    Attributes:
        limit_s: seconds without progress that it waits.
    """

    def __init__(self, pid: int, patience_s: float, size: int = 0) -> None:
        """Args: the process, the patience for small files, and how many bytes there are to read."""
        self._counters = Path(f"/proc/{pid}/io")
        begun = self._bytes_read()
        self.limit_s = patience_s + size / (_READ_PER_S if begun is None else _UNPACKED_PER_S)
        self._read = begun or 0
        self._most = self._read + size * _READ_TIMES + _READ_BESIDE  # what reads more goes round in circles
        self._idle_s, self._last = 0.0, time.monotonic()

    def is_over(self) -> bool:
        """Look again."""
        now, read = time.monotonic(), min(self._bytes_read() or 0, self._most)
        # A computer that slept in between, or this program stopped by Ctrl-Z, is no reason to give up.
        self._idle_s = 0.0 if read > self._read else self._idle_s + min(now - self._last, 1.0)
        self._read, self._last = read, now
        return self._idle_s > self.limit_s

    def _bytes_read(self) -> int | None:
        try:
            return int(self._counters.read_text().split()[1])  # "rchar: 123"
        except (OSError, ValueError, IndexError):
            return None


def _stopped(path: str | Path, seconds: float) -> InputError:
    return InputError(
        f"'{shown(path)}' was given up after {seconds:.0f} s without progress in reading it: it is damaged, or its "
        "drive does not answer; export or copy it again."
    )


def _crashed(path: str | Path, status: int) -> InputError:
    if hasattr(signal, "SIGKILL") and status == -signal.SIGKILL:  # of the system, when memory runs out
        return _too_large(path)
    return InputError(f"'{shown(path)}' made reading crash, so it is damaged: export or copy it again.")


def _too_large(path: str | Path) -> InputError:
    return InputError(f"'{shown(path)}' needs more memory than there is: close other programs or crop the scan.")


def _folder_at_hand() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _level() -> int:
    return logging.getLogger(_PACKAGE).getEffectiveLevel()


# Messages: how many parts, their lengths, and the parts: a pickle, and the bytes of its arrays


def _send(stream: IO[bytes], message: Any) -> None:
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    parts = [memoryview(body), *(array.raw() for array in arrays)]
    stream.write(struct.pack(f"<Q{len(parts)}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        stream.write(part)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    """Raises EOFError where the other side has ended."""
    (count,) = struct.unpack("<Q", _exactly(stream, 8))
    sizes = struct.unpack(f"<{count}Q", _exactly(stream, 8 * count))
    body, *arrays = (_exactly(stream, size) for size in sizes)
    return pickle.loads(body, buffers=arrays)


def _exactly(stream: IO[bytes], size: int) -> memoryview:
    data = np.empty(size, np.uint8).data
    filled = 0
    while filled < size:
        count = stream.readinto(data[filled:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        filled += count
    return data


def _pump(stream: IO[bytes], messages: queue.SimpleQueue) -> None:
    """Hand on every message, then None; waiting for a queue can be interrupted on every system, for a pipe not."""
    try:
        while True:
            messages.put(_receive(stream))
    except Exception:  # the process has ended, perhaps within a message
        messages.put(None)
    finally:
        stream.close()


# In the reader process


def _serve(module: str) -> None:
    """Answer requests until there are no more."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # libraries below print there
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the other one decides
    _die_with_parent()
    importlib.import_module(module)
    logging.getLogger(_PACKAGE).addHandler(_Forward(answers))  # what other packages warn about says nothing to users
    logging.getLogger().addHandler(logging.NullHandler())
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            _send(answers, _answered(answers, *_receive(requests)))


def _die_with_parent() -> None:
    """Where the system can do that; elsewhere the end of the requests, or of `_ORPHAN_S`, ends the process."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory runs out, this process goes first


def _answered(
    answers: IO[bytes], function: str, name: bytes, arguments: tuple, folder: str | None, level: int
) -> tuple[str, Any]:
    """The last message of a request."""
    try:
        logging.getLogger(_PACKAGE).setLevel(level)
        if folder is not None:
            os.chdir(folder)
        path = Path(os.fsdecode(name))
        size = sum(_sizes(path))
        _send(answers, ("size", size))
        _limit_memory(size)
        faulthandler.dump_traceback_later(_ORPHAN_S + size / _READ_PER_S, exit=True, file=2)
        result = _function(function)(path, *arguments)
        faulthandler.cancel_dump_traceback_later()
        _send(answers, ("done", None))
        return "returned", result
    except BrokenPipeError:
        raise
    except Exception as error:
        return "failed", _portable(error)


def _function(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _portable(error: Exception) -> Exception:
    """The error, or one of its text where it cannot be pickled."""
    error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _sizes(path: Path) -> Iterator[int]:
    """Bytes of the file, or of everything that belongs to it or lies in the folder."""
    if path.suffix.lower() in (".nhdr", ".mhd") or path.name.upper() == "DICOMDIR":
        path = path.parent
    if not path.is_dir():
        yield path.stat().st_size if path.is_file() else 0
        return
    for place, _, files in walked(path):
        for file in files:
            with contextlib.suppress(OSError):
                yield os.stat(os.path.join(place, file)).st_size


def _limit_memory(size: int) -> None:
    """Let this process have what is free, and for small files no more than they explain."""
    free, used = free_memory(), _memory("/proc/self/status", "VmData:")
    if free is None or used is None:
        return
    import resource

    limit = used + min(free, _FREE_BYTES + size * _BYTES_PER_BYTE)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def free_memory() -> int | None:
    """Bytes of memory that programs may still take; None on systems that do not tell."""
    return _memory("/proc/meminfo", "MemAvailable:")


def _memory(file: str, name: str) -> int | None:
    """Bytes, of a table of the Linux kernel; None on other systems."""
    try:
        lines = Path(file).read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
    except (OSError, ValueError, IndexError):
        return None


class _Forward(logging.Handler):
    """Hands log messages on to the process that asked."""

    def __init__(self, answers: IO[bytes]) -> None:
        super().__init__()
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        _send(self._answers, ("logged", record))


def _close_all() -> None:
    for reader in (_SHARED, *_MORE):
        reader.close()


_SHARED = IsolatedReader()
_MORE: list[IsolatedReader] = []
atexit.register(_close_all)
