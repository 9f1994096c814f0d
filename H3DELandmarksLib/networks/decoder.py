"""Decoder of H3DE-Net (arXiv 2502.14221), whole and in slabs along X: the same function in a fraction of the memory.

A convolution, its normalization and what follows can't be chained slab by slab, because instance normalization needs
statistics of the whole grid. So each convolution is written out once, and normalized while it's read. What lies between
two convolutions (upsampled, concatenated and activated features) never exists as a whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.networks.layers import (
    NATIVE_CONVOLUTION_LIMIT,
    Conv3d,
    InstanceNorm,
    convolve,
    is_exporting,
    resize_linear,
)

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


# About what a slab takes. On a CPU it should fit its cache, and what the C library recycles without new pages.
SLAB_BYTES = {"cpu": 8 * 2**20}
SLAB_BYTES_ELSEWHERE = 512 * 2**20


class Features(ABC):
    """Features of one sample, (1, channels, X, Y, Z), that are computed a slab of X at a time."""

    def __init__(self, shape: Sequence[int], device: torch.device) -> None:
        """Remember the shape of the whole, and where it is computed."""
        self.shape = tuple(shape)
        self.device = device

    @abstractmethod
    def rows(self, first: int, last: int) -> Tensor:
        """The slab (1, channels, last - first, Y, Z)."""

    def convolved(self, weight: Tensor, first: int, last: int, bias: Tensor | None = None) -> Tensor:
        """The same slab of these features after a 3x3x3 convolution with padding 1."""
        before, after = max(first - 1, 0), min(last + 1, self.shape[2])
        rows = self.rows(before, after).contiguous(memory_format=torch.channels_last_3d)
        at_an_end = before == first or after == last
        result = F.conv3d(rows, weight, bias, padding=(int(at_an_end), 1, 1))
        # Padding is for the end of the grid: a row that it adds at the slab's other side isn't asked for.
        return result[:, :, first - before : last - before] if at_an_end else result


class Whole(Features):
    """Features that already exist."""

    def __init__(self, features: Tensor) -> None:
        """Take (1, channels, X, Y, Z)."""
        super().__init__(features.shape, features.device)
        self.features = features

    def rows(self, first: int, last: int) -> Tensor:
        """See Features."""
        return self.features[:, :, first:last]


class Activated(Features):
    """A convolution's output, normalized and activated when it's read."""

    def __init__(self, raw: Tensor, mean: Tensor, scale: Tensor) -> None:
        """Take (1, channels, X, Y, Z), and mean and factor of each channel as (1, channels, 1, 1, 1)."""
        super().__init__(raw.shape, raw.device)
        self.raw, self.mean, self.scale = raw, mean, scale

    def rows(self, first: int, last: int) -> Tensor:
        """See Features."""
        centered = self.raw[:, :, first:last] - self.mean
        return F.leaky_relu_(centered.mul_(self.scale), NEGATIVE_SLOPE)


class Convolved(Features):
    """A 3x3x3 convolution with padding 1 of features that exist."""

    def __init__(self, conv: Conv3d, features: Tensor) -> None:
        """Take the layer and its input (1, in_channels, X, Y, Z)."""
        super().__init__((1, conv.out_channels, *features.shape[2:]), features.device)
        self.conv, self.source = conv, Whole(features)

    def rows(self, first: int, last: int) -> Tensor:
        """See Features."""
        return self.source.convolved(self.conv.weight, first, last, self.conv.bias)


class Upsampled:
    """Features to be resampled trilinearly to another grid; they can be had convolved only."""

    def __init__(self, source: Features, grid: Sequence[int]) -> None:
        """Resample ``source`` to the sides ``grid``, corners not aligned."""
        self.source = source
        self.grid = tuple(grid)
        self.matrices = tap_matrices(source.shape[2], grid[0])

    def convolved(self, weight: Tensor, first: int, last: int) -> Tensor:
        """Rows ``first`` to ``last`` of a 3x3x3 convolution with padding 1 of the resampled features."""
        matrices = self.matrices[:, first:last]
        needed = matrices.sum((0, 1)).nonzero()
        start, stop = int(needed[0]), int(needed[-1]) + 1
        rows = self.source.rows(start, stop)
        return convolve_upsampled_rows(rows, weight, matrices[:, :, start:stop].to(rows), self.grid[1:])


def decode(block: DecoderBlock, coarse: Features, layer: nn.Module, image: Tensor) -> Activated:
    """What ``block`` makes of one sample's coarse features and of what ``layer`` makes of its image."""
    joined = _join(block, coarse, _image_skip(layer, image))
    second, norm = _convolution(block.convolutions, 3)
    return _measure(lambda *rows: joined.convolved(second.weight, *rows), joined, norm.eps)


def _join(block: DecoderBlock, coarse: Features, skip: Features) -> Activated:
    """The first convolution of ``block``, which takes the upsampled and the skip's features."""
    conv, norm = _convolution(block.convolutions, 0)
    # A convolution of concatenated features is the sum of a convolution of each.
    for_coarse, for_skip = conv.weight.split([coarse.shape[1], skip.shape[1]], dim=1)
    upsampled = Upsampled(coarse, skip.shape[2:])
    return _measure(
        lambda *rows: upsampled.convolved(for_coarse, *rows).add_(skip.convolved(for_skip, *rows)), skip, norm.eps
    )


def _image_skip(layer: nn.Module, image: Tensor) -> Features:
    """What a convolution, alone or with normalization and activation, makes of one sample's image."""
    if isinstance(layer, Conv3d):
        return Convolved(layer, image)
    conv, norm = _convolution(layer, 0)
    convolved = Convolved(conv, image)
    return _measure(convolved.rows, convolved, norm.eps)


def _convolution(layers: nn.Module, first: int) -> tuple[Conv3d, InstanceNorm]:
    """The convolution at a place of a sequence, and the normalization that follows it."""
    assert isinstance(layers, nn.Sequential)
    conv, norm = layers[first], layers[first + 1]
    assert isinstance(conv, Conv3d) and isinstance(norm, InstanceNorm)
    return conv, norm


def gather(features: Features, function: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """All rows of ``features``, or what a pointwise ``function`` makes of them: (1, channels, X, Y, Z)."""
    if isinstance(features, Whole):
        return features.features if function is None else function(features.features)
    function = function or (lambda x: x)
    out = torch.empty(0)
    for first, last in slabs(features):
        part = function(features.rows(first, last))
        if first == 0:
            out = part.new_empty(1, part.shape[1], *features.shape[2:])
        out[:, :, first:last] = part
    return out


def pays(block: DecoderBlock, layer: nn.Module, image: Tensor) -> bool:
    """Whether ``decode`` is possible and spares memory: not for learnt upsampling, nor for small grids."""
    conv = layer if isinstance(layer, Conv3d) else _convolution(layer, 0)[0]
    return not isinstance(block.upsample, SuperResolution) and len(slabs(Convolved(conv, image))) > 1


def slabs(features: Features) -> list[tuple[int, int]]:
    """First and one past the last row of slabs that together cover the X axis."""
    _, channels, size, height, depth = features.shape
    fitting = SLAB_BYTES.get(features.device.type, SLAB_BYTES_ELSEWHERE) // (4 * channels * height * depth)
    efficient = NATIVE_CONVOLUTION_LIMIT // (channels * height)
    count = max(1, size // max(1, fitting, efficient))
    bounds = [size * i // count for i in range(count + 1)]
    return list(zip(bounds, bounds[1:]))


def _measure(compute: Callable[[int, int], Tensor], like: Features, eps: float) -> Activated:
    """Compute all rows slab by slab on the grid of ``like``, and the statistics that normalize them."""
    moments, raw = _Moments(), torch.empty(0)
    for first, last in slabs(like):
        slab = compute(first, last)
        if first == 0:
            shape = (1, slab.shape[1], *like.shape[2:])
            raw = torch.empty(shape, dtype=slab.dtype, device=slab.device, memory_format=torch.channels_last_3d)
        raw[:, :, first:last] = slab
        moments.add(slab)
    scale = (moments.squares / moments.count + eps).rsqrt()
    return Activated(raw, moments.mean.to(raw.dtype), scale.to(raw.dtype))


class _Moments:
    """Mean and sum of squared deviations of each channel, merged slab by slab (Chan, Golub and LeVeque 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, slab: Tensor) -> None:
        """Count the voxels of (1, channels, X, Y, Z)."""
        axes, count = (2, 3, 4), slab[0, 0].numel()
        mean = slab.mean(axes, keepdim=True)
        squares = (slab - mean).square_().mean(axes, keepdim=True).double() * count
        shift, total = mean.double() - self.mean, self.count + count
        self.squares = self.squares + squares + shift.square() * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total
