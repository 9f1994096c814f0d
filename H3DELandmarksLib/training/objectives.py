"""What a stage is trained for: the losses by name, and what each asks of the network and its decoder."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from H3DELandmarksLib.detection.layout import Layout
from H3DELandmarksLib.detection.stage import choose_decoder
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.networks.correction_head import CorrectionHead
from H3DELandmarksLib.networks.heads import AnchorHead
from H3DELandmarksLib.training.anchor_loss import published_anchor_loss
from H3DELandmarksLib.training.heatmap_losses import BACKGROUND, ball_bce, gaussian_bce, published_heatmap_loss
from H3DELandmarksLib.training.heatmap_losses_2d import published_hyatt_loss
from H3DELandmarksLib.training.losses import spatial_cross_entropy

DEFAULT = "spatial-cross-entropy"
DEEP_HEAD = "deep-supervision"


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
        head: the network's head; a loss for heat maps serves deep supervision, too, once for each resolution.
        background: the output of an untrained network for a given number of voxels a map.
        deep: whether the loss takes the maps of all resolutions at once, and positions in voxels of the crop.
    """

    loss: Callable[..., Tensor]
    decoding: str
    head: str
    background: Callable[[float], float]
    deep: bool = False

    def total(self, maps: Sequence[Tensor], strides: Sequence[np.ndarray], index: Tensor, presence: Tensor) -> Tensor:
        """The loss of a batch, averaged over resolutions unless it weighs them itself.

        Args:
            maps: for each resolution (B, K, X, Y, Z), or what an anchor head gives.
            strides: for each resolution (3,) voxels of the crop per voxel of the map.
            index: (B, K, 3) positions in voxels of the crop; ignored where absent or unknown.
            presence: (B, K) 1 present, 0 absent, NaN unknown.
        """
        if self.deep:
            return self.loss(maps, index, presence)
        losses = []
        for level, stride in zip(maps, strides):
            steps = torch.as_tensor(stride, dtype=index.dtype, device=index.device)
            losses.append(self.loss(level, (index + 0.5) / steps - 0.5, presence))
        return torch.stack(losses).mean()


# A stage's ``training.loss`` names one of these; entries of ``training`` called like its settings are handed to it.
LOSSES: dict[str, Objective] = {
    DEFAULT: Objective(spatial_cross_entropy, "softmax", "heatmap", _equal_odds),
    "published-heatmap": Objective(published_heatmap_loss, "published-heatmap", "heatmap", lambda _: BACKGROUND),
    "published-anchor": Objective(published_anchor_loss, "published-anchor", "anchor", _rare),
    "gaussian-bce": Objective(gaussian_bce, "peak", "heatmap", _rare),
    "ball-bce": Objective(ball_bce, "peak", "heatmap", _rare),
    "published-hyatt": Objective(published_hyatt_loss, "published-hyatt", DEEP_HEAD, lambda _: 0.0, deep=True),
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
    method = stage.get("decoding", {}).get("method", "softmax")
    head = DEEP_HEAD if Layout.of(stage).flat else stage["network"]["settings"].get("head", "heatmap")
    fits = {objective.head, DEEP_HEAD} if objective.head == "heatmap" else {objective.head}
    name = stage["training"].get("loss", DEFAULT)
    if method != objective.decoding:
        raise InputError(f"The loss '{name}' needs the decoding method '{objective.decoding}', not '{method}'.")
    if head not in fits:
        raise InputError(f"The loss '{name}' needs the network head '{objective.head}', not '{head}'.")


def start_at_background(head: nn.Module, *background: float) -> None:
    """Initialize output layers so that every map, or class logit, is close to its background value.

    Args:
        head: the network's head.
        background: one value for each resolution of its maps.
    """
    if isinstance(head, CorrectionHead):  # its weights are close to zero from the beginning
        for layers, value in zip((head.quarter_maps, head.half_maps, head.correction), background):
            nn.init.constant_(layers[-1].bias, value)
        return
    layer = head.conv if isinstance(head, AnchorHead) else head
    nn.init.constant_(layer.bias, background[0])
    if isinstance(head, AnchorHead):
        nn.init.zeros_(layer.bias.detach().view(head.anchors, -1)[:, :3])
    nn.init.normal_(layer.weight, std=0.01)
