"""H3DENet computes what the published definition says, values and gradients."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from literal_h3denet import LiteralH3DENet
from torch import Tensor

from H3DELandmarksLib.networks import H3DENet, H3DENetConfig

NARROW = {
    "landmarks": 3,
    "stem_channels": (8, 8),
    "dims": (8, 16, 32, 64),
    "depths": (1, 1, 2, 1),
    "decoder_dims": (24, 16, 8),
    "fine_dims": (4, 2),
}
# The published windows on an eighth of the volume: half as many an axis.
EIGHTH = {**NARROW, "n_win": (2, 2, 1), "topk": (1, 2, 3, 4)}
OPTIONS = {
    "heat maps": {"head": "heatmap"},
    "heat maps, super-resolution": {"head": "heatmap", "super_resolution": True},
    "anchors": {"head": "anchor"},
    "anchors, feature fusion": {"head": "anchor", "feature_fusion": True},
    "anchors, both": {"head": "anchor", "feature_fusion": True, "super_resolution": True},
}


def networks(settings: dict, dtype: torch.dtype = torch.float32) -> tuple[H3DENet, LiteralH3DENet]:
    """Build our network and the literal one with the same random weights."""
    torch.manual_seed(0)
    config = H3DENetConfig(**settings)
    ours, literal = H3DENet(config).to(dtype), LiteralH3DENet(asdict(config)).to(dtype)
    literal.load_state_dict(ours.state_dict())
    return ours, literal


def gradients(network: torch.nn.Module, image: Tensor, maps: Tensor) -> Tensor:
    """Gradient of a fixed random projection of ``maps`` by the image and by all weights, as one vector."""
    weights = torch.randn(maps.shape, dtype=maps.dtype, generator=torch.Generator().manual_seed(2))
    wanted = [image, *(parameter for _, parameter in sorted(network.named_parameters()))]
    return torch.cat([part.flatten() for part in torch.autograd.grad((maps * weights).sum(), wanted)])


def assert_agreement(settings: dict, shape: tuple[int, ...]) -> None:
    """Compare values and gradients, in double precision: in single, rounding flips signs before LeakyReLU."""
    ours, literal = networks(settings, torch.float64)
    image = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    maps, expected = ours(image).maps, literal(image)
    assert (maps - expected).abs().max() < 1e-10
    gradient, expected_gradient = gradients(ours, image, maps), gradients(literal, image, expected)
    assert (gradient - expected_gradient).norm() < 1e-10 * expected_gradient.norm()


def test_parameters_have_the_same_names_and_shapes() -> None:
    ours, literal = networks({**NARROW, "head": "anchor", "feature_fusion": True, "super_resolution": True})
    shapes = [{name: tensor.shape for name, tensor in network.state_dict().items()} for network in (ours, literal)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_values_and_gradients_agree_for_every_option(options: dict) -> None:
    assert_agreement({**EIGHTH, **options}, (1, 1, 64, 64, 32))


def test_values_and_gradients_agree_at_the_published_size() -> None:
    assert_agreement({**NARROW, "head": "anchor"}, (1, 1, 128, 128, 64))


@pytest.mark.parametrize("head", ["heatmap", "anchor"])
def test_values_agree_for_the_published_network(head: str) -> None:
    ours, literal = networks({"landmarks": 14, "head": head})
    image = torch.randn(1, 1, 128, 128, 64)
    with torch.inference_mode():
        assert (ours(image).maps - literal(image)).abs().max() < 1e-4
