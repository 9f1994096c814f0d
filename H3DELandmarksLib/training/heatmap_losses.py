"""Heat-map targets and losses: those published with H3DE-Net, and the better-known recipe of nnLandmark.

Targets differ from their background value near a landmark only, so they are made there and nowhere else: no loss holds
a dense target. What is chosen from all voxels is chosen map by map, with one map's worth of scratch memory.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

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
