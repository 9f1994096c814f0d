"""H3DE-Net's anchor loss written out loop by loop from its published definition; tests only."""

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


def literal_anchor_loss(maps, index, presence, **settings):
    """(X, Y, Z, A, 3 + K) maps, (K, 3) positions and (K,) presence of one sample to the loss."""
    return literal_batch_loss(maps[None], index[None], presence[None], **settings)


def literal_batch_loss(maps, index, presence, hard_negatives=256, radii=(0.5, 0.75, 1.0, 1.25), faulty=()):
    """(B, X, Y, Z, A, 3 + K) maps, (B, K, 3) positions and (B, K) presence to the loss.

    ``faulty`` may hold "background": then the 0.001 term also pushes positive logits to 0, as in the published code;
    and "hard negatives": then those of all samples that lack a landmark come from the whole batch, likewise.
    """
    classes = maps.shape[-1] - 3
    own, others, offsets, hard, background = [], [], [], [], []
    for sample, points, present in zip(maps, index.tolist(), presence.tolist()):
        known = [k for k in range(classes) if not math.isnan(present[k])]
        positive = torch.zeros(sample[..., 3:].shape, dtype=torch.bool)
        for k in range(classes):
            for anchor, offset in positive_anchors(points[k], sample.shape[:3], radii) if present[k] == 1 else []:
                values = sample[anchor]
                positive[anchor][k] = True
                own.append(softplus(-values[3 + k]))
                others += [softplus(values[3 + j]) for j in known if j != k]
                offsets += [smooth_l1(torch.tanh(value) - wanted) for value, wanted in zip(values[:3], offset)]
        for k in known:
            quiet = ~positive[..., k] if "background" not in faulty else torch.ones_like(positive[..., k])
            background += softplus(sample[..., 3 + k][quiet])
            if present[k] == 0 and "hard negatives" not in faulty:
                hard += highest(sample[..., 3 + k], len(radii) * hard_negatives)
    for k in range(classes) if "hard negatives" in faulty else []:
        lacking = int((presence[:, k] == 0).sum())
        hard += highest(maps[..., 3 + k], lacking * len(radii) * hard_negatives)
    hard = [softplus(x) for x in hard]
    mean = lambda terms: sum(terms) / len(terms) if len(terms) else 0.0  # noqa: E731
    terms = mean(own) + mean(others) / max(1, classes - 1) + mean(offsets)
    return terms + 0.2 * mean(hard) + 0.001 * mean(background) + 0 * maps.sum()


def highest(logits, number):
    return list(logits.flatten().sort(descending=True).values[:number])
