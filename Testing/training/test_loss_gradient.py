"""The spatial cross-entropy's own gradient, and that how maps lie in memory doesn't matter."""

import math

import pytest
import torch
import torch.nn.functional as F

from H3DELandmarksLib.training import losses
from H3DELandmarksLib.training.losses import spatial_cross_entropy

PRESENCE = torch.tensor([[1.0, 1.0, 0.0], [1.0, math.nan, 1.0]])
INDEX = torch.tensor([[[2.2, 3.1, 1.0], [0.0, 0.4, 4.4], [0, 0, 0]], [[5.2, 6.4, 2.5], [0, 0, 0], [3.0, 9.0, 2.0]]])
AXES = [(2, 3, 4), (3, 2, 4), (4, 3, 2), (3, 4, 2)]


def plain(maps: torch.Tensor) -> torch.Tensor:
    """The same loss by PyTorch's own derivatives, from dense targets."""
    target = torch.zeros_like(maps)
    for b, k in (PRESENCE == 1).nonzero().tolist():
        center = INDEX[b, k]
        grid = torch.stack(torch.meshgrid(*map(torch.arange, maps.shape[2:]), indexing="ij"), -1)
        near = ((grid - center.round()).abs() <= 2).all(-1)
        weight = torch.exp(-((grid - center) ** 2).sum(-1) / 2) * near
        target[b, k] = weight / weight.sum().clamp(min=1e-12)
    loss = F.softplus(maps.flatten(2).logsumexp(2)) - (maps * target).flatten(2).sum(2)
    known = ~torch.isnan(PRESENCE)
    return (loss * known).sum() / known.sum()


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("at_once", [1, 2**20])
def test_values_and_gradients_are_those_of_the_dense_form_in_any_memory_order(axes, at_once, monkeypatch):
    monkeypatch.setattr(losses, "CACHED_BYTES", at_once)
    order = (0, 1, *axes)
    generator = torch.Generator().manual_seed(0)
    values = 3 * torch.randn(2, 3, 6, 7, 5, generator=generator)
    stored = values.permute(order).contiguous().requires_grad_()
    maps = stored.permute([order.index(axis) for axis in range(5)])
    assert torch.equal(maps, values) and maps.is_contiguous() == (axes == (2, 3, 4))
    ours = spatial_cross_entropy(maps, INDEX, PRESENCE)
    ours.backward()
    reference = values.clone().requires_grad_()
    expected = plain(reference)
    expected.backward()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-6)
    gradient = stored.grad.permute([order.index(axis) for axis in range(5)])
    assert (gradient - reference.grad).abs().max() < 1e-7
