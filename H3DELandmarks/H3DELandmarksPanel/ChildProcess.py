"""A program that runs beside Slicer, speaks JSON lines, and can be ended with everything that it has started."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import InputError

BYTES_PER_READ = 2**16
ON_WINDOWS = os.name == "nt"


def pythonExecutable():
    """Slicer's own Python for programs that run beside it; Slicer puts its folder on the path.

    Raises:
        InputError: it is not there.
    """
    found = shutil.which("PythonSlicer")
    if not found:
        raise InputError(_("Slicer's Python was not found, so nothing can be detected: install Slicer again."))
    return found


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
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                **own,
            )
        self._offset = 0
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
        with self._outputPath.open("rb") as output:
            output.seek(self._offset)
            text = output.read(BYTES_PER_READ)
            if b"\n" not in text:  # a line longer than one read
                text += output.readline()
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        return [event for event in map(self._parsed, text.splitlines()) if event is not None]

    def messages(self, limit=4000):
        """The last characters of what the program wrote for people."""
        return self._errorPath.read_text(encoding="utf-8", errors="replace")[-limit:].strip()

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
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            pass  # it has been told; Slicer must not wait for a machine that hangs

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
            event = json.loads(line)
        except ValueError:
            return None
        return event if isinstance(event, dict) and "event" in event else None
