"""The output of commands, for people or for programs, and the options that several commands share."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from H3DELandmarksLib import __version__
from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.core.execution import BACKENDS, DEVICES, PRECISIONS
from H3DELandmarksLib.core.files import reason_of
from H3DELandmarksLib.core.resources import PACKAGE as RESEARCH_PACKAGE
from H3DELandmarksLib.core.text import plain, shown

# Receives the fraction done, what is being done, and what else a command tells programs, by name.
Report = Callable[..., None]
LOG_NAME = "h3delandmarks.log"
SECONDS_BETWEEN_LINES = 0.2  # a program that shows progress must not drown in it


class Console:
    """The output of one call of the command line; threads may use it at the same time.

    In the mode "json" of progress, stdout carries one JSON object per line, each with an ``event``: "progress" (scan,
    fraction, message), "scans" where there are many (see `counting`), "warning" and "error" (message, scan where there
    is one), and last "result" with the document that ``--json`` prints.

    Attributes:
        log_folder: where details of unexpected errors go.
    """

    def __init__(self, json_wanted: bool = False, progress: str = "auto", stream: TextIO | None = None) -> None:
        """Make the output.

        Args:
            json_wanted: whether a JSON document is wanted on stdout.
            progress: its mode: auto, none or json.
            stream: in place of stdout, for what programs read.
        """
        self._stream = stream
        self._as_lines = progress == "json"
        self._for_programs = json_wanted or self._as_lines
        self._bar = progress == "auto" and sys.stderr.isatty()
        self._current: ContextVar[str | None] = ContextVar("scan", default=None)  # of each thread its own
        self._lock = threading.RLock()
        self._overall: Any = None
        self._warnings: list[dict[str, str | None]] = []
        self.log_folder = Path(tempfile.gettempdir())

    @property
    def is_for_programs(self) -> bool:
        """Whether a program reads the result."""
        return self._for_programs

    def say(self, text: str) -> None:
        """Print a result for people; nothing where a program reads."""
        if not self._for_programs:
            self._print(text, None)

    def document(self, content: dict[str, Any]) -> None:
        """Print the result for programs, with all warnings so far; nothing where a person reads. NaN becomes null."""
        content = {**content, "warnings": self._warnings} if self._warnings else content
        if self._as_lines:
            self._line(event="result", **content)
        elif self._for_programs:
            print(json.dumps(plain(content), indent=2, allow_nan=False), file=self._stream)

    def warn(self, message: str) -> None:
        """Tell about something that does not stop the work; `document` lists it again."""
        scan = self._current.get()
        self._warnings.append({"scan": scan, "message": message})
        self._print(message, sys.stderr)
        if self._as_lines:
            self._line(event="warning", scan=scan, message=message)

    def failure(self, error: Exception, subject: str = "") -> str:
        """Tell why something could not be done, in one sentence; details of unexpected errors go to the log file.

        Args:
            error: what happened.
            subject: the scan or file at hand, named where the error does not name it.

        Returns:
            The sentence.
        """
        message = _sentence(error) or self._logged(error)
        if subject and subject not in message:
            message = f"{subject}: {message}"
        self._print(message, sys.stderr)
        if self._as_lines:
            self._line(event="error", scan=subject or None, message=message)
        return message

    @contextmanager
    def task(self, name: str) -> Iterator[Report]:
        """Show how far a piece of work is; gives the callback to report it.

        Args:
            name: the scan, or what is being done.
        """
        before = self._current.set(name)
        try:
            if self._as_lines:
                yield self._lines_about(name)
            elif self._bar and self._overall is None:
                with _progress_bar(name) as report:
                    yield report
            else:
                yield lambda fraction, message, **more: None
        finally:
            self._current.reset(before)

    @contextmanager
    def counting(self, total: int) -> Iterator[Callable[[int, int, float | None], None]]:
        """Show how far a piece of work on many scans is, in place of that of each.

        Gives the callback that is told how many are done, how many of them failed, and the seconds that the others are
        going to take, None where nobody knows. For programs it writes events "scans" with these entries and `total`.
        """
        if self._bar:
            from tqdm import tqdm

            layout = "{desc}: {n}/{total} |{bar}| {postfix}"
            self._overall = tqdm(total=total, desc="Scans", bar_format=layout, leave=False, file=sys.stderr)

        def report(done: int, failed: int, seconds_left: float | None) -> None:
            if self._overall is not None:
                left = "" if seconds_left is None else f"about {duration(seconds_left)} left"
                self._overall.set_postfix_str(f"{failed} failed, {left}" if failed else left, refresh=False)
                self._overall.update(done - self._overall.n)
            if self._as_lines:
                self._line(event="scans", done=done, failed=failed, total=total, seconds_left=seconds_left)

        try:
            yield report
        finally:
            if self._overall is not None:
                self._overall.close()
            self._overall = None

    def _print(self, text: str, stream: TextIO | None) -> None:
        with self._lock:
            if self._overall is not None:
                self._overall.write(shown(text), file=stream)
            else:
                print(shown(text), file=stream)

    @contextmanager
    def showing_warnings(self) -> Iterator[None]:
        """Show the library's warnings as sentences, and nothing of what other packages warn about."""
        packages = [logging.getLogger(name) for name in ("H3DELandmarksLib", RESEARCH_PACKAGE)]
        others = logging.getLogger("py.warnings")
        shown, silent = _ConsoleHandler(self), logging.NullHandler()
        for package in packages:
            package.addHandler(shown)
        others.addHandler(silent)
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            others.removeHandler(silent)
            for package in packages:
                package.removeHandler(shown)

    def _lines_about(self, name: str) -> Report:
        last = -math.inf

        def report(fraction: float, message: str, **more: Any) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= SECONDS_BETWEEN_LINES or fraction >= 1:
                last = now
                self._line(event="progress", scan=name, fraction=fraction, message=message, **more)

        return report

    def _line(self, **content: Any) -> None:
        with self._lock:
            print(json.dumps(plain(content), allow_nan=False), file=self._stream, flush=True)

    def _logged(self, error: Exception) -> str:
        details = "".join(traceback.format_exception(error))
        entry = f"{time.strftime('%Y-%m-%d %H:%M:%S')} H3DELandmarks {__version__}\n{details}\n"
        kind = f"An unexpected problem occurred ({type(error).__name__})"
        for folder in (self.log_folder, Path(tempfile.gettempdir())):
            try:
                with open(folder / LOG_NAME, "a", encoding="utf-8", errors="backslashreplace", opener=_own) as log:
                    log.write(entry)
            except OSError:
                continue
            return f"{kind}: please report it with the file '{folder / LOG_NAME}'."
        return f"{kind}: {error}."


def duration(seconds: float) -> str:
    """About how long, in words."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _own(path: str, flags: int) -> int:
    """Open a file for this user alone, and not where a link in a folder of all users leads."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


class _ConsoleHandler(logging.Handler):
    """Hands log messages from warnings on to a console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.warn(record.getMessage())


def _sentence(error: Exception) -> str | None:
    """What to tell the user about an error that can be expected; None for all others."""
    if isinstance(error, H3DELandmarksError):
        return " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("H3DELandmarksLib"):
        package = error.name.split(".")[0]
        return f"This step needs the Python package {package}: install it with 'pip install {package}'."
    if isinstance(error, (ImportError, OSError)) and _is_of_loading(error, "torch"):
        reason = " ".join(str(error).split())
        return f"PyTorch is installed, but cannot be loaded ({reason}): uninstall it, and install it again."
    if isinstance(error, MemoryError):
        return "This computer's memory is too small for the scan: close other programs, or crop the scan."
    if isinstance(error, OSError) and error.strerror:
        what = f"'{shown(str(error.filename))}'" if isinstance(error.filename, (str, Path)) else "A file"
        return f"{what} cannot be used: {reason_of(error)}."
    return None


def _is_of_loading(error: ImportError | OSError, package: str) -> bool:
    """Whether an installed package could not be loaded, as where a library that it needs is missing."""
    *_outer, (innermost, _line) = traceback.walk_tb(error.__traceback__)
    names = (getattr(error, "name", None), innermost.f_globals.get("__name__"))
    return package not in sys.modules and any(str(name).partition(".")[0] == package for name in names)


@contextmanager
def _progress_bar(name: str) -> Iterator[Report]:
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}%|{bar}| {postfix}"
    with tqdm(total=1.0, desc=shown(name), bar_format=layout, leave=False, file=sys.stderr) as bar:

        def report(fraction: float, message: str, **more: Any) -> None:
            bar.set_postfix_str(shown(message), refresh=False)
            bar.update(min(fraction, 1.0) - bar.n)

        yield report


def add_command(
    commands: argparse._SubParsersAction, name: str, *, help: str, example: str, description: str | None = None
) -> argparse.ArgumentParser:
    """Declare a command or an action of one.

    Args:
        commands: where.
        name: of the command.
        help: its line in the list of commands.
        example: arguments of a typical call, shown at the end of its own help.
        description: of its own help, where `help` does not say enough.
    """
    text = description or f"{help[0].upper()}{help[1:]}."
    return commands.add_parser(name, help=help, description=text, epilog=f"Example: %(prog)s {example}")


def count(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of at least 1")
    return int(text)


def distance(text: str) -> float:
    """A distance in mm above 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no distance in mm: write a number above 0")
    return number


def add_model(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """An argument that names a model; without names it is ``model``."""
    settings = {"metavar": "ID", "help": "id, id@version or path of a model package", **changes}
    parser.add_argument(*(names or ("model",)), **settings)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """``--overwrite``."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """``--progress``."""
    parser.add_argument(
        "--progress",
        choices=("auto", "none", "json"),
        default="auto",
        help="auto: a bar where stderr is a terminal; json: JSON lines on stdout, the result being the last",
    )


def add_device(parser: argparse._ActionsContainer) -> None:
    """``--device``."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where networks run (default: %(default)s)")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """``--device``, ``--backend`` and ``--precision``."""
    add_device(parser)
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="what runs networks; auto: PyTorch, and on CPUs OpenVINO where it is installed and saves time "
        "(default: %(default)s, or the environment variable H3DE_BACKEND)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="half: 16-bit arithmetic where the computer is fast with it and no landmark moves by a quarter voxel in "
        "the first crops; auto: half on CUDA, else fp32 (default: %(default)s)",
    )
