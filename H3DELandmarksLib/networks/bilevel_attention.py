"""Bi-level routing attention of BiFormer (arXiv 2303.08810), in two or three dimensions.

H3DE-Net (arXiv 2502.14221) calls the three-dimensional form volumetric bi-level routing attention (V-BRA). HYATT-Net
(arXiv 2412.06499) uses the two-dimensional one with pooled keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from H3DELandmarksLib.networks.layers import DepthwiseConv, Linear, is_exporting, linear

# Copies of keys, and as many of values, that are attended to at once.
GATHERED_BYTES = 8 * 2**20


class BiLevelRoutingAttention(nn.Module):
    """Every token attends to the tokens of the ``topk`` regions that its own region is most similar to.

    The grid is cut into at most ``n_win`` regions an axis. Routing compares a region's mean query with all mean keys
    and carries no gradient. A grid that isn't a multiple of ``n_win`` has smaller last regions, and fewer of them where
    no token would be left for the last; no token outside the grid ever takes part, unless ``pad_windows`` asks for it.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        n_win: Sequence[int],
        topk: int,
        lepe_kernel: int = 5,
        key_side: int | None = None,
        pad_windows: bool = False,
        scale: float | None = None,
        lepe_on_input: bool = False,
    ) -> None:
        """Create the layer.

        Args:
            dim: channels of input and output.
            num_heads: attention heads; must divide ``dim``.
            n_win: regions along each axis; its length, 2 or 3, is the number of spatial axes.
            topk: regions that a region attends to; all of them where there are no more.
            lepe_kernel: odd width of the depthwise convolution on the values (local positional encoding, LePE).
            key_side: tokens along each axis to which the keys and values of a region are averaged; None: no averaging.
            pad_windows: extend the grid with zero tokens, which take part like all others, to a multiple of ``n_win``,
                as BiFormer's dense prediction does.
            scale: factor on products of query and key; None: ``dim ** -0.5``.
            lepe_on_input: LePE of the layer's input in place of the values, and no bias of queries, keys and values,
                as in BiFormer's attention of all tokens to all.
        """
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads can't share {dim} channels evenly")
        if len(n_win) not in (2, 3):
            raise ValueError(f"n_win must have 2 or 3 entries, not {len(n_win)}")
        self.num_heads = num_heads
        self.n_win = tuple(n_win)
        self.topk = topk
        self.key_side = key_side
        self.pad_windows = pad_windows
        # The published networks scale by the full width, not by the width of a head.
        self.scale = dim**-0.5 if scale is None else scale
        self.lepe_on_input = lepe_on_input
        self.qkv = Linear(dim, 3 * dim, bias=not lepe_on_input)
        self.lepe = DepthwiseConv(dim, lepe_kernel, axes=len(n_win))
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """Attend: (batch, *grid, dim), channels last, to the same shape, and add ``plus``, also of that shape."""
        grid = x.shape[1:-1]
        if len(grid) != len(self.n_win):
            raise ValueError(f"expected (batch, {len(self.n_win)} spatial axes, channels), got shape {tuple(x.shape)}")
        if self.pad_windows:
            x = _extend(x, [-(-size // count) * count for size, count in zip(grid, self.n_win)])
        region, counts = region_layout(x.shape[1:-1], self.n_win)
        if self._views(x, region, counts):
            return self.proj(_crop(self._attend_views(x, region, counts), grid), plus=plus)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.topk >= prod(counts) and not self._pools(region):
            attended = self._attend_all(q, k, v)
        else:
            attended = self._attend_routed(q, k, v, region, counts)
        local = self.lepe((x if self.lepe_on_input else v).movedim(-1, 1)).movedim(1, -1)
        return self.proj(_crop(attended + local, grid), plus=plus)

    def _views(self, x: Tensor, region: list[int], counts: list[int]) -> bool:
        """Whether `_attend_views` may serve: routed attention in whole regions, in inference."""
        whole = all(width * count == size for width, count, size in zip(region, counts, x.shape[1:-1]))
        routed = self.topk < prod(counts) and not self.lepe_on_input
        return whole and routed and not torch.is_grad_enabled() and not is_exporting()

    def _attend_views(self, x: Tensor, region: list[int], counts: list[int]) -> Tensor:
        """Attended tokens and LePE, (batch, *grid, dim), in inference.

        Tokens in the order of regions make heads views of queries, keys and values, which need no copies of their own.
        """
        grid, dim, axes = x.shape[1:-1], x.shape[-1], len(region)
        pairs = [size for pair in zip(counts, region) for size in pair]
        order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
        undo = [0, *(axis + part for axis in range(1, 1 + axes) for part in (0, axes)), 2 * axes + 1]
        cut = [*counts, *region, dim]
        tokens = x.reshape(len(x), *pairs, dim).permute(order).reshape(-1, prod(region), dim)
        weights, biases = (self.qkv.weight.split([dim, 2 * dim]), self.qkv.bias.split([dim, 2 * dim]))
        q, kv = (linear(tokens, weight, bias) for weight, bias in zip(weights, biases))
        v = kv[..., dim:].reshape(len(x), *cut).permute(undo).reshape(x.shape)
        local = self.lepe(v.movedim(-1, 1)).movedim(1, -1).contiguous()
        means = (t.mean(1).view(len(x), -1, dim) for t in (q, kv[..., :dim]))
        routed = self._route(*means)
        if self._pools(region) and self.key_side is not None:
            windows = kv.view(-1, *region, 2 * dim)
            kv = pool_regions(windows, region, [1] * axes, self.key_side).flatten(1, -2)
        rows = (torch.arange(len(x), device=x.device)[:, None, None] * prod(counts) + routed).flatten(0, 1)
        step = max(1, 2 * GATHERED_BYTES // max(1, rows.shape[1] * kv[0].nbytes))
        parts = [self._attend_rows(part, chosen, kv) for part, chosen in zip(q.split(step), rows.split(step))]
        attended = parts[0] if len(parts) == 1 else torch.cat(parts)
        local.view(len(x), *pairs, dim).add_(attended.view(len(x), *cut).permute(undo))
        return local.view(len(x), *grid, dim)

    def _attend_rows(self, q: Tensor, rows: Tensor, kv: Tensor) -> Tensor:
        """Attention of queries (regions, tokens, dim) to the keys and values of ``rows`` of (all, tokens, 2 dim)."""
        chosen = kv.index_select(0, rows.flatten()).view(len(q), -1, 2, self.num_heads, q.shape[-1] // self.num_heads)
        k, v = chosen.permute(2, 0, 3, 1, 4)
        heads = q.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        out = F.scaled_dot_product_attention(heads, k, v, scale=self.scale)
        return out.transpose(1, 2).reshape(q.shape)

    def _pools(self, region: list[int]) -> bool:
        """Whether averaging keys and values changes anything.

        Sides that divide ``key_side`` would only have every token repeated equally often, which no softmax notices.
        """
        return self.key_side is not None and any(self.key_side % width for width in region)

    def _attend_all(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of all tokens to all tokens, each (batch, *grid, dim)."""
        q_heads, k_heads, v_heads = (
            t.flatten(1, -2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v)
        )
        out = F.scaled_dot_product_attention(q_heads, k_heads, v_heads, scale=self.scale)
        return out.transpose(1, 2).reshape(q.shape)

    def _attend_routed(self, q: Tensor, k: Tensor, v: Tensor, region: list[int], counts: list[int]) -> Tensor:
        """Attention of each region's queries to copies of its routed regions' keys and values."""
        batch, *grid, _ = q.shape
        valid = valid_tokens(grid, region, counts, q.device)
        q = self._partition(q, region, counts)
        routed, k, v, valid = self._keys(q, k, v, region, counts, valid)
        # Copies of all routed regions at once would be `topk` times the size of keys and values.
        step = max(1, GATHERED_BYTES // max(1, self.topk * k[:, :, 0].nbytes))
        parts = zip(q.split(step, dim=2), routed.split(step, dim=1))
        attended = [self._attend_regions(part, rows, k, v, valid) for part, rows in parts]
        out = attended[0] if len(attended) == 1 else torch.cat(attended, dim=2)
        return self._merge(out, region, counts, grid)

    def _attend_regions(self, q: Tensor, routed: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        """Attention of some regions' queries, each (batch, heads, regions, tokens, head_dim), to routed keys."""
        batch, heads, regions = k.shape[:3]
        sequences = torch.arange(batch * heads, device=q.device).view(batch, heads, 1, 1)
        rows = (sequences * regions + routed[:, None]).flatten()
        mask = None
        if valid is not None:
            keys = valid[routed].view(batch, 1, routed.shape[1], 1, -1)
            mask = keys.expand(-1, heads, -1, -1, -1).flatten(0, 1)
        k, v = (_take_regions(t, rows, routed.shape[1]) for t in (k, v))
        return F.scaled_dot_product_attention(q.flatten(0, 1), k, v, attn_mask=mask, scale=self.scale).view(q.shape)

    def _keys(
        self, q: Tensor, k: Tensor, v: Tensor, region: list[int], counts: list[int], valid: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Routes of partitioned queries, and partitioned keys and values, averaged if asked for, with what is valid."""
        grid = k.shape[1:-1]
        if self.key_side is None or not self._pools(region):
            k, v = self._partition(k, region, counts), self._partition(v, region, counts)
            return self._route(_region_means(q, valid), _region_means(k, valid)), k, v, valid
        region_k = pool_regions(k.detach(), region, counts, 1).flatten(1, -2)
        side = self.key_side
        sides = [side] * len(grid)
        k, v = (self._partition(pool_regions(t, region, counts, side), sides, counts) for t in (k, v))
        key_valid = None if valid is None else valid_tokens(grid, region, counts, q.device, side)
        return self._route(_region_means(q, valid), region_k), k, v, key_valid

    def _route(self, region_q: Tensor, region_k: Tensor) -> Tensor:
        """Choose ``topk`` regions for each region, (batch, regions, topk), from mean queries and keys."""
        similarity = (region_q * self.scale) @ region_k.transpose(1, 2)
        return similarity.topk(min(self.topk, similarity.shape[2]), dim=-1).indices

    def _partition(self, x: Tensor, region: list[int], counts: list[int]) -> Tensor:
        """(batch, *grid, dim) to (batch, heads, regions, tokens, head_dim), zero outside the grid."""
        x = _extend(x, [count * width for width, count in zip(region, counts)])
        split = x.reshape(len(x), *(size for pair in zip(counts, region) for size in pair), self.num_heads, -1)
        head = 2 * len(region) + 1
        order = [0, head, *range(1, head, 2), *range(2, head, 2), head + 1]
        return split.permute(order).reshape(len(x), self.num_heads, prod(counts), prod(region), -1)

    def _merge(self, x: Tensor, region: list[int], counts: list[int], grid: list[int]) -> Tensor:
        """Undo ``_partition``, dropping what lies outside the grid."""
        batch, axes = x.shape[0], len(grid)
        split = x.view(batch, self.num_heads, *counts, *region, -1)
        order = [0, *(axis + part for axis in range(2, 2 + axes) for part in (0, axes)), 1, 2 + 2 * axes]
        padded = [count * width for count, width in zip(counts, region)]
        return _crop(split.permute(order).reshape(batch, *padded, -1), grid)


def region_layout(grid: Sequence[int], n_win: Sequence[int]) -> tuple[list[int], list[int]]:
    """Tokens along each side of a region, and the number of regions along each axis that hold any token of the grid."""
    region = [-(-size // count) for size, count in zip(grid, n_win)]
    return region, [-(-size // width) for size, width in zip(grid, region)]


def valid_tokens(
    grid: Sequence[int],
    region: Sequence[int],
    counts: Sequence[int],
    device: torch.device | None = None,
    side: int | None = None,
) -> Tensor | None:
    """Which of the (regions, tokens) lie inside the grid, as booleans; None where all do.

    With ``side``, tokens are those of ``pool_regions``; one that averages any token of the grid lies inside.
    """
    if all(count * width == size for size, width, count in zip(grid, region, counts)):
        return None
    valid = torch.ones(1, 1, dtype=torch.bool, device=device)
    for size, width, count in zip(grid, region, counts):
        tokens = side or width
        first = torch.arange(tokens, device=device) * width // tokens
        inside = torch.arange(count, device=device)[:, None] * width + first < size
        valid = (valid[:, None, :, None] & inside[None, :, None, :]).flatten(2).flatten(0, 1)
    return valid


def pool_regions(x: Tensor, region: Sequence[int], counts: Sequence[int], side: int) -> Tensor:
    """Average the tokens of each region adaptively to ``side`` an axis; tokens outside the grid don't count.

    (batch, *grid, dim) to (batch, *(side * counts), dim); 0 where an average has no token of the grid.
    """
    grid, padded = x.shape[1:-1], [count * width for count, width in zip(counts, region)]
    pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if len(grid) == 2 else F.adaptive_avg_pool3d
    # Adaptive bins of the whole grid are those of each region, because regions are equally wide.
    size = [count * side for count in counts]
    pooled = pool(_extend(x, padded).movedim(-1, 1), size).movedim(1, -1)
    if list(grid) == padded:
        return pooled
    share = pool(_extend(x.new_ones(1, *grid, 1), padded).movedim(-1, 1), size).movedim(1, -1)
    return pooled / share.masked_fill(share == 0, 1)


def _region_means(x: Tensor, valid: Tensor | None) -> Tensor:
    """Mean token of each region, (batch, regions, dim) without gradient, from partitioned queries or keys."""
    # Padding is zero, so a sum over all tokens is a sum over the valid ones.
    tokens = x.shape[3] if valid is None else valid.sum(1)[:, None]
    return (x.detach().sum(3) / tokens).transpose(1, 2).flatten(2)


def _extend(x: Tensor, size: Sequence[int]) -> Tensor:
    """Append zero tokens to (batch, *grid, dim) until the grid is ``size``."""
    missing = [after - before for before, after in zip(x.shape[1:-1], size)]
    if not any(missing):
        return x
    return F.pad(x, [0, 0] + [end for count in reversed(missing) for end in (0, count)])


def _crop(x: Tensor, grid: Sequence[int]) -> Tensor:
    """Undo ``_extend``."""
    return x[(slice(None), *(slice(size) for size in grid))]


def _take_regions(x: Tensor, rows: Tensor, queries: int) -> Tensor:
    """Copy regions ``rows`` (batch * heads * queries * topk) into (batch * heads, queries, keys, head_dim)."""
    batch, heads, _, _, head_dim = x.shape
    return x.flatten(0, 2).index_select(0, rows).view(batch * heads, queries, -1, head_dim)
