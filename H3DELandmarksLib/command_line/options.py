"""Arguments that several commands share."""

from __future__ import annotations

import argparse

DEVICES = ("auto", "cpu", "cuda", "mps")


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """``--progress``."""
    parser.add_argument(
        "--progress", choices=("auto", "none", "json"), default="auto",
        help="auto: a bar where stderr is a terminal; json: JSON lines on stdout, the result being the last",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where networks run (default: %(default)s)")
