"""The residual-encoder U-Net: shapes, and that all of it learns."""

import sys

import pytest
import torch

import H3DELandmarksResearch.networks.residual_unet  # noqa: F401  adds the architecture
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.networks import build_network, output_maps

SETTINGS = {"landmarks": 3, "features": [4, 8, 8, 8], "blocks": [1, 2, 1, 1]}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(16, 24, 8), (19, 33, 21)])
def test_maps_have_the_grid_of_their_stride_and_every_weight_learns(stride, shape):
    pytest.importorskip("dynamic_network_architectures")
    network = build_network("residual-encoder-unet", {**SETTINGS, "output_stride": stride})
    (maps,) = output_maps(network(torch.rand(2, 1, *shape)))
    assert maps.shape == (2, 3, *(-(-size // stride) for size in shape))
    maps.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_without_its_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures.unet", None)
    with pytest.raises(InputError, match="pip install"):
        build_network("residual-encoder-unet", SETTINGS)


@pytest.mark.parametrize("change", [{"blocks": [1, 1]}, {"output_stride": 3}, {"landmarks": 3, "magic": 1}])
def test_settings_that_describe_no_network_are_refused(change):
    with pytest.raises(ValueError, match="features and blocks|output_stride|magic"):
        build_network("residual-encoder-unet", {**SETTINGS, **change})
