"""Reading landmark positions out of the heat maps of HYATT-Net and HAN (arXiv 2412.06499)."""

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


@dataclass(frozen=True)
class PlanePeaks:
    """What heat maps at three resolutions say about each landmark of an image.

    Attributes:
        index: (B, K, 2) row and column in pixels of the network's input, 0 at the center of the first pixel.
        height: (B, K) highest values of the maps, averaged over resolutions; 1 for a perfect Gaussian.
    """

    index: np.ndarray
    height: np.ndarray


def decode_deep_supervision(maps: Sequence[Tensor]) -> PlanePeaks:
    """Mean over resolutions of the position of each map's peak, as published.

    Args:
        maps: (B, K, H', W') at strides 4, 2 and 1, as HyattNet returns them.
    """
    index, height = [], []
    for level, stride in zip(maps, STRIDES):
        cell, value = quarter_shifted_peaks(level.float())
        index.append((cell + 0.5) * stride - 0.5)
        height.append(value)
    return PlanePeaks(*(torch.stack(part).mean(0).cpu().double().numpy() for part in (index, height)))


def quarter_shifted_peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Highest pixel of each map, moved by a quarter of a pixel towards the higher of its neighbors along each axis.

    No shift along an axis on whose border the peak lies, nor where both neighbors are equal.

    Args:
        maps: (B, K, H, W) float heat maps.

    Returns:
        Row and column, (B, K, 2), and height, (B, K), of the peaks.
    """
    height, width = maps.shape[2:]
    flat = maps.flatten(2)
    value, place = flat.max(dim=2)
    position = [torch.div(place, width, rounding_mode="floor"), place % width]
    for axis, (size, step) in enumerate(((height, width), (width, 1))):
        inside = (position[axis] > 0) & (position[axis] < size - 1)
        # Where there is no neighbor the peak itself stands for it.
        before, after = (
            flat.gather(2, torch.where(inside, place + offset, place)[..., None])[..., 0] for offset in (-step, step)
        )
        position[axis] = position[axis] + 0.25 * torch.sign(after - before)
    return torch.stack(position, dim=-1), value


def predict_with_mirror(
    network: Callable[[Tensor], Sequence[Tensor]], image: Tensor, mirror_order: Sequence[int], axis: int
) -> list[Tensor]:
    """Heat maps averaged over an image and its mirror image ("flip test").

    Args:
        network: image to heat maps (B, K, H', W') at strides 4, 2 and 1.
        image: (B, C, H, W).
        mirror_order: (K,) the landmark that each landmark of a mirror image really is, -1 where the scheme has none;
            see ``LandmarkScheme.mirror_order``.
        axis: 2 or 3, the axis of ``image`` that runs from left to right.
    """
    # On a multiple of the coarsest stride, pixels of the mirror image's maps coincide with those of the image's.
    end = -image.shape[axis] % STRIDES[0]
    padded = F.pad(image, (0, end, 0, 0) if axis == 3 else (0, 0, 0, end), mode="replicate") if end else image
    known = torch.tensor([k >= 0 for k in mirror_order], device=image.device)[:, None, None]
    order = torch.tensor([max(k, 0) for k in mirror_order], device=image.device)
    averaged = []
    for stride, direct, mirrored in zip(STRIDES, network(padded), network(padded.flip(axis))):
        back = mirrored.flip(axis)[:, order]
        both = torch.where(known, (direct + back) / 2, direct)
        averaged.append(both.narrow(axis, 0, -(-image.shape[axis] // stride)))
    return averaged
