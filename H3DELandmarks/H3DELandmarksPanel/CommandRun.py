"""One command of the library in another process, followed by polling; a detection hands its scan over in a file."""

import contextlib
import enum
import logging
import shutil
import threading
import time
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.cases.examples import EXAMPLES
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.core.candidates import Candidates
from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.core.image_plane import named_in_mm
from H3DELandmarksLib.core.landmarks import Cause, Statement
from H3DELandmarksLib.formats.provenance import read_provenance, with_causes
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups, write_region
from H3DELandmarksLib.scene import volume_from_node, voxel_time
from H3DELandmarksPanel.Worker import Worker, newRunFolder, removeRunFolder, workers

CHILD_LOG_NAME = "h3delandmarks.log"
SECONDS_BEFORE_ESTIMATE = 2.0
LEAST_FRACTION_FOR_ESTIMATE = 0.05
KILLED = (-9, 137)


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


def _number(value):
    """A finite number, None for all else."""
    return float(value) if type(value) in (int, float) and abs(value) < 1e300 else None


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
        child: the Worker that runs the command, None before the first poll.
        host: another computer that does the work, empty for this one.
    """

    def __init__(self, arguments, task, names=None, logFolder=None, acceptsUnfinished=False, isLent=False, host=""):
        """The command starts at the first poll.

        Args:
            arguments: of the command line, without the program; or a function that gives them for the folder of the
                run's files, which is removed when it ends.
            task: what messages call it, as "detection".
            names: {text in messages of the child: what its reader knows in place of it}.
            logFolder: where the child keeps a log of unexpected errors; the log is kept beside the run's folder.
            acceptsUnfinished: whether a result that says "ok: false" is one.
            isLent: whether `workers` lends the program, which needs no start where one waits; else it has its own.
            host: another computer that does the work, empty for this one.
        """
        self.state = RunState.RUNNING
        self.host = host
        self.stage = _("Starting the {task}").format(task=task)
        self.fraction = None
        self.warnings = []
        self.progress = {}
        self.result = None
        self._task, self._acceptsUnfinished, self._isLent = task, acceptsUnfinished, isLent
        self._folder = newRunFolder(slicer.app.temporaryPath)
        self._arguments = arguments(self._folder) if callable(arguments) else arguments
        self._isAsked, self._code = False, None  # whether the command was handed over; its exit code once it is done
        self._names = dict(names or {})
        self._log = None if logFolder is None else Path(logFolder) / CHILD_LOG_NAME
        self._keptLog = self._folder.parent / CHILD_LOG_NAME
        self._firstReport = self.error = self.child = None

    @property
    def remaining(self):
        """Seconds that the rest will take, None while too little is known."""
        if "seconds_left" in self.progress:
            return _number(self.progress["seconds_left"])
        if self._firstReport is None:
            return None
        return remainingSeconds(time.monotonic() - self._firstReport, self.fraction)

    def poll(self):
        """Take note of what has happened since the last call; takes a few milliseconds."""
        if self.state is not RunState.RUNNING:
            return
        try:
            self._ask()
        except Exception as error:
            self.fail(error)
            return
        if self._isAsked:
            ended = self.child.returnCode is not None  # asked first, so that nothing written before is missed
            if (not self.note() and ended) or self._code is not None:
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

    def _ask(self):
        """Have the program ready, and hand the command over once everything that it reads is there."""
        if self.child is None:
            self.child = workers.take() if self._isLent else Worker(self._folder)
        if not self._isAsked and self.isReady():
            self._isAsked = True
            with contextlib.suppress(OSError):  # the program is ending, and says why
                self.child.ask(self._arguments, self._folder)

    def isReady(self):
        """Whether everything that the command reads is there."""
        return True

    def _note(self, event):
        kind, message = event["event"], self._forPeople(str(event.get("message", "")))
        if kind == "progress":
            self._firstReport = self._firstReport or time.monotonic()
            self.stage, self.fraction, self.progress = (
                self.placed(message),
                _number(event.get("fraction")) or 0.0,
                event,
            )
        elif kind == "warning":
            self.warnings = [*self.warnings, message][-3:]
        elif kind == "error":
            self.error = message
        elif kind == "result":
            self.result = event
        elif kind == "done":
            self._code = event["code"]

    def placed(self, stage):
        """What is being done, with the computer that does it where it is another one."""
        return _("{stage} (on {host})").format(stage=stage, host=self.host) if self.host else stage

    def _forPeople(self, message):
        """A message of the child process with names that its reader knows in place of temporary files."""
        if self._log is not None:
            message = message.replace(str(self._log), str(self._keptLog))
        for text, name in self._names.items():
            message = message.replace(text, name)
        return message

    def conclude(self):
        """The command is done, or its program has ended: succeed or fail."""
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
        code = self.child.returnCode if self._code is None else self._code
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
        if self.child is not None and self._isLent and self._code is not None:
            workers.giveBack(self.child)
        elif self.child is not None:
            self.child.end()
        self.removeFiles()

    def removeFiles(self):
        """Remove the folder of the run."""
        removeRunFolder(self._folder)


SECONDS_TO_YIELD = 0.02
MOST_NAMED = 12
SAME_PLACE = 1e-6


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
        _("Place not found: {names}."): [c is Cause.NO_PLACE for c in landmarks.causes],
        _("Neither surely there nor surely absent: {names}."): [c is Cause.UNSURE for c in landmarks.causes],
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
        candidates: all places where the networks see them, after success; None where they do not tell.
        headline: what people should know of the result first, after success.
    """

    def __init__(self, volumeNode, model, device, landmarkNames=None, region=None, destination=None, decided=None):
        """Begin.

        Args:
            volumeNode: vtkMRMLScalarVolumeNode, under any linear transform.
            model: ModelPackage, or ExampleSet of corrected cases.
            device: auto, cpu, cuda or mps.
            landmarkNames: what to look for, None for every landmark of the model.
            region: H3DELandmarksLib Region that the search is restricted to, None for the whole volume.
            destination: where the scan is sent, see `ClinicComputer.destination`; None for this computer.
            decided: LandmarkSet of all landmarks, LPS mm, for a second look where a person's points place them.

        Raises:
            InputError: the volume cannot be used.
        """
        self.volume, self._voxelTime = volume_from_node(volumeNode), voxel_time(volumeNode)
        super().__init__([], _("detection"), isLent=True, host=destination.host if destination else "")
        self._scan, results = self._folder / "scan.nrrd", self._folder / "results"
        if model.id == EXAMPLES:
            arguments = ["propose", self._scan, "--examples", model.folder, "--cases", *model.cases]
        else:
            arguments = ["detect", self._scan, "--model", model.path]
        arguments += ["--output", results, "--device", device, "--hand-over"]
        arguments += _choice(self._folder, landmarkNames, region, decided)
        self._arguments = [*arguments, *(destination.arguments if destination else [])]
        self._names, self._log = {str(self._scan): volumeNode.GetName()}, results / CHILD_LOG_NAME
        self.stage = _("Preparing the scan")
        self.landmarks = self.provenance = self.candidates = None
        self.headline = ""
        self._writingError = None
        self._writer = threading.Thread(target=self._writeScan, daemon=True)  # a large scan takes seconds
        self._writer.start()

    def isOf(self, volumeNode, isSameFrame=True):
        """Whether a volume node lies where it did when the run began, and has its voxels where it shows the frame."""
        now = volume_from_node(volumeNode)
        if now.array.shape != self.volume.array.shape or abs(now.affine - self.volume.affine).max() > SAME_PLACE:
            return False
        if not isSameFrame or voxel_time(volumeNode) == self._voxelTime:
            return True
        return content_of(now).digest == self.provenance.scan.voxels_sha256

    def isReady(self):
        """Whether the scan is written; raises what made that fail."""
        self._writer.join(SECONDS_TO_YIELD)  # Slicer's event loop may hold Python's lock: let the thread have it
        if self._writingError is not None:
            raise self._writingError
        if self._writer.is_alive():
            return False
        if self.host:
            self.stage = self.placed(_("Asking for a worker"))  # a host that is gone takes some seconds
        return True

    def fail(self, reason):
        """See CommandRun; the user need not wait until the other computer is there again."""
        super().fail(reason)
        if self.host:
            self.stage = _("{reason} Nothing was found so far: the button below detects on this computer.").format(
                reason=self.stage
            )

    def takeResult(self):
        """Read what was found."""
        scan = self.result["scans"][0]
        self.headline, self.provenance = scan["summary"], read_provenance(Path(scan["provenance"]))
        self.landmarks = with_causes(read_markups(scan["markups"]), self.provenance)
        places = {landmark["name"]: landmark["places"] for landmark in scan["landmarks"]}
        self.candidates = Candidates.of(
            [
                [(*place["position_lps_mm"], place["share"], place["spread_mm"]) for place in named_in_mm(places[name])]
                for name in self.landmarks.names
            ]
        )

    def _writeScan(self):
        try:
            write_volume(self._scan, self.volume, compress=False, durable=False)  # it lives for seconds
        except Exception as error:
            self._writingError = error
        if self.state is not RunState.RUNNING:  # cancelled meanwhile: remove what has been written since
            self.removeFiles()


def _choice(folder, landmarkNames, region, decided):
    """Arguments of the command that say what to look for and where."""
    arguments = [] if landmarkNames is None else ["--landmarks", *landmarkNames]
    if region is not None:
        write_region(folder / "region.mrk.json", region)
        arguments += ["--roi", folder / "region.mrk.json"]
    if decided is not None:
        write_markups(folder / "decided.mrk.json", decided)
        arguments += ["--decided", folder / "decided.mrk.json"]
    return arguments
