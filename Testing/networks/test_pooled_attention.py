"""Bi-level routing attention to averaged keys and values, against sums over tokens written out one by one."""

from __future__ import annotations

from math import ceil

import pytest
import torch
from torch import Tensor

from H3DELandmarksLib.networks.bilevel_attention import BiLevelRoutingAttention, pool_regions, region_layout

DIM, HEADS = 12, 3
CASES = {
    "divisible": ((12, 18), (2, 3), 2),
    "smaller last windows": ((11, 17), (2, 3), 2),
    "a last window of one row": ((11, 13), (2, 3), 4),
    "averages without a token": ((21, 14), (4, 2), 5),
    "windows of less than the average's size": ((6, 7), (2, 3), 2),
    "windows that need no averaging": ((8, 4), (2, 2), 1),
    "every window": ((12, 12), (2, 2), 4),
    "three dimensions": ((6, 5, 7), (2, 1, 2), 2),
}


def layer_of(n_win: tuple[int, ...], topk: int, pad: bool) -> BiLevelRoutingAttention:
    torch.manual_seed(0)
    return BiLevelRoutingAttention(DIM, HEADS, n_win, topk, key_side=4, pad_windows=pad, scale=0.4).double()


def bins(width: int, side: int) -> list[range]:
    """Tokens of each adaptive average along one axis."""
    return [range(i * width // side, ceil((i + 1) * width / side)) for i in range(side)]


def windows(grid: tuple[int, ...], n_win: tuple[int, ...]) -> list[list[range]]:
    """Token ranges along each axis of every window that holds any token of the grid."""
    region, counts = region_layout(grid, n_win)
    starts = torch.cartesian_prod(*(torch.arange(count) for count in counts), torch.zeros(1, dtype=torch.long))
    return [
        [range(int(n) * w, min(size, (int(n) + 1) * w)) for n, w, size in zip(start, region, grid)] for start in starts
    ]


def box(x: Tensor, ranges: list[range]) -> Tensor:
    """Tokens (n, dim) of (*grid, dim) inside ``ranges``."""
    return x[tuple(slice(r.start, r.stop) for r in ranges)].reshape(-1, x.shape[-1])


def averages(x: Tensor, window: list[range], region: list[int]) -> Tensor:
    """Mean token of each of the 4 x 4 (x 4) cells of a window, over the tokens it has; cells with none left out."""
    cells = [[]]
    for r, width in zip(window, region):
        parts = [range(r.start + b.start, min(r.stop, r.start + b.stop)) for b in bins(width, 4)]
        cells = [[*cell, part] for cell in cells for part in parts]
    return torch.stack([box(x, cell).mean(0) for cell in cells if all(len(part) > 0 for part in cell)])


def reference(layer: BiLevelRoutingAttention, x: Tensor) -> Tensor:
    """One sample, window after window and head after head."""
    grid = x.shape[1:-1]
    region, _ = region_layout(grid, layer.n_win)
    q, k, v = layer.qkv(x)[0].chunk(3, dim=-1)
    cut = windows(grid, layer.n_win)
    means = [torch.stack([box(t, w).mean(0) for w in cut]).detach() for t in (q, k)]
    routes = (means[0] @ means[1].T).topk(min(layer.topk, len(cut))).indices.tolist()
    attended = torch.zeros_like(q)
    for window, chosen in zip(cut, routes):
        keys, values = (torch.cat([averages(t, cut[i], region) for i in chosen]) for t in (k, v))
        parts = []
        for a, b, c in zip(*(t.chunk(HEADS, dim=1) for t in (box(q, window), keys, values))):
            parts.append((a @ b.T * layer.scale).softmax(1) @ c)
        shape = [len(r) for r in window]
        attended[tuple(slice(r.start, r.stop) for r in window)] = torch.cat(parts, 1).reshape(*shape, DIM)
    local = layer.lepe(v.movedim(-1, 0)[None]).movedim(1, -1)
    return layer.proj(attended[None] + local)


@pytest.mark.parametrize(("grid", "n_win", "topk"), CASES.values(), ids=CASES.keys())
def test_keys_and_values_are_adaptive_averages(grid: tuple, n_win: tuple, topk: int) -> None:
    layer = layer_of(n_win, topk, pad=False)
    x = torch.randn(1, *grid, DIM, dtype=torch.float64, requires_grad=True)
    out, expected = layer(x), reference(layer, x)
    assert (out - expected).abs().max() < 1e-12
    weights = torch.randn_like(out)
    wanted = [x, *layer.parameters()]
    actual = torch.autograd.grad((out * weights).sum(), wanted)
    for ours, theirs in zip(actual, torch.autograd.grad((expected * weights).sum(), wanted)):
        assert (ours - theirs).abs().max() < 1e-11


@pytest.mark.parametrize("grid", [(11, 17), (3, 2), (12, 12)])
def test_padded_windows_are_those_of_an_image_extended_by_zeros(grid: tuple[int, int]) -> None:
    layer = layer_of((2, 3), 2, pad=True)
    x = torch.randn(1, *grid, DIM, dtype=torch.float64)
    height, width = (ceil(size / count) * count for size, count in zip(grid, (2, 3)))
    extended = torch.zeros(1, height, width, DIM, dtype=torch.float64)
    extended[:, : grid[0], : grid[1]] = x
    assert (layer(x) - reference(layer, extended)[:, : grid[0], : grid[1]]).abs().max() < 1e-12


def test_pooling_a_grid_pools_each_of_its_windows() -> None:
    x = torch.randn(2, 20, 15, 3, dtype=torch.float64)
    pooled = pool_regions(x, [10, 5], [2, 3], 4)
    for i in range(2):
        for j in range(3):
            window = x[:, 10 * i : 10 * i + 10, 5 * j : 5 * j + 5].movedim(-1, 1)
            expected = torch.nn.functional.adaptive_avg_pool2d(window, 4).movedim(1, -1)
            assert (pooled[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] - expected).abs().max() < 1e-12


@pytest.mark.parametrize("key_side", [4, None])
@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize(("grid", "n_win", "topk"), CASES.values(), ids=CASES.keys())
def test_inference_attends_as_training_does(
    grid: tuple[int, ...], n_win: tuple[int, ...], topk: int, pad: bool, key_side: int | None
) -> None:
    layer = layer_of(n_win, topk, pad)
    layer.key_side = key_side
    x, plus = torch.randn(2, *grid, DIM).double(), torch.randn(2, *grid, DIM).double()
    expected = plus + layer(x.requires_grad_())
    with torch.inference_mode():
        found = layer(x, plus=plus)
    assert found.shape == expected.shape and (found - expected).abs().max() < 1e-12
