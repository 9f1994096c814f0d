"""Arguments that several commands share."""

from __future__ import annotations

import argparse

DEVICES = ("auto", "cpu", "cuda", "mps")
BACKENDS = ("auto", "torch", "openvino")
PRECISIONS = ("auto", "fp32", "half")


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


def add_engine(parser: argparse.ArgumentParser) -> None:
    """``--device``, ``--backend`` and ``--precision``."""
    add_device(parser)
    parser.add_argument(
        "--backend", choices=BACKENDS, default="auto",
        help="what runs networks; auto: PyTorch, and on CPUs OpenVINO where it is installed and saves time "
        "(default: %(default)s, or the environment variable H3DE_BACKEND)",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto",
        help="half: 16-bit arithmetic where the computer is fast with it and no landmark moves by a quarter voxel in "
        "the first crops; auto: half on CUDA, else fp32 (default: %(default)s)",
    )
