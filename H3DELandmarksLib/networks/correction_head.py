"""Heads of HYATT-Net (arXiv 2412.06499): heat maps at strides 4 and 2, and the feature fusion correction module (FFCM).

Each level has weights of its own, and hidden layers are as wide as the neck (both inferred).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import is_exporting
from .norms2d import norm_2d

# Maps start near zero, as targets are almost everywhere; after Xiao et al. (arXiv 1804.06208), inferred.
MAP_INIT_STD = 0.001


class HyattOutput(NamedTuple):
    """Heat maps of one image at three resolutions, for an input of (batch, channels, H, W).

    Pixel ``i`` of a map with stride ``s`` has its center at pixel ``(i + 0.5) s - 0.5`` of the image.

    Attributes:
        quarter: (batch, landmarks, ceil(H/4), ceil(W/4)).
        half: (batch, landmarks, ceil(H/2), ceil(W/2)).
        full: (batch, landmarks, H, W).
    """

    quarter: Tensor
    half: Tensor
    full: Tensor


class MapHead(nn.Sequential):
    """3x3 convolution, ReLU and 1x1 convolution; fastest, and free of copies, in channels-last memory."""

    def __init__(self, in_channels: int, hidden: int, landmarks: int) -> None:
        """Create the layers; all maps start near zero."""
        last = nn.Conv2d(hidden, landmarks, 1)
        nn.init.normal_(last.weight, std=MAP_INIT_STD)
        nn.init.zeros_(last.bias)
        super().__init__(nn.Conv2d(in_channels, hidden, 3, padding=1), nn.ReLU(inplace=True), last)

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, in_channels, H, W) to heat maps (batch, landmarks, H, W), channels last in memory."""
        if is_exporting():
            return super().forward(x)
        first, relu, last = self
        hidden = relu(first(x.contiguous(memory_format=torch.channels_last)))
        # PyTorch leaves 1x1 convolutions on one thread to a kernel that copies; this product doesn't.
        maps = F.linear(hidden.permute(0, 2, 3, 1), last.weight.flatten(1), last.bias)
        return maps.permute(0, 3, 1, 2)


class _Doubled(torch.autograd.Function):
    """Bilinear upsampling by two, corners aligned; its gradient is two matrix products, faster than PyTorch's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """(batch, channels, H, W) to (batch, channels, 2 H, 2 W)."""
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The same with both matrices transposed."""
        rows, columns = (_doubling(size // 2).to(gradient) for size in gradient.shape[2:])
        return rows @ gradient @ columns.T


def _doubling(size: int) -> Tensor:
    """(size, 2 size): what each cell adds to each cell of the doubled axis."""
    cells = torch.eye(size, dtype=torch.float64)[None]
    return F.interpolate(cells, scale_factor=2.0, mode="linear", align_corners=True)[0]


def double(x: Tensor) -> Tensor:
    """Upsample (batch, channels, H, W) bilinearly by two, corners aligned."""
    if x.requires_grad and not is_exporting():
        return _Doubled.apply(x)
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class CorrectionHead(nn.Module):
    """Heat maps from stride-4 features, and their corrections at strides 2 and 1."""

    def __init__(self, channels: int, image_channels: int, image_dim: int, landmarks: int, norm: str) -> None:
        """Create the heads.

        Args:
            channels: channels of the features.
            image_channels: channels of the image.
            image_dim: channels to which the FFCM brings the image.
            landmarks: heat maps at each resolution.
            norm: as in ``norm_2d``.
        """
        super().__init__()
        self.quarter_maps = MapHead(channels, channels, landmarks)
        self.upsample = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False),
            norm_2d(norm, channels),
            nn.ReLU(),
        )
        self.half_maps = MapHead(channels, channels, landmarks)
        self.image = nn.Sequential(nn.Conv2d(image_channels, image_dim, 1), norm_2d(norm, image_dim), nn.ReLU())
        joined = channels + image_dim + landmarks
        self.correction = MapHead(joined, joined, landmarks)

    def forward(self, features: Tensor, image: Tensor) -> HyattOutput:
        """(batch, channels, ceil(H/4), ceil(W/4)) and (batch, image_channels, H, W) to heat maps."""
        # Nearest pixels, as published.
        small = image[..., ::2, ::2]
        height, width = small.shape[2:]
        fine = self.upsample(features)[..., :height, :width].contiguous(memory_format=torch.channels_last)
        half = self.half_maps(fine)
        corrected = self.correction(torch.cat([fine, self.image(small), half], dim=1))
        full = double(corrected.contiguous())
        height, width = image.shape[2:]
        levels = (self.quarter_maps(features), half, full[..., :height, :width])
        return HyattOutput(*(level.contiguous() for level in levels))
