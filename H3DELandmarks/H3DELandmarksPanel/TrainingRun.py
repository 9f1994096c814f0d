"""A retraining outside Slicer's process, which keeps what it has learnt when it is stopped."""

import time

import slicer
from slicer.i18n import tr as _

from H3DELandmarksPanel.ChildProcess import pythonExecutable
from H3DELandmarksPanel.CommandRun import CommandRun, RunState, newRunFolder

SECONDS_TO_FINISH = 60.0
SECONDS_TO_CLOSE = 3.0


class TrainingRun(CommandRun):
    """``train --from-cases`` that goes on while somebody calls `poll`.

    Attributes:
        folder: of the retraining; it stays.
    """

    def __init__(self, project, folder, arguments):
        """Begin, or go on.

        Args:
            project: Path of the training set.
            folder: Path of the retraining.
            arguments: of the command, beside those two.
        """
        self.folder = folder
        self._stopAsked = None
        super().__init__(
            ["train", "--from-cases", project, "--output", folder, *arguments],
            pythonExecutable(),
            newRunFolder(slicer.app.temporaryPath),
            _("training"),
            logFolder=folder,
        )

    def askToStop(self):
        """Let the child process keep what it has learnt and end, where the system can tell it to; else end it."""
        if self.child is None or not self.child.askToEnd():
            self.cancel()
            return
        self._stopAsked = time.monotonic()
        self.stage = _("Stopping")

    def poll(self):
        """Take note of what has happened since the last call; a child process that does not stop is ended."""
        super().poll()
        if self._stopAsked is None or self.state is not RunState.RUNNING:
            return
        self.stage = _("Stopping")
        if time.monotonic() - self._stopAsked > SECONDS_TO_FINISH:
            self.close(RunState.CANCELLED)

    def conclude(self):
        """The program that was started has ended; where it was told to, its children may still keep their work."""
        if self._stopAsked is None or (self.result and self.result.get("ok")):
            super().conclude()
        elif self.error or not self.child.isAlive:
            self.stage = _("Cancelled.")
            self.close(RunState.CANCELLED)

    def cancel(self):
        """End the child process; a moment is left to it to keep what it has learnt."""
        if self.state is RunState.RUNNING and self.child is not None and self.child.askToEnd():
            end = time.monotonic() + SECONDS_TO_CLOSE
            while not self.error and self.child.isAlive and time.monotonic() < end:
                time.sleep(0.05)
                self.note()
        super().cancel()
