"""The fast forms of HYATT-Net's heads against PyTorch's plain layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from H3DELandmarksLib.networks.hyatt import MapHead, double


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 5, 12), (1, 1, 1, 2)])
def test_doubling_and_its_gradient_are_those_of_bilinear_interpolation(shape):
    x, other = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2))
    other.data.copy_(x)
    ours = double(x)
    expected = F.interpolate(other, scale_factor=2.0, mode="bilinear", align_corners=True)
    assert torch.equal(ours, expected)
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    (expected * weight).sum().backward()
    assert (x.grad - other.grad).abs().max() < 1e-12


def test_maps_and_gradients_are_those_of_the_plain_layers():
    torch.manual_seed(0)
    head = MapHead(5, 7, 3).double()
    nn.init.normal_(head[2].weight)
    x = torch.randn(2, 5, 9, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 9, 6, dtype=torch.float64)
    leaves = [x, *head.parameters()]
    ours = torch.autograd.grad((head(x) * weight).sum(), leaves)
    plain = F.conv2d(F.relu(F.conv2d(x, head[0].weight, head[0].bias, padding=1)), head[2].weight, head[2].bias)
    assert (head(x) - plain).abs().max() < 1e-12
    for gradient, expected in zip(ours, torch.autograd.grad((plain * weight).sum(), leaves)):
        assert (gradient - expected).abs().max() < 1e-11
