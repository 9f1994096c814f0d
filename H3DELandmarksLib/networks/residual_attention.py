"""Attention residual module (ARM) of HYATT-Net (arXiv 2412.06499v2), named convolutional attention block (CAB) in HAN.

Its attention is the convolutional block attention module (CBAM, arXiv 1807.06521).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norms2d import norm_2d

CHANNEL_RATIO = 16
SPATIAL_KERNEL = 7


class ChannelAttention(nn.Module):
    """Weigh channels by a shared perceptron of their mean and of their maximum over the grid (CBAM, equation 2)."""

    def __init__(self, channels: int) -> None:
        """Create the module; layers have no bias, as in the paper's equation (its reference code adds one)."""
        super().__init__()
        hidden = max(1, channels // CHANNEL_RATIO)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale (batch, channels, H, W)."""
        weight = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        return x * weight[:, :, None, None]


class SpatialAttention(nn.Module):
    """Weigh pixels by a 7x7 convolution of the mean and maximum over their channels (CBAM, equation 3)."""

    def __init__(self) -> None:
        """Create the module; no bias, as in the paper's equation."""
        super().__init__()
        self.conv = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (batch, channels, H, W)."""
        pooled = torch.stack([x.mean(1), x.amax(1)], dim=1)
        return x * torch.sigmoid(self.conv(pooled))


class ResidualAttention(nn.Module):
    """Two convolutions, the second dilated, and CBAM, added to a convolution of the input."""

    def __init__(self, channels: int, norm: str) -> None:
        """Create the module; ``norm`` as in ``norm_2d``.

        Convolutions have no bias where a normalization, which has one, follows (inferred).
        """
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = norm_2d(norm, channels)
        self.dilated_conv = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, bias=False)
        self.dilated_norm = norm_2d(norm, channels)
        self.channel_attention = ChannelAttention(channels)
        self.spatial_attention = SpatialAttention()
        self.shortcut = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (batch, channels, H, W) to the same shape."""
        hidden = F.relu(self.norm(self.conv(x)))
        attended = self.spatial_attention(self.channel_attention(self.dilated_norm(self.dilated_conv(hidden))))
        return F.relu(attended + self.shortcut(x))
