"""One command of the library in a child process, followed by polling; a detection hands its scan over in a file."""

import contextlib
import enum
import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import slicer
from slicer.i18n import tr as _

import H3DELandmarksLib
from H3DELandmarksLib.core.errors import H3DELandmarksError, InputError
from H3DELandmarksLib.core.statements import Cause, Statement
from H3DELandmarksLib.formats.provenance import read_provenance, with_causes
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups, write_region

BYTES_PER_READ = 2**16
ON_WINDOWS = os.name == "nt"
CHILD_LOG_NAME = "h3delandmarks.log"
FOLDER_PREFIX = "H3DELandmarks-"
SECONDS_BEFORE_ESTIMATE = 2.0
LEAST_FRACTION_FOR_ESTIMATE = 0.05
KILLED = (-9, 137)


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
                cwd=folder,  # no code of a folder that happens to be the current one
                env={**os.environ, "PYTHONSAFEPATH": "1", **environment},
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
            event = json.loads(line)
        except ValueError:
            return None
        return event if isinstance(event, dict) and "event" in event else None


class RunState(enum.Enum):
    """How far a run is."""

    RUNNING = enum.auto()
    SUCCEEDED = enum.auto()
    FAILED = enum.auto()
    CANCELLED = enum.auto()


def remainingSeconds(elapsed, fraction):
    """How long the rest takes, None while too little is known.

    Args:
        elapsed: seconds since the first report of progress.
        fraction: from 0 to 1, None where it is unknown.
    """
    if fraction is None or elapsed < SECONDS_BEFORE_ESTIMATE or not LEAST_FRACTION_FOR_ESTIMATE <= fraction < 1:
        return None
    return elapsed * (1 - fraction) / fraction


def remainingText(seconds):
    """A remaining time for people, empty where it is unknown."""
    if seconds is None:
        return ""
    if seconds < 60:
        return _("about {seconds} s left").format(seconds=max(1, round(seconds)))
    if seconds < 5400:
        return _("about {minutes} min left").format(minutes=round(seconds / 60))
    return _("about {hours} h left").format(hours=round(seconds / 3600))


def newRunFolder(temporaryFolder):
    """A new folder for the files of one run."""
    return Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=temporaryFolder))


class CommandRun:
    """A command that goes on while somebody calls `poll`.

    Attributes:
        state: a RunState.
        stage: what is being done, or, after a failure, one sentence about it.
        fraction: from 0 to 1, None while it cannot be told.
        warnings: sentences of the child process, the last few.
        progress: the last event of progress as a dictionary, empty before the first.
        result: the event of the result as a dictionary, None before it.
        error: the sentence of the child process about why it failed, None before it.
        child: the ChildProcess, None before the first poll.
    """

    def __init__(self, arguments, python, folder, task, names=None, logFolder=None, acceptsUnfinished=False):
        """The child process starts at the first poll.

        Args:
            arguments: of the command line, without the program; JSON lines of progress are asked for here.
            python: the Python executable of the child process.
            folder: an existing folder for the run's files, removed when it ends.
            task: what messages call it, as "detection".
            names: {text in messages of the child: what its reader knows in place of it}.
            logFolder: where the child keeps a log of unexpected errors; the log is kept beside `folder`.
            acceptsUnfinished: whether a result that says "ok: false" is one.
        """
        self.state = RunState.RUNNING
        self.stage = _("Starting the {task}").format(task=task)
        self.fraction = None
        self.warnings = []
        self.progress = {}
        self.result = None
        self._task, self._folder, self._acceptsUnfinished = task, Path(folder), acceptsUnfinished
        self._names = dict(names or {})
        self._log = None if logFolder is None else Path(logFolder) / CHILD_LOG_NAME
        self._keptLog = self._folder.parent / CHILD_LOG_NAME
        self._firstReport = self.error = self.child = None
        self._command = [python, "-m", "H3DELandmarksLib", *arguments, "--progress", "json"]

    @property
    def remaining(self):
        """Seconds that the rest will take, None while too little is known."""
        if "seconds_left" in self.progress:
            return self.progress["seconds_left"]
        if self._firstReport is None:
            return None
        return remainingSeconds(time.monotonic() - self._firstReport, self.fraction)

    def poll(self):
        """Take note of what has happened since the last call; takes a few milliseconds."""
        if self.state is not RunState.RUNNING:
            return
        if self.child is None:
            self._start()
            return
        ended = self.child.returnCode is not None  # asked first, so that nothing written before is missed
        if not self.note() and ended:
            self.conclude()

    def note(self):
        """Take note of what the child process has said since the last call; returns whether that was anything."""
        events = self.child.newEvents()
        for event in events:
            self._note(event)
        return bool(events)

    def askToStop(self):
        """End because the user wants it; a kind of run that needs time for that goes on until a later poll."""
        self.cancel()

    def cancel(self):
        """End the child process with its children, and remove the files of the run."""
        if self.state is RunState.RUNNING:
            self.close(RunState.CANCELLED)

    def fail(self, reason):
        """End with one sentence about why; details go to Slicer's log, and the child's log is kept."""
        known = isinstance(reason, (str, H3DELandmarksError))
        unexpected = _("The {task} could not run ({reason}): see the application log.")
        self.stage = (
            str(reason) if known else unexpected.format(task=self._task, reason=str(reason) or type(reason).__name__)
        )
        if self._log is not None and self._log.is_file() and self._log != self._keptLog:
            shutil.copyfile(self._log, self._keptLog)
        logging.error("%s\n%s", self.stage, self.child.messages() if self.child else "")
        self.close(RunState.FAILED)

    def takeResult(self):
        """What a kind of run does with its result while its files are still there; an error makes the run fail."""

    def _start(self):
        try:
            self.child = ChildProcess(self._command, self._environment(), self._folder)
        except OSError as error:
            self.fail(error)

    @staticmethod
    def _environment():
        library = Path(H3DELandmarksLib.__file__).resolve().parent.parent
        paths = [str(library), os.environ.get("PYTHONPATH", "")]
        return {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONIOENCODING": "utf-8",
            "PYTHONDONTWRITEBYTECODE": "1",  # the extension's folder may be read-only, or shared
        }

    def _note(self, event):
        kind, message = event["event"], self._forPeople(str(event.get("message", "")))
        if kind == "progress":
            self._firstReport = self._firstReport or time.monotonic()
            self.stage, self.fraction, self.progress = message, float(event.get("fraction") or 0), event
        elif kind == "warning":
            self.warnings = [*self.warnings, message][-3:]
        elif kind == "error":
            self.error = message
        elif kind == "result":
            self.result = event

    def _forPeople(self, message):
        """A message of the child process with names that its reader knows in place of temporary files."""
        if self._log is not None:
            message = message.replace(str(self._log), str(self._keptLog))
        for text, name in self._names.items():
            message = message.replace(text, name)
        return message

    def conclude(self):
        """The child process has ended: succeed or fail."""
        if not (self.result and (self.result.get("ok") or self._acceptsUnfinished)):
            self.fail(self.error or self._howItEnded())
            return
        try:
            self.takeResult()
        except (H3DELandmarksError, LookupError, TypeError) as error:
            self.fail(error)
            return
        self.fraction = 1.0
        self.close(RunState.SUCCEEDED)

    def _howItEnded(self):
        code = self.child.returnCode
        if code in KILLED:
            return _("The system ended the {task}, most likely for lack of memory: close other programs first.").format(
                task=self._task
            )
        return _("The {task} ended without a result (code {code}): see the application log.").format(
            task=self._task, code=code
        )

    def close(self, state):
        """End in this state."""
        self.state = state
        if self.child is not None:
            self.child.end()
        self.removeFiles()

    def removeFiles(self):
        """Remove the folder of the run."""
        shutil.rmtree(self._folder, ignore_errors=True)


SECONDS_TO_YIELD = 0.02
MOST_NAMED = 12


def summary(landmarks, pointList, headline=""):
    """What there is to say about a result first.

    Args:
        landmarks: the LandmarkSet that was found.
        pointList: vtkMRMLMarkupsFiducialNode that shows it.
        headline: the one sentence where nothing could be seen of any landmark.
    """
    if set(landmarks.causes) <= {Cause.UNLIKE, Cause.TOO_COARSE}:
        return headline
    sentences = [
        _("{found} of {count} landmarks found, see the point list '{name}'.").format(
            found=int(landmarks.present.sum()), count=len(landmarks), name=pointList.GetName()
        )
    ]
    said = {
        _("Absent: {names}."): [s is Statement.ABSENT for s in landmarks.statements],
        _("Not in the region: {names}."): [c is Cause.OUTSIDE_REGION for c in landmarks.causes],
        _("Not examined, because outside the scan: {names}."): [c is Cause.OUTSIDE_SCAN for c in landmarks.causes],
    }
    for sentence, rows in said.items():
        names = [name for name, isMeant in zip(landmarks.names, rows) if isMeant]
        if names:
            more = _(" and {count} more").format(count=len(names) - MOST_NAMED) if len(names) > MOST_NAMED else ""
            sentences.append(sentence.format(names=", ".join(names[:MOST_NAMED]) + more))
    return " ".join(sentences)


class DetectionRun(CommandRun):
    """A detection that goes on while somebody calls `poll`.

    Attributes:
        volume: what was handed over; positions are those of the moment when the run began.
        landmarks: the LandmarkSet in LPS mm after success.
        provenance: where they come from, after success.
        headline: what people should know of the result first, after success.
    """

    def __init__(self, volume, volumeName, modelPath, device, landmarkNames=None, region=None):
        """Begin.

        Args:
            volume: H3DELandmarksLib Volume.
            volumeName: how messages call it.
            modelPath: folder or zip file of the model package.
            device: auto, cpu, cuda or mps.
            landmarkNames: what to look for, None for every landmark of the model.
            region: H3DELandmarksLib Region that the search is restricted to, None for the whole volume.

        Raises:
            InputError: Slicer's Python is missing.
        """
        python = pythonExecutable()
        folder = newRunFolder(slicer.app.temporaryPath)
        self._scan, results = folder / "scan.nrrd", folder / "results"
        arguments = ["detect", self._scan, "--model", modelPath, "--output", results, "--device", device]
        arguments += _choice(folder, landmarkNames, region)
        super().__init__(arguments, python, folder, _("detection"), {str(self._scan): volumeName}, results)
        self.volume = volume
        self.stage = _("Preparing the scan")
        self.landmarks = self.provenance = None
        self.headline = ""
        self._writingError = None
        self._writer = threading.Thread(target=self._writeScan, daemon=True)  # a large scan takes seconds
        self._writer.start()

    def poll(self):
        """Take note of what has happened since the last call; takes a few milliseconds."""
        if self.state is RunState.RUNNING and self._writer.is_alive():
            self._writer.join(SECONDS_TO_YIELD)  # Slicer's event loop may hold Python's lock: let the thread have it
            return
        if self.state is RunState.RUNNING and self._writingError is not None:
            self.fail(self._writingError)
            return
        super().poll()

    def takeResult(self):
        """Read what was found."""
        scan = self.result["scans"][0]
        self.headline, self.provenance = scan["summary"], read_provenance(Path(scan["provenance"]))
        self.landmarks = with_causes(read_markups(scan["markups"]), self.provenance)

    def _writeScan(self):
        try:
            write_volume(self._scan, self.volume, compress=False)  # it lives for seconds only
        except Exception as error:
            self._writingError = error
        if self.state is not RunState.RUNNING:  # cancelled meanwhile: remove what has been written since
            self.removeFiles()


def _choice(folder, landmarkNames, region):
    """Arguments of the command that say what to look for and where."""
    arguments = [] if landmarkNames is None else ["--landmarks", *landmarkNames]
    if region is not None:
        write_region(folder / "region.mrk.json", region)
        arguments += ["--roi", folder / "region.mrk.json"]
    return arguments
