"""One detection outside Slicer's process: the scan is written to a file, a child process finds the landmarks."""

import threading

import slicer
from slicer.i18n import tr as _

from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksLib.io.markups import read_markups, write_region
from H3DELandmarksPanel.CommandRun import CommandRun, RunState, newRunFolder, pythonExecutable

SECONDS_TO_YIELD = 0.02


def summary(landmarks, pointList):
    """One sentence about what was found, and which point list shows it."""
    known = list(zip(landmarks.names, landmarks.present, landmarks.unknown))
    absent = [name for name, present, unknown in known if not present and not unknown]
    outside = [name for name, _present, unknown in known if unknown]
    sentences = [
        _("{found} of {count} landmarks found, see the point list '{name}'.").format(
            found=int(landmarks.present.sum()), count=len(landmarks), name=pointList.GetName()
        )
    ]
    if absent:
        sentences.append(_("Absent: {names}.").format(names=", ".join(absent)))
    if outside:
        sentences.append(_("Not in the region: {names}.").format(names=", ".join(outside)))
    return " ".join(sentences)


class DetectionRun(CommandRun):
    """A detection that goes on while somebody calls `poll`.

    Attributes:
        volume: what was handed over; positions are those of the moment when the run began.
        landmarks: the LandmarkSet in LPS mm after success.
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
        self.landmarks = None
        self._writingError = None
        self._writer = threading.Thread(target=self._writeScan, daemon=True)  # compression takes seconds
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
        self.landmarks = read_markups(self.result["scans"][0]["markups"])

    def _writeScan(self):
        try:
            write_volume(self._scan, self.volume)
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
