"""Convolving an upsampled grid on the coarse grid is convolving it on the fine one."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.networks.decoder import (
    POINTWISE_CHANNELS,
    convolve_upsampled,
    convolve_upsampled_rows,
    tap_matrices,
)
from H3DELandmarksLib.networks.layers import resize_linear

GRIDS = st.tuples(*[st.integers(1, 6)] * 3)
BOTH_WAYS = pytest.mark.parametrize("channels", [POINTWISE_CHANNELS - 1, POINTWISE_CHANNELS])


def example(batch: int, channels: int, grid: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(grid))
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(batch, 5, *grid), draw(channels, 5, 3, 3, 3)


@BOTH_WAYS
@settings(deadline=None, max_examples=30)
@given(batch=st.integers(1, 2), coarse=GRIDS, fine=st.tuples(*[st.integers(1, 12)] * 3))
def test_equals_upsampling_and_convolving(channels: int, batch: int, coarse: tuple, fine: tuple) -> None:
    x, weight = example(batch, channels, coarse)
    expected = F.conv3d(F.interpolate(x, size=fine, mode="trilinear", align_corners=False), weight, padding=1)
    torch.testing.assert_close(convolve_upsampled(x, weight, fine), expected)


@BOTH_WAYS
def test_gradients_are_those_of_upsampling_and_convolving(channels: int) -> None:
    x, weight = example(2, channels, (3, 4, 2))
    found, expected = [], []
    for result, function in (
        (found, convolve_upsampled),
        (expected, lambda x, weight, grid: F.conv3d(resize_linear(x, grid), weight, padding=1)),
    ):
        inputs = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        function(*inputs, (6, 7, 4)).square().sum().backward()
        result.extend(value.grad for value in inputs)
    torch.testing.assert_close(found, expected)


@BOTH_WAYS
def test_rows_are_those_of_the_whole(channels: int) -> None:
    x, weight = example(1, channels, (5, 3, 4))
    matrices = tap_matrices(5, 10).double()
    rows = convolve_upsampled_rows(x[:, :, 1:4], weight, matrices[:, 4:6, 1:4], (6, 8))
    torch.testing.assert_close(rows, convolve_upsampled(x, weight, (10, 6, 8))[:, :, 4:6])


def test_in_single_precision_it_rounds_less_than_the_usual_way() -> None:
    x, weight = example(1, 64, (8, 8, 4))
    exact = convolve_upsampled(x, weight, (16, 16, 8))
    x, weight = x.float(), weight.float()
    usual = F.conv3d(F.interpolate(x, scale_factor=2, mode="trilinear"), weight, padding=1)
    error = (convolve_upsampled(x, weight, (16, 16, 8)) - exact).abs().max()
    assert error <= 2 * (usual - exact).abs().max()
