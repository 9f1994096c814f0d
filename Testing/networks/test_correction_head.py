"""The fast forms of HYATT-Net's heads against PyTorch's plain layers."""

import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from H3DELandmarksLib.networks.hyatt import Deconvolution, MapHead, double


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


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
def test_deconvolution_is_that_of_the_plain_layers(norm: str, training: bool) -> None:
    torch.manual_seed(0)
    layer = Deconvolution(32, norm).train(training)
    for name, tensor in layer[1].state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 2) if name.endswith(("var", "weight")) else tensor.normal_()
    plain = copy.deepcopy(layer)
    x = torch.randn(2, 32, 33, 40)
    for mode in (torch.inference_mode(), contextlib.nullcontext()):
        with mode:
            expected = nn.Sequential.forward(plain, x)
            assert (layer(x) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert layer[1].state_dict().keys() == plain[1].state_dict().keys()
    for name, tensor in layer[1].state_dict().items():
        assert torch.allclose(tensor, plain[1].state_dict()[name], atol=1e-5), name


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
