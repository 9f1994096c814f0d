"""The research package's commands where it is installed, else commands that say in a sentence that it is not."""

from __future__ import annotations

import argparse

from H3DELandmarksLib.cli.console import Console
from H3DELandmarksLib.core.resources import is_research_installed, research_module

COMMANDS = ("measure", "export", "audit", "evaluate", "report", "convert", "radiographs", "phantom", "demo")
ACTIONS = {
    "cases": ("new", "add", "list", "import", "export", "migrate", "scheme"),
    "models": (
        *("info", "verify", "install", "promote", "versions", "revert", "share", "add"),
        *("import-published", "recalibrate"),
    ),
}


def add_research_commands(commands: argparse._SubParsersAction) -> None:
    """Declare the commands of the research package."""
    if is_research_installed():
        for command in research_module("cli", "The command line").COMMANDS:
            command.add_parser(commands)
    else:
        for name in COMMANDS:
            _add_missing(commands, name, f"The command '{name}'")


def add_research_actions(actions: argparse._SubParsersAction, command: str) -> None:
    """Declare the actions of ``cases`` or ``models`` that the research package has."""
    if is_research_installed():
        for module in research_module("cli", "The command line").ACTIONS[command]:
            module.add_actions(actions)
    else:
        for name in ACTIONS[command]:
            _add_missing(actions, name, f"The command '{command} {name}'")


def _add_missing(commands: argparse._SubParsersAction, name: str, purpose: str) -> None:
    """A command that says what is missing, whatever its arguments are."""

    def run(options: argparse.Namespace, console: Console) -> bool:
        research_module("cli", purpose)
        return False

    parser = commands.add_parser(name, help="needs the research package", prefix_chars="\0", add_help=False)
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(run=run, json=False)
