"""Published loss of HYATT-Net and HAN (arXiv 2412.06499): squared error to Gaussian heat maps at three resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STRIDES = (4, 2, 1)


def deep_supervision_loss(
    maps: Sequence[Tensor],
    index: Tensor,
    visibility: Tensor,
    sigmas: Sequence[float] = (2.0, 2.0, 4.0),
    factors: Sequence[float] = (1000.0, 3000.0, 3000.0),
) -> Tensor:
    """Sum over resolutions of ``factor`` times the mean squared error to the landmarks' Gaussians.

    The mean runs over all samples, landmarks and pixels, invisible landmarks with weight 0 among them (inferred).

    Args:
        maps: heat maps (B, K, H', W') at strides 4, 2 and 1, as HyattNet returns them.
        index: (B, K, 2) row and column in pixels of the image, fractions allowed; ignored where the weight is 0.
        visibility: (B, K) weights: 1 visible, 0 absent or unknown; NaN counts as 0.
        sigmas: standard deviation of each resolution's targets in pixels of its maps.
        factors: weight of each resolution's mean squared error.

    Returns:
        Scalar; 0 with a gradient path where nothing is visible.
    """
    weight = torch.nan_to_num(visibility.float(), nan=0.0)
    center = torch.where(weight[..., None] > 0, index.float(), 0.0)
    total = maps[0].new_zeros((), dtype=torch.float32)
    for level, stride, sigma, factor in zip(maps, STRIDES, sigmas, factors):
        target = gaussian_maps((center + 0.5) / stride - 0.5, level.shape[2:], sigma)
        error = (level.float() - target).square().mean(dim=(2, 3))
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


def gaussian_maps(center: Tensor, shape: Sequence[int], sigma: float) -> Tensor:
    """Gaussians of height 1, neither cut off nor moved to whole pixels (inferred).

    Args:
        center: (B, K, 2) row and column in pixels of the map.
        shape: H and W of the map.
        sigma: standard deviation in pixels of the map.

    Returns:
        (B, K, H, W) heat maps.
    """
    rows, columns = (
        torch.exp(-((torch.arange(size, device=center.device) - center[..., axis, None]) ** 2) / (2 * sigma**2))
        for axis, size in enumerate(shape)
    )
    return rows[..., :, None] * columns[..., None, :]
