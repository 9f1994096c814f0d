"""What a stage is trained for: the losses by name, and what each asks of the network and its decoder."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from H3DELandmarksLib.detection.stage import choose_decoder
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.networks.heads import AnchorHead
from H3DELandmarksLib.training.anchor_loss import published_anchor_loss
from H3DELandmarksLib.training.heatmap_losses import BACKGROUND, ball_bce, gaussian_bce, published_heatmap_loss
from H3DELandmarksLib.training.losses import spatial_cross_entropy

DEFAULT = "spatial-cross-entropy"


def _equal_odds(voxels: float) -> float:
    """Equal odds of "absent" and "anywhere" for a softmax over all voxels and one logit 0."""
    return -math.log(voxels)


def _rare(voxels: float) -> float:
    """One in a hundred for a sigmoid, the usual start where nearly all targets are 0 (arXiv 1708.02002)."""
    return -math.log(99)


class Objective(NamedTuple):
    """A loss and what belongs to it.

    Attributes:
        loss: of maps, positions in map voxels and presence; its further parameters are settings.
        decoding: the method that reads what this loss writes.
        head: the network's head.
        background: the output of an untrained network for a given number of voxels a map.
    """

    loss: Callable[..., Tensor]
    decoding: str
    head: str
    background: Callable[[float], float]


# A stage's ``training.loss`` names one of these; entries of ``training`` called like its settings are handed to it.
LOSSES: dict[str, Objective] = {
    DEFAULT: Objective(spatial_cross_entropy, "softmax", "heatmap", _equal_odds),
    "published-heatmap": Objective(published_heatmap_loss, "published-heatmap", "heatmap", lambda _: BACKGROUND),
    "published-anchor": Objective(published_anchor_loss, "published-anchor", "anchor", _rare),
    "gaussian-bce": Objective(gaussian_bce, "peak", "heatmap", _rare),
    "ball-bce": Objective(ball_bce, "peak", "heatmap", _rare),
}


def choose_objective(training: Mapping) -> Objective:
    """The objective that a stage's entry ``training`` names, its loss taking the settings found there.

    Raises:
        InputError: there is no such loss.
    """
    name = training.get("loss", DEFAULT)
    if name not in LOSSES:
        raise InputError(f"There is no loss '{name}': choose one of {', '.join(LOSSES)}.")
    objective = LOSSES[name]
    settings = list(inspect.signature(objective.loss).parameters)[3:]
    return objective._replace(loss=partial(objective.loss, **{s: training[s] for s in settings if s in training}))


def check_objective(stage: Mapping) -> None:
    """Refuse a stage whose loss, decoding and head don't exist or don't belong together.

    Raises:
        InputError: the sentence says what to write instead.
    """
    objective = choose_objective(stage["training"])
    choose_decoder(stage)
    found = {
        "decoding method": stage.get("decoding", {}).get("method", "softmax"),
        "network head": stage["network"]["settings"].get("head", "heatmap"),
    }
    for what, needed in (("decoding method", objective.decoding), ("network head", objective.head)):
        if found[what] != needed:
            name = stage["training"].get("loss", DEFAULT)
            raise InputError(f"The loss '{name}' needs the {what} '{needed}', not '{found[what]}'.")


def start_at_background(head: nn.Module, background: float) -> None:
    """Initialize an output layer so that every map, or class logit, is close to its background value."""
    layer = head.conv if isinstance(head, AnchorHead) else head
    nn.init.constant_(layer.bias, background)
    if isinstance(head, AnchorHead):
        nn.init.zeros_(layer.bias.detach().view(head.anchors, -1)[:, :3])
    nn.init.normal_(layer.weight, std=0.01)
