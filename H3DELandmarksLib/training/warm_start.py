"""Fine-tuning: a stage starts with the weights of the same stage of another model."""

from __future__ import annotations

import logging

import torch
from torch import nn

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.models import ModelPackage

logger = logging.getLogger(__name__)
HEAD = "head."


def load_initial_weights(network: nn.Module, package: ModelPackage, stage: str) -> None:
    """Replace a network's weights by those of a model's stage.

    The networks must agree in everything but their output layers: where these differ, because the model finds other
    landmarks, they keep their own start.

    Args:
        network: network to change in place.
        package: model to start from.
        stage: name of the stage, the same in both.

    Raises:
        InputError: the model has no such stage, or another network there.
    """
    stages = {entry["name"]: entry for entry in package.manifest["stages"]}
    if stage not in stages:
        raise InputError(f"The model '{package.id}' to start from has no stage '{stage}': name the stages alike.")
    own = network.state_dict()
    stored = package.load_weights(stages[stage]["weights"]["file"])
    given = {name: torch.as_tensor(value) for name, value in stored.items()}
    fitting = {name for name in own.keys() & given.keys() if own[name].shape == given[name].shape}
    if any(not name.startswith(HEAD) for name in (own.keys() | given.keys()) - fitting):
        raise InputError(
            f"Stage '{stage}' of the model '{package.id}' to start from has another network: take its settings over."
        )
    network.load_state_dict({name: given[name].to(own[name].dtype) for name in fitting}, strict=False)
    logger.info("%s: starts from %s %s, %d of %d tensors", stage, package.id, package.version, len(fitting), len(own))
