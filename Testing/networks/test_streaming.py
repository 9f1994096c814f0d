"""Decoding in slabs: the same maps as decoding at once, whatever the grid and the slabs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from H3DELandmarksLib.networks import H3DENet, H3DENetConfig
from H3DELandmarksLib.networks import decoder as streaming
from H3DELandmarksLib.networks.decoder import DecoderBlock
from H3DELandmarksLib.networks.layers import Conv3d

GRIDS = st.tuples(*[st.integers(2, 13)] * 3)
NARROW = {
    "landmarks": 3,
    "stem_channels": [8, 16],
    "dims": [16, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "decoder_dims": [16, 16, 16],
    "fine_dims": [12, 8],
}


@pytest.fixture
def short_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs of few rows, so that small grids have many."""
    monkeypatch.setattr(streaming, "NATIVE_CONVOLUTION_LIMIT", 0)
    monkeypatch.setattr(streaming, "SLAB_BYTES", {"cpu": 2**12})


def block(coarse: int, skip: int, out: int) -> DecoderBlock:
    torch.manual_seed(out)
    return DecoderBlock(coarse, skip, out).eval()


@settings(deadline=None, max_examples=40)
@given(coarse=GRIDS, extra=st.tuples(*[st.integers(-1, 1)] * 3), rows=st.integers(1, 5))
@torch.inference_mode()
def test_a_block_in_slabs_is_the_block(coarse: tuple, extra: tuple, rows: int) -> None:
    grid = [2 * side + more for side, more in zip(coarse, extra)]
    torch.manual_seed(sum(grid))
    features, image, layer = torch.randn(1, 6, *coarse), torch.randn(1, 1, *grid), block(6, 4, 5)
    skip = Conv3d(1, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "NATIVE_CONVOLUTION_LIMIT", 0)
        patch.setattr(streaming, "SLAB_BYTES", {"cpu": 4 * 4 * grid[1] * grid[2] * rows})
        convolved = streaming.Convolved(skip, image)
        assert len(streaming.slabs(convolved)) == max(1, grid[0] // rows)
        streamed = streaming.gather(streaming.decode(layer, streaming.Whole(features), skip, image))
    torch.testing.assert_close(streamed, layer(features, skip(image)), rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(rows=st.integers(1, 60), size=st.integers(1, 50))
def test_slabs_cover_every_row_once(rows: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "NATIVE_CONVOLUTION_LIMIT", 0)
        patch.setattr(streaming, "SLAB_BYTES", {"cpu": 4 * rows})
        found = streaming.slabs(streaming.Whole(torch.zeros(1, 1, size, 1, 1)))
    assert [row for first, last in found for row in range(first, last)] == list(range(size))
    assert all(last - first < 2 * rows for first, last in found)


def maps(network: H3DENet, image: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(image).maps


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("batch", "grid"), [(1, (40, 33, 35)), (2, (32, 32, 47))])
def test_a_network_in_slabs_is_the_network(short_slabs: None, stride: int, batch: int, grid: tuple) -> None:
    torch.manual_seed(stride)
    network = H3DENet(H3DENetConfig(**NARROW, output_stride=stride)).eval()
    image = torch.randn(batch, 1, *grid)
    with torch.enable_grad():
        whole = network(image).maps.detach()
    torch.testing.assert_close(maps(network, image), whole, rtol=1e-4, atol=1e-5)


def test_statistics_are_exact_where_half_of_the_grid_is_far_from_the_other(short_slabs: None) -> None:
    moments = streaming._Moments()
    values = torch.cat([torch.zeros(1, 1, 8, 16, 16), torch.full((1, 1, 8, 16, 16), 1000.0)], dim=2)
    values += torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    for row in range(16):
        moments.add(values[:, :, row : row + 1])
    assert float(moments.mean) == pytest.approx(float(values.double().mean()), rel=1e-6)
    variance = float(values.double().var(unbiased=False))
    assert float(moments.squares) / moments.count == pytest.approx(variance, rel=1e-6)


def test_learnt_upsampling_is_left_whole() -> None:
    image, skip = torch.zeros(1, 1, 1, 1, 1).expand(1, 1, 64, 64, 512), Conv3d(1, 16)
    assert streaming.pays(DecoderBlock(4, 16, 4), skip, image)
    assert not streaming.pays(DecoderBlock(4, 16, 4, super_resolution=True), skip, image)
