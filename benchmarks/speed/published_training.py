"""H3DE-Net's losses, targets and decoders at the cost of the published code: loops over landmarks and anchors.

What they compute is defined in Testing/helpers; what they cost follows from how the published code goes about it: every
positive anchor is sliced out of the maps of the whole batch by itself (so that its gradient is as large as they are),
heat-map targets are dense, and negatives are sorted out of all voxels of each map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RADII = (0.5, 0.75, 1.0, 1.25)
STRIDE = 4
ROWS = 400
END = -100
HARD_NEGATIVES = 256


def anchor_rows(index: Tensor, presence: Tensor, grid: Sequence[int]) -> Tensor:
    """Positive anchors as rows of a table, which the published code's data loader makes.

    Args:
        index: (B, K, 3) positions in voxels of the network's input.
        presence: (B, K) 1 present, 0 absent.
        grid: cells along X, Y, Z.

    Returns:
        (B, anchors, 400, 7): cell, offset over radius, landmark; -1 - landmark for an absent one, -100 after the last.
    """
    table = torch.zeros(len(index), len(RADII), ROWS, 7)
    table[..., 6] = END
    for b, (points, present) in enumerate(zip(index.tolist(), presence.tolist())):
        for a, radius in enumerate(RADII):
            rows = [row for k in range(len(points)) for row in _rows(k, points[k], present[k], radius, grid)]
            table[b, a, : len(rows)] = torch.tensor(rows)
    return table


def _rows(landmark: int, point: Sequence[float], present: float, radius: float, grid: Sequence[int]) -> list:
    if present != 1:
        return [[0.0] * 6 + [-1 - landmark]]
    near = [
        range(max(0, math.floor(p / STRIDE - radius)), min(n, math.ceil(p / STRIDE + radius) + 1))
        for p, n in zip(point, grid)
    ]
    rows = []
    for cell in itertools.product(*near):
        delta = [p / STRIDE - c for p, c in zip(point, cell)]
        if all(abs(d) < radius for d in delta):
            rows.append([*cell, *(d / radius for d in delta), landmark])
    return rows


def anchor_loss(maps: Tensor, table: Tensor) -> Tensor:
    """The published anchor loss of (B, X, Y, Z, anchors, 3 + K) maps and `anchor_rows`' table."""
    classes = maps.shape[-1] - 3
    own, others, offsets, wanted = [], [], [], []
    absences = [0] * classes
    for b in range(len(maps)):
        for a, rows in enumerate(table[b]):
            for row in rows:
                kind = int(row[6])
                if kind == END:
                    break
                if kind < 0:
                    absences[-1 - kind] += 1
                    continue
                x, y, z = int(row[0]), int(row[1]), int(row[2])
                own.append(maps[b, x, y, z, a, 3 + kind : 4 + kind])
                others += [maps[b, x, y, z, a, 3 : 3 + kind], maps[b, x, y, z, a, 4 + kind :]]
                offsets.append(maps[b, x, y, z, a, :3])
                wanted.append(row[3:6])
    loss = _bce(torch.cat(own), 1.0) + _bce(torch.cat(others), 0.0) / (classes - 1)
    hard = [_hardest(maps[..., 3 + k], count) for k, count in enumerate(absences) if count]
    if hard:
        loss = loss + 0.2 * _bce(torch.cat(hard), 0.0)
    regression = F.smooth_l1_loss(torch.tanh(torch.stack(offsets)), torch.stack(wanted))
    return loss + 0.001 * _bce(maps, 0.0) + regression


def _hardest(logits: Tensor, count: int) -> Tensor:
    flat = logits.reshape(-1)
    return flat[flat.topk(count * HARD_NEGATIVES)[1]]


def _bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def heatmap_targets(index: Tensor, shape: Sequence[int], radius: float = 20.0) -> Tensor:
    """Dense targets (B, K, X, Y, Z): 2 exp(-d^2 / (0.2 R^2)) within R of the landmark, -1 elsewhere."""
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in shape), indexing="ij")
    axes = [axis.expand(index.shape[1], *shape).contiguous() for axis in axes]

    def squared() -> Tensor:
        x, y, z = ((axis - index[..., i, None, None, None]) ** 2 for i, axis in enumerate(axes))
        return x + y + z

    mask = (torch.sqrt(squared()) <= radius).float()
    return 2 * torch.exp(-squared() / (radius * radius) / 0.2) * mask + mask - 1


def heatmap_loss(maps: Tensor, targets: Tensor) -> Tensor:
    """The published heat-map loss: each map's positives, and as many of its highest negatives, one map at a time."""
    flat, targets = maps.flatten(2), targets.flatten(2)
    loss = 0
    for values, target in zip(flat.flatten(0, 1), targets.flatten(0, 1)):
        positives = max(1, int((target >= 0).sum()))
        place = target.topk(positives)[1]
        loss = loss + F.smooth_l1_loss(values[place], target[place])
        negatives = (1 - target).topk(int((target < 0).sum()))[1]
        place = negatives[values[negatives].topk(min(positives, len(negatives)))[1]]
        loss = loss + F.smooth_l1_loss(values[place], target[place])
    return loss / (len(maps) * maps.shape[1])


def decode_anchors(maps: Tensor, candidates: int = 15) -> np.ndarray:
    """(K, 3) input voxels from (X, Y, Z, anchors, 3 + K) maps: the medoid of the best candidates, one by one."""
    found = []
    for k in range(maps.shape[-1] - 3):
        logits = maps[..., 3 + k].reshape(-1)
        mask = torch.zeros_like(logits)
        mask[logits.topk(candidates)[1]] = 1
        places = [
            (np.array(cell) + torch.tanh(maps[(*cell, anchor)][:3]).cpu().numpy() * RADII[anchor]) * STRIDE
            for *cell, anchor in zip(*np.where(mask.reshape(maps.shape[:4]).cpu().numpy() == 1))
        ]
        costs = [sum(np.linalg.norm(place - other) for other in places) for place in places]
        found.append(places[int(np.argmin(costs))])
    return np.array(found)


def decode_heatmaps(maps: np.ndarray, voxels: int = 500) -> np.ndarray:
    """(K, 3) voxels from (K, X, Y, Z) maps: the mean of at least `voxels`, above a threshold lowered step by step."""
    found = []
    for one in maps:
        rate, highest = 0.999, ()
        while rate > 0 and (len(highest) == 0 or len(highest[0]) < voxels):
            highest = np.where(one >= np.max(one) * rate)
            rate -= 0.1
        found.append([np.mean(axis) for axis in highest])
    return np.array(found)
