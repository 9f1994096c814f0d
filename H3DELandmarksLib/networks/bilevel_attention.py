"""Bi-level routing attention of BiFormer (arXiv 2303.08810), in two or three dimensions.

H3DE-Net (arXiv 2502.14221) calls the three-dimensional form volumetric bi-level routing attention (V-BRA).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import DepthwiseConv


class BiLevelRoutingAttention(nn.Module):
    """Every token attends to the tokens of the ``topk`` regions that its own region is most similar to.

    The grid is cut into at most ``n_win`` regions an axis. Routing compares a region's mean query with all mean keys
    and carries no gradient. A grid that isn't a multiple of ``n_win`` has smaller last regions, and fewer of them where
    no token would be left for the last; no token outside the grid ever takes part.
    """

    def __init__(self, dim: int, num_heads: int, n_win: Sequence[int], topk: int, lepe_kernel: int = 5) -> None:
        """Create the layer.

        Args:
            dim: channels of input and output.
            num_heads: attention heads; must divide ``dim``.
            n_win: regions along each axis; its length, 2 or 3, is the number of spatial axes.
            topk: regions that a region attends to; all of them where there are no more.
            lepe_kernel: odd width of the depthwise convolution on the values (local positional encoding, LePE).
        """
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads can't share {dim} channels evenly")
        if len(n_win) not in (2, 3):
            raise ValueError(f"n_win must have 2 or 3 entries, not {len(n_win)}")
        self.num_heads = num_heads
        self.n_win = tuple(n_win)
        self.topk = topk
        # The published networks scale by the full width, not by the width of a head.
        self.scale = dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.lepe = DepthwiseConv(dim, lepe_kernel, axes=len(n_win))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (batch, *grid, dim), channels last, to the same shape."""
        grid = x.shape[1:-1]
        if len(grid) != len(self.n_win):
            raise ValueError(f"expected (batch, {len(self.n_win)} spatial axes, channels), got shape {tuple(x.shape)}")
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        region, counts = region_layout(grid, self.n_win)
        if self.topk >= prod(counts):
            attended = self._attend_all(q, k, v)
        else:
            attended = self._attend_routed(q, k, v, region, counts)
        local = self.lepe(v.movedim(-1, 1)).movedim(1, -1)
        return self.proj(attended + local)

    def _attend_all(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of all tokens to all tokens, each (batch, *grid, dim)."""
        heads = (t.flatten(1, -2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(*heads, scale=self.scale)
        return out.transpose(1, 2).reshape(q.shape)

    def _attend_routed(self, q: Tensor, k: Tensor, v: Tensor, region: list[int], counts: list[int]) -> Tensor:
        """Attention of each region's queries to copies of its routed regions' keys and values."""
        batch, *grid, _ = q.shape
        q, k, v = (self._partition(t, region, counts) for t in (q, k, v))
        valid = valid_tokens(grid, region, counts, q.device)
        routed = self._route(q.detach(), k.detach(), valid)
        sequences = torch.arange(batch * self.num_heads, device=q.device).view(batch, self.num_heads, 1, 1)
        rows = (sequences * prod(counts) + routed[:, None]).flatten()
        mask = None
        if valid is not None:
            keys = valid[routed].view(batch, 1, prod(counts), 1, -1)
            mask = keys.expand(-1, self.num_heads, -1, -1, -1).flatten(0, 1)
        k, v = _take_regions(k, rows), _take_regions(v, rows)
        out = F.scaled_dot_product_attention(q.flatten(0, 1), k, v, attn_mask=mask, scale=self.scale)
        return self._merge(out.view(q.shape), region, counts, grid)

    def _route(self, q: Tensor, k: Tensor, valid: Tensor | None) -> Tensor:
        """Choose ``topk`` regions for each region, (batch, regions, topk), from partitioned queries and keys."""
        # Padding is zero, so a sum over all tokens is a sum over the valid ones.
        tokens = q.shape[3] if valid is None else valid.sum(1)[:, None]
        region_q, region_k = ((t.sum(3) / tokens).transpose(1, 2).flatten(2) for t in (q, k))
        similarity = (region_q * self.scale) @ region_k.transpose(1, 2)
        return similarity.topk(self.topk, dim=-1).indices

    def _partition(self, x: Tensor, region: list[int], counts: list[int]) -> Tensor:
        """(batch, *grid, dim) to (batch, heads, regions, tokens, head_dim), zero outside the grid."""
        batch, *grid, _ = x.shape
        missing = [count * width - size for size, width, count in zip(grid, region, counts)]
        if any(missing):
            x = F.pad(x, [0, 0] + [end for size in reversed(missing) for end in (0, size)])
        split = x.reshape(batch, *(size for pair in zip(counts, region) for size in pair), self.num_heads, -1)
        head = 2 * len(grid) + 1
        order = [0, head, *range(1, head, 2), *range(2, head, 2), head + 1]
        return split.permute(order).reshape(batch, self.num_heads, prod(counts), prod(region), -1)

    def _merge(self, x: Tensor, region: list[int], counts: list[int], grid: list[int]) -> Tensor:
        """Undo ``_partition``, dropping what lies outside the grid."""
        batch, axes = x.shape[0], len(grid)
        split = x.view(batch, self.num_heads, *counts, *region, -1)
        order = [0, *(axis + part for axis in range(2, 2 + axes) for part in (0, axes)), 1, 2 + 2 * axes]
        padded = [count * width for count, width in zip(counts, region)]
        merged = split.permute(order).reshape(batch, *padded, -1)
        return merged[(slice(None), *(slice(size) for size in grid))]


def region_layout(grid: Sequence[int], n_win: Sequence[int]) -> tuple[list[int], list[int]]:
    """Tokens along each side of a region, and the number of regions along each axis that hold any token of the grid."""
    region = [-(-size // count) for size, count in zip(grid, n_win)]
    return region, [-(-size // width) for size, width in zip(grid, region)]


def valid_tokens(
    grid: Sequence[int], region: Sequence[int], counts: Sequence[int], device: torch.device | None = None
) -> Tensor | None:
    """Which of the (regions, tokens) lie inside the grid, as booleans; None where all do."""
    if all(count * width == size for size, width, count in zip(grid, region, counts)):
        return None
    valid = torch.ones(1, 1, dtype=torch.bool, device=device)
    for size, width, count in zip(grid, region, counts):
        inside = torch.arange(count * width, device=device).view(count, width) < size
        valid = (valid[:, None, :, None] & inside[None, :, None, :]).flatten(2).flatten(0, 1)
    return valid


def _take_regions(x: Tensor, rows: Tensor) -> Tensor:
    """Copy regions ``rows`` (batch * heads * regions * topk) into (batch * heads, regions, keys, head_dim)."""
    batch, heads, regions, _, head_dim = x.shape
    return x.flatten(0, 2).index_select(0, rows).view(batch * heads, regions, -1, head_dim)
