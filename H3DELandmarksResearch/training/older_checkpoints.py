"""Checkpoints of a stage's training as version 0.1 wrote them: pickles.

PyTorch reads them without running anything from 2.6 on only (CVE-2025-32434), and what they claim is checked first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from H3DELandmarksLib.core.errors import InputError, MissingDependencyError
from H3DELandmarksLib.core.text import plain
from H3DELandmarksLib.formats.reading import build, to_plain
from H3DELandmarksLib.training.checkpoints import Checkpoint, TrainingProgress, unreadable
from H3DELandmarksResearch.published.checkpoints import read_content


def read_older(path: Path) -> Checkpoint:
    """Read one; nothing in it is run.

    Raises:
        InputError: it is damaged or of something else.
        MissingDependencyError: this PyTorch is not safe to read it with.
    """
    try:
        state = read_content(path)
        losses = tuple(float(loss) for loss in state.get("losses", ()))
        progress = build(TrainingProgress, plain(to_plain(TrainingProgress(state["step"], losses))))
        optimizer = {int(number): _tensors(kept) for number, kept in state["optimizer"]["state"].items()}
        return Checkpoint(progress, _tensors(state["network"]), _tensors(state["average"]), optimizer)
    except MissingDependencyError:
        raise
    except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(path) from error


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors by name and nothing else; raises TypeError or AttributeError."""
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        raise TypeError("not tensors by name")
    return dict(content)
