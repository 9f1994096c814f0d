"""Fine-tuning: a stage starts with the weights of the same stage of another model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.manifest import Group, Stage
from H3DELandmarksLib.models import ModelPackage
from H3DELandmarksLib.networks.arrays import to_tensor
from H3DELandmarksLib.training.loop import EARLY

logger = logging.getLogger(__name__)
HEAD = ("head.", "presence.logits.")
# Axes of output layers on which landmarks lie; in front of them may lie others, which all models have.
LANDMARK_AXES = {
    **{f"{layer}.weight": (0,) for layer in ("head", "head.conv", "presence.logits")},
    **{f"{layer}.bias": (0,) for layer in ("head", "head.conv", "presence.logits")},
    **{f"head.{level}.2.{kind}": (0,) for level in ("quarter_maps", "half_maps") for kind in ("weight", "bias")},
    "head.correction.0.weight": (0, 1),
    "head.correction.0.bias": (0,),
    "head.correction.2.weight": (0, 1),
    "head.correction.2.bias": (0,),
}


def load_initial_weights(
    network: nn.Module, package: ModelPackage, stage: str, channels: Sequence[int] | None = None
) -> None:
    """Replace a network's weights by those of a model's stage.

    The networks must agree in everything but their output layers. Where these differ, because the model finds other
    landmarks, they keep their own start, or, with `channels`, take over what belongs to the same landmarks.

    Args:
        network: network to change in place.
        package: model to start from.
        stage: name of the stage, the same in both.
        channels: for each landmark of the network the channel of the model that it starts from, -1 for none.

    Raises:
        InputError: the model has no such stage, or another network there.
    """
    stages = {entry.name: entry for entry in package.manifest.stages}
    if stage not in stages:
        raise InputError(f"The model '{package.id}' to start from has no stage '{stage}': name the stages alike.")
    own, given = network.state_dict(), _weights(package, stages[stage])
    if channels is not None:
        given |= {
            name: _taken_over(own[name], given[name], axes, np.asarray(channels), name.startswith("head.conv"))
            for name, axes in LANDMARK_AXES.items()
            if name in own and name in given
        }
    fitting = {name for name in own.keys() & given.keys() if own[name].shape == given[name].shape}
    if any(not name.startswith(HEAD) for name in (own.keys() | given.keys()) - fitting):
        raise InputError(
            f"Stage '{stage}' of the model '{package.id}' to start from has another network: take its settings over."
        )
    network.load_state_dict({name: given[name].to(own[name].dtype) for name in fitting}, strict=False)
    logger.info("%s: starts from %s %s, %d of %d tensors", stage, package.id, package.version, len(fitting), len(own))


def load_early_layers(network: nn.Module, package: ModelPackage, stage: str) -> None:
    """Take over the layers that read the image from a model's stage, and nothing else.

    Args:
        network: network to change in place; its early layers are those of the model.
        package: model to start from.
        stage: name of the model's stage.
    """
    early = {
        name: value
        for name, value in _weights(package, package.manifest.stage(stage)).items()
        if name.startswith(EARLY)
    }
    own = network.state_dict()
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in early.items()}, strict=False)


def matching_channels(
    groups: Sequence[Group], base_groups: Sequence[Group], base_names: Mapping[str, str]
) -> list[int]:
    """For each channel of a stage the channel of the base's stage that finds the same landmark, -1 where none does.

    Args:
        groups, base_groups: of both stages.
        base_names: name in the base's scheme of each landmark that it knows.
    """
    found: dict[str, int] = {}
    for group in base_groups:
        for channel, name in enumerate(group.landmarks):
            found.setdefault(name, channel)
    columns = zip(*(group.landmarks for group in groups))
    return [next((found[base_names[n]] for n in names if base_names.get(n) in found), -1) for names in columns]


def _weights(package: ModelPackage, stage: Stage) -> dict[str, Tensor]:
    stored = package.load_weights(stage.weights.file)
    return {name: to_tensor(value) for name, value in stored.items()}


def _taken_over(own: Tensor, given: Tensor, axes: Sequence[int], channels: np.ndarray, anchors: bool) -> Tensor:
    """`own` with the parts that belong to landmarks which the model knows.

    Args:
        own: fresh weights.
        given: the model's weights.
        axes: on which landmarks lie, after what all models have.
        channels: the model's channel of each landmark, -1 for none.
        anchors: whether an axis holds such a block for each of several anchors, with three offsets each.
    """
    target, source = ([torch.arange(n) for n in own.shape] for _ in range(2))
    for axis in axes:
        size = own.shape[axis]
        blocks = size // (3 + len(channels)) if anchors else 1
        fixed, before = size // blocks - len(channels), given.shape[axis] // blocks
        block = np.concatenate([np.arange(fixed), np.where(channels >= 0, fixed + channels, -1)])
        index = np.concatenate([np.where(block >= 0, block + number * before, -1) for number in range(blocks)])
        target[axis] = to_tensor(np.flatnonzero(index >= 0))
        source[axis] = to_tensor(index[index >= 0])
    result = own.clone()
    result[torch.meshgrid(*target, indexing="ij")] = given.to(own.dtype)[torch.meshgrid(*source, indexing="ij")]
    return result
