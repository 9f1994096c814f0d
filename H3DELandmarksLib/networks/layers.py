"""Small layers that the networks share; each is a plain PyTorch function made fast on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# PyTorch gives a single sample to its slow native convolution where channels * X * Y isn't above this number.
NATIVE_CONVOLUTION_LIMIT = 20480


class Conv3d(nn.Conv3d):
    """3x3x3 convolution with padding 1, in channels-last memory, that is as fast for one sample as for many."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> None:
        """Create the layer; an output side is ceil(input side / stride)."""
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, X, Y, Z) to (batch, out_channels, X, Y, Z), each side divided by the stride."""
        small = x.shape[:4].numel() <= NATIVE_CONVOLUTION_LIMIT
        if len(x) == 1 and small and x.shape[2] >= 8 and x.device.type == "cpu":
            return self._forward_as_halves(x)
        return super().forward(x)

    def _forward_as_halves(self, x: Tensor) -> Tensor:
        """The same convolution of a single sample, cut along X into two overlapping halves that go through as a batch."""
        stride = self.stride[0]
        outputs = -(-x.shape[2] // stride)
        half = -(-outputs // 2)
        window = (half - 1) * stride + 3
        second = half * stride
        padded = F.pad(x, (0, 0, 0, 0, 1, second + window - x.shape[2] - 1))
        halves = torch.cat([padded[:, :, :window], padded[:, :, second : second + window]])
        first, last = F.conv3d(halves, self.weight, self.bias, stride, padding=(0, 1, 1)).split(1)
        return torch.cat([first, last[:, :, : outputs - half]], dim=2)


class PointwiseConv3d(nn.Conv3d):
    """Convolution of one voxel, as a matrix product."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the layer, with bias."""
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, X, Y, Z) to (batch, out_channels, X, Y, Z), each output channel contiguous in memory."""
        voxels = with_dense_gradient(x).flatten(2)
        weight = self.weight.flatten(1).expand(len(x), -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, voxels).unflatten(2, x.shape[2:])


class InstanceNorm(nn.Module):
    """Instance normalization without learnt scale or shift; unlike ``nn.InstanceNorm3d`` also for a grid of one voxel."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        """Normalize ``channels`` channels, each over its own grid."""
        super().__init__()
        self.channels = channels
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Bring each channel of each sample of (batch, channels, *grid) to mean 0 and variance 1; a single voxel to 0."""
        if x.requires_grad and x.device.type == "cpu" and x.shape[2:].numel() > 1:
            # Ten times faster backward than a group a channel in channels-last memory.
            samples = [F.batch_norm(sample, None, None, training=True, eps=self.eps) for sample in x.split(1)]
            return torch.cat(samples) if len(samples) > 1 else samples[0]
        # Not F.group_norm, which refuses a grid of one voxel.
        return torch.group_norm(x, self.channels, eps=self.eps)

    def extra_repr(self) -> str:
        """Settings for print(network)."""
        return f"{self.channels}, eps={self.eps}"


def resize_linear(x: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Trilinear resampling of (batch, channels, *grid) to the grid ``size``, corners not aligned."""
    return with_dense_gradient(F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False))


def with_dense_gradient(x: Tensor) -> Tensor:
    """Return ``x``, whose gradient will be made dense in channels-last memory before it goes further back.

    The gradient of a part of a concatenation is a strided view, on which several backward kernels are up to ten times slower.
    """
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last_3d))
    return x
