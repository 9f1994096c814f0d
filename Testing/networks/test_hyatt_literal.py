"""HyattNet computes what the published definition says, values and gradients."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from literal_hyatt import LiteralHyattNet
from torch import Tensor

from H3DELandmarksLib.networks import HanConfig, HyattConfig, HyattNet

NARROW = {
    "landmarks": 3,
    "dims": (16, 16, 32, 32, 48),
    "heads": (1, 2, 4, 2, 3),
    "mlp_ratios": (2, 3, 2, 1, 2),
    "neck_dim": 8,
    "image_dim": 4,
    "drop_path": 0.0,
}
# Fewer windows, so that small images have windows of more than 4x4 tokens, whose keys and values are pooled.
FEW_WINDOWS = {**NARROW, "n_win": (4, 3, 2, 2), "topk": (1, 3, 2, 4)}
CASES = {
    "published windows": (NARROW, (1, 3, 96, 128)),
    "few windows": (FEW_WINDOWS, (2, 3, 96, 128)),
    "gray": ({**FEW_WINDOWS, "in_channels": 1}, (1, 1, 128, 64)),
    "odd": (FEW_WINDOWS, (2, 3, 97, 75)),
    "odd, published windows": (NARROW, (1, 3, 63, 81)),
    "smallest": (FEW_WINDOWS, (2, 3, 32, 32)),
}


def networks(config: HyattConfig, dtype: torch.dtype) -> tuple[HyattNet, LiteralHyattNet]:
    """Build our network and the literal one with the same random weights and statistics."""
    torch.manual_seed(0)
    ours, literal = HyattNet(config).to(dtype), LiteralHyattNet(asdict(config)).to(dtype)
    for name, tensor in ours.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.2)
        elif "maps" in name or "correction" in name:
            tensor.normal_(std=0.1)
    literal.load_state_dict(ours.state_dict())
    return ours, literal


def gradients(network: torch.nn.Module, image: Tensor, maps: list[Tensor]) -> Tensor:
    """Gradient of a fixed random projection of ``maps`` by the image and by all weights, as one vector."""
    generator = torch.Generator().manual_seed(2)
    total = sum((m * torch.randn(m.shape, dtype=m.dtype, generator=generator)).sum() for m in maps)
    wanted = [image, *(parameter for _, parameter in sorted(network.named_parameters()))]
    return torch.cat([part.flatten() for part in torch.autograd.grad(total, wanted)])


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize(("settings", "shape"), CASES.values(), ids=CASES.keys())
def test_values_and_gradients_agree(settings: dict, shape: tuple[int, ...], training: bool) -> None:
    # In double precision: in single, rounding flips signs before ReLU.
    ours, literal = (network.train(training) for network in networks(HyattConfig(**settings), torch.float64))
    image = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    maps, expected = ours(image), literal(image)
    for level, reference in zip(maps, expected):
        assert level.shape == reference.shape
        assert (level - reference).abs().max() < 1e-9 * reference.abs().max()
    gradient, expected_gradient = gradients(ours, image, maps), gradients(literal, image, expected)
    assert (gradient - expected_gradient).norm() < 1e-8 * expected_gradient.norm()
    for name, tensor in ours.state_dict().items():
        assert torch.allclose(tensor, literal.state_dict()[name], rtol=1e-9), name


def test_values_agree_for_the_first_version() -> None:
    ours, literal = (network.eval() for network in networks(HanConfig(**FEW_WINDOWS), torch.float64))
    image = torch.randn(1, 3, 64, 48, dtype=torch.float64)
    with torch.inference_mode():
        for level, reference in zip(ours(image), literal(image)):
            assert (level - reference).abs().max() < 1e-10


def test_values_agree_for_the_published_settings() -> None:
    ours, literal = (network.eval() for network in networks(HyattConfig(landmarks=3), torch.float32))
    image = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        for level, reference in zip(ours(image), literal(image)):
            assert (level - reference).abs().max() < 1e-4
