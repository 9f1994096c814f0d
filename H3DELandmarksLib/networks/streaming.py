"""Decoder levels near full resolution, computed in slabs along X: the same function in a fraction of the memory.

A convolution, its normalization and what follows can't be chained slab by slab, because instance normalization needs
statistics of the whole grid. So each convolution is written out once, and normalized while it's read. What lies between
two convolutions (upsampled, concatenated and activated features) never exists as a whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.networks.decoder import (
    NEGATIVE_SLOPE,
    DecoderBlock,
    SuperResolution,
    convolve_upsampled_rows,
    tap_matrices,
)
from H3DELandmarksLib.networks.layers import NATIVE_CONVOLUTION_LIMIT, Conv3d, InstanceNorm

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
