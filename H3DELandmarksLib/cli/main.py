"""The command line: reads the arguments, runs one command, turns every error into a sentence and an exit code.

Exit codes: 0 everything succeeded; 2 something could not be done, with one sentence each on stderr; 130 stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cli import cases, detect, models, propose, train
from H3DELandmarksLib.cli.console import Console
from H3DELandmarksLib.cli.research import add_research_commands
from H3DELandmarksLib.core.errors import Cancelled

COMMANDS = (detect, propose, models, train, cases)
DONE, FAILED, STOPPED = 0, 2, 130
# Threads that wait for each other sleep soon: where they spin for long, which is the default, a core that something
# else uses makes all of them slow. GNU's OpenMP reads this when a command first imports PyTorch.
SPINNING = ("GOMP_SPINCOUNT", "10000")


def make_parser(program: str) -> argparse.ArgumentParser:
    """The parser of all commands; each command's module adds its own arguments."""
    parser = argparse.ArgumentParser(prog=program, description="Finds anatomical landmarks in volumes and radiographs.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    add_research_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None, program: str = "h3delandmarks", stream: TextIO | None = None) -> int:
    """Run one command.

    Args:
        arguments: words after the program's name; those of this process by default.
        program: name to show in the help.
        stream: where what programs read is written, stdout by default.

    Returns:
        Exit code: 0, 2 or 130. Wrong usage leaves through SystemExit(2), as argparse does.
    """
    os.environ.setdefault(*SPINNING)
    options = make_parser(program).parse_args(arguments)
    console = Console(options.json, getattr(options, "progress", "auto"), stream)
    try:
        with console.showing_warnings():
            succeeded = options.run(options, console)
            sys.stdout.flush()
            return DONE if succeeded else FAILED
    except (KeyboardInterrupt, Cancelled):
        console.warn("Stopped.")
        return STOPPED
    except BrokenPipeError:  # the reader of our output, such as `head`, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        console.document({"ok": False, "error": console.failure(error)})
        return FAILED
