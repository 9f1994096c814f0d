"""Bi-level routing attention of BiFormer (arXiv 2303.08810), in two or three dimensions.

H3DE-Net (arXiv 2502.14221) calls the three-dimensional form volumetric bi-level routing attention (V-BRA).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Up to this many tokens a region, one masked product over all tokens costs less than gathering copies of keys and values.
MASKED_REGION_TOKENS = 8


class BiLevelRoutingAttention(nn.Module):
    """Every token attends to the tokens of the ``topk`` regions that its own region is most similar to.

    The grid is cut into at most ``n_win`` regions an axis. Routing compares mean queries with mean keys and carries no gradient.
    A grid that isn't a multiple of ``n_win`` has smaller last regions; no token outside the grid ever takes part.
    """

    def __init__(self, dim: int, num_heads: int, n_win: Sequence[int], topk: int, lepe_kernel: int = 5) -> None:
        """Create the layer.

        Args:
            dim: channels of input and output.
            num_heads: attention heads; must divide ``dim``.
            n_win: regions along each axis; its length, 2 or 3, is the number of spatial axes.
            topk: regions that a region attends to.
            lepe_kernel: odd width of the depthwise convolution on the values (local positional encoding).
        """
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{dim} channels can't be shared evenly by {num_heads} heads")
        if len(n_win) not in (2, 3):
            raise ValueError(f"n_win must have 2 or 3 entries, not {len(n_win)}")
        self.num_heads = num_heads
        self.n_win = tuple(n_win)
        self.topk = topk
        # BiFormer's published code scales by the full width, not by the width of a head.
        self.scale = dim**-0.5
        convolution = nn.Conv3d if len(n_win) == 3 else nn.Conv2d
        self.qkv = nn.Linear(dim, 3 * dim)
        self.lepe = convolution(dim, dim, lepe_kernel, padding=lepe_kernel // 2, groups=dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (batch, *grid, dim) to the same shape."""
        grid = x.shape[1:-1]
        if len(grid) != len(self.n_win):
            raise ValueError(f"expected (batch, {len(self.n_win)} spatial axes, channels), got shape {tuple(x.shape)}")
        region = [-(-size // count) for size, count in zip(grid, self.n_win)]
        # Fewer regions where the grid is small: none is ever wholly outside the grid.
        counts = [-(-size // width) for size, width in zip(grid, region)]
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.topk >= prod(counts) or prod(region) <= MASKED_REGION_TOKENS:
            attended = self._attend_masked(q, k, v, region, counts)
        else:
            attended = self._attend_gathered(q, k, v, region, counts)
        local = self.lepe(v.movedim(-1, 1)).movedim(1, -1)
        return self.proj(attended + local)

    def _attend_masked(self, q: Tensor, k: Tensor, v: Tensor, region: list[int], counts: list[int]) -> Tensor:
        """Attention over all tokens at once, with a mask of the routed regions where there is a choice to make."""
        batch, *grid, dim = q.shape
        mask = None
        if self.topk < prod(counts):
            region_of_token = _region_of_token(grid, region, counts, q.device)
            member = F.one_hot(region_of_token, prod(counts)).T.to(q.dtype)
            region_q, region_k = (
                member @ t.detach().reshape(batch, -1, dim) / member.sum(1, keepdim=True) for t in (q, k)
            )
            allowed = torch.zeros(batch, prod(counts), prod(counts), dtype=torch.bool, device=q.device)
            allowed.scatter_(2, self._route(region_q, region_k), True)
            mask = allowed[:, None, region_of_token[:, None], region_of_token]
        q, k, v = (t.reshape(batch, prod(grid), self.num_heads, -1).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        return out.transpose(1, 2).reshape(batch, *grid, dim)

    def _attend_gathered(self, q: Tensor, k: Tensor, v: Tensor, region: list[int], counts: list[int]) -> Tensor:
        """Attention of each region's queries to gathered copies of its routed regions' keys and values."""
        batch, *grid, dim = q.shape
        regions = prod(counts)
        q, k, v = (self._partition(t, region, counts) for t in (q, k, v))
        valid = _valid_tokens(grid, region, counts, q.device)
        # Padding is zero, so sums over all tokens are sums over the valid ones.
        per_region = prod(region) if valid is None else valid.sum(1)[:, None]
        region_q, region_k = (
            (t.detach().sum(3) / per_region).transpose(1, 2).reshape(batch, regions, dim) for t in (q, k)
        )
        routed = self._route(region_q, region_k)
        sequences = torch.arange(batch * self.num_heads, device=q.device).view(batch, self.num_heads, 1, 1)
        rows = (sequences * regions + routed[:, None]).flatten()
        mask = None
        if valid is not None:
            mask = valid[routed].view(batch, 1, regions, 1, -1).expand(-1, self.num_heads, -1, -1, -1).flatten(0, 1)
        k, v = _take_rows(k, rows, regions), _take_rows(v, rows, regions)
        out = F.scaled_dot_product_attention(q.flatten(0, 1), k, v, attn_mask=mask, scale=self.scale)
        return self._merge(out.view(q.shape), region, counts, grid)

    def _route(self, region_q: Tensor, region_k: Tensor) -> Tensor:
        """Top-k key regions (batch, regions, topk) of region means (batch, regions, dim)."""
        return ((region_q * self.scale) @ region_k.transpose(1, 2)).topk(self.topk, dim=-1).indices

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

    def _merge(self, out: Tensor, region: list[int], counts: list[int], grid: Sequence[int]) -> Tensor:
        """(batch, heads, regions, tokens, head_dim) back to (batch, *grid, dim), the inverse of ``_partition``."""
        batch, axes = out.shape[0], len(grid)
        split = out.view(batch, self.num_heads, *counts, *region, -1)
        order = [0, *(2 + axis + part * axes for axis in range(axes) for part in (0, 1)), 1, 2 + 2 * axes]
        padded = [count * width for count, width in zip(counts, region)]
        merged = split.permute(order).reshape(batch, *padded, -1)
        return merged[(slice(None), *(slice(size) for size in grid))]


def _take_rows(x: Tensor, rows: Tensor, regions: int) -> Tensor:
    """Copy whole regions of (batch, heads, regions, tokens, head_dim) into (batch * heads, regions, keys, head_dim)."""
    batch, heads, _, _, head_dim = x.shape
    return x.flatten(0, 2).index_select(0, rows).view(batch * heads, regions, -1, head_dim)


def _region_of_token(grid: Sequence[int], region: Sequence[int], counts: Sequence[int], device: torch.device) -> Tensor:
    """Region number of each token, tokens and regions in row-major order of the grid."""
    number = torch.zeros(1, dtype=torch.long, device=device)
    for size, width, count in zip(grid, region, counts):
        along = torch.arange(size, device=device) // width
        number = (number[:, None] * count + along).flatten()
    return number


def _valid_tokens(
    grid: Sequence[int], region: Sequence[int], counts: Sequence[int], device: torch.device
) -> Tensor | None:
    """Which of the (regions, tokens) lie inside the grid, or None where all do."""
    if all(count * width == size for size, width, count in zip(grid, region, counts)):
        return None
    valid = torch.ones(1, 1, dtype=torch.bool, device=device)
    for size, width, count in zip(grid, region, counts):
        inside = torch.arange(count * width, device=device).view(count, width) < size
        valid = (valid[:, None, :, None] & inside[None, :, None, :]).flatten(2).flatten(0, 1)
    return valid
