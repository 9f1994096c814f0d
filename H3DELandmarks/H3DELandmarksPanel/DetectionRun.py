"""One detection outside Slicer's process: the scan is written to a file, a child process finds the landmarks."""

import enum
import logging
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from slicer.i18n import tr as _

import H3DELandmarksLib
from H3DELandmarksLib.errors import H3DELandmarksError
from H3DELandmarksLib.markups_json import read_markups
from H3DELandmarksLib.region import write_region
from H3DELandmarksLib.volume_io import write_volume
from H3DELandmarksPanel.ChildProcess import ChildProcess

SECONDS_TO_YIELD = 0.02
CHILD_LOG_NAME = "h3delandmarks.log"
SECONDS_BEFORE_ESTIMATE = 2.0
LEAST_FRACTION_FOR_ESTIMATE = 0.05


class RunState(enum.Enum):
    """How far a run is."""

    RUNNING = enum.auto()
    SUCCEEDED = enum.auto()
    FAILED = enum.auto()
    CANCELLED = enum.auto()


def summary(landmarks, pointList):
    """One sentence about what was found, and which point list shows it."""
    known = list(zip(landmarks.names, landmarks.present, landmarks.unknown))
    absent = [name for name, present, unknown in known if not present and not unknown]
    outside = [name for name, _present, unknown in known if unknown]
    sentences = [_("{found} of {count} landmarks found, see the point list '{name}'.").format(
        found=int(landmarks.present.sum()), count=len(landmarks), name=pointList.GetName()
    )]
    if absent:
        sentences.append(_("Absent: {names}.").format(names=", ".join(absent)))
    if outside:
        sentences.append(_("Not in the region: {names}.").format(names=", ".join(outside)))
    return " ".join(sentences)


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
    return _("about {minutes} min left").format(minutes=round(seconds / 60))


class DetectionRun:
    """A detection that goes on while somebody calls `poll`.

    Attributes:
        state: a RunState.
        volume: what was handed over; positions are those of the moment when the run began.
        stage: what is being done, or, after a failure, one sentence about it.
        fraction: from 0 to 1, None while it cannot be told.
        warnings: sentences of the child process, the last few.
        landmarks: the LandmarkSet in LPS mm after success.
    """

    def __init__(
        self, volume, volumeName, modelPath, device, python, temporaryFolder, landmarkNames=None, region=None
    ):
        """Begin.

        Args:
            volume: H3DELandmarksLib Volume.
            volumeName: how messages call it.
            modelPath: folder or zip file of the model package.
            device: auto, cpu, cuda or mps.
            python: the Python executable of the child process.
            temporaryFolder: an existing folder that outlives the run, for its files and for logs of failures.
            landmarkNames: what to look for, None for every landmark of the model.
            region: H3DELandmarksLib Region that the search is restricted to, None for the whole volume.
        """
        self.state = RunState.RUNNING
        self.volume = volume
        self.stage = _("Preparing the scan")
        self.fraction = None
        self.warnings = []
        self.landmarks = None
        self._volumeName = volumeName
        self._firstReport = None
        self._keptLog = Path(temporaryFolder) / CHILD_LOG_NAME
        self._folder = Path(tempfile.mkdtemp(prefix="H3DELandmarks-", dir=temporaryFolder))
        self._scan = self._folder / "scan.nrrd"
        self._command = [
            python, "-m", "H3DELandmarksLib", "detect", self._scan, "--model", modelPath,
            "--output", self._folder / "results", "--device", device, "--progress", "json",
            *self._choice(landmarkNames, region),
        ]
        self._child = None
        self._result = self._error = self._writingError = None
        self._writer = threading.Thread(target=self._writeScan, daemon=True)  # compression takes seconds
        self._writer.start()

    @property
    def remaining(self):
        """Seconds that the rest will take, None while too little is known."""
        if self._firstReport is None:
            return None
        return remainingSeconds(time.monotonic() - self._firstReport, self.fraction)

    def poll(self):
        """Take note of what has happened since the last call; takes a few milliseconds."""
        if self.state is not RunState.RUNNING:
            return
        if self._child is None:
            self._writer.join(SECONDS_TO_YIELD)  # Slicer's event loop may hold Python's lock: let the thread have it
            if not self._writer.is_alive():
                self._startChild()
            return
        ended = self._child.returnCode is not None  # asked first, so that nothing written before is missed
        events = self._child.newEvents()
        for event in events:
            self._note(event)
        if ended and not events:
            self._conclude()

    def cancel(self):
        """End the child process with its children, and remove all files of the run."""
        if self.state is RunState.RUNNING:
            self._close(RunState.CANCELLED)

    def _choice(self, landmarkNames, region):
        """Arguments of the command that say what to look for and where."""
        arguments = [] if landmarkNames is None else ["--landmarks", *landmarkNames]
        if region is not None:
            write_region(self._folder / "region.mrk.json", region)
            arguments += ["--roi", self._folder / "region.mrk.json"]
        return arguments

    def _writeScan(self):
        try:
            write_volume(self._scan, self.volume)
        except Exception as error:
            self._writingError = error
        if self.state is not RunState.RUNNING:  # cancelled meanwhile: remove what has been written since
            self._removeFiles()

    def _startChild(self):
        if self._writingError is not None:
            self._fail(self._writingError)
            return
        library = Path(H3DELandmarksLib.__file__).resolve().parent.parent
        self.stage = _("Starting the detection")
        try:
            self._child = ChildProcess(self._command, self._environment(library), self._folder)
        except OSError as error:
            self._fail(error)

    @staticmethod
    def _environment(library):
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
            self.stage, self.fraction = message, float(event.get("fraction") or 0)
        elif kind == "warning":
            self.warnings = [*self.warnings, message][-3:]
        elif kind == "error":
            self._error = message
        elif kind == "result":
            self._result = event

    def _forPeople(self, message):
        """A message of the child process with names that its reader knows in place of temporary files."""
        log = self._folder / "results" / CHILD_LOG_NAME
        return message.replace(str(log), str(self._keptLog)).replace(str(self._scan), self._volumeName)

    def _conclude(self):
        if not (self._result and self._result.get("ok")):
            self._fail(self._error or self._howItEnded())
            return
        try:
            self.landmarks = read_markups(self._result["scans"][0]["markups"])
        except (H3DELandmarksError, LookupError, TypeError) as error:
            self._fail(error)
            return
        self.fraction = 1.0
        self._close(RunState.SUCCEEDED)

    def _howItEnded(self):
        code = self._child.returnCode
        if code in (-9, 137):
            return _("The system ended the detection, most likely for lack of memory: close other programs first.")
        return _("The detection ended without a result (code {code}): see the application log.").format(code=code)

    def _fail(self, reason):
        """Say why in one sentence; details go to Slicer's log, and the child's log is kept."""
        known = isinstance(reason, (str, H3DELandmarksError))
        unexpected = _("The detection could not run ({reason}): see the application log.")
        self.stage = str(reason) if known else unexpected.format(reason=str(reason) or type(reason).__name__)
        log = self._folder / "results" / CHILD_LOG_NAME
        if log.is_file():
            shutil.copyfile(log, self._keptLog)
        logging.error("%s\n%s", self.stage, self._child.messages() if self._child else "")
        self._close(RunState.FAILED)

    def _close(self, state):
        self.state = state
        if self._child is not None:
            self._child.end()
        self._removeFiles()

    def _removeFiles(self):
        shutil.rmtree(self._folder, ignore_errors=True)
