"""The research package's commands where it is installed, else commands that say in a sentence that it is not."""

from __future__ import annotations

import argparse

from H3DELandmarksLib.cli.console import Console
from H3DELandmarksLib.core.research import is_research_installed, research_module

COMMANDS = ("evaluate", "report", "convert", "radiographs", "phantom", "demo")
MODEL_ACTIONS = ("import-published", "recalibrate")


def add_research_commands(commands: argparse._SubParsersAction) -> None:
    """Declare the commands of the research package."""
    if is_research_installed():
        for command in research_module("cli", "The command line").COMMANDS:
            command.add_parser(commands)
    else:
        for name in COMMANDS:
            _add_missing(commands, name, f"The command '{name}'")


def add_research_actions(actions: argparse._SubParsersAction) -> None:
    """Declare the actions of ``models`` that the research package has."""
    if is_research_installed():
        for action in research_module("cli", "The command line").MODEL_ACTIONS:
            action.add_action(actions)
    else:
        for name in MODEL_ACTIONS:
            _add_missing(actions, name, f"The command 'models {name}'")


def _add_missing(commands: argparse._SubParsersAction, name: str, purpose: str) -> None:
    """A command that says what is missing, whatever its arguments are."""

    def run(options: argparse.Namespace, console: Console) -> bool:
        research_module("cli", purpose)
        return False

    parser = commands.add_parser(name, help="needs the research package", prefix_chars="\0", add_help=False)
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(run=run, json=False)
