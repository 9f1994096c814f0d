"""Published loss of HYATT-Net and HAN (arXiv 2412.06499): squared error to Gaussian heat maps at three resolutions.

Targets are made for the published decoding (`detection.decoding_2d`): pixel x of the image belongs to cell x / s of a
map of stride s, rounded, however finely the position is known.
"""

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
