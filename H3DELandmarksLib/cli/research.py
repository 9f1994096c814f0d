"""The research package's commands: its own where it is installed, else commands that say in a sentence that it is not."""

from __future__ import annotations

import argparse

from H3DELandmarksLib.cli.console import Console
from H3DELandmarksLib.core.research import is_research_installed, research_module

COMMANDS = ("convert", "radiographs", "phantom")
IMPORT_PUBLISHED = "import-published"


def add_research_commands(commands: argparse._SubParsersAction) -> None:
    """Declare ``convert``, ``radiographs`` and ``phantom``."""
    if is_research_installed():
        for command in research_module("cli", "The command line").COMMANDS:
            command.add_parser(commands)
    else:
        for name in COMMANDS:
            _add_missing(commands, name, f"The command '{name}'")


def add_import_published(actions: argparse._SubParsersAction) -> None:
    """Declare ``models import-published``."""
    if is_research_installed():
        research_module("cli", "The command line").import_published.add_action(actions)
    else:
        _add_missing(actions, IMPORT_PUBLISHED, f"The command 'models {IMPORT_PUBLISHED}'")


def _add_missing(commands: argparse._SubParsersAction, name: str, purpose: str) -> None:
    """A command that says what is missing, whatever its arguments are."""

    def run(options: argparse.Namespace, console: Console) -> bool:
        research_module("cli", purpose)
        return False

    parser = commands.add_parser(name, help="needs the research package", prefix_chars="\0", add_help=False)
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(run=run, json=False)
