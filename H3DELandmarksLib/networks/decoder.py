"""Decoder of H3DE-Net (arXiv 2502.14221)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.networks.layers import Conv3d, InstanceNorm, convolve, is_exporting, resize_linear

# With fewer output channels the small products take longer than what they save.
POINTWISE_CHANNELS = 32


def convolve_upsampled(x: Tensor, weight: Tensor, grid: Sequence[int]) -> Tensor:
    """``conv3d(resize_linear(x, grid), weight, padding=1)``, the same but for rounding.

    Args:
        x: (batch, in_channels, X, Y, Z).
        weight: (out_channels, in_channels, 3, 3, 3).
        grid: sides of the result.

    Returns:
        (batch, out_channels, *grid).
    """
    return convolve_upsampled_rows(x, weight, tap_matrices(x.shape[2], grid[0]).to(x), grid[1:])


def convolve_upsampled_rows(x: Tensor, weight: Tensor, rows: Tensor, plane: Sequence[int]) -> Tensor:
    """Some rows of ``convolve_upsampled``.

    Args:
        x: (batch, in_channels, R, Y, Z), the coarse rows that are needed.
        weight: (out_channels, in_channels, 3, 3, 3).
        rows: (3, X, R), the part of ``tap_matrices`` that makes X fine rows from them.
        plane: fine sides along Y and Z.

    Returns:
        (batch, out_channels, X, *plane), channels last in memory.
    """
    taps = _pointwise_taps if len(weight) >= POINTWISE_CHANNELS else _planar_taps
    out = _sum_of_products(rows, taps(x, weight, plane), len(x))
    return out.view(len(x), rows.shape[1], *plane, len(weight)).permute(0, 4, 1, 2, 3)


def tap_matrices(source: int, target: int) -> Tensor:
    """(3, target, source): what each of ``source`` cells adds, at the kernel's three taps, to each of ``target`` cells.

    Tap k of cell i reads the upsampled cell i + k - 1, which is zero outside the grid. Corners are not aligned.
    """
    cells = torch.eye(source, dtype=torch.float64)[None]
    upsampled = F.interpolate(cells, size=target, mode="linear", align_corners=False)[0].T
    padded = F.pad(upsampled, (0, 0, 1, 1))
    return torch.stack([padded[tap : tap + target] for tap in range(3)])


def _planar_taps(x: Tensor, weight: Tensor, plane: Sequence[int]) -> Iterator[Tensor]:
    """For each tap along X, the coarse rows upsampled and convolved in their plane: (batch, R, plane * channels)."""
    planes = x.movedim(2, 1).flatten(0, 1)
    planes = F.interpolate(planes, size=tuple(plane), mode="bilinear", align_corners=False)
    for kernel in weight.unbind(2):
        yield F.conv2d(planes, kernel, padding=1).permute(0, 2, 3, 1).reshape(len(x), x.shape[2], -1)


def _pointwise_taps(x: Tensor, weight: Tensor, plane: Sequence[int]) -> Iterator[Tensor]:
    """The same as ``_planar_taps`` by products with coarse voxels alone."""
    batch, channels, rows, height, depth = x.shape
    voxels = x.permute(0, 2, 3, 4, 1).reshape(-1, channels)
    along_y = tap_matrices(height, plane[0]).to(x)
    along_z = tap_matrices(depth, plane[1]).to(x).permute(1, 2, 0).flatten(1).expand(batch * rows * height, -1, -1)

    def lines(kernels: Tensor) -> Iterator[Tensor]:
        for kernel in kernels.unbind(2):
            products = voxels @ kernel.permute(2, 0, 1).flatten(0, 1).T
            line = along_z @ products.view(batch * rows * height, 3 * depth, -1)
            yield line.view(batch * rows, height, -1)

    for kernels in weight.unbind(2):
        yield _sum_of_products(along_y, lines(kernels), batch * rows).view(batch, rows, -1)


def _sum_of_products(matrices: Tensor, taps: Iterator[Tensor], batch: int) -> Tensor:
    """Sum over taps of a matrix (m, n) times the tap's (batch, n, columns)."""
    pairs = ((matrix.expand(batch, -1, -1), tap) for matrix, tap in zip(matrices, taps))
    out = torch.bmm(*next(pairs))
    for matrix, tap in pairs:
        out.baddbmm_(matrix, tap)
    return out


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
        rows, columns, slices = size
        return shuffled[..., :rows, :columns, :slices]


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
        assert isinstance(first, Conv3d)
        if x.device.type != "cpu" or self.upsample is not resize_linear or is_exporting():
            out = first(torch.cat([self.upsample(x, skip.shape[2:]), skip], dim=1))
        else:
            # A convolution of concatenated features is the sum of a convolution of each.
            for_upsampled, for_skip = first.weight.split([x.shape[1], skip.shape[1]], dim=1)
            out = convolve_upsampled(x, for_upsampled, skip.shape[2:]) + convolve(skip, for_skip)
        for layer in rest:
            out = layer(out)
        return out
