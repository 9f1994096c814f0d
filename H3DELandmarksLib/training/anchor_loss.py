"""The anchor loss of H3DE-Net (arXiv 2502.14221), for any batch and any number of landmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from H3DELandmarksLib.detection.decoding import ANCHOR_RADII, ANCHOR_STRIDE

# Negatives drawn for an absent landmark by each anchor's list of positives: with four anchors 1024.
HARD_NEGATIVES = 256
HARD_WEIGHT = 0.2
BACKGROUND_WEIGHT = 0.001


class Matches(NamedTuple):
    """The P anchors near each landmark, of which some are positive.

    Attributes:
        row: (B, K, P) number of the anchor when cells and anchors are numbered in one go.
        offset: (B, K, P, 3) (landmark - cell) / r, in units of the anchor's reach.
        positive: (B, K, P) whether the anchor belongs to the landmark.
    """

    row: Tensor
    offset: Tensor
    positive: Tensor


def match_anchors(cells: Tensor, present: Tensor, grid: Sequence[int], radii: Sequence[float]) -> Matches:
    """Find the positive anchors of each landmark: |landmark - cell| < r on every axis.

    Args:
        cells: (B, K, 3) positions in cells; ignored where not present.
        present: (B, K) whether the landmark is in the crop.
        grid: cells along X, Y, Z.
        radii: reach of each anchor in cells.
    """
    reach = math.ceil(max(radii) - 0.5)
    span = torch.arange(-reach, reach + 1, device=cells.device)
    radius, size = torch.tensor(radii, device=cells.device), torch.tensor(tuple(grid), device=cells.device)
    center = torch.where(present[..., None], cells, torch.zeros_like(cells))[:, :, None]
    cell = center.round().long() + torch.cartesian_prod(span, span, span)
    delta = center - cell
    eligible = ((cell >= 0) & (cell < size)).all(dim=3) & present[..., None]
    positive = (delta.abs().amax(dim=3, keepdim=True) < radius) & eligible[..., None]
    cell = torch.minimum(cell.clamp(min=0), size - 1)
    linear = (cell[..., 0] * size[1] + cell[..., 1]) * size[2] + cell[..., 2]
    row = linear[..., None] * len(radii) + torch.arange(len(radii), device=cells.device)
    offset = delta[..., None, :] / radius[:, None]
    return Matches(row.flatten(2), offset.flatten(2, 3), positive.flatten(2))


def published_anchor_loss(
    maps: Tensor,
    index: Tensor,
    presence: Tensor,
    hard_negatives: int = HARD_NEGATIVES,
    radii: Sequence[float] = ANCHOR_RADII,
) -> Tensor:
    """The loss of H3DE-Net's anchors.

    BCE of the landmark's own class at its positive anchors, + 1 / (K - 1) of the BCE of the other classes there (also
    of one that shares the anchor, as published), + smooth L1 between tanh(offsets) and (landmark - cell) / r there,
    + 0.2 BCE of the hardest anchors of each absent landmark, + 0.001 BCE of all negatives. Every term is a mean over
    all its logits in the batch, 0 where there are none. Mended: hard negatives come from the sample that lacks the
    landmark, and the last term leaves offsets and positives alone. Classes of unknown landmarks take no part.

    Args:
        maps: (B, X, Y, Z, anchors, 3 + K) offsets and class logits on the grid of stride `ANCHOR_STRIDE`.
        index: (B, K, 3) positions in voxels of the network's input; ignored where absent or unknown.
        presence: (B, K) 1 present, 0 absent, NaN unknown.
        hard_negatives: how many anchors of an absent landmark count for each of the ``radii``.
        radii: (anchors,) reach of each anchor in cells.

    Returns:
        Scalar; 0 with a gradient path when no landmark is known.
    """
    if maps.shape[4] != len(radii):
        raise ValueError(f"the maps have {maps.shape[4]} anchors a cell, the loss {len(radii)}")
    present, known = presence == 1, ~torch.isnan(presence)
    flat = maps.float().flatten(1, 4)
    match = match_anchors(index / ANCHOR_STRIDE, present, maps.shape[1:4], radii)
    rows = match.row.flatten(1)[..., None].expand(-1, -1, flat.shape[2])
    near = flat.gather(1, rows).unflatten(1, match.row.shape[1:])
    softplus = F.softplus(near[..., 3:])
    own = softplus.diagonal(dim1=1, dim2=3).transpose(1, 2) * match.positive
    loss = _positive_terms(near, softplus, match, known)
    loss = loss + HARD_WEIGHT * _hard_negatives(flat, known & ~present, hard_negatives * len(radii))
    return loss + BACKGROUND_WEIGHT * _background(flat, own, match.positive, known)


def _positive_terms(near: Tensor, softplus: Tensor, match: Matches, known: Tensor) -> Tensor:
    """Own class, other classes and offsets at the positive anchors.

    Args:
        near: (B, K, P, 3 + K) offsets and logits of the anchors near each landmark.
        softplus: (B, K, P, K) BCE of those logits against 0.
        match: which of them are positive.
        known: (B, K) classes that take part.
    """
    anchors, classes = match.positive.sum(dim=2), known.shape[1]
    counted = known[:, None] & ~torch.eye(classes, dtype=torch.bool, device=known.device)
    others = ((softplus * counted[:, :, None]).sum(dim=3) * match.positive).sum()
    others = others / (anchors * counted.sum(dim=2)).sum().clamp(min=1) / max(1, classes - 1)
    own = F.softplus(-near[..., 3:].diagonal(dim1=1, dim2=3)).transpose(1, 2)
    offsets = F.smooth_l1_loss(torch.tanh(near[..., :3]), match.offset, reduction="none").mean(dim=3)
    return ((own + offsets) * match.positive).sum() / anchors.sum().clamp(min=1) + others


def _hard_negatives(flat: Tensor, absent: Tensor, number: int) -> Tensor:
    """Mean BCE of the anchors most like each absent landmark (B, K), all of the sample that lacks it."""
    sample, landmark = absent.nonzero(as_tuple=True)
    logits = flat.detach()[sample, :, 3 + landmark]
    place = logits.topk(min(number, flat.shape[1]), dim=1).indices
    return F.softplus(flat[sample[:, None], place, 3 + landmark[:, None]]).sum() / max(1, place.numel())


class _TotalSoftplus(torch.autograd.Function):
    """Sum of softplus over dimension 1 of (B, N, C); its gradient takes half the time of PyTorch's."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.softplus(x).sum(dim=1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.sigmoid(x).mul_(gradient[:, None])


def _background(flat: Tensor, own: Tensor, positive: Tensor, known: Tensor) -> Tensor:
    """Mean BCE of all negative class logits: all of a known class but those of its own positive anchors."""
    # The offsets' columns are computed in vain, and dropped: faster than reading a slice.
    total = _TotalSoftplus.apply(flat)[:, 3:] - own.sum(dim=2)
    return (total * known).sum() / (known.sum() * flat.shape[1] - positive.sum()).clamp(min=1)
