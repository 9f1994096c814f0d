"""Follows one run at a time and shows it: progress bar, sentence, cancel button."""

import time

import qt
from slicer.i18n import tr as _

from H3DELandmarksPanel.CommandRun import RunState, remainingText
from H3DELandmarksPanel.PanelContext import onClick, onSignal, sentenceAbout

MILLISECONDS_BETWEEN_POLLS = 20
SECONDS_BETWEEN_MORE = 0.2  # what a section shows beside needs files to be read


class RunProgress:
    """The widgets of one kind of run.

    A run has `state`, `stage`, `fraction`, `remaining`, `warnings`, `poll()`, `askToStop()` and `cancel()`, as
    CommandRun.

    Attributes:
        run: the run that goes on, None for none.
        cancelText: what is said when the user has cancelled.
    """

    def __init__(self, progressBar, label, cancelButton, onSuccess, onChange, onPoll=None):
        """Show runs in these widgets.

        Args:
            progressBar, label: QProgressBar and QLabel.
            cancelButton: QPushButton, None for runs that cannot be cancelled.
            onSuccess: called with a run that has succeeded; what it returns is shown in the label.
            onChange: called without arguments whenever a run has begun or ended.
            onPoll: called with the run after each look at it.
        """
        self._bar, self._label, self._cancelButton = progressBar, label, cancelButton
        self._onSuccess, self._onChange, self._onPoll = onSuccess, onChange, onPoll
        self.run = self._unshown = None  # the run, and one of which onPoll could not show more
        self._shownAt = -SECONDS_BETWEEN_MORE
        self.cancelText = _("Cancelled.")
        self._timer = qt.QTimer()
        self._timer.interval = MILLISECONDS_BETWEEN_POLLS
        onSignal(self._timer, "timeout()", self._look, label)
        progressBar.visible = False
        if cancelButton is not None:
            onClick(cancelButton, self.onCancel, label)
            cancelButton.enabled = False

    @property
    def isRunning(self):
        """Whether a run goes on."""
        return self.run is not None

    def start(self, run):
        """Follow a run until it ends."""
        self.run = run
        self._timer.start()
        self._show()
        self._changed()
        self._look()

    def onCancel(self):
        """End the run because the user wants it."""
        if self.isRunning:
            self.run.askToStop()
            if self.run.state is RunState.RUNNING:
                self._cancelButton.enabled = False
                self._show()
            else:
                self._end(self.cancelText)

    def stop(self, text=""):
        """End the run, if one goes on, without a result."""
        if self.isRunning:
            self.run.cancel()
            self._end(text)

    def _look(self):
        run = self.run
        if run is None:
            return
        try:
            run.poll()
            self._showMore(run)
        except Exception as error:  # the next look would meet it again
            self.stop(sentenceAbout(error))
            return
        if run is not self.run:  # somebody has ended it meanwhile
            return
        if run.state is RunState.RUNNING:
            self._show()
        elif run.state is RunState.SUCCEEDED:
            self.run = None  # what follows may ask whether something is running
            self._end(self._result(run))
        else:
            self._end(run.stage)

    def _showMore(self, run):
        """Let the section show more of a run, which goes on where that fails."""
        now = time.monotonic()
        if self._onPoll is None or run is self._unshown or now - self._shownAt < SECONDS_BETWEEN_MORE:
            return
        self._shownAt = now
        try:
            self._onPoll(run)
        except Exception as error:
            self._unshown = run
            sentenceAbout(error)

    def _result(self, run):
        try:
            return self._onSuccess(run)
        except Exception as error:
            return sentenceAbout(error)

    def _end(self, text):
        self._timer.stop()
        self.run = None
        self._bar.visible = False
        self._label.text = text
        self._changed()

    def _show(self):
        run = self.run
        known = run.fraction is not None
        self._bar.maximum = 100 if known else 0  # 0: busy, without a percentage
        self._bar.value = round(100 * run.fraction) if known else 0
        self._bar.visible = True
        remaining = remainingText(run.remaining)
        self._label.text = f"{run.stage}, {remaining}" if remaining else run.stage

    def _changed(self):
        if self._cancelButton is not None:
            self._cancelButton.enabled = self.isRunning
        self._onChange()
