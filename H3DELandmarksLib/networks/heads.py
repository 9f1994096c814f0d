"""Output layers of H3DE-Net (arXiv 2502.14221), and a presence read-out of our own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import PointwiseConv3d


class AnchorHead(nn.Module):
    """Offsets and class logits of every anchor at every cell of the stride-4 grid."""

    def __init__(self, in_channels: int, landmarks: int, anchors: int) -> None:
        """Create the head for ``anchors`` anchors a cell."""
        super().__init__()
        self.anchors = anchors
        self.conv = PointwiseConv3d(in_channels, anchors * (3 + landmarks))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, in_channels, X, Y, Z) to (batch, X, Y, Z, anchors, 3 offsets + one logit a landmark)."""
        return self.conv(features).movedim(1, -1).unflatten(-1, (self.anchors, -1))


class FeatureFusion(nn.Module):
    """The paper's feature fusion module (FFM): features at strides 1, 2 and 4 brought to stride 4 and concatenated.

    Absent from the published live code; reconstructed from its history.
    """

    def __init__(self, full_channels: int, half_channels: int, channels: int) -> None:
        """Create the module; each source contributes ``channels`` channels, as many as the stride-4 features have."""
        super().__init__()
        self.from_full = nn.Conv3d(full_channels, channels, 1, stride=4)
        self.from_half = nn.Conv3d(half_channels, channels, 1, stride=2)

    def forward(self, full: Tensor, half: Tensor, quarter: Tensor) -> Tensor:
        """Features at strides 1, 2 and 4 to (batch, 3 channels, *grid of stride 4)."""
        return torch.cat([self.from_full(full), self.from_half(half), quarter], dim=1)


class PresenceHead(nn.Module):
    """Whether each landmark is there at all, read from global means of coarse and fine features.

    Our own addition: the published network never says that a landmark is absent.
    """

    def __init__(self, coarse_channels: int, fine_channels: int, landmarks: int) -> None:
        """Create the read-out; its hidden layer is as wide as the coarse features."""
        super().__init__()
        self.hidden = nn.Linear(coarse_channels + fine_channels, coarse_channels)
        self.activation = nn.GELU()
        self.logits = nn.Linear(coarse_channels, landmarks)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(batch, coarse_channels, *grid) and (batch, fine_channels, *other grid) to logits (batch, landmarks)."""
        pooled = torch.cat([coarse.flatten(2).mean(2), fine.flatten(2).mean(2)], dim=1)
        return self.logits(self.activation(self.hidden(pooled)))
