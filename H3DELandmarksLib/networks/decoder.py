"""Decoder of H3DE-Net (arXiv 2502.14221)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Conv3d, InstanceNorm, convolve, is_exporting, resize_linear
from .upsampled_convolution import convolve_upsampled

NEGATIVE_SLOPE = 0.01


class SuperResolution(nn.Module):
    """The paper's super-resolution block (SRB): learnt upsampling by two with a three-dimensional pixel shuffle."""

    def __init__(self, channels: int) -> None:
        """Create the block; it keeps the number of channels."""
        super().__init__()
        self.conv = Conv3d(channels, 8 * channels, bias=False)
        self.norm = nn.BatchNorm3d(8 * channels)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """(batch, channels, X, Y, Z) to (batch, channels, *size), where size is 2X, 2Y, 2Z or one less on an axis."""
        shuffled = pixel_shuffle_3d(F.relu(self.norm(self.conv(x))))
        return shuffled[(..., *(slice(length) for length in size))]


def pixel_shuffle_3d(x: Tensor) -> Tensor:
    """(batch, 8 C, X, Y, Z) to (batch, C, 2X, 2Y, 2Z); eight channels become a block of voxels in row-major order."""
    batch, channels, *grid = x.shape
    blocks = x.view(batch, channels // 8, 2, 2, 2, *grid).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return blocks.reshape(batch, channels // 8, *(2 * size for size in grid))


class DecoderBlock(nn.Module):
    """Upsample to the grid of a skip connection, concatenate it, and convolve twice."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, super_resolution: bool = False) -> None:
        """Create the block; ``super_resolution`` replaces trilinear upsampling by the SRB."""
        super().__init__()
        self.upsample = SuperResolution(in_channels) if super_resolution else resize_linear
        self.convolutions = nn.Sequential(
            Conv3d(in_channels + skip_channels, out_channels, bias=False),
            InstanceNorm(out_channels),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            Conv3d(out_channels, out_channels, bias=False),
            InstanceNorm(out_channels),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(batch, in_channels, *coarse grid) and (batch, skip_channels, *grid) to (batch, out_channels, *grid)."""
        first, *rest = self.convolutions
        if x.device.type != "cpu" or self.upsample is not resize_linear or is_exporting():
            out = first(torch.cat([self.upsample(x, skip.shape[2:]), skip], dim=1))
        else:
            # A convolution of concatenated features is the sum of a convolution of each.
            for_upsampled, for_skip = first.weight.split([x.shape[1], skip.shape[1]], dim=1)
            out = convolve_upsampled(x, for_upsampled, skip.shape[2:]) + convolve(skip, for_skip)
        for layer in rest:
            out = layer(out)
        return out
