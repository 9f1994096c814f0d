"""Bi-level routing attention on any grid: no token outside the grid takes part, and the rest is what BiFormer says."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from H3DELandmarksLib.networks.bilevel_attention import BiLevelRoutingAttention, region_layout, valid_tokens

DIM, HEADS = 12, 3
CASES = {
    "divisible": ((8, 8, 4), (4, 4, 2), 3),
    "odd": ((7, 9, 5), (4, 4, 2), 3),
    "a region less than asked for": ((9, 5, 3), (4, 4, 2), 2),
    "a token a region": ((4, 4, 2), (4, 4, 2), 16),
    "fewer tokens than regions": ((3, 2, 1), (4, 4, 2), 4),
    "more routes than regions": ((3, 2, 1), (4, 4, 2), 16),
    "one token": ((1, 1, 1), (4, 4, 2), 1),
    "two dimensions": ((10, 7), (4, 4), 3),
}
grids = st.lists(st.integers(1, 11), min_size=2, max_size=3).map(tuple)
quick = settings(max_examples=20, deadline=None)


def attention(n_win: tuple[int, ...], topk: int, seed: int = 0) -> BiLevelRoutingAttention:
    torch.manual_seed(seed)
    return BiLevelRoutingAttention(DIM, HEADS, n_win, topk).double()


def tokens(grid: tuple[int, ...], batch: int = 1) -> Tensor:
    return torch.randn(batch, *grid, DIM, dtype=torch.float64)


def masked_reference(layer: BiLevelRoutingAttention, x: Tensor) -> Tensor:
    """One sample: attention between all pairs of tokens, -inf for pairs of regions that aren't routed to each other."""
    grid = x.shape[1:-1]
    region, _ = region_layout(grid, layer.n_win)
    numbers: dict[tuple[int, ...], int] = {}
    of_token = []
    for position in product(*map(range, grid)):
        key = tuple(p // width for p, width in zip(position, region))
        of_token.append(numbers.setdefault(key, len(numbers)))
    member = torch.nn.functional.one_hot(torch.tensor(of_token)).to(x)
    q, k, v = layer.qkv(x).reshape(-1, 3, DIM).unbind(1)
    means = [member.T @ t.detach() / member.sum(0)[:, None] for t in (q, k)]
    routes = (means[0] @ means[1].T).topk(min(layer.topk, len(numbers))).indices
    allowed = torch.zeros(len(numbers), len(numbers)).scatter(1, routes, 1).bool()[of_token][:, of_token]
    out = []
    for head in range(HEADS):
        part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
        logits = (q[:, part] @ k[:, part].T * DIM**-0.5).masked_fill(~allowed, float("-inf"))
        out.append(logits.softmax(-1) @ v[:, part])
    local = layer.lepe(v.reshape(*grid, DIM).movedim(-1, 0)[None]).movedim(1, -1)
    return layer.proj(torch.cat(out, 1).reshape(x.shape) + local)


@pytest.mark.parametrize(("grid", "n_win", "topk"), CASES.values(), ids=CASES.keys())
def test_equals_attention_masked_to_the_routed_regions(grid: tuple, n_win: tuple, topk: int) -> None:
    layer = attention(n_win, topk)
    x = tokens(grid).requires_grad_()
    out, expected = layer(x), masked_reference(layer, x)
    assert (out - expected).abs().max() < 1e-12
    weights = torch.randn_like(out)
    wanted = [x, *layer.parameters()]
    actual = torch.autograd.grad((out * weights).sum(), wanted)
    for ours, reference in zip(actual, torch.autograd.grad((expected * weights).sum(), wanted)):
        assert (ours - reference).abs().max() < 1e-11


@quick
@given(grids, st.integers(1, 6))
def test_any_grid_equals_the_masked_reference(grid: tuple[int, ...], topk: int) -> None:
    layer = attention((4, 3, 2)[: len(grid)], topk)
    x = tokens(grid)
    assert (layer(x) - masked_reference(layer, x)).abs().max() < 1e-12


@quick
@given(grids)
def test_every_region_holds_a_token_of_the_grid(grid: tuple[int, ...]) -> None:
    region, counts = region_layout(grid, (4, 4, 2)[: len(grid)])
    valid = valid_tokens(grid, region, counts)
    assert valid is None or (valid.any(1).all() and valid.sum() == torch.Size(grid).numel())


@pytest.mark.parametrize("grid", [(8, 8, 4), (7, 9, 5)])
def test_a_sample_does_not_depend_on_its_batch(grid: tuple[int, ...]) -> None:
    layer = attention((4, 4, 2), 3)
    x = tokens(grid, batch=2)
    assert (layer(x) - torch.cat([layer(x[:1]), layer(x[1:])])).abs().max() < 1e-12


def test_repeats_itself_exactly() -> None:
    layer = attention((4, 4, 2), 3).eval()
    x = tokens((7, 9, 5))
    assert torch.equal(layer(x), layer(x))


def test_two_dimensions_are_three_with_one_slice() -> None:
    flat, deep = attention((4, 4), 3), attention((4, 4, 1), 3)
    weights = flat.state_dict()
    kernel = torch.zeros_like(deep.lepe.weight)
    kernel[..., 2] = weights["lepe.weight"]
    deep.load_state_dict({**weights, "lepe.weight": kernel})
    x = tokens((10, 7))
    assert (flat(x) - deep(x[:, :, :, None])[:, :, :, 0]).abs().max() < 1e-12


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="heads"):
        BiLevelRoutingAttention(10, 3, (4, 4), 1)
    with pytest.raises(ValueError, match="n_win"):
        BiLevelRoutingAttention(12, 3, (4,), 1)
    with pytest.raises(ValueError, match="spatial axes"):
        attention((4, 4), 1)(tokens((4, 4, 2)))


@pytest.mark.parametrize("grid", [(8, 8, 4), (7, 9, 5)])
def test_attending_a_few_regions_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch, grid: tuple) -> None:
    layer, x = attention((4, 4, 2), 4), tokens(grid, batch=2)
    whole = layer(x)
    calls = []
    attend = layer._attend_regions
    monkeypatch.setattr(layer, "_attend_regions", lambda *given: calls.append(given) or attend(*given))
    monkeypatch.setattr("H3DELandmarksLib.networks.bilevel_attention.GATHERED_BYTES", 1)
    torch.testing.assert_close(layer(x), whole, rtol=0, atol=0)
    assert len(calls) > 10
