"""Checkpoints of a stage's training: safetensors files, in which nothing can be run, with a little JSON in them.

Files of before are pickles, which the research package reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.resources import research_module
from H3DELandmarksLib.core.text import plain
from H3DELandmarksLib.formats.reading import Count, FormatError, OrNull, build, parse_json, to_json, to_plain

CHECKPOINT = "checkpoint.safetensors"
OLDER_NAME = "checkpoint.pt"
PROGRESS = "h3delandmarks-progress"


@dataclass(frozen=True)
class TrainingProgress:
    """How far a stage is.

    Attributes:
        step: optimizer steps that are done.
        losses: of the steps since the last line of the curve; NaN is null in the file.
        learnt: names of the cases that the weights have learnt from; empty where an older version did not note them.
        landmarks: names of the stage's landmarks, in the order of the network's maps; empty likewise.
    """

    step: Count
    losses: tuple[Annotated[float, OrNull(math.nan)], ...] = ()
    learnt: tuple[str, ...] = ()
    landmarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """What a training goes on from.

    Attributes:
        progress: how far it is.
        network, average: weights and averaged weights by name.
        optimizer: what the optimizer keeps of each parameter, by the parameter's number.
    """

    progress: TrainingProgress
    network: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: Mapping[int, Mapping[str, Tensor]]


def has_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint, or one of before in its place."""
    return path.exists() or path.with_name(OLDER_NAME).exists()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the previous one stays whole until it is complete.

    Raises:
        OutputError: the folder cannot be written to.
    """
    tensors = {f"network.{name}": value for name, value in checkpoint.network.items()}
    tensors |= {f"average.{name}": value for name, value in checkpoint.average.items()}
    for number, kept in checkpoint.optimizer.items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in kept.items()}
    # A copy of its own for each: safetensors refuses tensors that share memory.
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    progress = to_json(plain(to_plain(checkpoint.progress))).decode()
    content = save(tensors, {PROGRESS: progress})  # safetensors tells of a full disk by an error of its own
    with atomic_write(path) as partial:
        partial.write_bytes(content)
    path.with_name(OLDER_NAME).unlink(missing_ok=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or one of before in its place; nothing in it is run.

    Raises:
        InputError: it is missing, damaged or of something else.
        MissingDependencyError: it is one of before, which is not safe to read here.
    """
    older = path.with_name(OLDER_NAME)
    if not path.exists() and older.exists():
        reading = research_module("training.older_checkpoints", f"The checkpoint '{older}' of an older version")
        return reading.read_older(older)
    try:
        with safe_open(path, "pt") as file:
            progress = build(TrainingProgress, parse_json((file.metadata() or {}).get(PROGRESS, "").encode()))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Checkpoint(progress, _part(tensors, "network"), _part(tensors, "average"), _by_number(tensors))
    except FileNotFoundError as error:
        raise InputError(f"There is no checkpoint '{path}': train this stage first.") from error
    except (OSError, ValueError, SafetensorError, FormatError) as error:
        raise unreadable(path) from error


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def _by_number(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    result: dict[int, dict[str, Any]] = {}
    for place, value in _part(tensors, "optimizer").items():
        number, _, name = place.partition(".")
        result.setdefault(int(number), {})[name] = value
    return result


def unreadable(path: Path) -> InputError:
    """One sentence about a checkpoint that is damaged or of something else."""
    return InputError(f"The checkpoint '{path}' cannot be read: delete it to start this stage again.")


def averaged_weights(path: Path) -> dict[str, Tensor]:
    """Averaged weights of a stage's checkpoint by the network's parameter names; errors as of `load_checkpoint`."""
    return _part(load_checkpoint(path).average, "module")
