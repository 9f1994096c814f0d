"""Losses between heat maps and landmark positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
    flat = maps.float().flatten(2)
    mass = F.softplus(torch.logsumexp(flat, dim=2))
    present = presence == 1
    linear, weight = _gaussian_patch(index, present, maps.shape[2:], sigma)
    expected = (flat.gather(2, linear) * weight).sum(dim=2)
    known = ~torch.isnan(presence)
    loss = mass - torch.where(present, expected, torch.zeros_like(expected))
    return (loss * known).sum() / known.sum().clamp(min=1)


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
