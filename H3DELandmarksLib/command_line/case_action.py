"""Declaring an action of ``cases``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from H3DELandmarksLib.command_line.console import Console
from H3DELandmarksLib.command_line.options import add_json

Action = Callable[[argparse.Namespace, Console], bool]


def add_action(actions: argparse._SubParsersAction, name: str, text: str, run: Action) -> argparse.ArgumentParser:
    """An action on a project, with ``--json``."""
    action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    action.add_argument("project", metavar="PROJECT", help="folder of the project")
    action.set_defaults(run=run)
    add_json(action)
    return action
