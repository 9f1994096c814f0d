"""Programs that run beside Slicer: how they are started, asked, read and ended, and where their files lie.

A worker is the library's command line as a program that stays: it runs one command after the other, so that the second
detection imports and loads nothing. `workers` lends it, and keeps one that has done its work for the next command.
"""

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import slicer
from slicer.i18n import tr as _

import H3DELandmarksLib
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.reading import FormatError, parse_json

BYTES_PER_READ = 2**16
ON_WINDOWS = os.name == "nt"
FOLDER_PREFIX = "H3DELandmarks-"
LOCK = "in-use.lock"
SECONDS_UNTIL_FORGOTTEN = 3600.0  # where nothing tells whether a folder is in use
# A worker that waits ends by itself after five minutes (H3DELandmarksLib/cli/worker.py); it is not asked just then.
SECONDS_WARM = 290.0


def pythonExecutable():
    """Slicer's own Python for programs that run beside it; Slicer puts its folder on the path.

    Raises:
        InputError: it is not there.
    """
    found = shutil.which("PythonSlicer")
    if not found:
        raise InputError(_("Slicer's Python was not found, so nothing can be detected: install Slicer again."))
    return found


# Folders of runs

_locks = {}  # what keeps the folders of this process, by path


def newRunFolder(temporaryFolder):
    """A new folder for the files of one run, in use until `removeRunFolder`; what ended Slicers left is removed."""
    removeLeftovers(temporaryFolder)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=temporaryFolder))
    _locks[folder] = _lock(folder)
    return folder


def removeRunFolder(folder):
    """Remove a folder of `newRunFolder`; what a program that is ending still holds on Windows is left for later."""
    lock = _locks.pop(Path(folder), None)
    if lock is not None:
        lock.close()
    shutil.rmtree(folder, ignore_errors=True)


def removeLeftovers(temporaryFolder):
    """Remove the folders of runs that nobody uses any more: Slicer crashed, or Windows did not let go of a file."""
    for folder in Path(temporaryFolder).glob(f"{FOLDER_PREFIX}*"):
        if folder in _locks or not folder.is_dir():
            continue
        try:
            isUsed = not (folder / LOCK).exists() and time.time() - folder.stat().st_mtime < SECONDS_UNTIL_FORGOTTEN
            lock = None if isUsed else _lock(folder)
        except OSError:  # another Slicer has it
            continue
        if lock is not None:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)


def _lock(folder):
    """The lock of a folder as an open file; the system lets go of it when this process ends, however it does.

    Raises:
        OSError: another process has it.
    """
    file = (folder / LOCK).open("ab")
    try:
        if ON_WINDOWS:
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


# Programs


class ChildProcess:
    """A running program whose output goes to files.

    Files instead of pipes: whoever reads them never waits and needs no thread, and a flood of output ends on disk and
    not in Slicer's log.
    """

    def __init__(self, arguments, environment, folder):
        """Start a program.

        Args:
            arguments: the executable and its arguments.
            environment: variables to set beside Slicer's own.
            folder: where its output goes.
        """
        self._outputPath = Path(folder) / "output.jsonl"
        self._errorPath = Path(folder) / "messages.txt"
        # Launchers such as PythonSlicer start the real program as a child: a group of its own lets us end both.
        own = {"creationflags": subprocess.CREATE_NO_WINDOW} if ON_WINDOWS else {"start_new_session": True}
        with self._outputPath.open("wb") as output, self._errorPath.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(argument) for argument in arguments],
                cwd=folder,  # no code of a folder that happens to be the current one
                env={**os.environ, "PYTHONSAFEPATH": "1", **environment},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                **own,
            )
        self._offset = self._errorOffset = 0
        self._wasAsked = False

    @property
    def isAlive(self):
        """Whether the program or a child of it runs; a launcher that was asked to end may be gone before the others."""
        if self.returnCode is None:
            return True
        return self._wasAsked and self._signal(0)

    @property
    def returnCode(self):
        """The exit code, None while the program runs."""
        return self._process.poll()

    def newEvents(self):
        """The JSON objects of complete lines written since the last call, and not more than a moment's worth of them.

        Lines that are no JSON object, such as what a package prints on its own, are left out.
        """
        try:
            with self._outputPath.open("rb") as output:
                output.seek(self._offset)
                text = output.read(BYTES_PER_READ)
                if b"\n" not in text:  # a line longer than one read
                    text += output.readline()
        except FileNotFoundError:  # somebody has emptied the temporary folder
            return []
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        return [event for event in map(self._parsed, text.splitlines()) if event is not None]

    def messages(self, limit=4000):
        """The last characters of what the program has written for people since it was asked."""
        try:
            with self._errorPath.open("rb") as errors:
                errors.seek(self._errorOffset)
                return errors.read().decode("utf-8", errors="replace")[-limit:].strip()
        except FileNotFoundError:
            return ""

    def send(self, content):
        """Write a JSON object to the program's input, as a line.

        Raises:
            OSError: the program has ended.
        """
        self._errorOffset = self._errorPath.stat().st_size
        self._process.stdin.write(json.dumps(content).encode() + b"\n")
        self._process.stdin.flush()

    def askToEnd(self):
        """Tell the program and its children to finish soon; returns whether the system can tell them that."""
        if ON_WINDOWS:
            return False
        if self.returnCode is None:
            self._wasAsked = True
            self._signal(signal.SIGTERM)
        return True

    def end(self):
        """End the program and its children at once."""
        if self.isAlive:
            self._killTree()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # Slicer must not wait for a machine that hangs
            self._process.wait(timeout=2)

    def _killTree(self):
        if ON_WINDOWS:
            command = ["taskkill", "/F", "/T", "/PID", str(self._process.pid)]
            subprocess.Popen(
                command,
                creationflags=subprocess.CREATE_NO_WINDOW,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            return
        self._signal(signal.SIGKILL)

    def _signal(self, number):
        """Send a signal to the program and its children; returns whether there is any."""
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # it ended in this moment
            return False
        return True

    @staticmethod
    def _parsed(line):
        try:
            event = parse_json(line)
        except FormatError:
            return None
        return event if isinstance(event, dict) and "event" in event else None


class Worker(ChildProcess):
    """The library's command line in a program of its own, ``H3DELandmarksLib.cli.worker``.

    It ends with Slicer, however Slicer ends, because its input does; and it removes its folders then.
    """

    def __init__(self, folder, detects=False):
        """Start.

        Args:
            folder: an existing folder of `newRunFolder` for its own files.
            detects: whether to import at once what detection needs.

        Raises:
            InputError: Slicer's Python is missing.
            OSError: no program can be started.
        """
        self.folder = Path(folder)
        self._before = dict(os.environ)
        command = [pythonExecutable(), "-m", "H3DELandmarksLib.cli.worker", folder]
        super().__init__(command + ["--detects"] * detects, _environment(), folder)
        self._waitsSince = None

    def ask(self, arguments, folder):
        """Run a command: events follow, the last one is "done" with the exit code.

        Args:
            arguments: of the command line, without the program.
            folder: of the files of this command.

        Raises:
            OSError: the program has ended.
        """
        self.send({"arguments": [str(argument) for argument in arguments], "folder": str(folder)})

    def rest(self):
        """Its command is done."""
        self._waitsSince = time.monotonic()

    @property
    def isWarm(self):
        """Whether it can run another command as a new one would."""
        return (
            self._waitsSince is not None
            and self.returnCode is None
            and time.monotonic() - self._waitsSince < SECONDS_WARM
            and self._before == dict(os.environ)
            and self.folder.is_dir()
            and self.folder.parent == Path(slicer.app.temporaryPath)
        )

    def end(self):
        """End it at once, and remove its files."""
        super().end()
        removeRunFolder(self.folder)


def _environment():
    library = Path(H3DELandmarksLib.__file__).resolve().parent.parent
    paths = [str(library), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path), "PYTHONIOENCODING": "utf-8"}


class Workers:
    """Lends programs, and keeps one that has done its work for the next command."""

    def __init__(self):
        self._waiting = None

    def take(self):
        """A Worker that nobody else uses: the one that waits, else a new one.

        Raises:
            InputError: Slicer's Python is missing.
            OSError: no program can be started.
        """
        worker, self._waiting = self._waiting, None
        if worker is not None and worker.isWarm:
            return worker
        if worker is not None:
            worker.end()
        folder = newRunFolder(slicer.app.temporaryPath)
        try:
            return Worker(folder, detects=True)
        except (InputError, OSError):
            removeRunFolder(folder)
            raise

    def giveBack(self, worker):
        """Keep a Worker whose command is done, or end it where another one waits already."""
        if self._waiting is not None:
            worker.end()
            return
        worker.rest()
        self._waiting = worker

    def close(self):
        """End the one that waits."""
        worker, self._waiting = self._waiting, None
        if worker is not None:
            worker.end()


workers = Workers()
atexit.register(workers.close)
