"""H3DE-Net's anchor loss written out loop by loop from its published definition, for one sample; tests only."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def softplus(x: Tensor) -> Tensor:
    """BCE of a logit against 0; that against 1 is softplus(-x)."""
    return torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0)


def smooth_l1(difference: Tensor) -> Tensor:
    return torch.where(difference.abs() < 1, 0.5 * difference**2, difference.abs() - 0.5)


def positive_anchors(point, grid, radii):
    """Every (cell, anchor) with |landmark / 4 - cell| < r on every axis, and (landmark / 4 - cell) / r."""
    found = []
    for number, radius in enumerate(radii):
        low = [max(0, math.floor(p / 4 - radius)) for p in point]
        high = [min(n - 1, math.ceil(p / 4 + radius)) for n, p in zip(grid, point)]
        for x in range(low[0], high[0] + 1):
            for y in range(low[1], high[1] + 1):
                for z in range(low[2], high[2] + 1):
                    delta = [p / 4 - c for p, c in zip(point, (x, y, z))]
                    if all(abs(d) < radius for d in delta):
                        found.append(((x, y, z, number), [d / radius for d in delta]))
    return found


def literal_anchor_loss(maps, index, presence, hard_negatives=44, radii=(0.5, 0.75, 1.0, 1.25), faulty=()):
    """(X, Y, Z, A, 3 + K) maps, (K, 3) positions and (K,) presence of one sample to the loss.

    ``faulty`` may hold "background": then the 0.001 term also pushes positive logits to 0, as in the published code.
    """
    classes = maps.shape[-1] - 3
    own, others, offsets, hard = [], [], [], []
    positive = torch.zeros(maps[..., 3:].shape, dtype=torch.bool)
    for k in range(classes):
        if presence[k] != 1:
            continue
        for anchor, offset in positive_anchors(index[k].tolist(), maps.shape[:3], radii):
            values = maps[anchor]
            positive[anchor][k] = True
            own.append(softplus(-values[3 + k]))
            rest = [softplus(values[3 + j]) for j in range(classes) if j != k and not math.isnan(presence[j])]
            others.append(sum(rest) / max(1, len(rest)))
            offsets += [smooth_l1(torch.tanh(value) - wanted) for value, wanted in zip(values[:3], offset)]
    for k in range(classes):
        if presence[k] == 0:
            logits = maps[..., 3 + k].flatten()
            hard += [softplus(x) for x in logits.sort(descending=True).values[:hard_negatives]]
    counted = torch.zeros_like(positive)
    counted[..., ~torch.isnan(presence)] = True
    if "background" not in faulty:
        counted &= ~positive
    background = softplus(maps[..., 3:][counted])
    mean = lambda terms: sum(terms) / len(terms) if len(terms) else 0.0  # noqa: E731
    quiet = background.mean() if len(background) else 0.0
    return mean(own) + mean(others) + mean(offsets) + 0.2 * mean(hard) + 0.001 * quiet + 0 * maps.sum()
