"""What a stage is trained for: the losses by name, and what each asks of the network and its decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.core.resources import research_module
from H3DELandmarksLib.formats.training import DEFAULT_LOSS, Training
from H3DELandmarksLib.networks.h3denet import AnchorHead
from H3DELandmarksLib.networks.hyatt import CorrectionHead

# Of heat maps that a pass over them on a CPU takes at once, so that they stay in its cache.
CACHED_BYTES = 2**20


def spatial_cross_entropy(maps: Tensor, index: Tensor, presence: Tensor, sigma: float = 1.0) -> Tensor:
    """Cross-entropy of "which voxel, or absent" against a Gaussian around the landmark.

    Each map's voxels and one outcome "absent" with the fixed logit 0 form one softmax per landmark. Heat-map matching
    by softmax follows distribution-aware regression (DSNT, arXiv 1801.07372); the outcome "absent" is this project's
    addition.

    Args:
        maps: (B, K, X, Y, Z) logits.
        index: (B, K, 3) positions in map voxels; ignored where absent or unknown.
        presence: (B, K) 1 present, 0 absent, NaN unknown (does not count).
        sigma: standard deviation of the target in map voxels.

    Returns:
        Scalar, the mean over known landmarks; 0 with a gradient path when none is known.
    """
    maps, index = _in_memory_order(maps, index)
    present = presence == 1
    linear, weight = _gaussian_patch(index, present, maps.shape[2:], sigma)
    mass, expected = _MassAndExpected.apply(maps.float().flatten(2), linear, weight)
    known = ~torch.isnan(presence)
    loss = mass - torch.where(present, expected, torch.zeros_like(expected))
    return (loss * known).sum() / known.sum().clamp(min=1)


def _in_memory_order(maps: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Maps and positions with their axes sorted as the voxels lie in memory, so that they can be flattened as a view.

    The loss is the same for any order of the axes.
    """
    order = sorted(range(3), key=lambda axis: -maps.stride(2 + axis))
    return maps.permute(0, 1, *(2 + axis for axis in order)), index[..., order]


class _MassAndExpected(torch.autograd.Function):
    """log(1 + sum of exp) of each map, and the weighted sum of some voxels, with one pass for both gradients."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, linear: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, V) logits, (B, K, P) voxel numbers and weights to two tensors (B, K)."""
        maps = flat.flatten(0, 1)
        total = torch.cat([torch.logsumexp(part, dim=1) for part in maps.split(_maps_at_once(maps))])
        total = total.view(flat.shape[:2])
        ctx.save_for_backward(flat, linear, weight, total)
        return F.softplus(total), (flat.gather(2, linear) * weight).sum(dim=2)

    @staticmethod
    def backward(ctx: Any, mass: Tensor, expected: Tensor) -> tuple[Tensor, None, None]:
        """Softmax times the gradient of the mass, plus the weights times that of the weighted sum."""
        flat, linear, weight, total = ctx.saved_tensors
        gradient, factor = torch.empty_like(flat), mass * torch.sigmoid(total)
        step = _maps_at_once(flat.flatten(0, 1))
        parts = (t.flatten(0, 1).split(step) for t in (flat, gradient, total[..., None], factor[..., None]))
        for logits, out, log_sum, scale in zip(*parts):
            torch.sub(logits, log_sum, out=out).exp_().mul_(scale)
        return gradient.scatter_add_(2, linear, weight * expected[..., None]), None, None


def _maps_at_once(maps: Tensor) -> int:
    """How many of (maps, V) a pass should take at once."""
    return max(1, CACHED_BYTES // maps[0].nbytes) if maps.device.type == "cpu" else len(maps)


def _gaussian_patch(index: Tensor, present: Tensor, shape: torch.Size, sigma: float) -> tuple[Tensor, Tensor]:
    """Linear voxel numbers (B, K, P) of a cube around each position and their normalized Gaussian weights."""
    radius = max(1, round(2.5 * sigma))
    center = torch.where(present[..., None], index, torch.zeros_like(index))
    span = torch.arange(-radius, radius + 1, device=index.device)
    voxel = center.round().long()[..., None, :] + torch.cartesian_prod(span, span, span)
    limit = torch.tensor(shape, device=index.device)
    inside = ((voxel >= 0) & (voxel < limit)).all(dim=3)
    weight = torch.exp(-((voxel - center[..., None, :]) ** 2).sum(dim=3) / (2 * sigma**2)) * inside
    voxel = torch.minimum(voxel.clamp(min=0), limit - 1)
    linear = (voxel[..., 0] * shape[1] + voxel[..., 1]) * shape[2] + voxel[..., 2]
    return linear, weight / weight.sum(dim=2, keepdim=True).clamp(min=1e-12)


def _equal_odds(voxels: float) -> float:
    """Equal odds of "absent" and "anywhere" for a softmax over all voxels and one logit 0."""
    return -math.log(voxels)


class Objective(NamedTuple):
    """A loss and what belongs to it.

    Attributes:
        loss: of maps, positions in map voxels and presence; its further parameters are settings.
        background: the output of an untrained network for a given number of voxels a map.
        deep: whether the loss takes the maps of all resolutions at once, and positions in voxels of the crop.
    """

    loss: Callable[..., Tensor]
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


# What a stage's ``training.loss`` names; the published losses join these from the research package.
LOSSES: dict[str, Objective] = {DEFAULT_LOSS: Objective(spatial_cross_entropy, _equal_odds)}


def choose_objective(training: Training) -> Objective:
    """The objective that a stage's training names, its loss taking the settings found there.

    Raises:
        MissingDependencyError: it is a published loss, and the research package is not installed.
    """
    if training.loss not in LOSSES:
        LOSSES.update(research_module("training.published_losses", f"The loss '{training.loss}'").PUBLISHED)
    objective = LOSSES[training.loss]
    return objective._replace(loss=partial(objective.loss, **training.loss_settings))


def start_at_background(head: nn.Module, *background: float) -> None:
    """Initialize output layers so that every map, or class logit, is close to its background value.

    Args:
        head: the network's head.
        background: one value for each resolution of its maps.
    """
    if isinstance(head, CorrectionHead):  # its weights are close to zero from the beginning
        for maps, value in zip((head.quarter_maps, head.half_maps, head.correction), background):
            nn.init.constant_(_bias(maps[-1]), value)
        return
    layer = head.conv if isinstance(head, AnchorHead) else head
    nn.init.constant_(_bias(layer), background[0])
    if isinstance(head, AnchorHead):
        nn.init.zeros_(_bias(layer).detach().view(head.anchors, -1)[:, :3])
    nn.init.normal_(layer.get_parameter("weight"), std=0.01)


def _bias(layer: nn.Module) -> Tensor:
    return layer.get_parameter("bias")
