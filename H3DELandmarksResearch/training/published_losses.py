"""Published losses: those of H3DE-Net (arXiv 2502.14221), of HYATT-Net and HAN (arXiv 2412.06499) and of nnLandmark.

Targets of HYATT-Net are made for its published decoding (`detection.decoding`): pixel x of the image belongs to cell
x / s of a map of stride s, rounded, however finely the position is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from H3DELandmarksLib.detection.decoding import ANCHOR_RADII, ANCHOR_STRIDE
from H3DELandmarksLib.training.losses import Objective

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


BACKGROUND = -1.0


class Balls(NamedTuple):
    """The P voxels around each landmark; all are within its radius where ``inside`` says so.

    Attributes:
        linear: (B, K, P) linear voxel numbers; 0 where not inside.
        squared: (B, K, P) squared distance to the landmark in voxels.
        inside: (B, K, P) whether the voxel exists, lies within the radius, and the landmark is present.
    """

    linear: Tensor
    squared: Tensor
    inside: Tensor


def balls(index: Tensor, presence: Tensor, shape: torch.Size, radius: float) -> Balls:
    """Voxels within a radius of each landmark.

    Args:
        index: (B, K, 3) positions in voxels; ignored where absent or unknown.
        presence: (B, K) 1 present, 0 absent, NaN unknown.
        shape: (X, Y, Z) of the maps.
        radius: in voxels; a voxel at exactly this distance belongs to the ball.
    """
    reach = int(radius) + 1
    offsets = torch.cartesian_prod(*[torch.arange(-reach, reach + 1, device=index.device)] * 3)
    length = (offsets**2).sum(dim=1)
    # A position is at most half a voxel diagonal, 0.866, away from the voxel that it is rounded to.
    offsets = offsets[length <= (radius + 0.867) ** 2]
    present = presence == 1
    center = torch.where(present[..., None], index, torch.zeros_like(index)).float()
    inside = present[..., None].expand(-1, -1, len(offsets)).clone()
    linear, squared = torch.zeros_like(inside, dtype=torch.long), torch.zeros_like(inside, dtype=torch.float32)
    for axis, size in enumerate(shape):
        voxel = center[..., axis, None].round().long() + offsets[:, axis]
        inside &= (voxel >= 0) & (voxel < size)
        linear.mul_(size).add_(voxel)
        squared += (voxel - center[..., axis, None]) ** 2
    inside &= squared <= radius**2
    return Balls(linear.mul_(inside), squared, inside)


def published_heatmap_loss(maps: Tensor, index: Tensor, presence: Tensor, radius: float = 20.0) -> Tensor:
    """The loss of H3DE-Net's heat maps (arXiv 2502.14221).

    With g = exp(-d^2 / (0.2 R^2)) at distance d from the landmark, the target is 2 g for d <= R and -1 elsewhere. A
    landmark's loss is the mean smooth L1 over its positive voxels (d <= R) plus the mean over as many negative ones of
    the same map, the hardest, that is, the highest. Mended: they are the map's highest negatives; the published code
    takes their numbers among the negatives for numbers of voxels. An absent landmark's target is -1 everywhere; then
    one voxel, the first, stands for the positives, and there is one hard negative.

    Args:
        maps: (B, K, X, Y, Z) linear heat maps.
        index: (B, K, 3) positions in map voxels; ignored where absent or unknown.
        presence: (B, K) 1 present, 0 absent, NaN unknown (does not count).
        radius: R in map voxels.

    Returns:
        Scalar, the mean over known landmarks; 0 with a gradient path when none is known.
    """
    flat = maps.float().flatten(2)
    known, ball = ~torch.isnan(presence), balls(index, presence, maps.shape[2:], radius)
    count = ball.inside.sum(dim=2)
    target = 2 * torch.exp(-ball.squared / (0.2 * radius**2))
    positives = F.smooth_l1_loss(flat.gather(2, ball.linear), target, reduction="none") * ball.inside
    positives = positives.sum(dim=2) / count.clamp(min=1) + _background_error(flat[..., 0]) * (count == 0)
    place, chosen = _hardest_negatives(flat.detach(), ball, count.clamp(min=1) * known)
    negatives = _background_error(flat.gather(2, place)) * chosen
    return _mean_of_known(positives + negatives.sum(dim=2) / chosen.sum(dim=2).clamp(min=1), known)


def _background_error(values: Tensor) -> Tensor:
    return F.smooth_l1_loss(values, torch.full_like(values, BACKGROUND), reduction="none")


@torch.no_grad()
def _hardest_negatives(flat: Tensor, ball: Balls, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Highest voxels outside the balls.

    Args:
        flat: (B, K, V) maps.
        ball: the positive voxels.
        wanted: (B, K) how many negatives each map should give.

    Returns:
        Linear voxel numbers (B, K, N), and which of them count (B, K, N), N the largest number wanted.
    """
    numbers = wanted.clamp(max=flat.shape[2]).tolist()
    most = max(map(max, numbers))
    place = torch.zeros((*wanted.shape, most), dtype=torch.long, device=flat.device)
    chosen = torch.zeros_like(place, dtype=torch.bool)
    for b, k in (wanted > 0).nonzero().tolist():
        values, number = flat[b, k].clone(), numbers[b][k]
        values[ball.linear[b, k][ball.inside[b, k]]] = -torch.inf
        value, place[b, k, :number] = values.topk(number, sorted=False)
        chosen[b, k, :number] = value > -torch.inf
    return place, chosen


def gaussian_bce(
    maps: Tensor, index: Tensor, presence: Tensor, sigma: float = 5.0, worst: float = 0.2, mask_absent: bool = False
) -> Tensor:
    """Binary cross-entropy against Gaussian heat on each map's worst voxels, nnLandmark's recipe (arXiv 2504.06742).

    Args:
        maps: (B, K, X, Y, Z) logits.
        index: (B, K, 3) positions in map voxels; ignored where absent or unknown.
        presence: (B, K) 1 present, 0 absent, NaN unknown (does not count).
        sigma: standard deviation of the target in map voxels; its peak is 1, and it ends at 3 sigma.
        worst: share of a map's voxels, those with the largest loss, that count.
        mask_absent: True leaves absent landmarks out as the recipe does; False makes their target empty, so that maps
            tell presence.

    Returns:
        Scalar, the mean over landmarks that count; 0 with a gradient path when none does.
    """
    ball = balls(index, presence, maps.shape[2:], 3 * sigma)
    return _worst_bce(maps, ball, torch.exp(-ball.squared / (2 * sigma**2)), presence, worst, mask_absent)


def ball_bce(
    maps: Tensor, index: Tensor, presence: Tensor, radius: float = 15.0, worst: float = 0.2, mask_absent: bool = False
) -> Tensor:
    """Binary cross-entropy against the distance transform of a ball on each map's worst voxels (arXiv 2504.06742).

    The heat at distance d is 1 - d / radius: the distance to the ball's surface, in closed form and about the position
    itself instead of its voxel.

    Args:
        maps: (B, K, X, Y, Z) logits.
        index: (B, K, 3) positions in map voxels; ignored where absent or unknown.
        presence: (B, K) 1 present, 0 absent, NaN unknown (does not count).
        radius: of the ball in map voxels.
        worst: share of a map's voxels, those with the largest loss, that count.
        mask_absent: True leaves absent landmarks out as the recipe does; False makes their target empty, so that maps
            tell presence.

    Returns:
        Scalar, the mean over landmarks that count; 0 with a gradient path when none does.
    """
    ball = balls(index, presence, maps.shape[2:], radius)
    return _worst_bce(maps, ball, 1 - ball.squared.sqrt() / radius, presence, worst, mask_absent)


def _worst_bce(maps: Tensor, ball: Balls, heat: Tensor, presence: Tensor, worst: float, mask_absent: bool) -> Tensor:
    """Mean over landmarks of the BCE on the worst voxels against heat (B, K, P) in balls and 0 elsewhere."""
    flat = maps.float().flatten(2)
    counts = presence == 1 if mask_absent else ~torch.isnan(presence)
    place, target = _worst_voxels(flat.detach(), ball, heat, counts, max(1, round(worst * flat.shape[2])))
    loss = F.binary_cross_entropy_with_logits(flat.gather(2, place), target, reduction="none")
    return _mean_of_known(loss.mean(dim=2), counts)


@torch.no_grad()
def _worst_voxels(flat: Tensor, ball: Balls, heat: Tensor, counts: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Linear numbers (B, K, number) of the voxels with the largest BCE, and their targets (B, K, number)."""
    place = torch.zeros((*counts.shape, number), dtype=torch.long, device=flat.device)
    target = torch.zeros_like(place, dtype=flat.dtype)
    for b, k in counts.nonzero().tolist():
        inside = ball.inside[b, k]
        dense = torch.zeros_like(flat[b, k])
        dense[ball.linear[b, k][inside]] = heat[b, k][inside]
        loss = F.binary_cross_entropy_with_logits(flat[b, k], dense, reduction="none")
        place[b, k] = loss.topk(number, sorted=False).indices
        target[b, k] = dense[place[b, k]]
    return place, target


def _mean_of_known(loss: Tensor, known: Tensor) -> Tensor:
    """Mean of (B, K) over the landmarks that count."""
    return (loss * known).sum() / known.sum().clamp(min=1)


STRIDES = (4, 2, 1)


def deep_supervision_loss(
    maps: Sequence[Tensor],
    index: Tensor,
    visibility: Tensor,
    sigmas: Sequence[float] = (2.0, 2.0, 4.0),
    factors: Sequence[float] = (1000.0, 3000.0, 3000.0),
) -> Tensor:
    """Sum over resolutions of ``factor`` times the mean squared error to the landmarks' Gaussians.

    The mean runs over all samples, landmarks and pixels; those of landmarks that are not visible, or whose whole
    Gaussian lies outside the map, count as 0.

    Args:
        maps: heat maps (B, K, H', W') at strides 4, 2 and 1, as HyattNet returns them.
        index: (B, K, 2) row and column in pixels of the image, fractions allowed; ignored where not visible.
        visibility: (B, K) 1 visible, 0 absent, NaN unknown.
        sigmas: standard deviation of each resolution's targets in pixels of its maps.
        factors: weight of each resolution's mean squared error.

    Returns:
        Scalar; 0 with a gradient path where nothing is visible.
    """
    visible = visibility == 1
    pixels = torch.where(visible[..., None], index.float(), 0.0)
    total = maps[0].new_zeros((), dtype=torch.float32)
    for level, stride, sigma, factor in zip(maps, STRIDES, sigmas, factors):
        cell, size = cells_of(pixels, stride), torch.tensor(level.shape[2:], device=pixels.device)
        weight = visible & ((cell - 3 * sigma < size) & (cell + 3 * sigma + 1 >= 0)).all(dim=2)
        error = (level.float() - gaussian_maps(cell, level.shape[2:], sigma)).square().mean(dim=(2, 3))
        total = total + factor * (weight * error).mean()
    return total


def published_hyatt_loss(maps: Sequence[Tensor], index: Tensor, presence: Tensor) -> Tensor:
    """`deep_supervision_loss` of a radiograph's crops.

    Args:
        maps: heat maps (B, K, X', Y', 1) at strides 4, 2 and 1.
        index: (B, K, 3) positions in pixels of the crop; ignored where absent or unknown.
        presence: (B, K) 1 present, 0 absent, NaN unknown; as published, the loss says nothing about absent landmarks.
    """
    return deep_supervision_loss([level[..., 0] for level in maps], index[..., :2], presence)


def cells_of(index: Tensor, stride: int) -> Tensor:
    """Whole cells of a map that positions in pixels belong to: x / stride + 0.5 with the fraction dropped."""
    return (index / stride + 0.5).trunc()


def gaussian_maps(cell: Tensor, shape: Sequence[int], sigma: float) -> Tensor:
    """Gaussians of height 1, cut off to the square of 3 sigma to each side.

    Args:
        cell: (B, K, 2) row and column in pixels of the map.
        shape: H and W of the map.
        sigma: standard deviation in pixels of the map.

    Returns:
        (B, K, H, W) heat maps.
    """
    offsets = (torch.arange(size, device=cell.device) - cell[..., axis, None] for axis, size in enumerate(shape))
    rows, columns = (torch.exp(-(d**2) / (2 * sigma**2)) * (d.abs() <= 3 * sigma) for d in offsets)
    return rows[..., :, None] * columns[..., None, :]


def _rare(voxels: float) -> float:
    """One in a hundred for a sigmoid, the usual start where nearly all targets are 0 (arXiv 1708.02002)."""
    return -math.log(99)


# Names as in a configuration, see `H3DELandmarksLib.training.losses.LOSSES`.
PUBLISHED: dict[str, Objective] = {
    "published-heatmap": Objective(published_heatmap_loss, lambda _: BACKGROUND),
    "published-anchor": Objective(published_anchor_loss, _rare),
    "gaussian-bce": Objective(gaussian_bce, _rare),
    "ball-bce": Objective(ball_bce, _rare),
    "published-hyatt": Objective(published_hyatt_loss, lambda _: 0.0, deep=True),
}
