"""Training states on disk that survive a kill at any moment."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from H3DELandmarksLib.errors import InputError


def save_checkpoint(path: Path, state: dict) -> None:
    """Write beside and rename, so that the previous checkpoint stays whole until the new one is."""
    beside = path.with_suffix(".partial")
    with open(beside, "wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, path)


def load_checkpoint(path: Path) -> dict:
    """Read tensors and plain values only; nothing in the file is executed."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"The checkpoint '{path}' cannot be read: delete it to start this stage again.") from error
