"""Sampling of a volume on a crop's grid where the network runs: on a GPU, the processor only cuts out the part."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from H3DELandmarksLib.geometry import Grid, Volume, block_size, covered_part, resample

# Types that are sent as they are; others become float32 before.
SENT = (np.uint8, np.int8, np.int16, np.int32, np.float32)
REVERSED = [2, 1, 0]


def resample_on(volume: Volume, grid: Grid, outside: float, device: torch.device) -> Tensor:
    """`geometry.resample` on a device: by SimpleITK for a CPU, by PyTorch for others.

    Args:
        volume: image to sample, in `canonical` order.
        grid: where to sample.
        outside: value of samples outside the volume.
        device: where the result lies.

    Returns:
        (X, Y, Z) float32 in stored units.
    """
    if device.type == "cpu":
        return torch.from_numpy(resample(volume, grid, outside).array)
    return resample_by_torch(volume, grid, outside, device)


def resample_by_torch(volume: Volume, grid: Grid, outside: float, device: torch.device) -> Tensor:
    """The same function as `geometry.resample`, computed by PyTorch; arguments as for `resample_on`."""
    part = covered_part(volume, grid)
    if part is None:
        return torch.full(grid.shape, float(outside), device=device)
    blocks = block_size(part, grid)
    means = _block_means(_sent(part.array, device), blocks)
    index_of_mean = np.diag([*(1 / np.array(blocks)), 1.0])
    index_of_mean[:3, 3] = -(np.array(blocks) - 1) / 2 / blocks
    return _interpolated(means, index_of_mean @ np.linalg.inv(part.affine) @ grid.affine, grid.shape, float(outside))


def _sent(array: np.ndarray, device: torch.device) -> Tensor:
    as_it_is = array.dtype.type in SENT and array.dtype.isnative
    return torch.from_numpy(np.array(array, None if as_it_is else np.float32, order="C")).to(device).float()


def _block_means(image: Tensor, blocks: list[int]) -> Tensor:
    """Mean over blocks of voxels; the last voxels are repeated where an axis is no multiple of its blocks."""
    if max(blocks) == 1:
        return image
    missing = [-size % block for size, block in zip(image.shape, blocks)]
    padding = [0, missing[2], 0, missing[1], 0, missing[0]]
    return F.avg_pool3d(F.pad(image[None, None], padding, mode="replicate"), blocks)[0, 0]


def _interpolated(image: Tensor, index: np.ndarray, shape: tuple[int, int, int], outside: float) -> Tensor:
    """Linear interpolation; a sample belongs to the image up to half a voxel beyond its outermost centers.

    Args:
        image: (I, J, K).
        index: (4, 4) from voxels of the result to those of `image`.
        shape: of the result.
        outside: value beyond the image.
    """
    last = np.array(image.shape) - 1
    # PyTorch counts from -1 at the first voxel to 1 at the last, and names axes in reverse order.
    width = np.maximum(last, 1)
    normalized = np.diag([*(2 / width), 1.0])
    normalized[:3, 3] = -1
    rows = (normalized @ index)[REVERSED].tolist()
    ramps = [
        torch.arange(n, device=image.device).view([-1 if a == axis else 1 for a in range(3)])
        for axis, n in enumerate(shape)
    ]
    places = torch.stack([sum(along * ramp for along, ramp in zip(row, ramps)) + row[3] for row in rows], dim=-1)
    sampled = F.grid_sample(image[None, None], places[None], padding_mode="border", align_corners=True)[0, 0]
    low, high = (
        torch.tensor((edge / width - 1)[REVERSED].tolist(), device=image.device) for edge in (-1.0, 2.0 * last + 1)
    )
    within = ((places >= low) & (places <= high)).all(dim=-1)
    return torch.where(within, sampled, sampled.new_tensor(outside))
