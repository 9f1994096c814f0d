"""The layers made fast on a CPU are the functions that PyTorch documents."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from H3DELandmarksLib.networks import layers
from H3DELandmarksLib.networks.layers import (
    Conv2d,
    Conv3d,
    DepthwiseConv,
    HeavyConv2d,
    InstanceNorm,
    Linear,
    Perceptron,
    PointwiseConv3d,
    convolve_by_fourier,
    fourier_pays,
    resize_linear,
    winograd_pays,
)


def assert_same_function(layer: torch.nn.Module, expected: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Compare values and gradients, the input in both memory layouts."""
    for memory_format in (torch.contiguous_format, torch.channels_last_3d if x.ndim == 5 else torch.channels_last):
        x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
        y, reference = layer(x), expected(x)
        assert y.shape == reference.shape
        assert (y - reference).abs().max() < 1e-5
        weights = torch.randn_like(y)
        wanted = [x, *layer.parameters()]
        ours = torch.autograd.grad((y * weights).sum(), wanted)
        for a, b in zip(ours, torch.autograd.grad((reference * weights).sum(), wanted)):
            assert (a - b).norm() < 1e-5 * b.norm()


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 2), st.tuples(*[st.integers(5, 19)] * 3), st.sampled_from([1, 2]))
def test_conv3d_is_a_padded_convolution(batch: int, grid: tuple[int, ...], stride: int) -> None:
    layer = Conv3d(3, 4, stride=stride)
    x = torch.randn(batch, 3, *grid)
    assert_same_function(layer, lambda x: F.conv3d(x, layer.weight, layer.bias, stride, 1), x)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("channels", "outputs", "grid"), [(32, 48, (33, 40)), (40, 32, (32, 32)), (8, 32, (40, 40))])
def test_conv2d_is_a_padded_convolution_where_winograd_pays_and_elsewhere(
    batch: int, channels: int, outputs: int, grid: tuple[int, int]
) -> None:
    layer = Conv2d(channels, outputs)
    x = torch.rand(batch, channels, *grid)  # positive, as features after ReLU are
    assert winograd_pays(x, layer.weight) == (channels >= 32 and torch._nnpack_available())
    assert_same_function(layer, lambda x: F.conv2d(x, layer.weight, layer.bias, padding=1), x)


def test_conv2d_leaves_other_precisions_and_autocast_to_pytorch() -> None:
    layer, x = Conv2d(32, 32), torch.rand(1, 32, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    expected = F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1)
    assert torch.equal(layer.double()(x.double()), expected)


@pytest.mark.skipif(not torch._nnpack_available(), reason="PyTorch has no NNPACK here")
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("batch", "grid"), [(1, (64, 64)), (2, (67, 90))])
@torch.inference_mode()
def test_convolution_by_fourier_rounds_as_little_as_a_plain_one(batch: int, grid: tuple, dilation: int) -> None:
    x, weight, bias = torch.rand(batch, 32, *grid), torch.randn(40, 32, 3, 3), torch.randn(40)
    x = x.contiguous(memory_format=torch.channels_last)
    assert fourier_pays(x, weight) and not fourier_pays(x[..., :32, :32], weight)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=dilation, dilation=dilation)
    found = convolve_by_fourier(x, weight, bias, dilation)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("options", [{}, {"padding": 2, "dilation": 2}, {"padding": 1, "stride": 2}], ids=str)
def test_heavy_convolution_as_a_product(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "HEAVY_WEIGHTS", 1)
    layer = HeavyConv2d(5, 7, 3, **options)
    x = torch.randn(2, 5, 6, 4)
    expected = F.conv2d(x, layer.weight, layer.bias, **options)
    with torch.inference_mode():
        found = layer(x)
    assert found.shape == expected.shape and not torch.equal(found, torch.zeros_like(found))
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_of_inference(fused: bool, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fused:
        monkeypatch.setattr(layers, "_onednn_is_there", lambda: False)
    layer, x, plus = Linear(6, 5, bias=bias), torch.randn(2, 3, 6), torch.randn(2, 3, 5)
    expected = F.linear(x, layer.weight, layer.bias)
    with torch.inference_mode():
        assert (layer(x) - expected).abs().max() < 1e-6
        assert (layer(x, gelu=True) - F.gelu(expected)).abs().max() < 1e-6
        assert (layer(x, plus=plus) - (expected + plus)).abs().max() < 1e-6
    assert layer(x, plus=plus).requires_grad


def test_perceptron_of_inference_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    perceptron, x, plus = Perceptron(4, 8), torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    expected = perceptron(x, plus=plus)
    monkeypatch.setattr(layers, "HIDDEN_BYTES", 4 * 8 * 4)
    with torch.inference_mode():
        assert (perceptron(x, plus=plus) - expected).abs().max() < 1e-6


@pytest.mark.parametrize("axes", [2, 3])
def test_adding_a_depthwise_convolution_to_its_input(axes: int) -> None:
    layer, x = DepthwiseConv(4, 3, axes), torch.randn(2, 4, *(7, 6, 3)[:axes])
    expected, before = x + layer(x), layer.weight.clone()
    with torch.inference_mode():
        assert (layer.add_to(x) - expected).abs().max() < 1e-6
    assert torch.equal(layer.add_to(x), expected) and torch.equal(layer.weight, before)


@pytest.mark.parametrize(("axes", "kernel"), [(2, 5), (3, 3), (3, 5)])
def test_depthwise_convolution(axes: int, kernel: int) -> None:
    layer = DepthwiseConv(4, kernel, axes)
    convolution = F.conv2d if axes == 2 else F.conv3d
    expected = lambda x: convolution(x, layer.weight, layer.bias, padding=kernel // 2, groups=4)  # noqa: E731
    assert_same_function(layer, expected, torch.randn(2, 4, *(7, 6, 3)[:axes]))


def test_depthwise_convolution_under_autocast() -> None:
    layer = DepthwiseConv(4, 3)
    x = torch.randn(2, 4, 5, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    y.float().square().sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32


def test_pointwise_convolution() -> None:
    layer = PointwiseConv3d(5, 3)
    assert_same_function(layer, lambda x: F.conv3d(x, layer.weight, layer.bias), torch.randn(2, 5, 4, 3, 2))


@pytest.mark.parametrize("batch", [1, 2])
def test_instance_norm(batch: int) -> None:
    def expected(x: Tensor) -> Tensor:
        centered = x - x.mean((2, 3, 4), keepdim=True)
        return centered / (centered.square().mean((2, 3, 4), keepdim=True) + 1e-5).sqrt()

    assert_same_function(InstanceNorm(3), expected, 5 + torch.randn(batch, 3, 6, 5, 4))


def test_instance_norm_is_exact_on_large_bright_grids() -> None:
    x = (torch.randn(1, 2, 128, 128, 64) + 10).contiguous(memory_format=torch.channels_last_3d)
    assert (InstanceNorm(2)(x) - F.instance_norm(x.double())).abs().max() < 1e-5


def test_instance_norm_of_one_voxel_is_zero() -> None:
    x = torch.randn(2, 3, 1, 1, 1, requires_grad=True)
    y = InstanceNorm(3)(x)
    y.sum().backward()
    assert not y.any() and not x.grad.any()


def test_doubling_a_grid_is_trilinear_upsampling_by_two() -> None:
    x = torch.randn(1, 2, 3, 4, 5)
    expected = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
    assert torch.equal(resize_linear(x, expected.shape[2:]), expected)
