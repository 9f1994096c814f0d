"""Reading landmark positions and evidence out of heat maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Peaks:
    """What a stack of heat maps says about each landmark.

    Attributes:
        index: (K, 3) continuous voxel indices in the network's input grid.
        presence_logit: (K,) log-odds of "somewhere in this crop" against "absent", before calibration.
        concentration: (K,) share of the probability that lies in the window around the peak.
    """

    index: np.ndarray
    presence_logit: np.ndarray
    concentration: np.ndarray


def decode_softmax(maps: Tensor, stride: int, radius: int = 2) -> Peaks:
    """Peak and evidence of maps trained by `training.losses.spatial_cross_entropy`.

    All voxels of a map and one extra outcome "absent", whose logit is 0, share a softmax. The position is the center
    of mass of that distribution in the cube of ``(2 radius + 1)^3`` voxels around the highest voxel.

    Args:
        maps: (K, X, Y, Z) logits.
        stride: input voxels per map voxel.
        radius: half width of the cube in map voxels.
    """
    maps = maps.float()
    shape = torch.tensor(maps.shape[1:])
    flat = maps.flatten(1)
    mass = torch.logsumexp(flat, dim=1)
    # numpy's unravel_index: torch's own imports for two seconds at its first call
    peak = torch.from_numpy(np.stack(np.unravel_index(flat.argmax(dim=1).cpu().numpy(), maps.shape[1:]), axis=1))
    offsets = torch.cartesian_prod(*[torch.arange(-radius, radius + 1)] * 3)
    window = peak[:, None] + offsets
    inside = ((window >= 0) & (window < shape)).all(dim=2)
    window = window.clamp(min=torch.zeros(3, dtype=torch.long), max=shape - 1)
    linear = (window[..., 0] * shape[1] + window[..., 1]) * shape[2] + window[..., 2]
    logits = flat.gather(1, linear.to(maps.device)).cpu().masked_fill(~inside, -torch.inf)
    weights = torch.softmax(logits, dim=1)
    cell = (weights[..., None] * window).sum(dim=1)
    concentration = torch.exp(torch.logsumexp(logits, dim=1) - mass.cpu())
    index = (cell.double().numpy() + 0.5) * stride - 0.5
    return Peaks(index, mass.cpu().double().numpy(), concentration.double().numpy())
