"""The command line as a program that another one keeps: one command after the other, without importing anything anew.

``python -m H3DELandmarksLib.cli.worker FOLDER`` reads a JSON object from each line of stdin: ``arguments``, those of a
command, and ``folder``, where the files of that command lie. On stdout it says what the command says with ``--progress
json``, and then ``{"event": "done", "code": N}`` with the exit code; whatever else prints, prints on stderr. Models
stay loaded. It ends when stdin does, or after minutes without a command.

When stdin ends during a command, the program at the other end is gone: a command that listens to SIGTERM is given a
moment to keep its work, others end at once, and both folders, which may hold somebody's scan, are removed.
"""

from __future__ import annotations

import _thread
import argparse
import json
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO

from H3DELandmarksLib.cli.main import FAILED, STOPPED, main
from H3DELandmarksLib.cohort.detectors import keep_detectors

SECONDS_IDLE = 300.0
SECONDS_TO_FINISH = 20.0
DONE = "done"


class Worker:
    """Reads commands in a thread of its own and runs them in the main thread, which is the one that gets signals."""

    def __init__(self, folder: str, events: TextIO) -> None:
        """Args: the folder of this program's files, removed at the end; what events are written to."""
        self._folders = [folder]
        self._events = events
        self._commands: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._is_busy = False
        self._importing = threading.Thread(target=_import_detection, daemon=True)

    def prepare_detection(self) -> None:
        """Import what takes seconds, while the first scan is still being written."""
        self._importing.start()

    def run(self, seconds_idle: float = SECONDS_IDLE) -> int:
        """Run commands until stdin ends or none has come for so long; returns this program's exit code."""
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            while (command := self._commands.get(timeout=seconds_idle)) is not None:
                self._is_busy = True
                code = self._run(command)
                self._is_busy = False
                print(json.dumps({"event": DONE, "code": code}), file=self._events, flush=True)
                self._tidy()
        except queue.Empty:
            pass
        self._remove_folders()
        return 0

    def _run(self, command: dict[str, Any]) -> int:
        self._folders[1:] = [command["folder"]]
        try:
            return main([*command["arguments"], "--progress", "json"], "h3delandmarks", self._events)
        except SystemExit as error:  # argparse, at wrong usage
            return error.code if isinstance(error.code, int) else FAILED

    def _tidy(self) -> None:
        """Let other programs have the GPU's memory; a PyTorch that is half imported has none."""
        torch = None if self._importing.is_alive() else sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _listen(self) -> None:
        rest = b""
        while received := os.read(0, 2**16):  # not sys.stdin, whose lock would be held while Python ends
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                self._commands.put(json.loads(line))
        self._commands.put(None)
        if not self._is_busy and self._commands.qsize() <= 1:
            return
        if callable(signal.getsignal(signal.SIGTERM)):
            _thread.interrupt_main(signal.SIGTERM)
            time.sleep(SECONDS_TO_FINISH)
        self._remove_folders()
        os._exit(STOPPED)

    def _remove_folders(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


def _take_stdout() -> TextIO:
    """What was stdout, for events alone; whatever writes to stdout from now on writes to stderr."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def serve(arguments: Sequence[str] | None = None) -> int:
    """The program.

    Args:
        arguments: those of this process by default.

    Returns:
        Exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m H3DELandmarksLib.cli.worker", description="Runs many commands.")
    parser.add_argument("folder", help="of this program's files, removed at the end")
    parser.add_argument("--detects", action="store_true", help="import at once what detection needs")
    options = parser.parse_args(arguments)
    worker = Worker(options.folder, _take_stdout())
    os.chdir(tempfile.gettempdir())  # Windows removes no folder that is somebody's current one
    keep_detectors()
    if options.detects:
        worker.prepare_detection()
    return worker.run()


def _import_detection() -> None:
    """What detection needs; errors come again with the command."""
    try:
        import H3DELandmarksLib.detection.detector  # noqa: F401
        import H3DELandmarksLib.io.images  # noqa: F401
    except Exception:
        return


if __name__ == "__main__":
    sys.exit(serve())
