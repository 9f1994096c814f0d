"""Reading landmark positions out of the heat maps of HYATT-Net and HAN (arXiv 2412.06499).

The published code places cell c of a map of stride s at pixel s c of the image, not in the middle of the s pixels that
the cell covers; the published targets follow the same rule (`training.heatmap_losses_2d`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

STRIDES = (4, 2, 1)
MIRROR_AXIS = 3
"""Axis of (batch, channels, rows, columns) that a mirror image reverses."""
MIRROR_SHIFT = 1
"""Cells by which the published code moves the mirror image's maps, turned back, before averaging: their cell c lies at
pixel s c + s - 1 of the image, after the move at s c - 1."""


@dataclass(frozen=True)
class PlanePeaks:
    """What heat maps at three resolutions say about each landmark of an image.

    Attributes:
        index: (B, K, 2) row and column in pixels of the network's input, 0 at the center of the first pixel.
        height: (B, K) highest values of the maps, averaged over resolutions; 1 for a perfect Gaussian, 0 where a map
            is nowhere above 0 (a miss).
    """

    index: np.ndarray
    height: np.ndarray


def decode_deep_supervision(maps: Sequence[Tensor]) -> PlanePeaks:
    """Mean over resolutions of the position of each map's peak, as published.

    Args:
        maps: (B, K, H', W') at strides 4, 2 and 1, as HyattNet returns them.
    """
    cells, heights = zip(*(quarter_shifted_peaks(level.float()) for level in maps))
    index = torch.stack([cell * stride for cell, stride in zip(cells, STRIDES)]).mean(dim=0)
    height = torch.stack(heights)
    height = height.mean(dim=0) * (height > 0).all(dim=0)
    return PlanePeaks(index.cpu().double().numpy(), height.cpu().double().numpy())


def quarter_shifted_peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Highest pixel of each map, moved by a quarter of a pixel towards the higher of its neighbors along each axis.

    As published, nothing moves unless row and column are both greater than 1 and less than the last, and a map that is
    nowhere above 0 has its peak at row -1, column -1.

    Args:
        maps: (B, K, H, W) float heat maps.

    Returns:
        Row and column, (B, K, 2), and height, (B, K), of the peaks.
    """
    height, width = maps.shape[2:]
    flat = maps.flatten(2)
    place = flat.argmax(dim=2, keepdim=True)
    value = flat.gather(2, place)[..., 0]
    cell = torch.cat([torch.div(place, width, rounding_mode="floor"), place % width], dim=2)
    inside = ((cell > 1) & (cell < torch.tensor([height - 1, width - 1], device=cell.device))).all(dim=2, keepdim=True)
    step = torch.tensor([width, 1], device=cell.device)
    # Where nothing moves the peak itself stands for its neighbors.
    before, after = (flat.gather(2, torch.where(inside, place + sign * step, place)) for sign in (-1, 1))
    shifted = cell + 0.25 * torch.sign(after - before)
    return torch.where(value[..., None] > 0, shifted, -1.0), value


def predict_with_mirror(
    network: Callable[[Tensor], Sequence[Tensor]],
    image: Tensor,
    mirror_order: Sequence[int],
    axis: int,
    shift: int = 0,
) -> list[Tensor]:
    """Heat maps averaged over an image and its mirror image ("flip test").

    Args:
        network: image to heat maps (B, K, H', W') at strides 4, 2 and 1.
        image: (B, C, H, W).
        mirror_order: (K,) the landmark that each landmark of a mirror image really is, -1 where the scheme has none;
            see ``LandmarkScheme.mirror_order``.
        axis: 2 or 3, the axis of ``image`` that runs from left to right.
        shift: cells by which the mirror image's maps are moved along that axis, their first cells staying;
            `MIRROR_SHIFT` for networks whose maps are read as published.
    """
    # On a multiple of the coarsest stride, pixels of the mirror image's maps coincide with those of the image's.
    end = -image.shape[axis] % STRIDES[0]
    padded = F.pad(image, (0, end, 0, 0) if axis == 3 else (0, 0, 0, end), mode="replicate") if end else image
    known = torch.tensor([k >= 0 for k in mirror_order], device=image.device)[:, None, None]
    order = torch.tensor([max(k, 0) for k in mirror_order], device=image.device)
    averaged = []
    for stride, direct, mirrored in zip(STRIDES, network(padded), network(padded.flip(axis))):
        back = mirrored.flip(axis)[:, order]
        if shift:
            still = back.narrow(axis, 0, shift)
            back = torch.cat([still, back.narrow(axis, 0, back.shape[axis] - shift)], dim=axis)
        both = torch.where(known, (direct + back) / 2, direct)
        averaged.append(both.narrow(axis, 0, -(-image.shape[axis] // stride)))
    return averaged
