"""Exported and traced networks are the same functions, at even and at odd sizes."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch_versions import needs_torch

from H3DELandmarksLib.networks import build_network, output_maps

VOLUMES = {
    "landmarks": 3,
    "stem_channels": (8, 8),
    "dims": (8, 16, 16, 32),
    "depths": (1, 1, 1, 1),
    "decoder_dims": (16, 8, 8),
    "fine_dims": (8, 4),
}
IMAGES = {
    "landmarks": 3,
    "dims": (16, 16, 32, 32, 48),
    "heads": (1, 2, 4, 2, 3),
    "n_win": (4, 3, 2, 2),
    "topk": (1, 3, 2, 4),
    "mlp_ratios": (2, 2, 1, 1, 1),
    "neck_dim": 8,
    "image_dim": 4,
}
NETWORKS = {
    "heat maps": ("h3denet", {**VOLUMES, "head": "heatmap"}),
    "heat maps, super-resolution": ("h3denet", {**VOLUMES, "head": "heatmap", "super_resolution": True}),
    "anchors": ("h3denet", {**VOLUMES, "head": "anchor"}),
    "anchors, feature fusion": ("h3denet", {**VOLUMES, "head": "anchor", "feature_fusion": True}),
    "hyatt": ("hyatt", IMAGES),
    "han": ("han", IMAGES),
}
SIZES = {"h3denet": ((64, 48, 32), (41, 33, 35)), "hyatt": ((64, 96), (67, 97)), "han": ((64, 96), (67, 97))}
CASES = [
    pytest.param(*NETWORKS[name], size, id=f"{name}, {size}") for name in NETWORKS for size in SIZES[NETWORKS[name][0]]
]


class Maps(nn.Module):
    """A network that returns a plain tuple of its maps, as tracing wants."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return output_maps(self.network(image))


def prepared(architecture: str, settings: dict, size: tuple[int, ...]) -> tuple[Maps, Tensor, Tensor]:
    """A network and two images of a size."""
    torch.manual_seed(0)
    network = Maps(build_network(architecture, settings).eval())
    shape = (1, network.network.config.in_channels, *size)
    return network, torch.randn(shape), torch.randn(shape)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert len(found) == len(expected)
    for level, reference in zip(found, expected):
        assert level.shape == reference.shape
        assert (level - reference).abs().max() < 1e-5


@needs_torch("2.4", "exports nothing on Python 3.12")
@pytest.mark.parametrize(("architecture", "settings", "size"), CASES)
@torch.no_grad()
def test_exported_network_is_the_same_function(architecture: str, settings: dict, size: tuple[int, ...]) -> None:
    network, example, image = prepared(architecture, settings, size)
    exported = torch.export.export(network, (example,)).module()
    assert_same(exported(image), network(image))


@pytest.mark.parametrize(("architecture", "settings", "size"), CASES)
@torch.no_grad()
def test_traced_network_is_the_same_function(architecture: str, settings: dict, size: tuple[int, ...]) -> None:
    network, example, image = prepared(architecture, settings, size)
    with warnings.catch_warnings():
        # Sizes become constants of the traced network: it serves the size of its example.
        warnings.simplefilter("ignore")
        # Tracing again, which PyTorch does by itself, compares less than another image does.
        traced = torch.jit.trace(network, example, check_trace=False)
    assert_same(traced(image), network(image))
