"""Feature pyramid neck of HYATT-Net (arXiv 2412.06499): coarse features added to fine ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class PyramidNeck(nn.Module):
    """Features of several levels to one map at the finest of them; the other outputs of a pyramid would have no use."""

    def __init__(self, dims: Sequence[int], channels: int) -> None:
        """Create the neck for levels of ``dims`` channels, finest first; each level's grid is twice the next one's."""
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(dim, channels, 3, padding=1) for dim in dims)
        self.output = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(batch, dim, H, W) a level, finest first, to (batch, channels, H, W) at the finest level."""
        fine_to_coarse = [lateral(x) for lateral, x in zip(self.laterals, features)]
        total = fine_to_coarse.pop()
        while fine_to_coarse:
            lateral = fine_to_coarse.pop()
            total = lateral + upsample_nearest(total, *lateral.shape[2:])
        return self.output(total)


def upsample_nearest(x: Tensor, height: int, width: int) -> Tensor:
    """(batch, channels, H, W) to (batch, channels, height, width), each 2H, 2W or one less."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")[..., :height, :width]
